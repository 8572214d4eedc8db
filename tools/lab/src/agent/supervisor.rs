//! PID 1 of a command's process namespace. Starts the command, reaps whatever is orphaned in the
//! namespace, and ends with the command's status; the kernel then kills all that the command has left.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::process::Command;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::wait::{WaitStatus, wait};
use nix::unistd::Pid;

use super::Error;

/// Open files, soft and hard: what systemd gives a service, so that the lab is no special case.
const OPEN_FILES: (u64, u64) = (1024, 524_288);
/// As a shell says it: not found, found but not executable, ended by signal N.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;
const BY_SIGNAL: i32 = 128;

/// Runs a command to its end and returns its status as a shell would.
pub fn supervise(argv: &[OsString]) -> Result<u8, Error> {
    let (program, arguments) = argv.split_first().ok_or(Error::NoCommand)?;
    own_proc()?;
    let (soft, hard) = OPEN_FILES;
    let limited = setrlimit(Resource::RLIMIT_NOFILE, soft, hard);
    limited.map_err(Error::system("set the limit of open files"))?;
    let child = match Command::new(program).args(arguments).spawn() {
        Ok(child) => child,
        Err(error) => {
            eprintln!("calve-lab: cannot run {}: {error}", program.display());
            let missing = error.kind() == ErrorKind::NotFound;
            return Ok(if missing { NOT_FOUND } else { NOT_EXECUTABLE });
        }
    };
    let command = Pid::from_raw(child.id().cast_signed());
    loop {
        let status = match wait() {
            Ok(WaitStatus::Exited(pid, status)) if pid == command => status,
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == command => BY_SIGNAL + signal as i32,
            Ok(_) | Err(Errno::EINTR) => continue,
            Err(errno) => return Err(Error::system("wait for the command")(errno)),
        };
        return Ok(u8::try_from(status & 0xff).unwrap_or(1));
    }
}

/// Shows the namespace's processes in /proc, without a change for anyone else.
fn own_proc() -> Result<(), Error> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(Error::system("make a mount namespace"))?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(Error::system("make mounts private"))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, none).map_err(Error::system("mount /proc"))
}
