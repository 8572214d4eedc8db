//! What the store costs: `cargo run --release -p calve-snapshots --example store_cost -- [DIR] [MIB]`.
//!
//! Builds a snapshot of a 512 MiB machine with MIB (default 60) MiB of non-zero pages in DIR (default:
//! the system's temporary folder), with a kernel of 18 MiB and a root image of 100 MiB, then opens it at
//! every level of verification. Prints the best of five, in milliseconds.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use calve_snapshots::*;

const MIB: u64 = 1 << 20;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let dir = match args.next() {
        Some(dir) => tempfile::tempdir_in(dir)?,
        None => tempfile::tempdir()?,
    };
    let pages = args.next().map_or(Ok(60), |mib| mib.parse::<u64>())? * MIB / 4096;

    let layout = MemoryLayout::new([(0, 512 * MIB)])?;
    let ram =
        File::options().create_new(true).read(true).write(true).open(dir.path().join("ram"))?;
    ram.set_len(layout.size())?;
    // Groups of four pages with a gap after each: as scattered as a warmed runtime's heap.
    for n in 0..pages {
        ram.write_all_at(&noise(n, 4096), (n / 4 * 5 + n % 4) * 4096)?;
    }
    for (name, mib) in [("kernel", 18), ("root", 100)] {
        std::fs::write(dir.path().join(name), noise(mib, mib * MIB))?;
    }

    let store = Store::open(dir.path().join("store"))?;
    let mut draft = store.draft("cost")?;
    time("add kernel and root, copied", 1, || {
        draft.add_image(Role::Kernel, &dir.path().join("kernel"))?;
        draft.add_image(Role::Root, &dir.path().join("root")).map(drop)
    })?;
    draft.write_state(&State::new(Architecture::NATIVE, vec![])?)?;
    let memory = FileMemory::new(&ram, &layout)?;
    time("write memory, fsync", 1, || draft.write_memory(&memory, &mut |_, _| {}))?;
    let recipe = recipe();
    let start = Instant::now();
    draft.commit(recipe)?;
    report("commit", start.elapsed());
    let mut draft = store.draft("again")?;
    time("add kernel and root, known", 1, || {
        draft.add_image(Role::Kernel, &dir.path().join("kernel"))?;
        draft.add_image(Role::Root, &dir.path().join("root")).map(drop)
    })?;
    drop(draft);

    let host = Host {
        architecture: Architecture::NATIVE,
        vendor: String::new(),
        features: Default::default(),
    };
    time("open the store", 5, || Store::open(store.path()).map(drop))?;
    for verify in [Verify::Full, Verify::Structure] {
        time(&format!("open, {verify:?}"), 5, || store.snapshot("cost", &host, verify).map(drop))?;
    }
    // Files changed within the last second get no stamp: the best of five has them all the same, if
    // the runs above took that long.
    std::thread::sleep(Duration::from_secs(2));
    time("open, Stamped", 5, || store.snapshot("cost", &host, Verify::Stamped).map(drop))
}

fn recipe() -> Recipe {
    let function = manifest::Function {
        runtime: "none".into(),
        handler: "none".into(),
        timeout_ms: 1,
        env: Default::default(),
    };
    let cpu = Cpu { vendor: String::new(), features: Default::default() };
    Recipe { cpu, vcpus: 1, disks: 1, cmdline: String::new(), function, stats: Default::default() }
}

fn noise(seed: u64, len: u64) -> Vec<u8> {
    let mut word = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let words = (0..len / 8).flat_map(|_| {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        word.to_le_bytes()
    });
    words.collect()
}

fn time(what: &str, runs: u32, mut run: impl FnMut() -> Result<(), Error>) -> Result<()> {
    let mut best = Duration::MAX;
    for _ in 0..runs {
        let start = Instant::now();
        run().with_context(|| what.to_owned())?;
        best = best.min(start.elapsed());
    }
    report(what, best);
    Ok(())
}

fn report(what: &str, took: Duration) {
    println!("{what:<28} {:>9.2} ms", took.as_secs_f64() * 1e3);
}
