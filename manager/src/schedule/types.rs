//! What the scheduler is told, and what it answers.

use std::sync::Arc;

use super::Allowance;
use crate::model::{Millis, Reuse, Routing};

/// A request, by a number that its caller has chosen and does not use twice.
pub type RequestId = u64;
/// A machine, by a number that the scheduler has chosen.
pub type MachineId = u64;

/// What a machine is of. Machines are reused only for requests of an equal one.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Code {
    /// Whose.
    pub tenant: Arc<str>,
    /// Which function.
    pub function: Arc<str>,
    /// Which snapshot of it.
    pub snapshot: Arc<str>,
    /// Guest memory, MiB: what one of its machines takes of every budget.
    pub memory_mib: u32,
    /// What becomes of its machines after a call.
    pub reuse: Reuse,
}

/// A request for a machine.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its number.
    pub id: RequestId,
    /// What it is to run.
    pub code: Arc<Code>,
    /// The routing value that it shares a machine with, and what it does when that is busy.
    pub route: Option<(Arc<str>, Routing)>,
    /// What its tenant and its function may have.
    pub allowance: Allowance,
    /// Until when it waits for a machine.
    pub patience: Millis,
}

/// The states of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// It is being started, for nobody yet.
    Booting,
    /// It has started and was never called.
    Warm,
    /// It has been called, and waits for the next call.
    Idle,
    /// A request has it.
    Busy,
    /// It is being reset.
    Resetting,
    /// It is being ended.
    Draining,
    /// It is gone.
    Dead,
}

/// Where a request's machine comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// It has served before.
    Idle,
    /// It was made ahead.
    Warm,
    /// It is to be started.
    New,
}

/// Why a request gets no machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Its tenant makes too many requests a second.
    Rate,
    /// Its tenant has too many at once.
    Concurrency,
    /// Its function has too many at once for what is reserved for it.
    Reserved,
    /// No machine was free in time, or too many wait already.
    Capacity,
    /// A machine of this size is over what there is, or what its tenant may have: it would wait for ever.
    TooLarge,
    /// The machine of its routing value was not free in time, or too many wait for that.
    Route,
    /// The host is being shut down.
    Draining,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Have `machine` serve `request`.
    Run {
        /// The request.
        request: RequestId,
        /// The machine.
        machine: MachineId,
        /// Whether it has to be started for that.
        origin: Origin,
        /// Whether the machine that its routing value had is gone, and what it kept with it.
        state_lost: bool,
    },
    /// Start a machine ahead of requests.
    Start {
        /// The machine.
        machine: MachineId,
        /// What it is of.
        code: Arc<Code>,
    },
    /// Reset a machine.
    Reset {
        /// The machine.
        machine: MachineId,
    },
    /// End a machine.
    Destroy {
        /// The machine.
        machine: MachineId,
    },
    /// Tell whoever made the request.
    Refuse {
        /// The request.
        request: RequestId,
        /// Why.
        why: Refusal,
    },
    /// Nothing: a machine has changed its state, for whoever watches.
    Changed {
        /// The machine.
        machine: MachineId,
        /// What it is of.
        code: Arc<Code>,
        /// Its state now.
        state: State,
    },
}

/// What all machines together may take, and how long things last.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Guest memory of all machines, MiB.
    pub memory_mib: u64,
    /// Machines.
    pub machines: usize,
    /// Requests that wait for a machine.
    pub waiting: usize,
    /// Requests that wait for one routing value's machine.
    pub waiting_for_route: usize,
    /// How long a machine may be idle, ms.
    pub idle_ms: Millis,
}

impl Default for Settings {
    /// 16 GiB, 1,000 machines, as many requests waiting, 100 for a route, ten minutes.
    fn default() -> Self {
        Self {
            memory_mib: 16 << 10,
            machines: 1000,
            waiting: 1000,
            waiting_for_route: 100,
            idle_ms: 600_000,
        }
    }
}
