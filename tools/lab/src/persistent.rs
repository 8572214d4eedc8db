//! A named lab in the background that many callers share.
//!
//! Its folder holds a socket `port-N` and a lock `port-N.lock` for each port, the `console`, QEMU's
//! process id in `pid`, and the lock `alive`. QEMU holds that one, by a descriptor that it inherits as
//! its standard input: whoever can take it knows that the lab is gone, and as long as nobody can, the
//! process id cannot have passed to another process.
//!
//! ```text
//!   down ──up: take the lock, start QEMU, run `true`──► up ──down, or QEMU dies──► down
//! ```

mod start;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Error;
use crate::client::{Client, Command, Output};
use crate::console::Console;

/// How many commands one lab runs at once. A virtio-serial device has up to 31 ports.
const PORTS: usize = 8;

/// Whether a lab is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// No nested host of this name.
    Down,
    /// A nested host runs.
    Up {
        /// QEMU's process id.
        pid: i32,
        /// How many commands it runs.
        busy: usize,
        /// How many commands it can run at once.
        ports: usize,
    },
}

/// A named lab, up or not.
#[derive(Debug, Clone)]
pub struct Persistent {
    name: String,
    folder: PathBuf,
}

impl Persistent {
    /// The lab of this name. Names are per user.
    pub fn named(name: &str) -> Result<Self, Error> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if name.is_empty() || name.len() > 32 || !name.chars().all(fits) {
            return Err(Error::BadName { name: name.to_owned() });
        }
        let base = match std::env::var_os("XDG_RUNTIME_DIR").filter(|base| !base.is_empty()) {
            Some(base) => PathBuf::from(base).join("calve-lab"),
            None => PathBuf::from(format!("/tmp/calve-lab-{}", nix::unistd::getuid())),
        };
        Ok(Self { name: name.to_owned(), folder: base.join(name) })
    }

    /// Ends the lab and every command in it.
    pub fn down(&self) -> Result<(), Error> {
        let not_up = || Error::NotUp { name: self.name.clone() };
        let alive = self.alive()?.ok_or_else(not_up)?;
        let state = self.state()?;
        if let State::Up { pid, .. } = state {
            // All of the nested host is in QEMU's memory: there is nothing to shut down in order.
            kill(Pid::from_raw(pid), Signal::SIGKILL).map_err(Error::system("end QEMU"))?;
            alive.lock().map_err(Error::file("lock", &self.folder))?;
        } else if alive.try_lock().is_err() {
            // Somebody is starting it this very moment.
            return Err(not_up());
        }
        // The lock is kept meanwhile, so that nobody starts a lab in a folder on its way out.
        self.clear()?;
        if state == State::Down { Err(not_up()) } else { Ok(()) }
    }

    /// Looks whether the lab is there.
    pub fn state(&self) -> Result<State, Error> {
        let Some(alive) = self.alive()? else { return Ok(State::Down) };
        match alive.try_lock_shared() {
            Ok(()) => return Ok(State::Down),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => {
                return Err(Error::file("lock", &self.folder)(error));
            }
        }
        let path = self.folder.join("pid");
        let pid = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
        let bad = || Error::file("understand", &path)(ErrorKind::InvalidData.into());
        // Zero and below mean groups of processes, one is nobody's QEMU.
        let pid = pid.trim().parse().ok().filter(|pid| *pid > 1).ok_or_else(bad)?;
        let busy = (1..=PORTS).filter(|port| matches!(self.lock_port(*port), Ok(None))).count();
        Ok(State::Up { pid, busy, ports: PORTS })
    }

    /// The file that QEMU holds the lock of, if there has been a lab of this name.
    fn alive(&self) -> Result<Option<File>, Error> {
        check_private(&self.folder)?;
        let path = self.folder.join("alive");
        match File::open(&path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::file("open", &path)(error)),
        }
    }

    /// Runs `command` in the lab and returns its exit status. The command ends early when
    /// `interrupt` becomes readable, such as [`watch_signals`](crate::watch_signals).
    pub fn exec(
        &self,
        command: &Command,
        output: &mut Output<'_>,
        interrupt: Option<BorrowedFd<'_>>,
    ) -> Result<u8, Error> {
        let not_up = || Error::NotUp { name: self.name.clone() };
        check_private(&self.folder)?;
        let console = Console::open(&self.folder.join("console")).map_err(|_| not_up())?;
        for number in 1..=PORTS {
            let Some(_lock) = self.lock_port(number)? else { continue };
            let port = UnixStream::connect(self.socket(number)).map_err(|_| not_up())?;
            let client = Client { port: &port, console: &console, interrupt };
            let answer = client.call(command, true, output);
            if let Err(Error::HostEnded { .. }) = &answer {
                // QEMU closes its sockets shortly before it ends: let nobody find it still there.
                self.alive()?.map(|alive| alive.lock_shared()).transpose().ok();
            }
            return answer;
        }
        Err(Error::Busy { name: self.name.clone(), ports: PORTS })
    }

    /// Takes a port for one call; none if another call has it.
    fn lock_port(&self, number: usize) -> Result<Option<File>, Error> {
        let path = self.folder.join(format!("port-{number}.lock"));
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(Error::file("create", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(Error::file("lock", &path)(error)),
        }
    }

    fn socket(&self, port: usize) -> PathBuf {
        self.folder.join(format!("port-{port}"))
    }

    fn clear(&self) -> Result<(), Error> {
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(Error::file("remove", &self.folder)(error))
            }
            _ => Ok(()),
        }
    }
}

/// Refuses a lab's folder, or the one around it, that somebody else could have made: its lock, its
/// process id and its sockets would be theirs. A folder that is not there is no danger.
fn check_private(folder: &Path) -> Result<(), Error> {
    for folder in [folder.parent().unwrap_or(folder), folder] {
        let metadata = match fs::symlink_metadata(folder) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(Error::file("look at", folder)(error)),
        };
        let ours = metadata.uid() == nix::unistd::getuid().as_raw();
        if !metadata.is_dir() || !ours || metadata.mode() & 0o077 != 0 {
            return Err(Error::file("trust", folder)(ErrorKind::PermissionDenied.into()));
        }
    }
    Ok(())
}
