//! A worker process, seen from the fleet.
//!
//! ```text
//!  birth ──► Shell asked for ──► content sent ──► running ──► Ended / dead / dropped
//!              (nothing waits between these: commands are sent ahead)
//! ```
//!
//! Nobody reads a worker's reports but the thread that waits for something of it, so there is no
//! lock and no reader thread. Whatever a wait is for, it also watches the worker's process, its
//! control socket, the guest's console and the fleet's cancellation.

mod commands;
mod memory;
mod nursery;
mod pidfd;
mod watch;

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use calve_vmm::Shape;

use crate::boot::Ports;
use crate::cancel::Canceller;
use crate::console::Tail;
use crate::control::{Command, ControlError, End, Socket, VERSION};
use crate::error::WorkerError;
use crate::limits::Limited;
use crate::process::Process;

pub(crate) use nursery::{Apart, Newborn, Nursery};
pub use pidfd::Death;
pub(crate) use pidfd::PidFd as Gone;
pub(crate) use watch::{Wake, Wanted};

/// How long a worker may take to answer a command that needs nothing of the guest. Emulated hosts
/// are slow, loaded ones slower; only a broken worker takes this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How long a newborn worker gives way. Where the processors are never free it would do so for ever, and shells are
/// what the next requests need.
const MEEK: Duration = Duration::from_secs(1);

/// Whether somebody waits for a shell that is to be born.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Haste {
    /// A request: the birth is part of it.
    Awaited,
    /// Nobody, so it takes no processor from workers with content until it is [grown up](Worker::grow_up). The request
    /// for which a shell was taken is what has just begun when the next one is born.
    None,
}

/// What a machine does, as far as its worker has said.
#[derive(Debug)]
enum Activity {
    Starting,
    Running,
    Paused,
    /// Until it runs again, what it says is of the life that ends; these are the ports of the next.
    Resetting(Ports),
}

/// A machine that was told to fork goes on before its memory is copied: what it has to give comes at any time.
#[derive(Debug)]
enum Forking {
    Not,
    Awaited,
    Came(Vec<OwnedFd>, Duration),
}

impl Activity {
    fn is_running(&self) -> bool {
        matches!(self, Self::Running)
    }

    fn is_paused(&self) -> bool {
        matches!(self, Self::Paused)
    }
}

/// A worker process. Dropping it kills and reaps it.
#[derive(Debug)]
pub(crate) struct Worker {
    pid: u32,
    process: pidfd::PidFd,
    control: Socket,
    last_words: Tail,
    console: Option<Tail>,
    ports: Ports,
    /// The stream of the life before, until the next has begun.
    former: Option<UnixStream>,
    up: bool,
    shell_seen: bool,
    activity: Activity,
    ended: Option<End>,
    /// What a fork is to bring, and what has come of it.
    forking: Forking,
    reaped: Option<Death>,
    /// Its cgroup, if it has one: goes after the process.
    limited: Option<Limited>,
    cancel: Canceller,
    /// Keeps the thread alive whose end would kill the process.
    _nursery: Nursery,
}

impl Worker {
    /// Starts a worker and tells it to become a shell; does not wait for it.
    pub(crate) fn birth(
        nursery: &Nursery,
        cancel: &Canceller,
        shape: Shape,
        haste: Haste,
    ) -> Result<Self, WorkerError> {
        let (control, theirs) =
            Socket::pair().map_err(|e| WorkerError::Setup("make a socket", e))?;
        let (last_words, stderr) =
            Tail::new().map_err(|e| WorkerError::Setup("make a pipe", e.into()))?;
        let limited = nursery.limiter().cgroup(shape)?;
        if let (Haste::None, Some(limited)) = (haste, &limited) {
            limited.give_way()?;
        }
        let group = limited.as_ref().map(|it| it.cgroup.path().to_owned());
        let Newborn { pid, handle: process } = nursery
            .birth(theirs.into_fd(), stderr, group, haste)
            .map_err(|source| WorkerError::Spawn { path: nursery.program().into(), source })?;
        let mut worker = Self {
            pid,
            process,
            control,
            last_words,
            console: None,
            ports: Ports::default(),
            former: None,
            up: false,
            shell_seen: false,
            activity: Activity::Starting,
            ended: None,
            forking: Forking::Not,
            reaped: None,
            limited,
            cancel: cancel.clone(),
            _nursery: nursery.clone(),
        };
        worker.send(&Command::Shell { version: VERSION, shape }, &[])?;
        Ok(worker)
    }

