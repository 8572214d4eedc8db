//! What a snapshot asks of the machine that thaws it.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A processor architecture, numbered as ELF's `e_machine` (gABI, chapter 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u16)]
pub enum Architecture {
    /// 64-bit x86.
    #[serde(rename = "x86_64")]
    X86_64 = 62,
    /// 64-bit Arm.
    #[serde(rename = "aarch64")]
    Aarch64 = 183,
}

impl Architecture {
    /// The architecture this program was compiled for.
    #[cfg(target_arch = "x86_64")]
    pub const NATIVE: Self = Self::X86_64;
    /// The architecture this program was compiled for.
    #[cfg(target_arch = "aarch64")]
    pub const NATIVE: Self = Self::Aarch64;

    pub(crate) fn from_elf(number: u16) -> Option<Self> {
        [Self::X86_64, Self::Aarch64].into_iter().find(|a| *a as u16 == number)
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        })
    }
}

/// The host as the caller found it; [`Store::snapshot`](crate::Store::snapshot) refuses what it cannot run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its architecture, [`Architecture::NATIVE`] outside tests.
    pub architecture: Architecture,
    /// Its CPU vendor string (CPUID leaf 0 on x86, such as `AuthenticAMD`).
    pub vendor: String,
    /// The features it can give a guest, spelt as `/proc/cpuinfo` spells them.
    pub features: BTreeSet<String>,
}
