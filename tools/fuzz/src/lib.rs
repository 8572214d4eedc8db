//! Fuzz targets: everything that parses bytes of a guest, a worker, a snapshot or a kernel image, driven through the code that a
//! machine runs.
//!
//! | target | bytes of | what they are |
//! | --- | --- | --- |
//! | [`mmio_registers`] | guest | accesses to the registers of three devices, with saves and loads between |
//! | [`block_chains`], [`vsock_chains`], [`balloon_chains`] | guest | descriptors, rings and buffers of a running device |
//! | [`vsock_packets`] | guest | sound chains with any packets in them, and what programs of the host do meanwhile |
//! | [`host_session`] | guest | frames to the host |
//! | [`agent_frames`] | host | frames to the agent |
//! | [`agent_http`], [`agent_shim`] | function | the Lambda Runtime API, and frames of our own shims |
//! | [`worker_reports`] | worker | packets to its fleet, and the files of a machine that it gives back |
//! | [`snapshot_state`], [`snapshot_manifest`] | snapshot | the `state` file and its devices; the manifest and the working set |
//! | [`kernel_image`] | kernel | ELF files and bzImages |
//!
//! A target is a module with `fuzz`, which takes one input and panics where an invariant is broken, and `seeds`, which
//! makes the inputs that fuzzing begins with. Inputs are programs of small records of little-endian numbers, read by
//! [`input`]; so libFuzzer's mutations keep their meaning, and a seed is written as plainly as it is read.

pub mod agent_frames;
pub mod agent_http;
pub mod agent_shim;
pub mod balloon_chains;
pub mod block_chains;
mod chains;
pub mod host_session;
pub mod input;
pub mod kernel_image;
mod memory;
pub mod mmio_registers;
pub mod snapshot_manifest;
pub mod snapshot_state;
pub mod vsock_chains;
pub mod vsock_packets;
pub mod worker_reports;

#[doc(hidden)]
pub use libfuzzer_sys::fuzz_target;

/// What fuzzing begins with: inputs by name.
pub type Seeds = Vec<(&'static str, Vec<u8>)>;

/// The variable that has a target write its seeds into a folder and end.
const SEEDS: &str = "CALVE_FUZZ_SEEDS";

/// Writes the seeds, where that is what is asked for.
pub fn write_seeds(seeds: impl FnOnce() -> Seeds) {
    let Some(folder) = std::env::var_os(SEEDS) else { return };
    for (name, bytes) in seeds() {
        let path = std::path::Path::new(&folder).join(name);
        if let Err(error) = std::fs::write(&path, bytes) {
            eprintln!("cannot write {}: {error}", path.display());
            std::process::exit(1);
        }
    }
    std::process::exit(0);
}

/// The program of a target: `target!(block_chains)`.
#[macro_export]
macro_rules! target {
    ($module:ident) => {
        $crate::fuzz_target!(
            init: $crate::write_seeds($crate::$module::seeds),
            |data: &[u8]| {
                $crate::$module::fuzz(data);
            }
        );
    };
}

#[cfg(test)]
mod tests;
