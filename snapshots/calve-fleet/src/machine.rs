//! A booted machine of any kind, and what booting takes.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use calve_proto::limits::GUEST_CID;
use calve_vmm::{Access, Shape};

use crate::boot::{BootSpec, ConsoleTo};
use crate::console::Tail;
use crate::content::CODE_ROOM;
use crate::control::{Attach, Boot, Command, DiskSpec, End};
use crate::error::WorkerError;
use crate::fleet::Fleet;
use crate::worker::Worker;

/// A booted machine in a worker of its own, with whatever kernel and PID 1. Dropping it kills and
/// reaps the worker.
#[derive(Debug)]
pub struct Machine {
    pub(crate) worker: Worker,
    pub(crate) shape: Shape,
    pub(crate) cmdline: String,
    pub(crate) writes_disks: bool,
}

impl Machine {
    pub(crate) fn start(fleet: &Fleet, spec: BootSpec) -> Result<Self, WorkerError> {
        let (shape, cmdline) = (spec.shape, spec.cmdline.clone());
        let writes_disks = spec.writes_disks();
        let mut worker = launch(fleet, spec, None)?;
        worker.wait_running()?;
        Ok(Self { worker, shape, cmdline, writes_disks })
    }

    /// Its shape.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Waits until the machine ends by itself.
    ///
    /// # Errors
    ///
    /// When its worker dies or nothing happens `within` that time; the machine lives on then.
    pub fn wait(&mut self, within: Duration) -> Result<End, WorkerError> {
        self.worker.wait_end(within)
    }

    /// Stops it between two instructions.
    ///
    /// # Errors
    ///
    /// When its worker dies or cannot.
    pub fn pause(&mut self) -> Result<(), WorkerError> {
        self.worker.pause()
    }

    /// Lets it run again.
    ///
    /// # Errors
    ///
    /// When its worker dies or cannot.
    pub fn resume(&mut self) -> Result<(), WorkerError> {
        self.worker.resume()
    }

    /// Process id of its worker, for people and their tools.
    pub fn pid(&self) -> u32 {
        self.worker.pid()
    }

    /// The end of its console, where that is [kept](ConsoleTo::Tail).
    pub fn console(&mut self) -> String {
        self.worker.console_text()
    }

    /// Private memory of its worker, guest included, KiB.
    pub fn private_kib(&self) -> Option<u64> {
        self.worker.private_kib()
    }
}

/// Starts a worker that boots `spec`; does not wait for it.
pub(crate) fn launch(
    fleet: &Fleet,
    spec: BootSpec,
    listener: Option<&UnixListener>,
) -> Result<Worker, WorkerError> {
    let BootSpec { shape, kernel, initrd, cmdline, disks, console, ports, up_timeout: _ } = spec;
    let (mut worker, _) = fleet.shell(shape)?;
    let console = Console::new(console).map_err(|e| WorkerError::Setup("make a pipe", e))?;
    let attach = Attach {
        disks: disks.iter().zip(0..).map(|((_, access), n)| disk_spec(*access, n)).collect(),
        cid: GUEST_CID,
        listener: listener.is_some(),
        streams: Vec::new(),
        host_ports: ports.numbers_at_boot(),
        console: console.output.is_some(),
        keyboard: console.input.is_some(),
    };
    let mut fds = vec![kernel.as_fd()];
    fds.extend(initrd.as_ref().map(AsFd::as_fd));
    fds.extend(disks.iter().map(|(file, _)| file.as_fd()));
    fds.extend(listener.map(AsFd::as_fd));
    fds.extend(console.output.as_ref().map(AsFd::as_fd));
    fds.extend(console.input.as_ref().map(AsFd::as_fd));
    let boot = Boot { cmdline, initrd: initrd.is_some(), attach };
    worker.send(&Command::Boot(boot), &fds)?;
    worker.connect(console.tail, ports);
    Ok(worker)
}

/// The second disk, if nobody writes to it, is a function's code.
fn disk_spec(access: Access, number: u8) -> DiskSpec {
    let writable = access == Access::ReadWrite;
    let room = if number == 1 && !writable { CODE_ROOM } else { 0 };
    DiskSpec { writable, id: format!("calve-disk-{number}"), room }
}

/// The console's ends: the worker's, and ours.
struct Console {
    output: Option<OwnedFd>,
    input: Option<OwnedFd>,
    tail: Option<Tail>,
}

impl Console {
    fn new(to: ConsoleTo) -> io::Result<Self> {
        Ok(match to {
            ConsoleTo::Nowhere => Self { output: None, input: None, tail: None },
            ConsoleTo::Terminal { output, input } => {
                Self { output: Some(output), input, tail: None }
            }
            ConsoleTo::Tail => {
                let (tail, output) = Tail::new()?;
                Self { output: Some(output), input: None, tail: Some(tail) }
            }
        })
    }
}
