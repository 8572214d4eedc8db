//! Where the memory of clones that wait goes: thaws some, pings each, and adds their private pages up by kind.
//!
//! ```sh
//! cargo run --release -p calve-fleet --example idle -- STORE NAME 100
//! ```

use std::collections::BTreeMap;
use std::fs;

use calve_fleet::{Fleet, Options, ThawOptions};
use calve_snapshots::Store;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(store), Some(name), Some(count)) = (args.next(), args.next(), args.next()) else {
        return Err("give a store, a snapshot and a number of clones".into());
    };
    let count: usize = count.parse()?;
    let fleet = Fleet::new(Options::default())?;
    let frozen = fleet.open(&Store::open(store)?, &name)?;
    let mut clones = Vec::new();
    for _ in 0..count {
        let lazy = ThawOptions { lazy: true, ..ThawOptions::default() };
        let mut clone = fleet.thaw_with(&frozen, lazy)?;
        clone.ping()?;
        clones.push(clone);
    }
    let mut kinds = BTreeMap::<String, u64>::new();
    for clone in &clones {
        for (kind, kib) in private(&fs::read_to_string(format!("/proc/{}/smaps", clone.pid()))?) {
            *kinds.entry(kind).or_default() += kib;
        }
    }
    println!("private KiB of one clone, mean of {count}:");
    let total: u64 = kinds.values().sum();
    for (kind, kib) in kinds.iter().filter(|(_, kib)| **kib > 0) {
        println!("{:8.1}  {kind}", *kib as f64 / count as f64);
    }
    println!("{:8.1}  in all", total as f64 / count as f64);
    Ok(())
}

/// Private memory of each mapping, by kind (proc(5), `smaps`).
fn private(smaps: &str) -> Vec<(String, u64)> {
    let mut all = Vec::new();
    let (mut kind, mut kib) = (String::new(), 0);
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("Private_Clean:" | "Private_Dirty:") => {
                kib += words.next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
            }
            Some(range) if range.contains('-') && !range.ends_with(':') => {
                all.push((std::mem::replace(&mut kind, kind_of(line)), std::mem::take(&mut kib)));
            }
            _ => {}
        }
    }
    all.push((kind, kib));
    all
}

/// What a mapping is, from its line.
fn kind_of(line: &str) -> String {
    let words: Vec<_> = line.split_ascii_whitespace().collect();
    let size = words.first().and_then(|range| {
        let (from, to) = range.split_once('-')?;
        Some(u64::from_str_radix(to, 16).ok()? - u64::from_str_radix(from, 16).ok()?)
    });
    match words.get(5) {
        Some(path) if path.contains("memory.") => "guest memory over the snapshot".into(),
        Some(path) if path.ends_with("calve-worker") => {
            format!("the worker's program ({})", words[1])
        }
        Some(path) if path.contains(".so") => format!("its libraries ({})", words[1]),
        Some(path) => (*path).to_owned(),
        None if size.is_some_and(|size| size >= 16 << 20) => "guest memory that was zero".into(),
        None => "its threads' stacks, its allocator, page tables of KVM".into(),
    }
}
