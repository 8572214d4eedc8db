//! Facts as read from the kernel, and what to make of them. Pure, so that every host can be tested.

use std::io;
use std::path::PathBuf;

use super::{Check, HostError, State};

/// What the kernel says about this host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Processor flags of `/proc/cpuinfo` that matter: `vmx` or `svm`.
    pub virtualisation: Option<&'static str>,
    /// Whether the processor is Intel's.
    pub intel: bool,
    /// Loaded modules of KVM, of `kvm_intel`, `kvm_amd` and `kvm_pvm`.
    pub modules: Vec<&'static str>,
    /// What opening `/dev/kvm` came to: the errno.
    pub device: Option<i32>,
    /// KVM's own answer: what is missing, if it could be asked.
    pub kvm: Option<Result<(), String>>,
    /// Kernel release.
    pub kernel: String,
    /// Whether `/sys/fs/cgroup` is cgroup v2.
    pub cgroup_v2: bool,
    /// Where workers' cgroups are to be, if anywhere, or why they cannot be there.
    pub cgroups: Option<Result<PathBuf, String>>,
    /// Controllers of the root cgroup.
    pub controllers: Vec<String>,
    /// `MemAvailable`, KiB.
    pub available_kib: u64,
    /// Limit on user namespaces; 0 means none may be made.
    pub user_namespaces: Option<u64>,
    /// Limit on open files of this process.
    pub open_files: u64,
    /// Whether several hardware threads share a core.
    pub smt: bool,
    /// Whether the kernel can keep hostile tasks off a core's other thread (`PR_SCHED_CORE`).
    pub core_scheduling: bool,
    /// Transparent huge pages: the chosen word.
    pub thp: String,
    /// Whether kernel same-page merging runs.
    pub ksm: bool,
    /// Names of processor vulnerabilities that the kernel calls vulnerable.
    pub vulnerable: Vec<String>,
}

impl Facts {
    /// Whether Linux machines can run, as far as these facts say.
    pub(super) fn verdict(&self) -> Result<(), HostError> {
        if self.virtualisation.is_none() {
            return Err(HostError::NoVirtualisation { pvm: self.modules.contains(&"kvm_pvm") });
        }
        let module = if self.intel { "kvm_intel" } else { "kvm_amd" };
        match self.device {
            None => Ok(()),
            Some(nix::libc::ENOENT | nix::libc::ENODEV | nix::libc::ENXIO) => {
                Err(HostError::NoDevice { module })
            }
            Some(errno) => Err(HostError::NoAccess(io::Error::from_raw_os_error(errno))),
        }
    }

    /// Every fact with its state and remedy.
    pub fn checks(&self) -> Vec<Check> {
        vec![
            self.check_machines(),
            self.check_kvm(),
            self.check_cgroup(),
            self.check_memory(),
            self.check_files(),
            self.check_namespaces(),
            self.check_cores(),
            self.check_vulnerabilities(),
            self.check_ksm(),
            self.check_thp(),
            good("kernel", self.kernel.clone()),
        ]
    }

    fn check_machines(&self) -> Check {
        let name = "virtualisation";
        match self.verdict() {
            Ok(()) => {
                let flag = self.virtualisation.unwrap_or_default();
                good(name, format!("{flag}, modules {}", list(&self.modules)))
            }
            Err(e) => {
                let text = e.to_string();
                let (found, remedy) = text.split_once(": ").unwrap_or((&text, ""));
                other(name, State::Bad, found, remedy)
            }
        }
    }

    fn check_kvm(&self) -> Check {
        match &self.kvm {
            Some(Ok(())) => good("kvm", "API version 12 with every extension needed".into()),
            Some(Err(why)) => other("kvm", State::Bad, why, "update the host's kernel"),
            None => other("kvm", State::Bad, "cannot be asked", "see virtualisation"),
        }
    }

