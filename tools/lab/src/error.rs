//! What can go wrong with the lab itself. A command that fails in the lab is not an error here: its
//! exit status is the answer.

use std::path::PathBuf;
use std::time::Duration;

use crate::wire;

/// A failure of the lab, never of the command that runs in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder of ours could not be used.
    #[error("cannot {action} {}", path.display())]
    File {
        /// The verb, as in "read".
        action: &'static str,
        /// The object.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A program that the lab is built with could not be started.
    #[error("cannot start {program}: install the Debian package {package}")]
    Program {
        /// The program's name.
        program: &'static str,
        /// The package that has it.
        package: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A program that the lab is built with failed.
    #[error("{program} failed while {task}: {stderr}")]
    ProgramFailed {
        /// The program's name.
        program: &'static str,
        /// What it was asked to do.
        task: &'static str,
        /// The last line it wrote.
        stderr: String,
    },
    /// The package lists of apt do not know the kernel of the lab.
    #[error("apt knows no package {package}: run `apt-get update`")]
    NoKernelPackage {
        /// The package wanted.
        package: &'static str,
    },
    /// The nested host ended, or never came up.
    #[error("the nested host ended without an answer; the end of its console:\n{console}")]
    HostEnded {
        /// The last lines of the console.
        console: String,
    },
    /// The nested host did not get ready in time.
    #[error("the nested host was not ready after {} s; the end of its console:\n{console}", limit.as_secs())]
    BootTimedOut {
        /// The time it had.
        limit: Duration,
        /// The last lines of the console.
        console: String,
    },
    /// The command ran for longer than allowed and was ended.
    #[error("the command was ended after {} s; the end of the lab's console:\n{console}", limit.as_secs())]
    TimedOut {
        /// The time it had.
        limit: Duration,
        /// The last lines of the console.
        console: String,
    },
    /// A signal asked this process to end.
    #[error("ended by a signal; the end of the lab's console:\n{console}")]
    Interrupted {
        /// The last lines of the console.
        console: String,
    },
    /// The lab could not start the command.
    #[error("the lab cannot run the command: {reason}")]
    Refused {
        /// The agent's reason.
        reason: String,
    },
    /// No persistent lab of this name.
    #[error("the lab `{name}` is not up: start it with `calve-lab up`")]
    NotUp {
        /// The lab's name.
        name: String,
    },
    /// A persistent lab of this name runs already.
    #[error("the lab `{name}` is up already: end it with `calve-lab down`")]
    AlreadyUp {
        /// The lab's name.
        name: String,
    },
    /// Every port of a persistent lab is taken.
    #[error("the lab `{name}` runs {ports} commands already: wait for one to end")]
    Busy {
        /// The lab's name.
        name: String,
        /// How many commands it can run at once.
        ports: usize,
    },
    /// A lab's name that cannot be a folder's name.
    #[error("`{name}` cannot name a lab: use letters, digits, `-` and `_`")]
    BadName {
        /// The name given.
        name: String,
    },
    /// The path of this program cannot be passed to the nested host.
    #[error("the lab cannot be started from {}: the path holds a quote or a line break", path.display())]
    BadProgramPath {
        /// Where this program lies.
        path: PathBuf,
    },
    /// The lab's answer could not be understood.
    #[error("the lab's answer is malformed")]
    Wire(#[from] wire::Error),
    /// A system call failed.
    #[error("cannot {action}")]
    System {
        /// What was tried.
        action: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
}

impl Error {
    /// For `map_err`: a failed action on a path.
    pub(crate) fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }

    /// For `map_err`: a failed system call.
    pub(crate) fn system<E: Into<std::io::Error>>(action: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::System { action, source: source.into() }
    }
}
