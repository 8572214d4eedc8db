//! See `src/block_chains.rs`.
#![no_main]

calve_fuzz::target!(block_chains);
