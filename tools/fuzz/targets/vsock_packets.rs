//! See `src/vsock_packets.rs`.
#![no_main]

calve_fuzz::target!(vsock_packets);
