//! See `src/host_session.rs`.
#![no_main]

calve_fuzz::target!(host_session);