    /// Waits until the shell is there that nobody waited for, and gives it the share of the processors that
    /// it is to have with content.
    pub(crate) fn grow_up(&mut self) -> Result<(), WorkerError> {
        let meek = self.wait_shell_within(MEEK);
        if let Some(limited) = &self.limited {
            limited.take_its_share()?;
        }
        match meek {
            Err(WorkerError::TimedOut { .. }) => self.wait_shell(),
            done => done,
        }
    }

    /// Waits until the shell is there.
    pub(crate) fn wait_shell(&mut self) -> Result<(), WorkerError> {
        self.wait_shell_within(PATIENCE)
    }

    fn wait_shell_within(&mut self, within: Duration) -> Result<(), WorkerError> {
        let wanted = Wanted { within, ..Wanted::of_worker("become a shell") };
        while !self.shell_seen {
            self.wait(&wanted, None)?;
        }
        Ok(())
    }

    /// Whether the worker, in no use yet, can still be used.
    pub(crate) fn is_fit(&mut self) -> bool {
        let now = Wanted { what: "be fit", since: Instant::now(), within: Duration::ZERO };
        loop {
            match self.wait(&now, None) {
                Ok(Wake::News) => {}
                // Nothing more to hear from it: it lives.
                Err(WorkerError::TimedOut { .. }) => return self.shell_seen,
                Ok(_) | Err(_) => return false,
            }
        }
    }

    /// Sends a command; does not wait for what it leads to.
    pub(crate) fn send(
        &mut self,
        command: &Command,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), WorkerError> {
        match self.control.send(command, fds) {
            Ok(()) => Ok(()),
            Err(ControlError::Closed) => Err(self.died()),
            Err(e) => Err(e.into()),
        }
    }

    /// From now on the console's output and connections to the host's ports are looked after.
    pub(crate) fn connect(&mut self, console: Option<Tail>, ports: Ports) {
        self.console = console;
        match self.activity {
            Activity::Resetting(_) => self.activity = Activity::Resetting(ports),
            _ => self.ports = ports,
        }
    }

    /// Keeps the stream of a life that is about to end until the next has begun.
    pub(crate) fn hold(&mut self, former: UnixStream) {
        self.former = Some(former);
    }

    /// A handle that becomes readable when the process has ended.
    pub(crate) fn gone(&self) -> std::io::Result<Gone> {
        self.process.try_clone()
    }

    /// Private memory, KiB. None of a process that is gone, whose id may be another's by now.
    pub(crate) fn private_kib(&self) -> Option<u64> {
        if self.reaped.is_some() { None } else { memory::private_kib(self.pid) }
    }

    /// Process id, for people.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Another handle on the process.
    pub(crate) fn process(&self) -> io::Result<Process> {
        self.process.try_clone().map(Process::new)
    }

    /// The end of the console, made printable.
    pub(crate) fn console_text(&mut self) -> String {
        self.console.as_mut().map(Tail::text).unwrap_or_default()
    }

    /// Allows it a copy of its machine's memory.
    fn allow_copy(&mut self) -> Result<(), WorkerError> {
        Ok(self.limited.as_mut().map_or(Ok(()), Limited::allow_copy)?)
    }

    /// Kills the process and waits until it is gone.
    pub(crate) fn kill(&mut self) -> Death {
        if let Some(death) = self.reaped {
            return death;
        }
        self.process.kill();
        let death = self.process.reap();
        self.reaped = Some(death);
        death
    }

    /// The process is gone or has cut the line: why, as an error.
    fn died(&mut self) -> WorkerError {
        if let Some(end) = self.ended.clone() {
            return WorkerError::Ended { end, console: self.console_text() };
        }
        // A worker that closed its socket without ending has no business any more; but one that
        // is on its way out by itself gets the moment it needs, so that the reason is the true one.
        watch::wait_readable(&self.process, Duration::from_secs(1));
        let how = self.kill();
        let last_words = self.last_words.text();
        let limited = self.limited.as_ref().map(|it| (it.memory, it.cgroup.happenings()));
        match limited.filter(|(_, happenings)| happenings.oom_kills > 0) {
            Some((limit, happenings)) if happenings.ooms > 0 => {
                WorkerError::OutOfMemory { limit, last_words }
            }
            Some(_) => WorkerError::HostOutOfMemory { last_words },
            None => WorkerError::Died { how, last_words },
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.kill();
    }
}
