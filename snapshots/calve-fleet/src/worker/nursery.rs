//! Births of worker processes, all from threads of our own.
//!
//! A worker asks the kernel to kill it when its parent dies (`PR_SET_PDEATHSIG`), and by "parent"
//! the kernel means the *thread* that made it (prctl(2)). A machine must not die because an
//! embedder's thread pool shrinks, so threads of our own give birth to all of them. They live as
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

/// The threads that give birth to workers. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Nursery {
    program: Arc<Path>,
    limiter: Arc<Limiter>,
    /// One for births that somebody waits for, one for those that give way: these must not hold up those.
    awaited: Sender<Birth>,
    giving_way: Sender<Birth>,
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
    reply: Sender<io::Result<Newborn>>,
}

/// How far workers are kept apart: from the host, and from each other on its cores.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Apart {
    pub(crate) isolation: Isolation,
    pub(crate) cores: Cores,
}

impl Nursery {
    /// Starts the threads; `program` is the path of calve-worker.
    pub(crate) fn start(program: PathBuf, apart: Apart, limiter: Limiter) -> io::Result<Self> {
        let program: Arc<Path> = program.into();
        let thread = |name: &str, haste| {
            let (births, inbox) = channel();
            let path = program.clone();
            std::thread::Builder::new()
                .name(name.into())
                .stack_size(64 << 10)
                .spawn(move || serve(&path, apart, haste, &inbox))?;
            io::Result::Ok(births)
        };
        let awaited = thread("calve-nursery", Haste::Awaited)?;
        let giving_way = thread("calve-nursery-2", Haste::None)?;
        Ok(Self { program, limiter: Arc::new(limiter), awaited, giving_way })
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
        let births = match haste {
            Haste::Awaited => &self.awaited,
            Haste::None => &self.giving_way,
        };
        births.send(Birth { control, stderr, cgroup, reply }).map_err(|_| gone())?;
        answer.recv().map_err(|_| gone())?
    }
}

fn serve(program: &Path, apart: Apart, haste: Haste, inbox: &Receiver<Birth>) {
    let usual = if haste == Haste::None { give_way(apart.isolation) } else { None };
    for Birth { control, stderr, cgroup, reply } in inbox {
        // Whoever asked may have given up: then the worker ends with its control socket.
        let _ = reply.send(spawn(program, apart, cgroup, usual, control, stderr));
    }
}

/// Makes this thread as nice (sched(7)) as can be, and with it every launcher, which inherits that: most of a birth is the
/// launcher's, and it is in no cgroup of its own. Returns how nice the worker is to be when it is in its cgroup
/// (`calve_jail::Jail::nice`); none where it could not take that back, so that nothing has changed.
fn give_way(isolation: Isolation) -> Option<i32> {
    /// The most there is.
    const NICEST: i32 = 19;
    // In a user namespace before it is in its cgroup, where it has no privileges of the host's.
    if isolation == Isolation::Own {
        return None;
    }
    let usual = getpriority_process(None).ok()?;
    // Whoever may be less nice than he is (`CAP_SYS_NICE`, `RLIMIT_NICE`) may be as nice as before, too.
    setpriority_process(None, usual - 1).ok()?;
    // Both are upwards, which everybody may.
    let _ = setpriority_process(None, usual);
    setpriority_process(None, NICEST).ok().map(|()| usual)
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
