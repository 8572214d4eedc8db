//! A call on its way to a machine and back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::oneshot;

use super::results::Results;
use crate::engine::{Answer, Call, EngineError, Instance, Killer, ResultSink};
use crate::model::Routing;
use crate::schedule::{Allowance, Code, Origin, Refusal};

/// A call to be made.
#[derive(Clone, Debug)]
pub struct Job {
    /// What it is to run.
    pub code: Arc<Code>,
    /// The routing value, and what to do when its machine is busy.
    pub route: Option<(Arc<str>, Routing)>,
    /// What its tenant and its function may have.
    pub allowance: Allowance,
    /// How long it waits for a machine at most.
    pub patience: Duration,
    /// Its id.
    pub request: String,
    /// JSON.
    pub event: Bytes,
    /// The function's deadline.
    pub timeout: Duration,
    /// X-Ray trace header, or empty.
    pub trace: String,
    /// Where its result goes as it comes; none: into the answer, when it is whole.
    pub results: Option<Results>,
}

/// A call that found a machine.
#[derive(Debug)]
pub struct Served {
    /// What came of it.
    pub answer: Result<Answer, EngineError>,
    /// Where its machine came from.
    pub origin: Origin,
    /// The machine's identity; empty if it could not be started.
    pub machine: String,
    /// Whether the machine of its routing value is gone, and what it kept with it.
    pub state_lost: bool,
    /// The last of what the function printed: 4 KiB at most.
    pub logs: Vec<u8>,
    /// How long it waited for a machine.
    pub waited: Duration,
    /// How long the function took, its machine's start included.
    pub took: Duration,
}

/// Why a call found no machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unserved {
    /// The scheduler refused it.
    #[error("refused: {0:?}")]
    Refused(Refusal),
    /// The host is gone.
    #[error("the host is shut down")]
    ShutDown,
}

/// How much longer than its function may take a caller may take to take what the function has said.
const GRACE: Duration = Duration::from_secs(10);

/// Bytes of its log that a caller gets: AWS Lambda's.
const TAIL: usize = 4096;

/// What holds a call and the machine that serves it together, for whoever gives it up.
#[derive(Default)]
pub(super) struct Tether {
    cut: AtomicBool,
    machine: Mutex<Option<Arc<dyn Killer>>>,
}

impl Tether {
    /// Gives the call up: its machine ends, now or as soon as it has one.
    pub(super) fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
        if let Some(machine) = &*self.machine() {
            machine.kill();
        }
    }

    /// Ties a machine to it; whether it is still wanted.
    fn tie(&self, machine: Option<Arc<dyn Killer>>) -> bool {
        // In this order: whoever cuts it meanwhile sees the machine, or is seen.
        *self.machine() = machine;
        !self.cut.load(Ordering::SeqCst)
    }

    /// The machine is another's from now on.
    fn untie(&self) {
        *self.machine() = None;
    }

    fn machine(&self) -> std::sync::MutexGuard<'_, Option<Arc<dyn Killer>>> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call with everything that is needed to make and to answer it.
pub(super) struct Ticket {
    pub(super) job: Job,
    tether: Arc<Tether>,
    answer: oneshot::Sender<Result<Served, Unserved>>,
    came: Instant,
}

impl Ticket {
    pub(super) fn new(
        job: Job,
        tether: Arc<Tether>,
        answer: oneshot::Sender<Result<Served, Unserved>>,
    ) -> Self {
        Self { job, tether, answer, came: Instant::now() }
    }

    /// Tells the caller that there is no machine.
    pub(super) fn refuse(self, why: Refusal) {
        // Nobody to tell: given up.
        let _ = self.answer.send(Err(Unserved::Refused(why)));
    }

    /// Makes the call in a machine that `start` brings. Returns the machine, whether it can be called again, and the
    /// answer: whoever gets it may call again at once, and has to find the machine free by then.
    pub(super) fn serve(
        self,
        origin: Origin,
        state_lost: bool,
        start: impl FnOnce() -> Result<Box<dyn Instance>, EngineError>,
    ) -> (Option<Box<dyn Instance>>, bool, Reply) {
        let Self { job, tether, answer, came } = self;
        let (waited, began) = (came.elapsed(), Instant::now());
        let mut logs = Vec::new();
        let (instance, result) = match start() {
            Err(error) => (None, Err(error)),
            Ok(mut instance) => {
                let killer = instance.killer();
                let result = if tether.tie(killer.clone()) {
                    let mut sink = |bytes: &[u8]| keep_tail(&mut logs, bytes);
                    let machine: Arc<str> = instance.machine().into();
                    let until = began + job.timeout.saturating_add(GRACE);
                    let mut pass = job.results.as_ref().map(|results| {
                        move |bytes: &[u8], content_type: &str| {
                            let taken = results.pass(&machine, bytes, content_type, until);
                            // Nobody takes it, or not in time: then there is nothing to go on for.
                            if let (false, Some(machine)) = (taken, &killer) {
                                machine.kill();
                            }
                        }
                    });
                    instance.call(Call {
                        request: &job.request,
                        event: &job.event,
                        timeout: job.timeout,
                        trace: &job.trace,
                        logs: &mut sink,
                        results: pass.as_mut().map(|pass| pass as &mut ResultSink<'_>),
                    })
                } else {
                    Err(EngineError::Machine("nobody wants it any more".into()))
                };
                tether.untie();
                (Some(instance), result)
            }
        };
        let usable = match &result {
            Ok(answer) => answer.result.as_ref().map_or_else(|failure| failure.usable, |_| true),
            Err(EngineError::Request(_)) => true,
            Err(_) => false,
        };
        let machine = instance.as_ref().map(|it| it.machine().to_owned()).unwrap_or_default();
        let served = Served {
            answer: result,
            origin,
            machine,
            state_lost,
            logs,
            waited,
            took: began.elapsed(),
        };
        // Nobody to tell: given up. Then the machine was killed, or is about to be.
        let wanted = !answer.is_closed();
        (instance, usable && wanted, Reply { answer, served })
    }
}

/// What came of a call, for whoever made it.
pub(super) struct Reply {
    answer: oneshot::Sender<Result<Served, Unserved>>,
    served: Served,
}

impl Reply {
    pub(super) fn send(self) {
        // Nobody to tell: given up in this very moment, when its machine was free already.
        let _ = self.answer.send(Ok(self.served));
    }
}

/// Keeps the last bytes that were printed.
fn keep_tail(kept: &mut Vec<u8>, bytes: &[u8]) {
    let bytes = bytes.get(bytes.len().saturating_sub(TAIL)..).unwrap_or_default();
    let over = (kept.len() + bytes.len()).saturating_sub(TAIL);
    kept.drain(..over);
    kept.extend_from_slice(bytes);
}
