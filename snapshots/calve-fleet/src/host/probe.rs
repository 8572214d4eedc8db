//! Reading the facts from /proc, /sys and /dev/kvm.

use std::fs::{self, File};
use std::path::Path;

use calve_vmm::Hypervisor;
use nix::sys::resource::{Resource, getrlimit};

use super::facts::Facts;

impl Facts {
    /// Looks at this host. What cannot be read counts as absent.
    pub fn gather() -> Self {
        let cpuinfo = read("/proc/cpuinfo");
        let device = open_kvm();
        let kvm = device.is_none().then(|| Hypervisor::open().map(drop).map_err(|e| e.to_string()));
        Self {
            virtualisation: virtualisation(&cpuinfo),
            intel: cpuinfo.contains("GenuineIntel"),
            modules: modules(),
            device,
            kvm,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            cgroup_v2: Path::new("/sys/fs/cgroup/cgroup.controllers").exists(),
            cgroups: crate::limits::tried(),
            controllers: words(&read("/sys/fs/cgroup/cgroup.controllers")),
            available_kib: available_kib(&read("/proc/meminfo")),
            user_namespaces: read("/proc/sys/user/max_user_namespaces").trim().parse().ok(),
            open_files: getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft),
            smt: read("/sys/devices/system/cpu/smt/active").trim() == "1",
            core_scheduling: super::core::available(),
            thp: chosen(&read("/sys/kernel/mm/transparent_hugepage/enabled")),
            ksm: read("/sys/kernel/mm/ksm/run").trim() == "1",
            vulnerable: vulnerable(Path::new("/sys/devices/system/cpu/vulnerabilities")),
        }
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn open_kvm() -> Option<i32> {
    let opened = File::options().read(true).write(true).open("/dev/kvm");
    opened.err().map(|e| e.raw_os_error().unwrap_or(0))
}

pub(super) fn virtualisation(cpuinfo: &str) -> Option<&'static str> {
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags"))?;
    let flags = words(flags);
    ["vmx", "svm"].into_iter().find(|wanted| flags.iter().any(|flag| flag == wanted))
}

fn modules() -> Vec<&'static str> {
    let loaded = |module: &&str| Path::new("/sys/module").join(module).exists();
    ["kvm_intel", "kvm_amd", "kvm_pvm"].into_iter().filter(loaded).collect()
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

pub(super) fn available_kib(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok()).unwrap_or(0)
}

/// The word in brackets of a sysfs choice such as `always [madvise] never`.
pub(super) fn chosen(choice: &str) -> String {
    let word = choice.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    word.map_or_else(|| "not available".to_owned(), |(word, _)| word.to_owned())
}

fn vulnerable(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<_> = entries
        .flatten()
        .filter(|e| fs::read_to_string(e.path()).is_ok_and(|t| t.starts_with("Vulnerable")))
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
