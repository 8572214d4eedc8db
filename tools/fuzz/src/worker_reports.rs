//! What a worker says to its fleet: packets, the descriptors that come with them, and what is in the files of a machine
//! that it gives back.
//!
//! Whatever comes, no descriptor stays open once it was dealt with, and what is taken for pages that were written is
//! within memory, ascending and apart.

use std::fs::File;
use std::io::{IoSlice, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use calve_fleet::control::{Report, Socket};
use calve_fleet::fuzzing::written;
use calve_vmm::Shape;
use calve_vmm::memory::Stretch;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use crate::Seeds;
use crate::input::{Input, Output};

/// Memory of the machine that is given back.
const MIB: u32 = 2;
/// Most packets of one input, so that they fit into the socket.
const PACKETS: usize = 16;

pub fn fuzz(data: &[u8]) {
    let before = descriptors();
    talk(Input::new(data));
    // Not in tests, which run beside others of one process.
    if !cfg!(test) {
        assert_eq!(descriptors(), before, "descriptors stay open");
    }
}

fn talk(mut input: Input<'_>) {
    let (ours, theirs) = Socket::pair().expect("sockets");
    let theirs = theirs.into_fd();
    for _ in 0..PACKETS {
        if input.is_empty() {
            break;
        }
        let files: Vec<_> = (0..input.u8() % 5).map(|_| file(&mut input)).collect();
        let raw: Vec<_> = files.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let rights = if raw.is_empty() { &[][..] } else { &rights[..] };
        let packet = [IoSlice::new(input.bytes())];
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let _ = sendmsg::<()>(theirs.as_raw_fd(), &packet, rights, flags, None);
    }
    drop(theirs);
    while let Ok(Some(received)) = ours.try_receive::<Report>() {
        let _ = received.message.name();
        match received.message {
            Report::Refused(refusal) => assert!(is_printable(&refusal.to_string())),
            Report::Ended(end) => assert!(is_printable(&end.to_string())),
            Report::Saved { .. } => give_back(received.fds),
            _ => {}
        }
    }
}

/// What people are shown: nothing that steers a terminal.
fn is_printable(text: &str) -> bool {
    text.chars().all(|c| !c.is_control() || c == '\n' || c == '\t')
}

fn give_back(fds: Vec<OwnedFd>) {
    let shape = Shape::new(MIB, 1, 0).expect("a shape");
    let below = memory();
    let Ok(runs) = written(fds, shape, below) else { return };
    let mut end = 0;
    for Stretch { offset, len } in runs {
        assert!(offset >= end && len > 0 && offset % 4096 == 0 && len % 4096 == 0);
        end = offset + len;
    }
    assert!(end <= shape.memory_bytes());
}

/// A descriptor of some kind: a file with these bytes, memory as it must be, memory that can be cut off, or no file at all.
fn file(input: &mut Input<'_>) -> OwnedFd {
    match input.u8() % 5 {
        0 | 1 => {
            let mut file = memfd();
            file.write_all(input.bytes()).expect("a memfd");
            file.into()
        }
        2 => memory().into(),
        3 => {
            let file = memfd();
            file.set_len(u64::from(MIB) << 20).expect("a memfd");
            file.into()
        }
        _ => UnixStream::pair().expect("sockets").0.into(),
    }
}

fn memfd() -> File {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    memfd_create("fuzz", flags).expect("a memfd").into()
}

/// Memory whose length is fixed.
fn memory() -> File {
    let file = memfd();
    file.set_len(u64::from(MIB) << 20).expect("a memfd");
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals)).expect("seals");
    file
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

pub fn seeds() -> Seeds {
    use calve_fleet::control::{End, Refusal, Stage, Stats, VERSION};
    let packet = |report: &Report| postcard::to_stdvec(report).expect("a report is encoded");
    let say = |report: &Report| Output::new().u8(0).bytes(&packet(report)).done();
    let runs = |runs: &[(u64, u64)]| {
        let runs =
            runs.iter().map(|&(page, pages)| Stretch { offset: page << 12, len: pages << 12 });
        postcard::to_stdvec(&runs.collect::<Vec<_>>()).expect("runs are encoded")
    };
    let saved = |runs: &[u8]| {
        let report = packet(&Report::Saved { whole: false, paused_ns: 7 });
        let files = Output::new().u8(3).u8(0).bytes(b"state").u8(2).u8(1).bytes(runs);
        files.bytes(&report).done()
    };
    let stats = Stats { shell_ns: 1, content_ns: Some(2), entered_ns: None, file_kib: 3 };
    let reason = "no memory\u{1b}[2J".to_owned();
    vec![
        ("shell", say(&Report::Shell { version: VERSION })),
        (
            "life",
            [say(&Report::Running), say(&Report::Paused), say(&Report::Stats(stats))].concat(),
        ),
        ("end", say(&Report::Ended(End::Fault("a fault".into())))),
        ("refused", say(&Report::Refused(Refusal { stage: Stage::Thaw, reason }))),
        ("port", Output::new().u8(1).u8(4).bytes(&packet(&Report::Port { port: 7000 })).done()),
        ("saved", saved(&runs(&[(0, 1), (3, 5), (510, 2)]))),
        ("beyond", saved(&runs(&[(511, 2)]))),
        ("back", saved(&runs(&[(9, 1), (8, 1)]))),
    ]
}
