//! A booted machine with our agent in it and a function started.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use calve_proto::limits::CONTROL_PORT;
use calve_proto::{LogSink, Opening, Session, SessionError, wire};
use calve_vmm::Shape;

use crate::boot::{BootSpec, Function};
use crate::call::{CallError, CallOptions, Outcome};
use crate::callee::{Callee, Decision};
use crate::content::Content;
use crate::door::Door;
use crate::error::{BootError, WorkerError};
use crate::fleet::{Fleet, ThawOptions};
use crate::frozen::Frozen;
use crate::identity;
use crate::line::{Broken, Conversation, Line};
use crate::machine::launch;

/// How much longer than the function's own limit its start may take before the machine is given
/// up: the agent ends a start that is over its limit, so only a broken guest needs this.
const INIT_GRACE: Duration = Duration::from_secs(10);

/// A booted machine whose function is ready for calls. Dropping it kills and reaps the worker.
#[derive(Debug)]
pub struct LiveMachine {
    pub(crate) callee: Callee,
    pub(crate) shape: Shape,
    pub(crate) cmdline: String,
    pub(crate) function: Function,
    pub(crate) writes_disks: bool,
    pub(crate) disks: Vec<File>,
    pub(crate) door: Option<Door>,
    /// What it has left behind when it was first forked: from then on it is a clone of that.
    pub(crate) left: Option<Arc<Content>>,
    pub(crate) boot: Duration,
    pub(crate) init: Duration,
}

impl LiveMachine {
    pub(crate) fn boot(
        fleet: &Fleet,
        spec: BootSpec,
        function: &Function,
        logs: &mut LogSink<'_>,
    ) -> Result<Self, BootError> {
        let mut live = Self::start(fleet, spec, function)?;
        let configure = Some(function.configure(live.shape.memory_mib()));
        live.open(Opening { configure, ..Opening::default() })?;
        live.init = live.wait_ready(logs)?;
        Ok(live)
    }

    /// Boots a machine and starts a language in it, without a function.
    pub(crate) fn preload(
        fleet: &Fleet,
        spec: BootSpec,
        runtime: &str,
        init_timeout: Duration,
    ) -> Result<Self, BootError> {
        let nobody = Function { init_timeout, ..Function::new("runtime", runtime, "") };
        let mut live = Self::start(fleet, spec, &nobody)?;
        let init_timeout_ms = u32::try_from(init_timeout.as_millis()).unwrap_or(u32::MAX);
        let preload = Some(wire::Preload { runtime: runtime.to_owned(), init_timeout_ms });
        live.open(Opening { preload, ..Opening::default() })?;
        live.init = live.wait_ready(&mut |_, _| {})?;
        Ok(live)
    }

    /// Thaws a runtime with the code in `spec`, which fits it, and makes it a function's.
    pub(crate) fn on(
        fleet: &Fleet,
        base: &Frozen,
        spec: BootSpec,
        function: &Function,
        logs: &mut LogSink<'_>,
    ) -> Result<Self, BootError> {
        let started = Instant::now();
        let (shape, cmdline) = (spec.shape, spec.cmdline);
        let disks: Vec<_> = spec.disks.into_iter().map(|(file, _)| file).collect();
        let content = disks.iter().map(File::try_clone).collect::<io::Result<Vec<_>>>();
        let content = content.and_then(|disks| {
            let layers = base.content().layers.try_clone()?;
            Content::new(shape, function.timeout, base.snapshot().state(), layers, disks)
        });
        let content = content.map_err(|e| WorkerError::Setup("keep a machine", e))?;
        let thawed = fleet.thaw_as_asked(&Arc::new(content), ThawOptions::default())?;
        let (mut callee, door, left) = thawed.take_apart();
        let introduced = callee.introduce().map_err(|error| match error {
            CallError::Worker(error) => BootError::Worker(error),
            CallError::Guest(error) | CallError::Request(error) => BootError::Session(error),
            CallError::TimedOut { within: after, .. } => {
                callee.conversation.stream().worker().too_late("become itself", after).into()
            }
            CallError::Spent => BootError::Session(SessionError::Closed),
        })?;
        introduced.map_err(BootError::Init)?;
        let boot = started.elapsed();
        let mut live = Self {
            callee,
            shape,
            cmdline,
            function: function.clone(),
            writes_disks: false,
            disks,
            door,
            left: Some(left),
            boot,
            init: Duration::ZERO,
        };
        let configure = function.configure(shape.memory_mib());
        live.say(|conversation| conversation.configure(configure))?;
        live.init = live.wait_ready(logs)?;
        Ok(live)
    }

    /// Boots a machine up to where its agent listens.
    fn start(fleet: &Fleet, spec: BootSpec, function: &Function) -> Result<Self, BootError> {
        let decision = Decision::now();
        let started = Instant::now();
        let machine = identity::fresh("m").map_err(WorkerError::Random)?;
        let (shape, cmdline, within) = (spec.shape, spec.cmdline.clone(), spec.up_timeout);
        let writes_disks = spec.writes_disks();
        let disks = spec.disks.iter().map(|(file, _)| file.try_clone()).collect::<io::Result<_>>();
        let disks = disks.map_err(|e| WorkerError::Setup("share a file", e))?;
        let (listener, stream) =
            waiting_stream().map_err(|e| WorkerError::Setup("make a stream", e))?;
        let mut worker = launch(fleet, spec, Some(&listener))?;
        // The worker has its own copy; a listener of ours would keep the socket alive.
        drop(listener);
        worker.wait_up(within)?;
        let boot = started.elapsed();
        let line =
            Line::new(worker, stream).map_err(|e| WorkerError::Setup("watch a stream", e))?;
        let conversation = connect(line)?;
        let timeout = function.timeout;
        let live = Self {
            callee: Callee {
                conversation,
                machine,
                timeout,
                decision,
                prepared: false,
                opening: None,
                opened: true,
                called: false,
                spent: false,
            },
            shape,
            cmdline,
            function: function.clone(),
            writes_disks,
            disks,
            door: None,
            left: None,
            boot,
            init: Duration::ZERO,
        };
        Ok(live)
    }

