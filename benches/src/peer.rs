//! A peer on the same kernel, root image, agent and function: Firecracker, over its HTTP API.
//!
//! It boots the function as we do, is told by our agent's protocol to freeze, and from then on each turn
//! starts a process, loads the snapshot, resumes it, connects over vsock and calls. Its binary is built
//! elsewhere; nothing of it is part of this repository.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
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
        let _ = self.0.wait();
    }
}

impl Firecracker {
    /// From the start of its process to where the guest's agent says that it is up.
    pub(crate) fn boot(program: &Path, case: &Case, images: &Images) -> anyhow::Result<Duration> {
        let started = Instant::now();
        Self::start(program, case, images)?;
        Ok(started.elapsed())
    }

    /// Boots a machine up to where its agent is up.
    fn start(program: &Path, case: &Case, images: &Images) -> anyhow::Result<(Self, Vm, Api)> {
        let folder = tempfile::Builder::new().prefix("peer-").tempdir_in("/dev/shm")?;
        let peer = Self { program: program.into(), folder };
        let (vm, api) = peer.spawn()?;
        let mut api = Api(api);
        // As quiet as ours: its serial console would cost it an exit per byte.
        let cmdline = "quiet reboot=k panic=1 pci=off root=/dev/vda rootfstype=erofs ro \
             init=/sbin/calve-agent";
        let drive = |id: &str, path: &Path, root: bool| json!({ "drive_id": id, "path_on_host": path, "is_root_device": root, "is_read_only": true });
        api.put("/machine-config", &json!({ "vcpu_count": 1, "mem_size_mib": case.memory_mib }))?;
        let source = json!({ "kernel_image_path": images.kernel, "boot_args": cmdline });
        api.put("/boot-source", &source)?;
        api.put("/drives/root", &drive("root", &images.root, true))?;
        api.put("/drives/code", &drive("code", &case.code, false))?;
        api.put("/vsock", &json!({ "guest_cid": 3, "uds_path": peer.vsock() }))?;
        let up = UnixListener::bind(format!("{}_{UP_PORT}", peer.vsock().display()))?;
        api.put("/actions", &json!({ "action_type": "InstanceStart" }))?;
        up.set_nonblocking(true)?;
        eventually(|| up.accept()).context("waiting for its agent")?;
        Ok((peer, vm, api))
    }

    /// Boots, starts, warms and freezes the function.
    pub(crate) fn freeze(program: &Path, case: &Case, images: &Images) -> anyhow::Result<Self> {
        let (peer, _vm, mut api) = Self::start(program, case, images)?;
        let api = &mut api;
        let mut session = peer.connect()?;
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
        let (state, memory) = (peer.path("state"), peer.path("memory"));
        let files =
            json!({ "snapshot_type": "Full", "snapshot_path": state, "mem_file_path": memory });
        api.put("/snapshot/create", &files)?;
        Ok(peer)
    }

    /// From nothing but the snapshot to the first byte of an answer.
    pub(crate) fn thaw_and_call(&self, case: &Case) -> anyhow::Result<Duration> {
        // A killed process leaves its socket.
        fs::remove_file(self.vsock())?;
        let started = Instant::now();
        let (_vm, api) = self.spawn()?;
        let memory = json!({ "backend_type": "File", "backend_path": self.path("memory") });
        let load = json!({
            "snapshot_path": self.path("state"), "mem_backend": memory, "resume_vm": true
        });
        Api(api).put("/snapshot/load", &load)?;
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

    fn spawn(&self) -> anyhow::Result<(Vm, UnixStream)> {
        let socket = self.path("api");
        let _ = fs::remove_file(&socket);
        let mut command = Command::new(&self.program);
        command.arg("--api-sock").arg(&socket).arg("--no-seccomp");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let vm = Vm(command.spawn().context("cannot start it")?);
        Ok((vm, eventually(|| UnixStream::connect(&socket))?))
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
        answer.read_line(&mut status)?;
        let mut length = 0;
        loop {
            let mut header = String::new();
            answer.read_line(&mut header)?;
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
