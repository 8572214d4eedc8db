//! What this host offers: checks for `calve doctor`, and the one question that everything else
//! asks first.
//!
//! `/dev/kvm` opening says little: some clouds offer a KVM without hardware support (PVM), which
//! runs bare-metal programs but no ordinary Linux. So the processor's flags decide.

mod core;
mod facts;
mod probe;
#[cfg(test)]
mod tests;

use std::io;

use calve_vmm::{Hypervisor, HypervisorError};
use serde::Serialize;
use thiserror::Error;

pub use facts::Facts;

/// Why this host cannot run Linux machines.
#[derive(Debug, Error)]
pub enum HostError {
    /// The processor offers no virtualisation.
    #[error(
        "this processor offers no VMX or SVM{}: use a bare-metal host, or a virtual one with nested virtualisation",
        if *.pvm { " (its /dev/kvm is PVM, which cannot run an ordinary Linux guest)" } else { "" }
    )]
    NoVirtualisation {
        /// Whether there is a KVM without hardware support.
        pvm: bool,
    },
    /// There is no `/dev/kvm`.
    #[error("there is no /dev/kvm: load the module (modprobe {module})")]
    NoDevice {
        /// `kvm_intel` or `kvm_amd`.
        module: &'static str,
    },
    /// `/dev/kvm` is closed to this user.
    #[error(
        "this user may not open /dev/kvm: add it to the group that owns the device (often `kvm`), or be root"
    )]
    NoAccess(#[source] io::Error),
    /// KVM is there but not good enough.
    #[error(transparent)]
    Kvm(#[from] HypervisorError),
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// As it should be.
    Good,
    /// It works, but something is slower or weaker than it could be.
    Poor,
    /// It does not work.
    Bad,
}

/// One fact about this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at, in a word or two.
    pub name: &'static str,
    /// How it came out.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What to do about it, where it is not [`State::Good`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// Looks at everything that matters to machines, most important first.
pub fn survey() -> Vec<Check> {
    Facts::gather().checks()
}

/// Whether this host can run Linux machines.
///
/// # Errors
///
/// The first thing that is missing.
pub fn check() -> Result<(), HostError> {
    Facts::gather().verdict()?;
    Hypervisor::open()?;
    Ok(())
}
