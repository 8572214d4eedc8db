//! The server of one port: one call after another, each run to its end.
//!
//! ```text
//!   idle ──call──► running ──command ended──► idle
//!                     └──caller gone: kill the namespace──► idle
//! ```

use std::convert::Infallible;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns, unshare};

use super::port::HungUp;
use super::{Error, Port, SELF};
use crate::wire::{Frame, PAYLOAD_LIMIT, Request, opening};

/// Serves the callers of a port for as long as the nested host lives.
pub fn serve(port: &Path) -> Result<Infallible, Error> {
    let mut port = Port::open(port)?;
    loop {
        match port.calls.take() {
            Ok(Some(call)) => {
                // Whoever hangs up has nobody to be told anything.
                if port.send(&opening(&call.nonce))?.is_ok() {
                    let _ = answer(&mut port, &call.request)?;
                }
            }
            Ok(None) => port.wait()?,
            Err(error) => eprintln!("a call was dropped: {error}"),
        }
    }
}

fn answer(port: &mut Port, request: &Request) -> Result<Result<(), HungUp>, Error> {
    if request.fresh_files {
        drop_caches()?;
    }
    let mut command = match start(request) {
        Ok(command) => command,
        Err(error) => {
            let reason = refusal(request, &error);
            return port.send(&Frame::Refused(reason.as_bytes()).encode());
        }
    };
    let last = match forward(port, &mut command)? {
        Ok(()) => {
            let status = command.wait().map_err(Error::system("wait for the command"))?;
            let signal = status.signal().map(|signal| 128 + signal);
            let code = status.code().or(signal).unwrap_or(1);
            port.send(&Frame::Exit(u8::try_from(code).unwrap_or(1)).encode())?
        }
        Err(HungUp) => {
            // The supervisor is PID 1 of the command's namespace: all in it goes with it.
            command.kill().map_err(Error::system("kill the command"))?;
            command.wait().map_err(Error::system("wait for the command"))?;
            Err(HungUp)
        }
    };
    Ok(last)
}

/// Starts the supervisor of a command as PID 1 of a new process namespace.
fn start(request: &Request) -> Result<Child, Error> {
    let home = File::open("/proc/self/ns/pid").map_err(Error::system("open the namespace"))?;
    unshare(CloneFlags::CLONE_NEWPID).map_err(Error::system("make a process namespace"))?;
    let mut supervisor = Command::new(SELF);
    supervisor.args(["supervise", "--"]).args(&request.argv);
    supervisor.env_clear().envs(request.env.iter().cloned()).current_dir(&request.cwd);
    supervisor.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let spawned = supervisor.spawn();
    setns(home, CloneFlags::CLONE_NEWPID).map_err(Error::system("leave the namespace"))?;
    spawned.map_err(Error::system("start the command"))
}

/// Passes the command's output on until nobody can write to it any more. The supervisor holds both
/// pipes, so that is the end of all processes of the command.
fn forward(port: &mut Port, command: &mut Child) -> Result<Result<(), HungUp>, Error> {
    let mut stdout = command.stdout.take();
    let mut stderr = command.stderr.take();
    while stdout.is_some() || stderr.is_some() {
        let ready = {
            let watch = |fd| PollFd::new(fd, PollFlags::POLLIN);
            let mut fds = vec![watch(port.as_fd())];
            fds.extend(stdout.as_ref().map(|pipe| watch(pipe.as_fd())));
            fds.extend(stderr.as_ref().map(|pipe| watch(pipe.as_fd())));
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                done => done.map_err(Error::system("wait for output"))?,
            };
            let mut ready = fds.iter().map(|fd| fd.any() == Some(true));
            let mut take = |there: bool| there && ready.next() == Some(true);
            [take(true), take(stdout.is_some()), take(stderr.is_some())]
        };
        if ready[0] {
            port.wait()?;
            if port.caller_has_gone() {
                return Ok(Err(HungUp));
            }
        }
        if ready[1] && pass(port, &mut stdout, |bytes| Frame::Stdout(bytes))? == Err(HungUp) {
            return Ok(Err(HungUp));
        }
        if ready[2] && pass(port, &mut stderr, |bytes| Frame::Stderr(bytes))? == Err(HungUp) {
            return Ok(Err(HungUp));
        }
    }
    Ok(Ok(()))
}

/// Sends on what a pipe has; forgets the pipe when it has ended.
fn pass<P: Read>(
    port: &mut Port,
    pipe: &mut Option<P>,
    frame: impl Fn(&[u8]) -> Frame<'_>,
) -> Result<Result<(), HungUp>, Error> {
    let Some(open) = pipe else { return Ok(Ok(())) };
    let mut buffer = vec![0; PAYLOAD_LIMIT];
    match open.read(&mut buffer).map_err(Error::system("read the command's output"))? {
        0 => {
            *pipe = None;
            Ok(Ok(()))
        }
        count => port.send(&frame(&buffer[..count]).encode()),
    }
}

/// Forgets what is cached of this machine's files. The overlay keeps names and loose 9p keeps
/// contents for ever otherwise, also of files that have changed or come since.
fn drop_caches() -> Result<(), Error> {
    // 1: contents, 2: names and inodes (Documentation/admin-guide/sysctl/vm.rst, drop_caches).
    fs::write("/proc/sys/vm/drop_caches", "3").map_err(Error::system("drop the caches"))
}

fn refusal(request: &Request, error: &Error) -> String {
    let cwd = Path::new(&request.cwd);
    if !cwd.is_dir() {
        return format!(
            "there is no folder {} in the lab, where /run and /dev/shm start empty",
            cwd.display()
        );
    }
    let source = std::error::Error::source(error).map(|source| format!(": {source}"));
    format!("{error}{}", source.unwrap_or_default())
}
