//! What a worker is told to do, each with the wait for its answer.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use super::{Activity, Forking, Wake, Wanted, Worker};
use crate::boot::Ports;
use crate::control::{Attach, Command, ControlError, End, Report, Stats};
use crate::error::{FreezeError, WorkerError};
use crate::saved::Saved;

impl Worker {
    /// Waits for the report that `pick` takes; any other that is not handled here is a breach of
    /// the protocol.
    pub(crate) fn expect<T>(
        &mut self,
        wanted: &Wanted,
        pick: impl Fn(&Report, Vec<OwnedFd>) -> Option<T>,
    ) -> Result<T, WorkerError> {
        loop {
            if let Wake::Report(report, fds) = self.wait(wanted, None)? {
                return pick(&report, fds).ok_or(ControlError::OutOfTurn(report.name()).into());
            }
        }
    }

    /// Waits until the agent has said "I am up".
    pub(crate) fn wait_up(&mut self, within: Duration) -> Result<(), WorkerError> {
        let wanted = Wanted { what: "start its agent", since: Instant::now(), within };
        while !self.up {
            self.wait(&wanted, None)?;
        }
        Ok(())
    }

    /// Waits until the machine has its content and was let run.
    pub(crate) fn wait_running(&mut self) -> Result<(), WorkerError> {
        self.wait_for(Activity::is_running, "run")
    }

    /// Pauses the machine. No effect on a paused one.
    pub(crate) fn pause(&mut self) -> Result<(), WorkerError> {
        if !self.activity.is_paused() {
            self.wait_running()?;
            self.send(&Command::Pause, &[])?;
        }
        self.wait_for(Activity::is_paused, "pause")
    }

    /// Lets a paused machine run. No effect on a running one.
    pub(crate) fn resume(&mut self) -> Result<(), WorkerError> {
        if self.activity.is_paused() {
            self.send(&Command::Resume, &[])?;
        }
        self.wait_running()
    }

    /// Tells a running clone to become what it was; does not wait for that.
    pub(crate) fn reset(
        &mut self,
        attach: Attach,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), WorkerError> {
        self.begin_again(&Command::Reset(attach), fds)
    }

    /// Tells a running machine to go on after it was kept as it is; does not wait for that.
    pub(crate) fn fork(
        &mut self,
        attach: Attach,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), WorkerError> {
        self.allow_copy()?;
        self.begin_again(&Command::Fork(attach), fds)?;
        self.forking = Forking::Awaited;
        Ok(())
    }

    fn begin_again(
        &mut self,
        command: &Command,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), WorkerError> {
        self.send(command, fds)?;
        // Streams of the life that ends may be on their way: they are nobody's.
        self.ports = Ports::default();
        self.activity = Activity::Resetting(Ports::default());
        Ok(())
    }

    fn wait_for(
        &mut self,
        is_so: fn(&Activity) -> bool,
        what: &'static str,
    ) -> Result<(), WorkerError> {
        let wanted = Wanted::of_worker(what);
        while !is_so(&self.activity) {
            self.wait(&wanted, None)?;
        }
        Ok(())
    }

    /// State and memory of a paused machine of so many bytes of memory, as files.
    pub(crate) fn save(&mut self, memory: u64) -> Result<Saved, FreezeError> {
        self.allow_copy()?;
        self.send(&Command::Save, &[])?;
        let wanted = copying("give back its state", memory);
        let fds = self.expect(&wanted, |report, fds| match report {
            Report::Saved { .. } => Some(fds),
            _ => None,
        })?;
        Saved::new(fds).map_err(FreezeError::Damaged)
    }

    /// State and memory of a machine that was told to fork, and how long it stood still.
    pub(crate) fn forked(&mut self, memory: u64) -> Result<(Saved, Duration), FreezeError> {
        let wanted = copying("fork", memory);
        loop {
            match std::mem::replace(&mut self.forking, Forking::Not) {
                Forking::Came(fds, paused) => {
                    return Ok((Saved::new(fds).map_err(FreezeError::Damaged)?, paused));
                }
                before => self.forking = before,
            }
            match self.wait(&wanted, None)? {
                Wake::Report(report, _) => {
                    return Err(WorkerError::from(ControlError::OutOfTurn(report.name())).into());
                }
                Wake::News | Wake::Stream => {}
            }
        }
    }

    /// Waits for the machine's end.
    pub(crate) fn wait_end(&mut self, within: Duration) -> Result<End, WorkerError> {
        let wanted = Wanted { what: "end", since: Instant::now(), within };
        loop {
            match self.wait(&wanted, None) {
                Ok(Wake::Report(report, _)) => {
                    return Err(ControlError::OutOfTurn(report.name()).into());
                }
                Ok(_) => {}
                Err(WorkerError::Ended { end, .. }) => return Ok(end),
                Err(e) => return Err(e),
            }
        }
    }

    /// Asks what happened when.
    pub(crate) fn stats(&mut self) -> Result<Stats, WorkerError> {
        /// An answer must not wait long for figures about it.
        const PATIENCE: Duration = Duration::from_secs(5);
        self.send(&Command::Stats, &[])?;
        let what = "give its figures";
        let wanted = Wanted { what, since: Instant::now(), within: PATIENCE };
        self.expect(&wanted, |report, _| match report {
            Report::Stats(stats) => Some(*stats),
            _ => None,
        })
    }
}

/// What a worker may take longer for, the more memory there is: a slow host copies 32 MiB in a second.
fn copying(what: &'static str, memory: u64) -> Wanted {
    let copy = Duration::from_secs(memory / (32 << 20));
    let Wanted { what, since, within } = Wanted::of_worker(what);
    Wanted { what, since, within: within.saturating_add(copy) }
}
