//! How a persistent lab begins: in the background, or for as long as somebody holds it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Stdio};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::SignalFd;

use super::{PORTS, Persistent, check_private};
use crate::client::{Command, Output};
use crate::console::Console;
use crate::qemu::{self, Lifetime, Machine, Ports};
use crate::signals::watch_signals;
use crate::{BootFiles, Error};

impl Persistent {
    /// Starts the nested host and waits until it takes commands; it stays until [`Persistent::down`].
    /// SIGINT, SIGTERM and SIGHUP end it while it boots; they stay blocked in this thread.
    pub fn up(&self, machine: &Machine, files: &BootFiles) -> Result<(), Error> {
        let interrupt = watch_signals()?;
        let alive = self.take()?;
        self.boot(machine, files, Lifetime::OfItsOwn, &alive, &interrupt).map(drop)
    }

    /// Starts the nested host, calls `ready` once it takes commands, and ends it when `holder` can be
    /// read or is at its end, or on SIGINT, SIGTERM or SIGHUP. It does not survive this thread.
    pub fn hold(
        &self,
        machine: &Machine,
        files: &BootFiles,
        holder: impl AsFd,
        ready: impl FnOnce(),
    ) -> Result<(), Error> {
        let interrupt = watch_signals()?;
        let alive = self.take()?;
        let mut qemu = self.boot(machine, files, Lifetime::OfThread, &alive, &interrupt)?;
        ready();
        let watch = [holder.as_fd(), interrupt.as_fd()];
        let waited = loop {
            match poll(&mut watch.map(|fd| PollFd::new(fd, PollFlags::POLLIN)), PollTimeout::NONE) {
                Err(Errno::EINTR) => {}
                done => break done,
            }
        };
        self.discard(&mut qemu)?;
        waited.map(drop).map_err(Error::system("wait for the holder"))
    }

    fn boot(
        &self,
        machine: &Machine,
        files: &BootFiles,
        lifetime: Lifetime,
        alive: &File,
        interrupt: &SignalFd,
    ) -> Result<Child, Error> {
        let mut qemu = self.start(machine, files, lifetime, alive).inspect_err(|_| {
            // The reason why it could not start is worth more than what is left behind.
            let _ = self.clear();
        })?;
        let nothing = Command::new(["true"]).current_dir("/");
        let (mut out, mut err) = (io::sink(), io::sink());
        let mut output = Output { stdout: &mut out, stderr: &mut err };
        match self.exec(&nothing, &mut output, Some(interrupt.as_fd())) {
            Ok(_) => Ok(qemu),
            Err(error) => {
                self.discard(&mut qemu)?;
                Err(error)
            }
        }
    }

    fn discard(&self, qemu: &mut Child) -> Result<(), Error> {
        // Neither call fails for a child that has not been waited for.
        let _ = qemu.kill();
        let _ = qemu.wait();
        self.clear()
    }

    /// Takes the lock that says that this lab is ours to start.
    fn take(&self) -> Result<File, Error> {
        loop {
            create_private(&self.folder)?;
            let path = self.folder.join("alive");
            let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
            let file = match file {
                Ok(file) => file,
                // `down` has removed the folder in between.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(Error::file("create", &path)(error)),
            };
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(Error::AlreadyUp { name: self.name.clone() });
                }
                Err(TryLockError::Error(error)) => return Err(Error::file("lock", &path)(error)),
            }
            let inode = |metadata: io::Result<fs::Metadata>| metadata.map(|m| m.ino()).ok();
            if inode(file.metadata()) == inode(fs::metadata(&path)) {
                return Ok(file);
            }
        }
    }

    fn start(
        &self,
        machine: &Machine,
        files: &BootFiles,
        lifetime: Lifetime,
        alive: &File,
    ) -> Result<Child, Error> {
        let console = Console::at(&self.folder.join("console"))?;
        let mut ports = Vec::new();
        for port in 1..=PORTS {
            let path = self.socket(port);
            remove(&path)?;
            ports.push(UnixListener::bind(&path).map_err(Error::file("create", &path))?);
        }
        // One open file description, one lock: it lasts until both of us have closed it.
        let alive = alive.try_clone().map_err(Error::system("share the lock"))?;
        let stdin = Stdio::from(OwnedFd::from(alive));
        let appender = console.appender()?;
        let ports = Ports::Listeners(ports);
        let qemu = qemu::spawn(machine, files, ports, lifetime, stdin, appender)?;
        let path = self.folder.join("pid");
        fs::write(&path, qemu.id().to_string()).map_err(Error::file("write", &path))?;
        Ok(qemu)
    }
}

/// Makes a folder that only this user can enter, below one of the same kind: a command given to the
/// lab runs with the rights of the user whose QEMU it is.
fn create_private(folder: &Path) -> Result<(), Error> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(Error::file("create", folder))?;
    // `down` may remove it in between; the caller finds out.
    check_private(folder)
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Error::file("remove", path)(error))
        }
        _ => Ok(()),
    }
}
