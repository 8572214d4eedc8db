//! The function host by itself: the engine behind it answers at once, so that all time is the host's own.
//!
//! ```text
//!  calve-bench host ── Host and floor ◄── HTTP ── calve-bench load    requests when they are due
//!          └────────── calve-bench open                               a start, in a process of its own
//! ```
//!
//! All processes read one clock, `CLOCK_MONOTONIC`: a function's answer is when it was called and when it returned.

mod bare;
mod documents;
mod load;
mod overhead;
mod request;
mod start;
mod stub;

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use calve_manager::api;
use calve_manager::host::{Host, Settings};
use clap::Args;
use nix::time::{ClockId, clock_gettime};
use serde::de::DeserializeOwned;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

use self::stub::Stub;
use crate::facts::Facts;
use crate::samples::Run;

/// What to measure.
#[derive(Args)]
pub(crate) struct Options {
    /// Requests a second
    #[arg(long, default_value_t = 1000)]
    rate: u32,
    /// How long each kind of call is made
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// Connections that requests share
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// Functions that the host has
    #[arg(long, default_value_t = 10_000)]
    functions: usize,
    /// Starts of the host
    #[arg(long, default_value_t = 20)]
    starts: usize,
    /// The samples instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

/// Measures starts, then calls.
pub(crate) fn measure(options: &Options) -> anyhow::Result<Run> {
    let facts = Facts::here();
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    let secret = documents::fill(&data, options.functions)?;
    let mut results = start::measure(&data, options)?;
    results.extend(overhead::measure(&data, &secret, options)?);
    Ok(Run { facts, results })
}

/// Makes the requests that standard input tells of.
pub(crate) fn load() -> anyhow::Result<()> {
    crate::print(&load::make(&serde_json::from_reader(io::stdin())?)?)
}

/// Opens a data folder and says when it was ready.
pub(crate) fn open(data: &Path) -> anyhow::Result<()> {
    crate::print(&start::open(data)?)
}

/// Nanoseconds of the clock that all processes share.
fn clock() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Nanoseconds as microseconds; none of times that went backwards.
fn micros(from: u64, to: u64) -> f64 {
    crate::samples::micros(Duration::from_nanos(to.saturating_sub(from)))
}

/// Threads as `calve serve` has them.
fn threads() -> io::Result<Runtime> {
    let settings = Settings::new("");
    let blocking = settings.machines.machines + 128;
    Builder::new_multi_thread().enable_all().max_blocking_threads(blocking).build()
}

/// Opens a host and serves it. Where it is.
async fn serve(data: &Path) -> anyhow::Result<std::net::SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let host = Host::open(Settings::new(data), Arc::new(Stub::default()))?;
    tokio::spawn(async move {
        api::serve(&host, listener, std::future::pending(), Duration::ZERO).await
    });
    Ok(address)
}

/// Runs a process of this program to its end; what it has printed.
fn child<T: DeserializeOwned>(arguments: &[&str], input: &[u8]) -> anyhow::Result<T> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot start a process")?;
    let mut stdin = child.stdin.take().context("a pipe was asked for")?;
    io::Write::write_all(&mut stdin, input)?;
    drop(stdin);
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{} failed: {}", arguments[0], output.status);
    Ok(serde_json::from_slice(&output.stdout)?)
}
