//! See `src/snapshot_state.rs`.
#![no_main]

calve_fuzz::target!(snapshot_state);
