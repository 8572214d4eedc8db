//! The control stream to a guest's agent, watched together with the machine it leads to.
//!
//! A [`Session`](calve_proto::Session) reads and writes it like any stream; but whenever it would
//! block, it waits for the machine as a whole, so that a worker that dies ends the wait at once and
//! the deadline holds whatever the guest does.

use std::cell::{RefCell, RefMut};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use calve_proto::{Session, SessionError};
use nix::poll::PollFlags;

use crate::control::ControlError;
use crate::error::WorkerError;
use crate::worker::{Wake, Wanted, Worker};

/// A session over a watched stream.
pub(crate) type Conversation = Session<Line>;

/// How long to look for the reason when a stream ends: a guest whose agent has died takes a
/// moment to panic and reset.
const AFTERMATH: Duration = Duration::from_secs(3);

/// A stream to a guest, and its machine.
#[derive(Debug)]
pub(crate) struct Line {
    stream: UnixStream,
    /// In a cell because a session lends its stream for reading only. Never borrowed across a
    /// call of ours, so that it cannot be borrowed twice.
    shared: RefCell<Shared>,
}

#[derive(Debug)]
struct Shared {
    worker: Worker,
    wanted: Wanted,
    failure: Option<WorkerError>,
}

impl Line {
    /// Watches `worker` while waiting for `stream`.
    pub(crate) fn new(worker: Worker, stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let wanted = Wanted::of_worker("answer");
        Ok(Self { stream, shared: RefCell::new(Shared { worker, wanted, failure: None }) })
    }

    /// What the machine is to do from now on, and how long it may take.
    pub(crate) fn want(&self, what: &'static str, within: Duration) {
        self.shared.borrow_mut().wanted = Wanted { what, since: Instant::now(), within };
    }

    /// The machine's worker.
    pub(crate) fn worker(&self) -> RefMut<'_, Worker> {
        RefMut::map(self.shared.borrow_mut(), |shared| &mut shared.worker)
    }

    /// Closes the stream; the worker remains.
    pub(crate) fn hang_up(self) -> Worker {
        self.shared.into_inner().worker
    }

    /// The worker, for a life of its machine in which this stream is nobody's. It is closed when that life has begun:
    /// a guest that is about to be put back should not spend time on the end of a stream first.
    pub(crate) fn part(self) -> Worker {
        let mut worker = self.shared.into_inner().worker;
        worker.hold(self.stream);
        worker
    }

    /// Why the session ended: the machine's failure if there was one, else what the session says.
    pub(crate) fn explain(&self, error: SessionError) -> Broken {
        let mut shared = self.shared.borrow_mut();
        match (shared.failure.take(), error) {
            (Some(failure), _) => Broken::Worker(failure),
            (None, SessionError::TimedOut | SessionError::DeadlinePassed) => Broken::TimedOut,
            (None, error @ (SessionError::BadRequest { .. } | SessionError::Misuse(_))) => {
                Broken::Request(error)
            }
            (None, error) => Broken::Session(error),
        }
    }

    fn wait(&self, flags: PollFlags) -> io::Result<()> {
        let shared = &mut *self.shared.borrow_mut();
        loop {
            let stream = Some((self.stream.as_fd(), flags));
            let failure = match shared.worker.wait(&shared.wanted, stream) {
                Ok(Wake::Stream) => return Ok(()),
                Ok(Wake::News) => continue,
                Ok(Wake::Report(report, _)) => ControlError::OutOfTurn(report.name()).into(),
                Err(WorkerError::TimedOut { .. }) => return Err(io::ErrorKind::TimedOut.into()),
                Err(failure) => failure,
            };
            shared.failure = Some(failure);
            return Err(io::Error::other("the machine failed"));
        }
    }

    /// The stream has ended. Was it the machine?
    fn aftermath(&self) {
        let shared = &mut *self.shared.borrow_mut();
        let wanted = Wanted { what: "answer", since: Instant::now(), within: AFTERMATH };
        loop {
            match shared.worker.wait(&wanted, None) {
                Ok(_) => {}
                // It is alive and well: the agent hung up.
                Err(WorkerError::TimedOut { .. }) => return,
                Err(failure) => {
                    shared.failure = Some(failure);
                    return;
                }
            }
        }
    }
}

/// Why a conversation ended.
#[derive(Debug)]
pub(crate) enum Broken {
    Worker(WorkerError),
    TimedOut,
    Request(SessionError),
    Session(SessionError),
}

impl Read for Line {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.stream.read(buf) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.wait(PollFlags::POLLIN)?,
                Ok(0) if !buf.is_empty() => {
                    self.aftermath();
                    return Ok(0);
                }
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => {
                    self.aftermath();
                    return Err(e);
                }
                done => return done,
            }
        }
    }
}

impl Write for Line {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        loop {
            match self.stream.write(buf) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.wait(PollFlags::POLLOUT)?,
                Err(e) if is_hang_up(&e) => {
                    self.aftermath();
                    return Err(e);
                }
                done => return done,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The standard library sends on sockets with MSG_NOSIGNAL, so this is an error and no signal.
fn is_hang_up(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}
