//! Births of worker processes, all from one thread.
//!
//! A worker asks the kernel to kill it when its parent dies (`PR_SET_PDEATHSIG`), and by "parent"
//! the kernel means the *thread* that made it (prctl(2)). A machine must not die because an
//! embedder's thread pool shrinks, so a thread of our own gives birth to all of them. It lives as
//! long as anybody holds a [`Nursery`], which every worker does.
//!
//! What is started here is a launcher, which makes the worker as a child of this thread, says which process that is
//! on its standard output, and ends (`calve_jail::Isolation`). A worker that is not kept apart is its own.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use calve_jail::{Cores, Isolation};
use nix::errno::Errno;
use nix::unistd::read;
use rustix::process::{getpriority_process, setpriority_process};

use super::pidfd::PidFd;
use super::watch::wait_readable;
use super::{Haste, PATIENCE};
use crate::limits::Limiter;

/// The thread that gives birth to workers. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Nursery {
    program: Arc<Path>,
    limiter: Arc<Limiter>,
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
    cgroup: Option<PathBuf>,
    haste: Haste,
    reply: Sender<io::Result<Newborn>>,
}

/// How far workers are kept apart: from the host, and from each other on its cores.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Apart {
    pub(crate) isolation: Isolation,
    pub(crate) cores: Cores,
}

impl Nursery {
    /// Starts the thread; `program` is the path of calve-worker.
    pub(crate) fn start(program: PathBuf, apart: Apart, limiter: Limiter) -> io::Result<Self> {
        let program: Arc<Path> = program.into();
        let (births, inbox) = channel();
        let path = program.clone();
        std::thread::Builder::new()
            .name("calve-nursery".into())
            .stack_size(64 << 10)
            .spawn(move || serve(&path, apart, &inbox))?;
        Ok(Self { program, limiter: Arc::new(limiter), births })
    }

    /// Path of calve-worker.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// Makes the cgroups of workers.
    pub(crate) fn limiter(&self) -> &Limiter {
        &self.limiter
    }

    /// Starts a worker with `control` as its standard input and `stderr` as its standard error, in a cgroup if there is
    /// one for it.
    pub(crate) fn birth(
        &self,
        control: OwnedFd,
        stderr: OwnedFd,
        cgroup: Option<PathBuf>,
        haste: Haste,
    ) -> io::Result<Newborn> {
        let gone = || io::Error::other("the fleet's thread has ended");
        let (reply, answer) = channel();
        self.births.send(Birth { control, stderr, cgroup, haste, reply }).map_err(|_| gone())?;
        answer.recv().map_err(|_| gone())?
    }
}

fn serve(program: &Path, apart: Apart, inbox: &Receiver<Birth>) {
    let urgency = Urgency::new(apart.isolation);
    for Birth { control, stderr, cgroup, haste, reply } in inbox {
        let born =
            urgency.during(haste, |nice| spawn(program, apart, cgroup, nice, control, stderr));
        // Whoever asked may have given up: then the worker ends with its control socket.
        let _ = reply.send(born);
    }
}

/// How nice (sched(7)) this thread is, which a launcher inherits: most of a birth is the launcher's, and it is in no cgroup
/// of its own. The worker ends that when it is in its cgroup (`calve_jail::Jail::nice`).
struct Urgency {
    /// None where niceness cannot be taken back, so that workers would be nice for ever.
    usual: Option<i32>,
}

impl Urgency {
    /// The most there is.
    const NICEST: i32 = 19;

    fn new(isolation: Isolation) -> Self {
        // In a user namespace before it is in its cgroup, where it has no privileges of the host's.
        if isolation == Isolation::Own {
            return Self { usual: None };
        }
        // Whoever may be less nice than he is (`CAP_SYS_NICE`, `RLIMIT_NICE`) may be as nice as before, too.
        let tried = getpriority_process(None).and_then(|usual| {
            setpriority_process(None, usual - 1)?;
            setpriority_process(None, usual)?;
            Ok(usual)
        });
        Self { usual: tried.ok() }
    }

    /// Does something with this haste, which is told how nice to be afterwards, if that is not as it is.
    fn during<T>(&self, haste: Haste, act: impl FnOnce(Option<i32>) -> T) -> T {
        let Some(usual) = self.usual.filter(|_| haste == Haste::None) else { return act(None) };
        // It has been tried. What fails all the same makes births slow, no more.
        let _ = setpriority_process(None, Self::NICEST);
        let done = act(Some(usual));
        let _ = setpriority_process(None, usual);
        done
    }
}

/// No `pre_exec` and no working directory: those would make the standard library fork, which
/// copies the page tables of an embedder of any size, instead of using `posix_spawn`.
fn spawn(
    program: &Path,
    Apart { isolation, cores }: Apart,
    cgroup: Option<PathBuf>,
    nice: Option<i32>,
    control: OwnedFd,
    stderr: OwnedFd,
) -> io::Result<Newborn> {
    let mut child = Command::new(program)
        .args([std::process::id().to_string(), isolation.to_string(), cores.to_string()])
        .arg(nice.map_or("as-it-is".to_owned(), |nice| nice.to_string()))
        .args(cgroup)
        .env_clear()
        // Each arena of glibc's malloc touches pages of its own; a worker's threads allocate
        // rarely, so they can share one (mallopt(3), M_ARENA_MAX).
        .env("MALLOC_ARENA_MAX", "1")
        .stdin(Stdio::from(control))
        .stdout(Stdio::piped())
        .stderr(Stdio::from(stderr))
        .spawn()?;
    let newborn = newborn(&mut child);
    if newborn.is_err() {
        // Dead already, or about to be.
        let _ = child.kill();
        let _ = child.wait();
    }
    newborn
}

fn newborn(child: &mut Child) -> io::Result<Newborn> {
    // One that says nothing and ends is looked at as a worker is: its last words say why.
    let pid = announced(child)?.unwrap_or(child.id());
    let handle = PidFd::open(pid)?;
    if pid != child.id() {
        // The launcher has done its work. The worker is a child of ours that nobody has waited for: its
        // id is still its own.
        child.wait()?;
    }
    Ok(Newborn { pid, handle })
}

/// The process id that comes first on a launcher's standard output, a line; none of one that ends without.
fn announced(child: &mut Child) -> io::Result<Option<u32>> {
    /// Digits of a process id and the line's end.
    const MOST: usize = 11;
    let Some(stdout) = child.stdout.take() else { return Ok(None) };
    let since = Instant::now();
    let mut line = Vec::new();
    while line.len() < MOST && line.last() != Some(&b'\n') {
        if !wait_readable(&stdout, PATIENCE.saturating_sub(since.elapsed())) {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "it does not say which process it is",
            ));
        }
        let mut byte = [0];
        match read(stdout.as_fd(), &mut byte) {
            Ok(0) => return Ok(None),
            Ok(_) => line.extend(byte),
            Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    let pid = std::str::from_utf8(&line).ok().and_then(|line| line.trim_end().parse().ok());
    let unread = || io::Error::new(io::ErrorKind::InvalidData, "it says no process id");
    pid.map(Some).ok_or_else(unread)
}
