//! On what machine something was measured.

use std::fs;

use serde::{Deserialize, Serialize};

/// A machine, as far as figures depend on it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Facts {
    /// `native`, or `lab` where a processor is emulated and only ratios mean anything.
    pub(crate) place: String,
    pub(crate) processor: String,
    pub(crate) processors: usize,
    pub(crate) kernel: String,
    /// Modules behind /dev/kvm.
    pub(crate) kvm: String,
    /// Processes that ran or waited to run, mean of the last minute: others slow down whoever measures.
    #[serde(default)]
    pub(crate) load: String,
}

impl Facts {
    pub(crate) fn here() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"));
        let modules = ["kvm_intel", "kvm_amd", "kvm_pvm"];
        let loaded = |name: &&str| fs::exists(format!("/sys/module/{name}")).unwrap_or(false);
        let in_lab = std::env::var_os("CALVE_LAB").is_some();
        Self {
            place: if in_lab { "lab" } else { "native" }.into(),
            processor: model.unwrap_or("unknown").trim_matches([' ', '\t', ':']).into(),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().into(),
            kvm: modules.into_iter().filter(loaded).collect::<Vec<_>>().join(", "),
            load: read("/proc/loadavg").split(' ').next().unwrap_or_default().into(),
        }
    }
}
