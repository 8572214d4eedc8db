//! See `src/balloon_chains.rs`.
#![no_main]

calve_fuzz::target!(balloon_chains);
