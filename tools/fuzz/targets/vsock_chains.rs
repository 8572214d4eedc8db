//! See `src/vsock_chains.rs`.
#![no_main]

calve_fuzz::target!(vsock_chains);
