//! Descriptor chains of a block device (VIRTIO 1.3, §5.2.6), with a disk that is written, read-only, or longer than its
//! file. The file never changes its length, and a read-only one never its bytes.

use std::fs::File;
use std::os::unix::fs::FileExt;

use calve_vmm::virtio::{Access, Backend, Disk};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::Seeds;
use crate::chains::{Program, run};

/// Bytes of the disk's file.
const BYTES: usize = 16 * 512;
/// Bits of the first byte of an input: the disk is read-only; it is longer than its file.
const READ_ONLY: u8 = 2;
const ROOM: u8 = 4;

pub fn fuzz(data: &[u8]) {
    let mode = data.first().copied().unwrap_or(0);
    let read_only = mode & (READ_ONLY | ROOM) != 0;
    let content: Vec<u8> = (0..BYTES).map(|n| (n / 512 + n) as u8).collect();
    let file: File = memfd_create("disk", MFdFlags::MFD_CLOEXEC).expect("a memfd").into();
    file.write_all_at(&content, 0).expect("a disk");
    run(
        data,
        &|| {
            let file = file.try_clone().ok()?;
            let access = if read_only { Access::ReadOnly } else { Access::ReadWrite };
            let room = if mode & ROOM != 0 { 3 * BYTES as u64 } else { 0 };
            Some(Backend::Block(Disk { file, access, id: "fuzz".into(), room }))
        },
        true,
    );
    assert_eq!(file.metadata().expect("a file").len(), BYTES as u64, "the disk's length");
    if read_only {
        let mut now = vec![0; BYTES];
        file.read_exact_at(&mut now, 0).expect("a disk");
        assert_eq!(now, content, "a read-only disk");
    }
}

/// The header of a request.
fn header(kind: u32, sector: u64) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat()
}

pub fn seeds() -> Seeds {
    let request = |event_idx, kind, sector, data: &[(u32, u32, bool)]| {
        let mut buffers = vec![(0x4000, 16, false)];
        buffers.extend(data);
        buffers.push((0x4010, 1, true));
        Program::new(event_idx).store(0x4000, &header(kind, sector)).chain(0, 0, &buffers)
    };
    let mode = |mode: u8, mut bytes: Vec<u8>| {
        bytes[0] |= mode;
        bytes
    };
    let read = request(false, 0, 1, &[(0x5000, 1024, true)]);
    let across = request(true, 0, 0, &[(0xff00, 512, true), (0x2_0000, 512, true)]);
    let write = request(true, 1, 15, &[(0x5000, 512, false)]);
    let table = [
        &0x4000_u64.to_le_bytes()[..],
        &[16, 0, 0, 0, 1, 0, 1, 0],
        &0x6000_u64.to_le_bytes(),
        &[1, 2, 0, 0, 2, 0, 0, 0],
    ]
    .concat();
    let indirect = Program::new(false)
        .store(0x4000, &header(0, 2))
        .store(0x7000, &table)
        .indirect(0, 0x7000, 32);
    vec![
        ("read", read.done()),
        ("read-across-regions", across.reload().restart().done()),
        ("read-beyond-the-file", mode(ROOM, request(true, 0, 15, &[(0x5000, 1024, true)]).done())),
        ("write", write.done()),
        ("write-read-only", mode(READ_ONLY, request(false, 1, 0, &[(0x5000, 512, false)]).done())),
        ("flush", request(true, 4, 0, &[]).event(0, 0, 3).index(0, 1).done()),
        ("id", request(false, 8, 0, &[(0x5000, 20, true)]).reload().done()),
        ("unknown", request(false, 99, 0, &[]).done()),
        ("indirect", indirect.done()),
        (
            "index-jump",
            request(false, 0, 0, &[(0x5000, 512, true)]).index(0, 0x8000).restart().done(),
        ),
    ]
}
