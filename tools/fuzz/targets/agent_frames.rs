//! See `src/agent_frames.rs`.
#![no_main]

calve_fuzz::target!(agent_frames);
