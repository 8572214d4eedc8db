//! Which exit status an error of the fleet gets. Same rules as [`classify`](super::classify).

use calve_fleet::control::Stage;
use calve_fleet::{
    BootError, BuildError, CallError, FleetError, ForkError, FreezeError, HostError, OpenError,
    WorkerError,
};
use calve_proto::{FunctionError, SessionError};

use super::classify::{function, remedy, store};
use super::{Failure, Status};

fn worker(error: &WorkerError) -> Status {
    match error {
        WorkerError::Cancelled => Status::Interrupted,
        WorkerError::Spawn { .. } | WorkerError::Setup(..) | WorkerError::Random(_) => Status::Host,
        WorkerError::Refused(refusal) => match refusal.stage {
            Stage::Jail | Stage::Shell => Status::Host,
            // A kernel, an initrd, a disk or a command line that no machine can boot with.
            Stage::Boot => Status::Usage,
            Stage::Thaw | Stage::Save | Stage::Control => Status::Machine,
        },
        _ => Status::Machine,
    }
}

fn session(error: &SessionError) -> Status {
    match error {
        SessionError::BadRequest { .. } => Status::Usage,
        _ => Status::Machine,
    }
}

fn boot(error: &BootError) -> Status {
    match error {
        BootError::Worker(error) => worker(error),
        BootError::Session(error) => session(error),
        BootError::Init(error) => function(error.kind),
    }
}

fn call(error: &CallError) -> Status {
    match error {
        CallError::Request(error) => session(error),
        CallError::Worker(error) => worker(error),
        _ => Status::Machine,
    }
}

fn freeze(error: &FreezeError) -> Status {
    match error {
        FreezeError::Worker(error) => worker(error),
        FreezeError::Guest(error) => function(error.kind),
        FreezeError::Store(error) => store(error),
        FreezeError::Host(_) => Status::Host,
        _ => Status::Machine,
    }
}

impl From<FleetError> for Failure {
    fn from(error: FleetError) -> Self {
        Self::of(Status::Host, &error)
    }
}

impl From<HostError> for Failure {
    fn from(error: HostError) -> Self {
        Self::of(Status::Host, &error)
    }
}

impl From<WorkerError> for Failure {
    fn from(error: WorkerError) -> Self {
        Self::of(worker(&error), &error)
    }
}

impl From<BootError> for Failure {
    fn from(error: BootError) -> Self {
        Self::of(boot(&error), &error)
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        Self::of(call(&error), &error)
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Store(error) => crate::store::failure(error),
            OpenError::Host(error) => error.into(),
            OpenError::State { .. } | OpenError::Runtime { .. } => Self::of(Status::Usage, &error),
            OpenError::Memory { .. } => Self::of(Status::Host, &error),
        }
    }
}

impl From<ForkError> for Failure {
    fn from(error: ForkError) -> Self {
        let status = match &error {
            ForkError::Freeze(error) => freeze(error),
            ForkError::Call(error) => call(error),
            ForkError::Hook(error) => function(error.kind),
            ForkError::Child(error) => worker(error),
        };
        Self::of(status, &error).with_remedy(in_fork(&error).and_then(|e| remedy(e.kind)))
    }
}

/// The function's own error in a failed fork.
pub(crate) fn in_fork(error: &ForkError) -> Option<&FunctionError> {
    match error {
        ForkError::Freeze(FreezeError::Guest(error)) | ForkError::Hook(error) => Some(error),
        _ => None,
    }
}

impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Self {
        let error = match error {
            BuildError::Base(error) => return error.into(),
            error => error,
        };
        let status = match &error {
            BuildError::Open { .. }
            | BuildError::Shape(_)
            | BuildError::Misfit { .. }
            | BuildError::Room { .. } => Status::Usage,
            BuildError::Base(_) => Status::Machine,
            BuildError::Store(error) => store(error),
            BuildError::Boot(error) => boot(error),
            BuildError::Warm { source, .. } => function(source.kind),
            BuildError::Call { source, .. } => call(source),
            BuildError::Freeze(error) => freeze(error),
        };
        Self::of(status, &error).with_remedy(in_build(&error).and_then(|e| remedy(e.kind)))
    }
}

/// The function's own error in a failed build.
pub(crate) fn in_build(error: &BuildError) -> Option<&FunctionError> {
    match error {
        BuildError::Boot(BootError::Init(error))
        | BuildError::Freeze(FreezeError::Guest(error))
        | BuildError::Warm { source: error, .. } => Some(error),
        _ => None,
    }
}
