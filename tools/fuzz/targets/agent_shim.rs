//! See `src/agent_shim.rs`.
#![no_main]

calve_fuzz::target!(agent_shim);
