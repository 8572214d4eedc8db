//! See `src/agent_http.rs`.
#![no_main]

calve_fuzz::target!(agent_http);