    fn open(&mut self, opening: Opening<'_>) -> Result<(), BootError> {
        self.say(|conversation| conversation.open(opening))
    }

    /// Sends what a runtime is started with.
    fn say(
        &mut self,
        what: impl FnOnce(&mut Conversation) -> Result<(), SessionError>,
    ) -> Result<(), BootError> {
        let (wanted, within) = self.starting();
        let conversation = &mut self.callee.conversation;
        conversation.stream().want(wanted, within);
        conversation.set_deadline(Instant::now().checked_add(within));
        let said = what(conversation);
        said.map_err(|error| broken(conversation.stream(), error, wanted, within))
    }

    /// Waits for the runtime; returns how long its start took by the guest's clock.
    fn wait_ready(&mut self, logs: &mut LogSink<'_>) -> Result<Duration, BootError> {
        let (wanted, within) = self.starting();
        let conversation = &mut self.callee.conversation;
        match conversation.wait_ready(logs) {
            Ok(Ok(init)) => Ok(init),
            Ok(Err(error)) => Err(BootError::Init(error)),
            Err(error) => Err(broken(conversation.stream(), error, wanted, within)),
        }
    }

    fn starting(&self) -> (&'static str, Duration) {
        ("start its function", self.function.init_timeout.saturating_add(INIT_GRACE))
    }

    /// Calls the function. Its [timings](crate::Timings) count from the decision to boot.
    ///
    /// # Errors
    ///
    /// As [`Clone::call`](crate::Clone::call).
    pub fn call(&mut self, event: &[u8], options: CallOptions<'_>) -> Result<Outcome, CallError> {
        self.callee.call(event, options)
    }

    /// Its identity.
    pub fn machine_id(&self) -> &str {
        &self.callee.machine
    }

    /// The Unix socket over which other programs reach its ports, where one was asked for when it was
    /// [forked](LiveMachine::branch).
    pub fn vsock_path(&self) -> Option<&Path> {
        self.door.as_ref().map(Door::path)
    }

    /// Its shape.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Decision to boot → the agent is up.
    pub fn boot_time(&self) -> Duration {
        self.boot
    }

    /// Start of the runtime → it waits for events, by the guest's clock.
    pub fn init_time(&self) -> Duration {
        self.init
    }

    /// Process id of its worker, for people and their tools.
    pub fn pid(&self) -> u32 {
        self.callee.conversation.stream().worker().pid()
    }

    /// The end of its console.
    pub fn console(&self) -> String {
        self.callee.conversation.stream().worker().console_text()
    }
}

fn broken(line: &Line, error: SessionError, wanted: &'static str, after: Duration) -> BootError {
    match line.explain(error) {
        Broken::Worker(failure) => failure.into(),
        Broken::TimedOut => line.worker().too_late(wanted, after).into(),
        Broken::Request(error) | Broken::Session(error) => BootError::Session(error),
    }
}

/// A listener for the worker, with our connection waiting in its backlog.
///
/// A Unix listener needs a name to be connected to. This one has it for a moment, in a folder of
/// our own, and is nameless before anybody else hears of it: nothing stays behind.
fn waiting_stream() -> io::Result<(UnixListener, UnixStream)> {
    let dir = nix::unistd::mkdtemp(&std::env::temp_dir().join("calve-XXXXXX"))?;
    let made = (|| {
        let handle = File::open(&dir)?;
        // Through the descriptor: a socket's path has at most 107 bytes (unix(7)).
        let path = format!("/proc/self/fd/{}/vsock", handle.as_raw_fd());
        let listener = UnixListener::bind(&path)?;
        let stream = UnixStream::connect(&path);
        std::fs::remove_file(&path)?;
        Ok((listener, stream?))
    })();
    std::fs::remove_dir(&dir)?;
    made
}

/// Asks the vsock device for the agent's port (`CONNECT <port>\n`, answered by `OK <number>\n`).
fn connect(mut line: Line) -> Result<crate::line::Conversation, BootError> {
    /// Longest answer: `OK ` and a 32-bit number.
    const LONGEST: usize = 16;
    let within = crate::worker::PATIENCE;
    let what = "connect to its agent";
    line.want(what, within);
    let mut answer = Vec::new();
    let result = (|| {
        line.write_all(format!("CONNECT {CONTROL_PORT}\n").as_bytes())?;
        let mut byte = [0];
        while answer.last() != Some(&b'\n') && answer.len() < LONGEST {
            line.read_exact(&mut byte)?;
            answer.extend(byte);
        }
        Ok::<_, io::Error>(())
    })();
    match result {
        Ok(()) if answer.starts_with(b"OK ") => Ok(Session::new(line)),
        Ok(()) => Err(BootError::Session(SessionError::Closed)),
        Err(e) => Err(broken(&line, calve_proto::frame::FrameError::from(e).into(), what, within)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiting_stream_is_connected_and_leaves_no_name() {
        let (listener, mut ours) = waiting_stream().unwrap();
        let (mut theirs, _) = listener.accept().unwrap();
        ours.write_all(b"hi").unwrap();
        drop(ours);
        let mut text = String::new();
        theirs.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hi");
        let name = listener.local_addr().unwrap();
        assert!(!name.as_pathname().unwrap().exists());
    }
}
