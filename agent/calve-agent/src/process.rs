//! The agent as an ordinary process: a Unix socket for the host, folders for the code and its layers. For tests and for trying a
//! function without a machine; nothing of the real machine is touched.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use calve_proto::wire::ThawFacts;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::control::is_transient;
use crate::options::Options;
use crate::place::{Place, PlaceError};

/// Surroundings made of a socket and folders.
#[derive(Debug)]
pub(crate) struct Process {
    listener: UnixListener,
    task_root: PathBuf,
    layers_root: PathBuf,
    run_dir: PathBuf,
}

impl Process {
    /// Listens on the socket, which must not exist; creates the run folder if need be.
    pub(crate) fn new(options: &Options) -> io::Result<Self> {
        let Options { listen, task_root, layers_root, run_dir } = options;
        std::fs::create_dir_all(run_dir)?;
        // The runtime starts in another folder than we did.
        let (task_root, run_dir) = (task_root.canonicalize()?, run_dir.canonicalize()?);
        // Never this machine's own /opt: what is there is none of the function's.
        let layers_root = match layers_root {
            Some(folder) => folder.canonicalize()?,
            None => run_dir.join("no-layers"),
        };
        let listener = UnixListener::bind(listen)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, task_root, layers_root, run_dir })
    }
}

impl Place for Process {
    fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    fn accept(&mut self) -> io::Result<Option<OwnedFd>> {
        match self.listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(true)?;
                Ok(Some(stream.into()))
            }
            Err(e) if is_transient(&e) => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn task_root(&self) -> &Path {
        &self.task_root
    }

    fn layers_root(&self) -> &Path {
        &self.layers_root
    }

    fn mount_code(&mut self) -> Result<(), PlaceError> {
        Ok(())
    }

    fn run_dir(&self) -> &Path {
        &self.run_dir
    }

    fn search_path(&self) -> String {
        std::env::var("PATH").unwrap_or_else(|_| "/usr/local/bin:/usr/bin:/bin".into())
    }

    fn api_address(&self) -> SocketAddr {
        // Any free port: several agents may run side by side.
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    fn signal_function(&self, leader: Pid, signal: Signal) {
        // ESRCH: the group is gone already.
        let _ = killpg(leader, signal);
    }

    fn backdate_clock(&mut self) -> Result<(), PlaceError> {
        Ok(())
    }

    fn reclaim(&mut self, _leader: Option<Pid>) -> Result<u64, PlaceError> {
        Ok(0)
    }

    fn apply(&mut self, facts: &ThawFacts) -> Result<(), PlaceError> {
        std::fs::write(self.run_dir.join("machine-id"), &facts.machine_id)
            .map_err(PlaceError::doing("write the machine id"))
    }
}
