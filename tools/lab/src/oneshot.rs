//! A lab for one command, gone with it.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};

use crate::client::{Client, Command, Output};
use crate::console::Console;
use crate::qemu::{self, Lifetime, Machine, Ports};
use crate::{BootFiles, Error};

/// A nested host that boots, runs one command and ends.
///
/// It has no file and no socket with a name, and the kernel kills it when the thread that booted it
/// ends for whatever reason: nothing is left behind by a caller that is killed.
#[derive(Debug)]
pub struct OneShot {
    qemu: Child,
    port: UnixStream,
    console: Console,
}

impl OneShot {
    /// Starts the nested host; returns while it boots.
    pub fn boot(machine: &Machine, files: &BootFiles) -> Result<Self, Error> {
        let console = Console::anonymous()?;
        let (port, far) = UnixStream::pair().map_err(Error::system("make a socket pair"))?;
        let far = Stdio::from(OwnedFd::from(far));
        let appender = console.appender()?;
        let qemu = qemu::spawn(machine, files, Ports::Stdin, Lifetime::OfThread, far, appender)?;
        Ok(Self { qemu, port, console })
    }

    /// Runs `command`, returns its exit status and ends the lab. It ends early when `interrupt`
    /// becomes readable, such as [`watch_signals`](crate::watch_signals).
    pub fn run(
        self,
        command: &Command,
        output: &mut Output<'_>,
        interrupt: Option<BorrowedFd<'_>>,
    ) -> Result<u8, Error> {
        let client = Client { port: &self.port, console: &self.console, interrupt };
        client.call(command, false, output)
    }
}

impl Drop for OneShot {
    fn drop(&mut self) {
        // Everything of the nested host is in QEMU's memory: there is nothing to shut down in order.
        // Neither call fails for a child that has not been waited for.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}
