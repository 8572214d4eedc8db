//! Descriptor chains of a vsock device (VIRTIO 1.3, §5.10.6), with streams of the host waiting on two guest ports.

use std::os::unix::net::UnixStream;

use calve_vmm::virtio::{Backend, HostPorts, VsockHost};

use crate::Seeds;
use crate::chains::{Program, run};
use crate::vsock_packets::{CID, Header, op};

/// Any port of the host takes the guest's connection, and hangs up.
#[derive(Debug)]
struct Brief;

impl HostPorts for Brief {
    fn connect(&mut self, _port: u32) -> std::io::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        theirs.set_nonblocking(true)?;
        Ok(theirs)
    }
}

pub fn fuzz(data: &[u8]) {
    let stream = || {
        let (mut ours, theirs) = UnixStream::pair().ok()?;
        theirs.set_nonblocking(true).ok()?;
        std::io::Write::write_all(&mut ours, &[9; 5000]).ok()?;
        Some(theirs)
    };
    let backend = || {
        let streams = vec![(1024, stream()?), (1025, stream()?)];
        let host_ports = Box::new(Brief);
        Some(Backend::Vsock(VsockHost { cid: CID, listener: None, streams, host_ports }))
    };
    run(data, &backend, false);
}

pub fn seeds() -> Seeds {
    // The host's side of a stream that it opened has the first port of the host.
    let from = |op, src_port, dst_port, len| {
        Header { src_port, dst_port, op, len, buf_alloc: 1 << 16, ..Header::default() }.encode()
    };
    let receive = |program: Program| program.chain(0, 0, &[(0x4000, 4096, true)]);
    let send = |program: Program, at: u32, header: &[u8]| {
        program.store(at, header).chain(1, 0, &[(at, 44, false), (at + 44, 100, false)])
    };
    let asked =
        receive(Program::new(true)).chain(0, 1, &[(0x5000, 2000, true), (0x2_0000, 96, true)]);
    let accepted = send(asked, 0x8000, &from(op::RESPONSE, 1024, 1 << 30, 0));
    let both = send(receive(Program::new(false)), 0x8000, &from(op::REQUEST, 7, 9, 0));
    vec![
        ("accept", accepted.reload().done()),
        ("connect", send(both, 0x9000, &from(op::RW, 7, 9, 100)).event(1, 1, 0).done()),
        (
            "stranger",
            send(receive(Program::new(false)), 0x8000, &from(op::RW, 1, 2, 100)).restart().done(),
        ),
        ("event-queue", Program::new(true).chain(2, 0, &[(0x4000, 8, true)]).done()),
    ]
}
