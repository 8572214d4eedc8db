//! See `src/kernel_image.rs`.
#![no_main]

calve_fuzz::target!(kernel_image);
