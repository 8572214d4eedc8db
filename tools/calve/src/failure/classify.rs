//! Which exit status an error gets.
//!
//! | status | rule |
//! | --- | --- |
//! | 1 | the guest is well, the function is not |
//! | 2 | another command line, file or name would have worked |
//! | 3 | the same command would work on another host, or on this one once it is put right |
//! | 4 | nothing the caller gave is known to be wrong: the machine broke, or time ran out |

use calve_image::code::CodeError;
use calve_image::kernel::KernelError;
use calve_image::root::RootError;
use calve_image::{CacheError, FileError};
use calve_proto::{ErrorKind, FunctionError};
use calve_snapshots::Error as StoreError;

use super::{Failure, Status};

/// The status of what a function's guest reports.
pub(super) fn function(kind: ErrorKind) -> Status {
    match kind {
        ErrorKind::Handler
        | ErrorKind::RuntimeExited
        | ErrorKind::OutOfMemory
        | ErrorKind::InvalidResult
        | ErrorKind::ResultTooLarge
        | ErrorKind::Init
        | ErrorKind::Hook => Status::Function,
        ErrorKind::InvalidEvent => Status::Usage,
        ErrorKind::Timeout
        | ErrorKind::InitTimeout
        | ErrorKind::Cancelled
        | ErrorKind::DuplicateRequest
        | ErrorKind::Busy
        | ErrorKind::NotConfigured
        | ErrorKind::Agent
        | ErrorKind::Unspecified => Status::Machine,
    }
}

/// What to do about a function's failure, where it is not the function's own business.
pub(super) fn remedy(kind: ErrorKind) -> Option<&'static str> {
    match kind {
        ErrorKind::Timeout => Some("give it more time with --timeout"),
        ErrorKind::InitTimeout => Some("build it with a longer --init-timeout"),
        ErrorKind::OutOfMemory => Some("build it with more --memory"),
        ErrorKind::ResultTooLarge => Some("return a reference to the data instead"),
        _ => None,
    }
}

impl From<&FunctionError> for Failure {
    fn from(error: &FunctionError) -> Self {
        Self::of(function(error.kind), error).with_remedy(remedy(error.kind))
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::of(store(&error), &error)
    }
}

pub(super) fn store(error: &StoreError) -> Status {
    match error {
        StoreError::InvalidName(_)
        | StoreError::NameBusy(_)
        | StoreError::NotFound { .. }
        | StoreError::NotPrivate(_)
        | StoreError::FormatVersion { .. }
        | StoreError::Unsigned { .. }
        | StoreError::WronglySigned { .. }
        | StoreError::Damaged { .. }
        | StoreError::NotAnImage(_) => Status::Usage,
        StoreError::NoSpace { .. }
        | StoreError::Io { .. }
        | StoreError::Architecture { .. }
        | StoreError::CpuVendor { .. }
        | StoreError::CpuFeatures { .. } => Status::Host,
        _ => Status::Machine,
    }
}

impl From<CacheError> for Failure {
    fn from(error: CacheError) -> Self {
        match error {
            CacheError::Interrupted => Self::interrupted(),
            CacheError::NoHome | CacheError::Relative { .. } => Self::of(Status::Usage, &error),
            _ => Self::of(Status::Host, &error),
        }
    }
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        Self::of(Status::Host, &error)
    }
}

impl From<KernelError> for Failure {
    fn from(error: KernelError) -> Self {
        Self::of(Status::Host, &error)
    }
}

impl From<RootError> for Failure {
    fn from(error: RootError) -> Self {
        Self::of(Status::Host, &error)
    }
}

impl From<CodeError> for Failure {
    fn from(error: CodeError) -> Self {
        let status = match &error {
            CodeError::File(_) | CodeError::Pack(_) => Status::Host,
            _ => Status::Usage,
        };
        Self::of(status, &error)
    }
}
