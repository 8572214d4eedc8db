//! A peer on the same kernel, root image, agent and function: Firecracker, over its HTTP API.
//!
//! It boots the function as we do, is told by our agent's protocol to freeze, and from then on each turn
//! starts a process, loads the snapshot, resumes it, connects over vsock and calls. Its binary is built
//! elsewhere; nothing of it is part of this repository.
//!
//! Every wait for it ends in time, and a failure shows what it wrote to its log: one that hangs is a
//! failure of one turn, not the end of a bench.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use calve_proto::limits::{CONTROL_PORT, UP_PORT};
use calve_proto::{Call, Opening, Session, wire};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::functions::{Case, Images};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often a socket is tried that is not there yet.
const RETRY: Duration = Duration::from_micros(200);

/// Who to compare with.
#[derive(Clone, Debug)]
pub(crate) enum Peer {
    /// Path of its program.
    Firecracker(PathBuf),
}

impl FromStr for Peer {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let path = text.strip_prefix("firecracker=").ok_or("write it as firecracker=PATH")?;
        Ok(Self::Firecracker(path.into()))
    }
}

/// A function frozen by Firecracker.
pub(crate) struct Firecracker {
    program: PathBuf,
    folder: TempDir,
}

/// A running process of it. Killed when dropped.
struct Vm(Child);

impl Drop for Vm {
    fn drop(&mut self) {
        // Neither call fails for a child that has not been waited for.
        let _ = self.0.kill();
        let reaped = eventually(|| match self.0.try_wait() {
            Ok(None) => Err(io::Error::from(io::ErrorKind::TimedOut)),
            Ok(Some(_)) => Ok(()),
            Err(error) => Err(error),
        });
        if reaped.is_err() {
            eprintln!("process {} of the peer does not end when it is killed", self.0.id());
        }
    }
}

impl Firecracker {
    /// From the start of its process to where the guest's agent says that it is up.
    pub(crate) fn boot(program: &Path, case: &Case, images: &Images) -> anyhow::Result<Duration> {
        let peer = Self::new(program)?;
        let started = Instant::now();
        let booted = peer.start(case, images);
        booted.map(|_| started.elapsed()).with_context(|| peer.last_words())
    }

