//! Where the agent runs: as PID 1 of a guest, or as an ordinary process under test.
//!
//! Everything that only a guest can do hides behind [`Place`], so that the whole agent (supervisor, shims, Runtime API,
//! deadlines, logs) is tested natively and the guest's part stays small.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use calve_proto::wire::ThawFacts;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

/// What could not be done to the machine.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what}")]
pub(crate) struct PlaceError {
    pub(crate) what: &'static str,
    #[source]
    pub(crate) source: io::Error,
}

impl PlaceError {
    /// For `map_err`: names what was tried.
    pub(crate) fn doing<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self { what, source: source.into() }
    }
}

/// The agent's surroundings.
pub(crate) trait Place {
    /// The listening socket of the control stream.
    fn listener(&self) -> BorrowedFd<'_>;

    /// Takes one waiting connection; `None` if there is none, or none we talk to.
    fn accept(&mut self) -> io::Result<Option<OwnedFd>>;

    /// Folder with the function's code.
    fn task_root(&self) -> &Path;

    /// Folder with the layers of the function, merged; there need not be one.
    fn layers_root(&self) -> &Path;

    /// Puts the function's code and its layers there.
    fn mount_code(&mut self) -> Result<(), PlaceError>;

    /// Folder of the agent's own files: shims, the machine id.
    fn run_dir(&self) -> &Path;

    /// `PATH` of the runtime.
    fn search_path(&self) -> String;

    /// Where the Runtime API listens.
    fn api_address(&self) -> SocketAddr;

    /// Sends `signal` to every process of the function, of which `leader` leads the group.
    fn signal_function(&self, leader: Pid, signal: Signal);

    /// Sets the wall clock far back. See [`freeze`](crate::agent) for why.
    fn backdate_clock(&mut self) -> Result<(), PlaceError>;

    /// Gives memory back before a snapshot, in which `leader` led the function's processes; returns how many bytes of free
    /// memory were filled with zeroes.
    fn reclaim(&mut self, leader: Option<Pid>) -> Result<u64, PlaceError>;

    /// Makes this clone itself: random numbers, wall clock, names.
    fn apply(&mut self, facts: &ThawFacts) -> Result<(), PlaceError>;
}
