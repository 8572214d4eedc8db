//! Fleets, stores and tiny guests for tests.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "in the functions that the tests are made of")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use calve_fleet::{Access, BootSpec, Fleet, Frozen, Function, Machine, Options, Shape};
use calve_snapshots::{Role, Store};

/// Where tiny guests are loaded and entered.
const ENTRY: u32 = 0x10_0000;

/// `calve-worker` as cargo leaves it: beside the folder of the test binaries.
pub fn worker_program() -> PathBuf {
    if let Some(path) = std::env::var_os("CALVE_WORKER") {
        return path.into();
    }
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(Path::parent).unwrap().join("calve-worker");
    assert!(path.exists(), "no {}: cargo build -p calve-worker", path.display());
    path
}

pub fn fleet() -> Fleet {
    Fleet::new(Options { worker: Some(worker_program()), ..Options::default() }).unwrap()
}

/// The least ELF file with a PVH entry (a note of name `Xen`, type 18) around `code`.
pub fn kernel(code: &[u8]) -> Vec<u8> {
    let mut elf = Vec::new();
    elf.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    elf.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    elf.extend(u64::from(ENTRY).to_le_bytes());
    elf.extend(64_u64.to_le_bytes());
    elf.extend([0; 12]);
    elf.extend([64, 0, 56, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    for (kind, offset, size) in [(4_u32, 176_u64, 20_u64), (1, 196, code.len() as u64)] {
        elf.extend(kind.to_le_bytes());
        elf.extend([7, 0, 0, 0]);
        for field in [offset, ENTRY.into(), ENTRY.into(), size, size, 4] {
            elf.extend(field.to_le_bytes());
        }
    }
    elf.extend([4, 0, 0, 0, 4, 0, 0, 0, 18, 0, 0, 0]);
    elf.extend(b"Xen\0");
    elf.extend(ENTRY.to_le_bytes());
    elf.extend(code);
    elf
}

/// Says `hello` and turns the machine off.
pub const HELLO: &[u8] = &[
    0x66, 0xba, 0xf8, 0x03, // mov dx, 0x3f8
    0xb0, b'h', 0xee, 0xb0, b'e', 0xee, 0xb0, b'l', 0xee, 0xee, 0xb0, b'o',
    0xee, // out dx, al …
    0x66, 0xba, 0x00, 0x06, // mov dx, 0x600 (sleep control)
    0xb0, 0x34, // mov al, SLP_EN | 5 << 2
    0xee, // out dx, al
    0xf4, // hlt
];

/// Says `A`, `B`, … `Z`, `A`, … for ever, with a pause after each. The next letter is in memory.
pub const ALPHABET: &[u8] = &[
    0x66,
    0xba,
    0xf8,
    0x03, // mov dx, 0x3f8
    0xc6,
    0x05,
    0x00,
    0x00,
    0x14,
    0x00,
    b'A', // mov byte [0x140000], 'A'
    0xa0,
    0x00,
    0x00,
    0x14,
    0x00, // say: mov al, [0x140000]
    0xee, // out dx, al
    0xfe,
    0xc0, // inc al
    0x3c,
    b'Z' + 1, // cmp al, 'Z' + 1
    0x75,
    0x02, // jne keep
    0xb0,
    b'A', // mov al, 'A'
    0xa2,
    0x00,
    0x00,
    0x14,
    0x00, // keep: mov [0x140000], al
    0xb9,
    0x00,
    0x10,
    0x00,
    0x00, // mov ecx, 0x1000
    0xe2,
    0xfe, // loop $
    0xeb,
    0xe4, // jmp say
];

/// Waits until it has been cloned, which changes the generation identifier at 0xc0000000, says `bye`
/// and turns the machine off.
pub const BYE_WHEN_CLONED: &[u8] = &[
    0xa1, 0x00, 0x00, 0x00, 0xc0, // mov eax, [0xc0000000]
    0x3b, 0x05, 0x00, 0x00, 0x00, 0xc0, // wait: cmp eax, [0xc0000000]
    0x74, 0xf8, // je wait
    0x66, 0xba, 0xf8, 0x03, // mov dx, 0x3f8
    0xb0, b'b', 0xee, 0xb0, b'y', 0xee, 0xb0, b'e', 0xee, // out dx, al …
    0x66, 0xba, 0x00, 0x06, // mov dx, 0x600 (sleep control)
    0xb0, 0x34, // mov al, SLP_EN | 5 << 2
    0xee, // out dx, al
    0xf4, // hlt
];

/// Executes nothing, for ever.
pub const SILENCE: &[u8] = &[0xf4, 0xeb, 0xfd]; // hlt; jmp $-1

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// The shape of all tiny guests: one disk, because a snapshot has a root image.
pub fn shape() -> Shape {
    Shape::new(4, 1, 1).unwrap()
}

const ROOT: [u8; 4096] = [0; 4096];

pub fn start(fleet: &Fleet, code: &[u8]) -> Machine {
    let mut spec = BootSpec::new(shape(), file(&kernel(code)), "");
    spec.disks = vec![(file(&ROOT), Access::ReadOnly)];
    fleet.start(spec).unwrap()
}

/// A store in a folder that goes away.
pub struct TempStore {
    pub store: Store,
    pub dir: tempfile::TempDir,
}

pub fn store() -> TempStore {
    let dir = tempfile::tempdir().unwrap();
    TempStore { store: Store::open(dir.path().join("store")).unwrap(), dir }
}

/// Freezes a tiny guest as it is and opens the snapshot again.
pub fn freeze(fleet: &Fleet, store: &TempStore, machine: Machine, code: &[u8]) -> Frozen {
    let path = |name: &str, bytes: &[u8]| {
        let path = store.dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let mut draft = store.store.draft("tiny").unwrap();
    draft.add_image(Role::Kernel, &path("kernel", &kernel(code))).unwrap();
    draft.add_image(Role::Root, &path("root", &ROOT)).unwrap();
    let function = Function::new("tiny", "provided", "none");
    machine.freeze(fleet, draft, &function, BTreeMap::new(), &mut |_, _| {}).unwrap();
    fleet.open(&store.store, "tiny").unwrap()
}

/// Waits until `condition` holds; panics after half a minute.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(30), "never: {what}");
        std::thread::yield_now();
    }
}

/// Whether tests are to take their time (`cargo xtask test --long`).
pub fn is_long() -> bool {
    std::env::var_os("CALVE_TEST_LONG").is_some()
}

pub fn kill_9(pid: u32) {
    use nix::sys::signal::{Signal, kill};
    kill(nix::unistd::Pid::from_raw(pid.try_into().unwrap()), Signal::SIGKILL).unwrap();
}

pub fn lives(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// Descriptors, children and sockets of this process.
#[derive(Debug, PartialEq, Eq)]
pub struct Belongings {
    pub files: usize,
    pub children: usize,
    pub threads: usize,
}

impl Belongings {
    pub fn now() -> Self {
        let count = |path: &str| std::fs::read_dir(path).unwrap().count();
        Self {
            files: count("/proc/self/fd"),
            children: children(),
            threads: count("/proc/self/task"),
        }
    }
}

/// Processes whose parent is this one, ended and not waited for included.
fn children() -> usize {
    child_pids().len()
}

pub fn child_pids() -> Vec<u32> {
    let parent = format!("PPid:\t{}\n", std::process::id());
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|p| p.file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
            status.is_ok_and(|status| status.contains(&parent))
        })
        .collect()
}
