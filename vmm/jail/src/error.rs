//! Why a process is not in its jail.

use nix::errno::Errno;
use thiserror::Error;

/// Why a process is not in its jail. It must end.
#[derive(Debug, Error)]
pub enum JailError {
    /// Capabilities cannot be given up.
    #[error("cannot give up its capabilities")]
    Capabilities(#[source] caps::errors::CapsError),
    /// The kernel refused a step.
    #[error("the worker cannot {what}: {errno}")]
    Step {
        /// What it was about to do, a verb.
        what: &'static str,
        /// The kernel's reason.
        errno: Errno,
    },
    /// Its parent is gone, or was never the one it was told.
    #[error("the worker's parent is gone")]
    Orphan,
    /// The filter cannot be made: the table is wrong for this architecture.
    #[error("the seccomp table cannot be compiled")]
    Compile(#[source] seccompiler::BackendError),
    /// The kernel does not take the filter.
    #[error("the kernel does not take the seccomp filter: use one with CONFIG_SECCOMP_FILTER")]
    Install(#[source] seccompiler::Error),
}
