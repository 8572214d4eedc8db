//! A machine without a machine: the agent as an ordinary process, with a Unix socket in the place of vsock.

// Each test file uses its own part of this.
#![allow(dead_code)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use calve_proto::{
    Answer, Call, ErrorKind, Event, FunctionError, LogStream, Opening, Session, wire,
};

/// Longer than anything here takes on a slow machine; a test that needs it has failed.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const PYTHON: &str = "python3.11";
pub(crate) const NODE: &str = "node20";

/// A running agent with a code folder.
pub(crate) struct Machine {
    dir: tempfile::TempDir,
    agent: Child,
}

/// What a call gave.
pub(crate) struct Outcome {
    pub(crate) answer: Answer,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

impl Machine {
    /// An agent whose code folder holds `files`. A file named `bootstrap` is executable.
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        Self::layered(files, &[])
    }

    /// An agent with layers, too.
    pub(crate) fn layered(files: &[(&str, &str)], layers: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (code, opt) = (dir.path().join("code"), dir.path().join("opt"));
        for (folder, files) in [(&code, files), (&opt, layers)] {
            fs::create_dir_all(folder).unwrap();
            for (name, text) in files {
                plant(&folder.join(name), text);
            }
        }
        let mut agent = Command::new(env!("CARGO_BIN_EXE_calve-agent"))
            .arg("--listen")
            .arg(dir.path().join("control.sock"))
            .arg("--task-root")
            .arg(&code)
            .arg("--layers-root")
            .arg(&opt)
            .arg("--run-dir")
            .arg(dir.path().join("run"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(agent.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("listening on"), "{line}");
        Self { dir, agent }
    }

    pub(crate) fn code(&self) -> PathBuf {
        self.dir.path().join("code")
    }

    pub(crate) fn run_dir(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    pub(crate) fn agent_pid(&self) -> u32 {
        self.agent.id()
    }

    /// A fresh control stream.
    pub(crate) fn connect(&self) -> Session<UnixStream> {
        Session::new(self.stream())
    }

    pub(crate) fn stream(&self) -> UnixStream {
        let stream = UnixStream::connect(self.dir.path().join("control.sock")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Configures the machine; returns the session once the runtime is up.
    pub(crate) fn start(&self, configure: wire::Configure) -> Session<UnixStream> {
        let mut session = self.connect();
        session.open(Opening { configure: Some(configure), ..Opening::default() }).unwrap();
        let mut printed = String::new();
        let logs = &mut |_, bytes: &[u8]| printed += &String::from_utf8_lossy(bytes);
        if let Err(error) = session.wait_ready(logs).unwrap() {
            panic!("{error}\n{:?}\n{printed}", error.stack_trace);
        }
        session
    }

    /// Process id of the runtime, the agent's only child.
    pub(crate) fn runtime_pid(&self) -> u32 {
        let agent = self.agent.id();
        let children = std::fs::read_to_string(format!("/proc/{agent}/task/{agent}/children"));
        children.unwrap().trim().parse().unwrap()
    }

    /// State of the runtime's process, as proc(5) has it.
    pub(crate) fn runtime_state(&self) -> char {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.runtime_pid())).unwrap();
        let (_, rest) = stat.rsplit_once(')').unwrap();
        rest.trim_start().chars().next().unwrap()
    }

    /// Starts a runtime without a function.
    pub(crate) fn preload(&self, runtime: &str) -> Session<UnixStream> {
        let mut session = self.connect();
        let preload = wire::Preload { runtime: runtime.into(), init_timeout_ms: 30_000 };
        session.open(Opening { preload: Some(preload), ..Opening::default() }).unwrap();
        session.wait_ready(&mut |_, _| {}).unwrap().unwrap();
        session
    }

    /// Configures the machine with something that does not come up.
    pub(crate) fn start_failing(&self, configure: wire::Configure) -> FunctionError {
        let mut session = self.connect();
        session.open(Opening { configure: Some(configure), ..Opening::default() }).unwrap();
        session.wait_ready(&mut |_, _| {}).unwrap().unwrap_err()
    }

    /// Freezes the machine as far as an ordinary process can be.
    pub(crate) fn freeze(&self, session: Session<UnixStream>) {
        self.try_freeze(session).unwrap();
    }

    /// Freezes the machine, or says why the agent refuses.
    pub(crate) fn try_freeze(&self, mut session: Session<UnixStream>) -> Result<(), FunctionError> {
        session.prepare_freeze(None).unwrap();
        session.wait_freeze_ready(&mut |_, _| {}).unwrap().map(drop)
    }
}

fn plant(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    if path.ends_with("bootstrap") {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.agent.id()).unwrap());
        // SIGTERM lets it kill its runtime.
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.agent.wait();
    }
}

/// A configuration with generous deadlines.
pub(crate) fn configure(runtime: &str, handler: &str) -> wire::Configure {
    wire::Configure {
        runtime: runtime.into(),
        handler: handler.into(),
        timeout_ms: 30_000,
        init_timeout_ms: 30_000,
        memory_mib: 256,
        function_name: "demo".into(),
        ..wire::Configure::default()
    }
}

/// Facts of a clone.
pub(crate) fn facts(machine_id: &str) -> wire::ThawFacts {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    wire::ThawFacts {
        seed: vec![7; 32],
        wall_clock_ns: u64::try_from(now.as_nanos()).unwrap(),
        machine_id: machine_id.into(),
        ..wire::ThawFacts::default()
    }
}

/// Calls the function and waits for the answer.
pub(crate) fn call(session: &mut Session<UnixStream>, request_id: &str, event: &str) -> Outcome {
    session.invoke(Call::new(request_id, event.as_bytes())).unwrap();
    wait(session)
}

/// Waits for the answer of a call that has been sent.
pub(crate) fn wait(session: &mut Session<UnixStream>) -> Outcome {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let answer = session
        .wait_answer(&mut |stream, bytes| match stream {
            LogStream::Stdout => stdout.extend_from_slice(bytes),
            LogStream::Stderr => stderr.extend_from_slice(bytes),
        })
        .unwrap();
    Outcome { answer, stdout, stderr }
}

impl Outcome {
    /// The result, parsed. Panics with the function's error if there is none.
    pub(crate) fn json(&self) -> serde_json::Value {
        match &self.answer.outcome {
            Ok(result) => serde_json::from_slice(result).unwrap(),
            Err(error) => panic!("{error}\n{:#?}", error.stack_trace),
        }
    }

    pub(crate) fn error(&self) -> &FunctionError {
        self.answer.outcome.as_ref().unwrap_err()
    }

    pub(crate) fn kind(&self) -> ErrorKind {
        self.error().kind
    }

    pub(crate) fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }
}

/// The next event that is not Welcome.
pub(crate) fn next(session: &mut Session<UnixStream>) -> Event {
    loop {
        match session.next_event().unwrap() {
            Event::Welcome { .. } => {}
            event => return event,
        }
    }
}

/// Resident memory of a process, in KiB.
pub(crate) fn rss_kib(pid: u32) -> u64 {
    let status =
        fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse().unwrap()
}
