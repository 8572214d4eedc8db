//! What a clone's devices are connected to, and our ends of it: made anew for each life of a machine.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use calve_proto::limits::{CONTROL_PORT, GUEST_CID};

use crate::boot::Ports;
use crate::console::Tail;
use crate::content;
use crate::control::{Attach, DiskSpec};
use crate::door::Door;
use crate::error::WorkerError;
use crate::fleet::ThawOptions;
use crate::line::Line;
use crate::worker::Worker;

/// Both ends of everything that is between a clone and its fleet, before they part.
pub(crate) struct Wiring {
    stream: UnixStream,
    theirs: UnixStream,
    console: Tail,
    output: OwnedFd,
    door: Option<Door>,
    listener: Option<UnixListener>,
    ports: Ports,
}

impl Wiring {
    /// Makes streams and sockets.
    pub(crate) fn new(options: ThawOptions) -> Result<Self, WorkerError> {
        let setup = |what| move |e: io::Error| WorkerError::Setup(what, e);
        let (stream, theirs) = UnixStream::pair().map_err(setup("make a stream"))?;
        let (console, output) = Tail::new().map_err(|e| setup("make a pipe")(e.into()))?;
        let door = options.listen.as_deref().map(Door::open).transpose();
        let door = door.map_err(setup("make the public socket"))?;
        let (door, listener) = door.unzip();
        let ports = options.ports;
        Ok(Self { stream, theirs, console, output, door, listener, ports })
    }

    /// The worker's part: what it is told, and the descriptors that go with it.
    pub(crate) fn attach<'a>(&'a self, disks: &'a [File]) -> (Attach, Vec<BorrowedFd<'a>>) {
        let (disks, mut fds): (Vec<DiskSpec>, Vec<BorrowedFd<'_>>) = content::disks(disks).unzip();
        fds.extend(self.listener.as_ref().map(AsFd::as_fd));
        fds.extend([self.theirs.as_fd(), self.output.as_fd()]);
        let attach = Attach {
            disks,
            cid: GUEST_CID,
            listener: self.listener.is_some(),
            streams: vec![CONTROL_PORT],
            host_ports: self.ports.numbers(),
            console: true,
            keyboard: false,
        };
        (attach, fds)
    }

    /// Our part: the stream to the agent of the machine in `worker`, which has been told, and its door.
    pub(crate) fn connect(self, mut worker: Worker) -> Result<(Line, Option<Door>), WorkerError> {
        worker.connect(Some(self.console), self.ports);
        let line = Line::new(worker, self.stream);
        let line = line.map_err(|e| WorkerError::Setup("watch a stream", e))?;
        Ok((line, self.door))
    }
}
