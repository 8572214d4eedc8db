//! See `src/snapshot_manifest.rs`.
#![no_main]

calve_fuzz::target!(snapshot_manifest);
