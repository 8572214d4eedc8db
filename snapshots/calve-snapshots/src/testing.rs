//! The golden snapshot of `golden/`, as inputs to a draft and as a whole store.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tempfile::TempDir;

use crate::memory::PAGE;
use crate::*;

/// SHA-256 of `golden/manifest.json`, computed with sha256sum(1).
pub(crate) const GOLDEN_ID: &str =
    "73196f1a83ab866e620a57982b9feefc0c4b4ba7416e678dda06b6aab2ea93ed";
pub(crate) const KERNEL: &[u8] = b"golden kernel\n";
pub(crate) const ROOT: &[u8] = b"golden root\n";

pub(crate) fn golden_manifest() -> &'static [u8] {
    include_bytes!("../golden/manifest.json")
}

/// The bytes that `golden/state.hex` spells out.
pub(crate) fn golden_state() -> Vec<u8> {
    let text = include_str!("../golden/state.hex");
    let hex: String = text.lines().filter_map(|line| line.split('#').next()).collect();
    hex::decode(hex.replace(char::is_whitespace, "")).unwrap()
}

/// RAM given by its pages that are not zero.
pub(crate) struct Ram {
    pub(crate) layout: MemoryLayout,
    pub(crate) pages: BTreeMap<u64, Vec<u8>>,
}

impl Ram {
    /// Pages 1, 2, 63, 64 full of their own number, and page 200 with it in its last byte.
    pub(crate) fn golden() -> Self {
        let layout = MemoryLayout::new([(0, 512 << 10), (4 << 30, 512 << 10)]).unwrap();
        let full = |n: u8| (u64::from(n), vec![n; PAGE]);
        let mut pages = BTreeMap::from([1, 2, 63, 64].map(full));
        let mut last = vec![0; PAGE];
        last[PAGE - 1] = 200;
        pages.insert(200, last);
        Self { layout, pages }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(self.layout.size()).unwrap()];
        self.read_at(0, &mut bytes).unwrap();
        bytes
    }
}

impl MemorySource for Ram {
    fn layout(&self) -> &MemoryLayout {
        &self.layout
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let pages = buf.chunks_mut(PAGE);
        for (number, page) in (offset / PAGE as u64..).zip(pages) {
            match self.pages.get(&number) {
                Some(bytes) => page.copy_from_slice(bytes),
                None => page.fill(0),
            }
        }
        Ok(())
    }
}

pub(crate) fn host() -> Host {
    let features = ["avx2", "sse4_2", "sha_ni"].map(String::from).into();
    Host { architecture: Architecture::X86_64, vendor: "AuthenticAMD".into(), features }
}

pub(crate) fn recipe() -> Recipe {
    let Manifest { cpu, machine, function, stats, .. } = golden_manifest().try_into().unwrap();
    Recipe {
        cpu,
        vcpus: machine.vcpus,
        disks: machine.disks,
        cmdline: machine.cmdline,
        function,
        stats,
    }
}

/// The same machine with a disk for code.
pub(crate) fn recipe_with_code() -> Recipe {
    Recipe { disks: 2, ..recipe() }
}

/// When the golden snapshot was made.
pub(crate) fn golden_time() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(1_795_348_800_000)
}

/// A store in a directory of its own, and a folder for inputs beside it.
pub(crate) struct Fixture {
    pub(crate) dir: TempDir,
    pub(crate) store: Store,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("store")).unwrap();
        Self { dir, store }
    }

    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        self.store.path().join(inside)
    }

    /// Writes an input file and returns its path.
    pub(crate) fn input(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// A draft with everything in it but the commit.
    pub(crate) fn draft(&self, name: &str) -> Draft<'_> {
        self.draft_in(&self.store, name)
    }

    /// A draft in this store as somebody else has opened it.
    pub(crate) fn draft_in<'a>(&self, store: &'a Store, name: &str) -> Draft<'a> {
        let mut draft = store.draft(name).unwrap();
        draft.add_image(Role::Kernel, &self.input("kernel", KERNEL)).unwrap();
        draft.add_image(Role::Root, &self.input("root", ROOT)).unwrap();
        draft.write_state(&State::try_from(&golden_state()[..]).unwrap()).unwrap();
        draft.write_memory(&Ram::golden(), &mut |_, _| {}).unwrap();
        draft
    }

    pub(crate) fn build(&self, name: &str) -> Digest {
        self.draft(name).commit(recipe()).unwrap()
    }

    pub(crate) fn open(&self, name: &str) -> Result<Snapshot, Error> {
        self.store.snapshot(name, &host(), Verify::Full)
    }

    /// Every file in the store, relative to it, but for stamps.
    pub(crate) fn files(&self) -> Vec<String> {
        let mut files = Vec::new();
        for dir in ["names", "images", "tmp", "snapshots"] {
            for entry in std::fs::read_dir(self.path(dir)).unwrap() {
                let path = entry.unwrap().path();
                let inner = std::fs::read_dir(&path).into_iter().flatten();
                files.extend(inner.filter(|_| dir != "names").map(|e| e.unwrap().path()));
                files.push(path);
            }
        }
        let relative =
            |p: PathBuf| p.strip_prefix(self.store.path()).unwrap().display().to_string();
        let mut files: Vec<_> = files.into_iter().map(relative).collect();
        files.sort();
        files
    }
}
