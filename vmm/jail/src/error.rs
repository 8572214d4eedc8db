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
    /// The kernel makes no namespace of pids or users.
    #[error(
        "the worker cannot make a namespace: {0}; allow it (sysctl user.max_user_namespaces, \
         kernel.apparmor_restrict_unprivileged_userns=0), or do without with CALVE_ISOLATION=none"
    )]
    Namespace(Errno),
    /// What it was told is no isolation.
    #[error("{0:?} is no isolation: say none, own, or uids:FIRST:COUNT with ids above 0")]
    Isolation(String),
    /// What it was told is no way to share cores.
    #[error("{0:?} is no way to share cores: say apart or shared")]
    Cores(String),
    /// Its parent is gone, or was never the one it was told.
    #[error("the worker's parent is gone")]
    Orphan,
    /// The filter cannot be made: the table is wrong for this architecture.
    #[error("the seccomp table cannot be compiled")]
    Compile(#[source] seccompiler::BackendError),
    /// A thread would go on without a filter, or one that had taken its own has ended.
    #[error(
        "the worker has {threads} threads besides this one, and {shut} have shut themselves in"
    )]
    Open {
        /// How many there are besides the one that seals the jail.
        threads: usize,
        /// How many have taken a filter.
        shut: usize,
    },
    /// The kernel does not take the filter.
    #[error("the kernel does not take the seccomp filter: use one with CONFIG_SECCOMP_FILTER")]
    Install(#[source] seccompiler::Error),
}

impl JailError {
    pub(crate) fn file(what: &'static str, error: &std::io::Error) -> Self {
        let errno = error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw);
        Self::Step { what, errno }
    }
}
