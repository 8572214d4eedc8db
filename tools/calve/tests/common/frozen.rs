//! Snapshots without a machine, made with the store's own library, and ways to damage them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use calve_snapshots::{
    Architecture, Cpu, Digest, FileMemory, Function, MemoryLayout, Recipe, Role, Section, State,
    Store,
};

/// Bytes of the snapshot's memory.
const MEMORY: u64 = 2 << 20;

/// Puts a snapshot called `name` into the store. Its state is no machine.
pub(crate) fn plant(store: &Path, name: &str) {
    let work = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = work.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let mut memory = vec![0; usize::try_from(MEMORY).unwrap()];
    memory[4096..8192].fill(7);
    let memory = fs::File::open(file("memory", &memory)).unwrap();
    let layout = MemoryLayout::new([(0, MEMORY)]).unwrap();
    let section = Section { name: "vcpu.0".into(), version: 1, bytes: vec![1, 2, 3] };

    let store = Store::open(store).unwrap();
    let mut draft = store.draft(name).unwrap();
    draft.add_image(Role::Kernel, &file("kernel", b"\x7fELF kernel")).unwrap();
    draft.add_image(Role::Root, &file("root", b"root image")).unwrap();
    draft.write_state(&State::new(Architecture::NATIVE, vec![section]).unwrap()).unwrap();
    let source = FileMemory::new(&memory, &layout).unwrap();
    draft.write_memory(&source, &mut |_, _| {}).unwrap();
    draft.commit(recipe()).unwrap();
}

fn recipe() -> Recipe {
    Recipe {
        cpu: Cpu { vendor: "NobodysChip".into(), features: BTreeSet::new() },
        vcpus: 1,
        disks: 1,
        cmdline: "console=ttyS0".into(),
        function: Function {
            runtime: "python3.11".into(),
            handler: "app.handler".into(),
            timeout_ms: 3000,
            env: BTreeMap::new(),
        },
        stats: BTreeMap::new(),
    }
}

/// The folder of the snapshot `name`.
pub(crate) fn folder(store: &Path, name: &str) -> PathBuf {
    store.join("names").join(name).canonicalize().unwrap()
}

/// Changes one bit in the middle of a file's data.
pub(crate) fn flip_bit(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// Cuts a file in half.
pub(crate) fn truncate(path: &Path) {
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2).unwrap();
}

/// Rewrites the manifest of `name`, and what follows from its bytes: the id, the folder, the link. What remains is a
/// snapshot that is whole, but another one.
pub(crate) fn rewrite_manifest(
    store: &Path,
    name: &str,
    change: impl FnOnce(&mut serde_json::Value),
) {
    let old = folder(store, name);
    let text = fs::read(old.join("manifest.json")).unwrap();
    let mut manifest = serde_json::from_slice(&text).unwrap();
    change(&mut manifest);
    let text = serde_json::to_vec_pretty(&manifest).unwrap();
    let id = Digest::of(&text).hex();
    fs::write(old.join("manifest.json"), &text).unwrap();
    fs::rename(&old, old.with_file_name(&id)).unwrap();
    let link = store.join("names").join(name);
    fs::remove_file(&link).unwrap();
    symlink(format!("../snapshots/{id}"), &link).unwrap();
}