    fn check_cgroup(&self) -> Check {
        let lacking: Vec<_> = ["cpu", "memory", "pids", "io"]
            .into_iter()
            .filter(|wanted| !self.controllers.iter().any(|c| c == wanted))
            .collect();
        if !self.cgroup_v2 {
            let remedy = "boot with systemd.unified_cgroup_hierarchy=1; machines run without limits until then";
            other("cgroup", State::Poor, "version 1", remedy)
        } else if !lacking.is_empty() {
            let found = format!("version 2 without {}", list(&lacking));
            other("cgroup", State::Poor, &found, "enable the controllers in the kernel")
        } else {
            match &self.cgroups {
                Some(Ok(path)) => {
                    let path = path.display();
                    good("cgroup", format!("version 2, each worker in one of its own in {path}"))
                }
                Some(Err(why)) => {
                    let (found, remedy) = why.split_once(": ").unwrap_or((why, ""));
                    other("cgroup", State::Poor, found, remedy)
                }
                None => {
                    let remedy = "be root, or name a folder that was delegated to this user with CALVE_CGROUP; machines run without limits until then";
                    other("cgroup", State::Poor, "version 2, not used", remedy)
                }
            }
        }
    }

    fn check_memory(&self) -> Check {
        /// A guest with a language runtime, and the build of a snapshot beside it.
        const ENOUGH_KIB: u64 = 1 << 20;
        let found = format!("{} MiB available", self.available_kib >> 10);
        if self.available_kib >= ENOUGH_KIB {
            good("memory", found)
        } else {
            other("memory", State::Poor, &found, "free some: a build needs about 1 GiB")
        }
    }

    fn check_files(&self) -> Check {
        /// Descriptors that the fleet holds for each machine: control socket, process, stream, two pipes, lock of
        /// its cgroup.
        const PER_MACHINE: u64 = 6;
        const COMFORTABLE: u64 = 100;
        let machines = self.open_files / PER_MACHINE;
        let found = format!("{}, for about {machines} machines at once", self.open_files);
        if machines >= COMFORTABLE {
            good("open files", found)
        } else {
            other("open files", State::Poor, &found, "raise the limit (ulimit -n)")
        }
    }

    fn check_namespaces(&self) -> Check {
        match self.user_namespaces {
            Some(n) if n > 0 => good("user namespaces", format!("up to {n}")),
            _ => {
                let remedy = "set sysctl user.max_user_namespaces above 0; until then workers start only with CALVE_ISOLATION=none";
                other("user namespaces", State::Bad, "not allowed", remedy)
            }
        }
    }

    fn check_cores(&self) -> Check {
        match (self.smt, self.core_scheduling) {
            (false, _) => good("cores", "one hardware thread each".into()),
            (true, true) => {
                good("cores", "several hardware threads each, which a worker shares with nobody while it runs (unless CALVE_CORES=shared)".into())
            }
            (true, false) => {
                let remedy = "turn SMT off, or use a kernel with CONFIG_SCHED_CORE, before tenants share a host; until then workers share cores";
                other(
                    "cores",
                    State::Poor,
                    "shared by hardware threads, no core scheduling",
                    remedy,
                )
            }
        }
    }

    fn check_vulnerabilities(&self) -> Check {
        if self.vulnerable.is_empty() {
            return good("mitigations", "none missing that the kernel knows of".into());
        }
        let found = format!("vulnerable to {}", list(&self.vulnerable));
        let remedy = "update microcode and kernel, and boot without mitigations=off";
        other("mitigations", State::Poor, &found, remedy)
    }

    fn check_ksm(&self) -> Check {
        if !self.ksm {
            return good("page merging", "off".into());
        }
        let remedy = "turn it off: merged pages tell guests about each other by timing (echo 2 > /sys/kernel/mm/ksm/run)";
        other("page merging", State::Poor, "on", remedy)
    }

    fn check_thp(&self) -> Check {
        if self.thp != "always" {
            return good("huge pages", self.thp.clone());
        }
        let remedy = "set it to madvise: a clone that writes a byte may pay for 2 MiB (echo madvise > /sys/kernel/mm/transparent_hugepage/enabled)";
        other("huge pages", State::Poor, "always", remedy)
    }
}

fn good(name: &'static str, found: String) -> Check {
    Check { name, state: State::Good, found, remedy: None }
}

fn other(name: &'static str, state: State, found: &str, remedy: &str) -> Check {
    let remedy = (!remedy.is_empty()).then(|| remedy.to_owned());
    Check { name, state, found: found.to_owned(), remedy }
}

fn list(words: &[impl AsRef<str>]) -> String {
    let words: Vec<_> = words.iter().map(AsRef::as_ref).collect();
    if words.is_empty() { "none".into() } else { words.join(", ") }
}
