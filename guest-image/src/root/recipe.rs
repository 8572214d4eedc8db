//! Which Debian packages make up each runtime's root.

use crate::apt::StandIn;
use crate::digest::Key;
use crate::runtime::Runtime;

/// Changes whenever the steps of [`super::fill`] change what comes out; part of the key.
const STEPS: &str = "2";

/// What a root is made of.
pub(super) struct Recipe {
    /// The Debian release: each root is wholly from one.
    pub(super) suite: &'static str,
    /// The packages by name; what they depend on comes with them.
    pub(super) packages: Vec<&'static str>,
}

/// In every root: what programs take for granted.
const COMMON: [&str; 9] = [
    // /etc/os-release and the licences.
    "base-files",
    // /bin/sh and the small tools of a shell script, in one file.
    "busybox-static",
    "ca-certificates",
    // ldconfig, by which Python's ctypes finds libraries, and getent.
    "libc-bin",
    // What binary wheels and Node addons link against besides libc.
    "libgcc-s1",
    "libstdc++6",
    "zlib1g",
    // Names of services and protocols.
    "netbase",
    "tzdata",
];

/// Needed by maintainer scripts only, which never run here: declared installed, so that apt leaves them out.
pub(super) const STAND_INS: [StandIn; 5] = [
    StandIn { name: "debconf", provides: "debconf-2.0" },
    StandIn { name: "debianutils", provides: "" },
    StandIn { name: "dpkg", provides: "" },
    StandIn { name: "mawk", provides: "awk" },
    StandIn { name: "openssl", provides: "" },
];

impl Recipe {
    /// The recipe of a runtime.
    pub(super) fn of(runtime: Runtime) -> Self {
        let (suite, own): (_, &[_]) = match runtime {
            // distutils is a package of its own in Debian and part of Python 3.11 everywhere else.
            Runtime::Python311 => ("bookworm", &["python3.11", "python3", "python3-distutils"]),
            // Debian 12 has Node 18; Debian 13 has 20.
            Runtime::Node20 => ("trixie", &["nodejs"]),
            // AWS's tutorial for custom runtimes is a bash script that calls curl.
            Runtime::Provided => ("bookworm", &["bash", "curl"]),
        };
        Self { suite, packages: [&COMMON, own].concat() }
    }

    /// What the recipe hashes to; other packages or other steps give another.
    pub(super) fn digest(&self) -> String {
        let stand_ins = STAND_INS.iter().flat_map(|s| [s.name, s.provides]).collect::<Vec<_>>();
        Key::new("recipe")
            .field(STEPS)
            .field(self.suite)
            .fields(self.packages.iter().copied())
            .fields(stand_ins.into_iter())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipes_differ_and_no_package_is_both_wanted_and_stood_in_for() {
        let digests: Vec<_> = Runtime::ALL.iter().map(|r| Recipe::of(*r).digest()).collect();
        assert!(digests[0] != digests[1] && digests[1] != digests[2] && digests[0] != digests[2]);
        for runtime in Runtime::ALL {
            for package in Recipe::of(runtime).packages {
                assert!(!STAND_INS.iter().any(|s| s.name == package), "{package}");
            }
        }
    }
}
