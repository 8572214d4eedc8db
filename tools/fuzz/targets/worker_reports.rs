//! See `src/worker_reports.rs`.
#![no_main]

calve_fuzz::target!(worker_reports);
