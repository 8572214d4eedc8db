//! Waiting for anything that can happen to a machine.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use calve_proto::limits::UP_PORT;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{Activity, Forking, PATIENCE, Worker};
use crate::console::Tail;
use crate::control::{ControlError, Received, Report, VERSION};
use crate::error::WorkerError;

/// What a wait is for, and how long it may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// What the machine is to do, a verb.
    pub(crate) what: &'static str,
    pub(crate) since: Instant,
    pub(crate) within: Duration,
}

impl Wanted {
    /// Something that needs nothing of the guest.
    pub(crate) fn of_worker(what: &'static str) -> Self {
        Self { what, since: Instant::now(), within: PATIENCE }
    }

    fn left(&self) -> Duration {
        self.within.saturating_sub(self.since.elapsed())
    }

    /// What is there when time is up still counts, but not what a hostile worker adds for ever.
    fn is_long_over(&self) -> bool {
        const LAST_WORD: Duration = Duration::from_secs(1);
        self.since.elapsed() > self.within.saturating_add(LAST_WORD)
    }
}

/// What ended a wait.
#[derive(Debug)]
pub(crate) enum Wake {
    /// The stream that was waited for is ready.
    Stream,
    /// The worker said something that its handle does not deal with itself.
    Report(Report, Vec<OwnedFd>),
    /// Something happened that its handle has dealt with: look whether that was it.
    News,
}

impl Worker {
    /// Waits until `stream` is ready or the worker says something. Its end, the machine's, a
    /// cancellation and the passing of time are errors.
    pub(crate) fn wait(
        &mut self,
        wanted: &Wanted,
        stream: Option<(BorrowedFd<'_>, PollFlags)>,
    ) -> Result<Wake, WorkerError> {
        loop {
            let left = wanted.left();
            if wanted.is_long_over() {
                return Err(self.timed_out(wanted));
            }
            let ready = self.poll(left, stream)?;
            if ready.console
                && let Some(console) = &mut self.console
            {
                console.drain();
            }
            if ready.cancel {
                return Err(WorkerError::Cancelled);
            }
            if ready.stream {
                return Ok(Wake::Stream);
            }
            // Before the process: what it said last says more than how it died.
            if ready.control {
                return self.receive();
            }
            if ready.process {
                return Err(self.died());
            }
            if let Some(end) = self.ended.clone() {
                return Err(WorkerError::Ended { end, console: self.console_text() });
            }
            if left.is_zero() {
                return Err(self.timed_out(wanted));
            }
        }
    }

    fn timed_out(&mut self, wanted: &Wanted) -> WorkerError {
        self.too_late(wanted.what, wanted.within)
    }

    /// The error of a machine that has not done something in time.
    pub(crate) fn too_late(&mut self, wanted: &'static str, after: Duration) -> WorkerError {
        let throttled = self.limited.as_ref().map(|it| it.cgroup.happenings().throttled);
        let throttled = throttled.unwrap_or_default();
        WorkerError::TimedOut { wanted, after, throttled, console: self.console_text() }
    }

    fn poll(
        &self,
        left: Duration,
        stream: Option<(BorrowedFd<'_>, PollFlags)>,
    ) -> Result<Ready, WorkerError> {
        let input = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let console = self.console.as_ref().and_then(Tail::fd);
        let mut fds =
            vec![input(self.control.as_fd()), input(self.process.as_fd()), input(self.cancel.fd())];
        let at_console = fds.len();
        fds.extend(console.map(input));
        let at_stream = fds.len();
        fds.extend(stream.map(|(fd, flags)| PollFd::new(fd, flags)));
        // Once the machine has ended, only what is there already counts.
        let left = if self.ended.is_some() { Duration::ZERO } else { left };
        let rest = self.console.as_ref().and_then(Tail::rest);
        let left = rest.map_or(left, |rest| left.min(rest));
        match poll(&mut fds, timeout(left)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(WorkerError::Setup("poll", e.into())),
        }
        let is = |n: usize| fds.get(n).and_then(PollFd::any).unwrap_or(false);
        Ok(Ready {
            control: is(0),
            process: is(1),
            cancel: is(2),
            console: console.is_some() && is(at_console),
            stream: stream.is_some() && is(at_stream),
        })
    }

    /// Receives one report and deals with those that nobody in particular waits for.
    fn receive(&mut self) -> Result<Wake, WorkerError> {
        let Received { message: report, fds } = match self.control.try_receive::<Report>() {
            Ok(Some(received)) => received,
            Ok(None) => return Ok(Wake::News),
            Err(ControlError::Closed) => return Err(self.died()),
            Err(e) => return Err(e.into()),
        };
        let (found, wanted) = (fds.len(), report.descriptors());
        if found != wanted {
            return Err(ControlError::Descriptors { found, wanted }.into());
        }
        match report {
            Report::Shell { version: VERSION } if !self.shell_seen => self.shell_seen = true,
            Report::Shell { version } if !self.shell_seen => {
                return Err(ControlError::Version { found: version }.into());
            }
            Report::Running => {
                let before = std::mem::replace(&mut self.activity, Activity::Running);
                if let Activity::Resetting(ports) = before {
                    self.ports = ports;
                }
                self.former = None;
            }
            Report::Paused => self.activity = Activity::Paused,
            Report::Saved { paused_ns, .. } if matches!(self.forking, Forking::Awaited) => {
                self.forking = Forking::Came(fds, Duration::from_nanos(paused_ns));
            }
            Report::Port { port: UP_PORT } => self.up = true,
            Report::Port { port } => {
                fds.into_iter().for_each(|stream| self.ports.deliver(port, stream));
            }
            // Not an error yet: an answer that the guest gave before its end may be on its way.
            Report::Ended(end) => self.ended = Some(end),
            Report::Refused(refusal) => return Err(WorkerError::Refused(refusal)),
            report => return Ok(Wake::Report(report, fds)),
        }
        Ok(Wake::News)
    }
}

struct Ready {
    control: bool,
    process: bool,
    cancel: bool,
    console: bool,
    stream: bool,
}

/// Rounded up, so that a wait never ends a moment early and spins.
fn timeout(left: Duration) -> PollTimeout {
    let millis = left.as_nanos().div_ceil(1_000_000);
    i32::try_from(millis)
        .ok()
        .and_then(|ms| PollTimeout::try_from(ms).ok())
        .unwrap_or(PollTimeout::MAX)
}

/// Waits until `fd` is readable or `within` has passed; false if that has.
pub(super) fn wait_readable(fd: &impl AsFd, within: Duration) -> bool {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    // Interrupted by a signal: not worth a loop, the caller goes on either way.
    !matches!(poll(&mut fds, timeout(within)), Ok(0))
}
