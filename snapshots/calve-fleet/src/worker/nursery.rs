//! Births of worker processes, all from one thread.
//!
//! A worker asks the kernel to kill it when its parent dies (`PR_SET_PDEATHSIG`), and by "parent"
//! the kernel means the *thread* that made it (prctl(2)). A machine must not die because an
//! embedder's thread pool shrinks, so a thread of our own gives birth to all of them. It lives as
//! long as anybody holds a [`Nursery`], which every worker does.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use super::pidfd::PidFd;

/// The thread that gives birth to workers. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Nursery {
    program: Arc<Path>,
    births: Sender<Birth>,
}

/// A new worker process.
#[derive(Debug)]
pub(crate) struct Newborn {
    pub(crate) pid: u32,
    pub(crate) handle: PidFd,
}

#[derive(Debug)]
struct Birth {
    control: OwnedFd,
    stderr: OwnedFd,
    reply: Sender<io::Result<Newborn>>,
}

impl Nursery {
    /// Starts the thread; `program` is the path of calve-worker.
    pub(crate) fn start(program: PathBuf) -> io::Result<Self> {
        let program: Arc<Path> = program.into();
        let (births, inbox) = channel();
        let path = program.clone();
        std::thread::Builder::new()
            .name("calve-nursery".into())
            .stack_size(64 << 10)
            .spawn(move || serve(&path, &inbox))?;
        Ok(Self { program, births })
    }

    /// Path of calve-worker.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// Starts a worker with `control` as its standard input and `stderr` as its standard error.
    pub(crate) fn birth(&self, control: OwnedFd, stderr: OwnedFd) -> io::Result<Newborn> {
        let gone = || io::Error::other("the fleet's thread has ended");
        let (reply, answer) = channel();
        self.births.send(Birth { control, stderr, reply }).map_err(|_| gone())?;
        answer.recv().map_err(|_| gone())?
    }
}

fn serve(program: &Path, inbox: &Receiver<Birth>) {
    for Birth { control, stderr, reply } in inbox {
        // Whoever asked may have given up: then the worker ends with its control socket.
        let _ = reply.send(spawn(program, control, stderr));
    }
}

/// No `pre_exec` and no working directory: those would make the standard library fork, which
/// copies the page tables of an embedder of any size, instead of using `posix_spawn`.
fn spawn(program: &Path, control: OwnedFd, stderr: OwnedFd) -> io::Result<Newborn> {
    let child = Command::new(program)
        .arg(std::process::id().to_string())
        .env_clear()
        // Each arena of glibc's malloc touches pages of its own; a worker's threads allocate
        // rarely, so they can share one (mallopt(3), M_ARENA_MAX).
        .env("MALLOC_ARENA_MAX", "1")
        .stdin(Stdio::from(control))
        .stdout(Stdio::null())
        .stderr(Stdio::from(stderr))
        .spawn()?;
    let pid = child.id();
    match PidFd::open(pid) {
        Ok(handle) => Ok(Newborn { pid, handle }),
        Err(e) => {
            let mut child = child;
            // Dead already, or about to be.
            let _ = child.kill();
            let _ = child.wait();
            Err(e)
        }
    }
}