    fn new(program: &Path) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("peer-").tempdir_in("/dev/shm")?;
        Ok(Self { program: program.into(), folder })
    }

    /// Boots a machine up to where its agent is up.
    fn start(&self, case: &Case, images: &Images) -> anyhow::Result<(Vm, Api)> {
        let (vm, mut api) = self.spawn()?;
        // As ours, but for how it resets, and without a serial console, which would cost it an exit per byte.
        let cmdline = "quiet reboot=k panic=1 pci=off swiotlb=noforce rcupdate.rcu_expedited=1 \
             cgroup_disable=memory tsc=nowatchdog root=/dev/vda rootfstype=erofs ro \
             init=/sbin/calve-agent";
        let drive = |id: &str, path: &Path, root: bool| json!({ "drive_id": id, "path_on_host": path, "is_root_device": root, "is_read_only": true });
        api.put("/machine-config", &json!({ "vcpu_count": 1, "mem_size_mib": case.memory_mib }))?;
        let source = json!({ "kernel_image_path": images.kernel, "boot_args": cmdline });
        api.put("/boot-source", &source)?;
        api.put("/drives/root", &drive("root", &images.root, true))?;
        api.put("/drives/code", &drive("code", &case.code, false))?;
        api.put("/vsock", &json!({ "guest_cid": 3, "uds_path": self.vsock() }))?;
        let up = UnixListener::bind(format!("{}_{UP_PORT}", self.vsock().display()))?;
        api.put("/actions", &json!({ "action_type": "InstanceStart" }))?;
        up.set_nonblocking(true)?;
        eventually(|| up.accept()).context("waiting for its agent")?;
        Ok((vm, api))
    }

    /// Boots, starts, warms and freezes the function.
    pub(crate) fn freeze(program: &Path, case: &Case, images: &Images) -> anyhow::Result<Self> {
        let peer = Self::new(program)?;
        peer.start_and_freeze(case, images).with_context(|| peer.last_words())?;
        Ok(peer)
    }

    fn start_and_freeze(&self, case: &Case, images: &Images) -> anyhow::Result<()> {
        let (_vm, mut api) = self.start(case, images)?;
        let mut session = self.connect()?;
        let configure = Some(wire::Configure {
            runtime: "python3.11".into(),
            handler: "app.handler".into(),
            timeout_ms: 300_000,
            init_timeout_ms: 300_000,
            memory_mib: case.memory_mib,
            function_name: "bench".into(),
            ..wire::Configure::default()
        });
        session.open(Opening { configure, ..Opening::default() })?;
        session.wait_ready(&mut |_, _| {})??;
        session.invoke(Call::new("warm", case.event.as_bytes()))?;
        session.wait_answer(&mut |_, _| {})?.outcome?;
        session.prepare_freeze(None)?;
        session.wait_freeze_ready(&mut |_, _| {})??;
        drop(session);
        api.send("PATCH", "/vm", &json!({ "state": "Paused" }))?;
        let (state, memory) = (self.path("state"), self.path("memory"));
        let files =
            json!({ "snapshot_type": "Full", "snapshot_path": state, "mem_file_path": memory });
        api.put("/snapshot/create", &files)
    }

    /// From nothing but the snapshot to the first byte of an answer.
    pub(crate) fn thaw_and_call(&self, case: &Case) -> anyhow::Result<Duration> {
        self.load_and_call(case).with_context(|| self.last_words())
    }

    fn load_and_call(&self, case: &Case) -> anyhow::Result<Duration> {
        // A killed process leaves its socket.
        fs::remove_file(self.vsock())?;
        let started = Instant::now();
        let (_vm, mut api) = self.spawn()?;
        let memory = json!({ "backend_type": "File", "backend_path": self.path("memory") });
        let load = json!({
            "snapshot_path": self.path("state"), "mem_backend": memory, "resume_vm": true
        });
        api.put("/snapshot/load", &load)?;
        let mut session = self.connect()?;
        let thaw = Some(facts()?);
        let call = Some(Call::new("r-1", case.event.as_bytes()));
        session.open(Opening { thaw, call, ..Opening::default() })?;
        let answer = session.wait_answer(&mut |_, _| {})?;
        let took = answer.first_byte - started;
        answer.outcome?;
        Ok(took)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn vsock(&self) -> PathBuf {
        self.path("vsock")
    }

    fn spawn(&self) -> anyhow::Result<(Vm, Api)> {
        let socket = self.path("api");
        let _ = fs::remove_file(&socket);
        let log = fs::File::create(self.path("log"))?;
        let mut command = Command::new(&self.program);
        command.arg("--api-sock").arg(&socket).args(["--no-seccomp", "--level", "Warning"]);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let vm = Vm(command.spawn().context("cannot start it")?);
        Ok((vm, Api::new(eventually(|| UnixStream::connect(&socket))?)?))
    }

    /// The end of what its last process wrote.
    fn last_words(&self) -> String {
        let log = fs::read(self.path("log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<_> = log.lines().rev().take(5).collect();
        format!("firecracker, whose log ends: {:?}", lines.into_iter().rev().collect::<Vec<_>>())
    }

    /// A session with its agent, over its vsock.
    fn connect(&self) -> anyhow::Result<Session<UnixStream>> {
        let mut stream = UnixStream::connect(self.vsock())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(format!("CONNECT {CONTROL_PORT}\n").as_bytes())?;
        let mut line = Vec::new();
        let mut byte = [0];
        while line.last() != Some(&b'\n') {
            stream.read_exact(&mut byte).context("it refused the vsock connection")?;
            line.extend(byte);
        }
        Ok(Session::new(stream))
    }
}

/// What every clone is told first, as our fleet does.
fn facts() -> anyhow::Result<wire::ThawFacts> {
    let mut seed = vec![0; 64];
    fs::File::open("/dev/urandom")?.read_exact(&mut seed)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(wire::ThawFacts {
        seed,
        wall_clock_ns: u64::try_from(now.as_nanos())?,
        machine_id: "peer".into(),
        ..wire::ThawFacts::default()
    })
}

fn eventually<T, E: std::error::Error + Send + Sync + 'static>(
    mut attempt: impl FnMut() -> Result<T, E>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match attempt() {
            Ok(done) => return Ok(done),
            Err(error) if Instant::now() > deadline => return Err(error.into()),
            Err(_) => thread::sleep(RETRY),
        }
    }
}

/// Its API: HTTP/1.1 over a Unix socket, one request at a time.
struct Api(UnixStream);

impl Api {
    fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self(stream))
    }

    fn put(&mut self, path: &str, body: &Value) -> anyhow::Result<()> {
        self.send("PUT", path, body)
    }

    fn send(&mut self, method: &str, path: &str, body: &Value) -> anyhow::Result<()> {
        let body = body.to_string();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n"
        );
        self.0.write_all((head + &body).as_bytes())?;
        let mut answer = BufReader::new(&self.0);
        let mut status = String::new();
        answer.read_line(&mut status).with_context(|| format!("{method} {path}"))?;
        let mut length = 0;
        loop {
            let mut header = String::new();
            if answer.read_line(&mut header)? == 0 {
                bail!("{method} {path}: it hung up");
            }
            let header = header.trim().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
        }
        let mut body = vec![0; length];
        answer.read_exact(&mut body)?;
        if !status.contains(" 204 ") {
            bail!("{method} {path}: {} {}", status.trim(), String::from_utf8_lossy(&body));
        }
        Ok(())
    }
}
