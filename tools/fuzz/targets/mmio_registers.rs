//! See `src/mmio_registers.rs`.
#![no_main]

calve_fuzz::target!(mmio_registers);
