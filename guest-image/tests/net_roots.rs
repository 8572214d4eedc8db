//! Root images from Debian's archive: what is in them, and that making them twice gives the same bytes.
//!
//! Run with `--ignored`. Downloads about 30 MB for each runtime into temporary caches.

// Clippy knows test functions, not the helpers of an integration test.
#![allow(clippy::unwrap_used)]

use calve_image::{Cache, Runtime, Silent, root};
use std::path::Path;

/// An executable for x86-64 that stands in for the agent: nothing here boots.
fn agent(dir: &Path) -> std::path::PathBuf {
    let agent = dir.join("agent");
    // The 20 bytes of an ELF header up to the machine type.
    let mut header = b"\x7fELF\x02\x01\x01".to_vec();
    header.resize(16, 0);
    header.extend([2, 0, 62, 0]);
    std::fs::write(&agent, header).unwrap();
    agent
}

fn built_twice_is_the_same(runtime: Runtime, own_package: &str) {
    let dir = tempfile::tempdir().unwrap();
    let agent = agent(dir.path());
    let build = |name: &str| {
        let cache = Cache::at(dir.path().join(name));
        root::ensure(&cache, runtime, &agent, &mut Silent).unwrap()
    };
    let (first, second) = (build("a"), build("a-longer-name"));
    let names: Vec<_> = first.manifest.packages.iter().map(|p| p.name.as_str()).collect();
    for package in ["base-files", "busybox-static", "ca-certificates", "libc6", own_package] {
        assert!(names.contains(&package), "{package} is not among {names:?}");
    }
    for stood_in_for in ["debconf", "dpkg", "perl-base"] {
        assert!(!names.contains(&stood_in_for), "{stood_in_for} is among {names:?}");
    }
    // Unless the archive changed between the two, everything else must be equal.
    assert_eq!(first.manifest.packages, second.manifest.packages);
    assert_eq!(first.digest, second.digest);
}

#[test]
#[ignore = "downloads packages"]
fn the_python_root_is_reproducible() {
    built_twice_is_the_same(Runtime::Python311, "libpython3.11-stdlib");
}

#[test]
#[ignore = "downloads packages"]
fn the_node_root_is_reproducible() {
    built_twice_is_the_same(Runtime::Node20, "libnode115");
}

#[test]
#[ignore = "downloads packages"]
fn the_provided_root_is_reproducible() {
    built_twice_is_the_same(Runtime::Provided, "bash");
}
