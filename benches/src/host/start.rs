//! How long a host takes to be ready, and what it takes of memory.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

use super::{Options, child, clock, micros, serve, threads};
use crate::samples::{Measured, Unit};

/// How long after it is ready its memory is looked at: what it does at once in the background is done then.
const SETTLED: Duration = Duration::from_millis(500);

/// A start.
#[derive(Serialize, Deserialize)]
pub(super) struct Started {
    /// When the first request was answered.
    ready: u64,
    /// Memory, and the most that it ever was, KiB.
    memory: u32,
    most: u32,
}

/// Starts it again and again.
pub(super) fn measure(data: &Path, options: &Options) -> anyhow::Result<Vec<Measured>> {
    let case = format!("{} functions", options.functions);
    let of = |operation, method, unit| Measured::new(operation, &case, "calve", method, unit);
    let mut start = of(
        "host_start",
        "process started → GET /healthz answered, the ledger in the page cache",
        Unit::Microseconds,
    );
    let mut memory = of("host_memory", "VmRSS of /proc/self/status, 500 ms later", Unit::KiB);
    let mut most = of("host_memory_peak", "VmHWM of /proc/self/status, 500 ms later", Unit::KiB);
    let data = data.to_str().context("a folder whose name is no text")?;
    for _ in 0..options.starts {
        let before = clock();
        match child::<Started>(&["open", data], b"") {
            Ok(started) => {
                start.samples.push(micros(before, started.ready));
                memory.samples.push(started.memory.into());
                most.samples.push(started.most.into());
            }
            Err(error) => start.take(Err(error)),
        }
    }
    Ok(vec![start, memory, most])
}

/// Opens a data folder.
pub(super) fn open(data: &Path) -> anyhow::Result<Started> {
    let runtime = threads()?;
    let address = runtime.block_on(serve(data))?;
    ask(address)?;
    let ready = clock();
    thread::sleep(SETTLED);
    let status = fs::read_to_string("/proc/self/status")?;
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let value = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
        value.with_context(|| format!("no {name} in /proc/self/status"))
    };
    let started = Started { ready, memory: of("VmRSS:")?, most: of("VmHWM:")? };
    runtime.shutdown_background();
    Ok(started)
}

fn ask(address: SocketAddr) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "GET /healthz HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 200 "), "not well: {answer}");
    Ok(())
}
