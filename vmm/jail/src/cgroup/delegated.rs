//! A cgroup that somebody has handed to this process, as systemd does with `Delegate=` ("Control Group APIs and Delegation",
//! systemd's documentation): the folder for workers' groups is made in it.
//!
//! ```text
//!  system.slice/calve.service ─┬─ calve-host    this process
//!                              └─ workers       Cgroups
//! ```
//!
//! A group that has processes of its own cannot share out its controllers (Linux `Documentation/admin-guide/cgroup-v2.rst`, "No
//! Internal Process Constraint"), so this process leaves it for one beside the workers'.
//!
//! A container with a cgroup namespace of its own sees the group that it was handed as the root (cgroup_namespaces(7)).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{CgroupError, Cgroups, join, make_folder, step};

/// Where cgroups of version 2 are mounted.
const MOUNT: &str = "/sys/fs/cgroup";
/// The groups below the one that was handed over. The first one tells where this process has been moved before: a name that
/// nobody else gives.
const HOST: &str = "calve-host";
const WORKERS: &str = "workers";

impl Cgroups {
    /// Moves this process to a group below the one it is in, and names the folder beside it, to be opened by
    /// [`Self::open`]. Where it has been moved before it stays.
    ///
    /// # Errors
    ///
    /// Where there is no cgroup v2, or the group that this process is in is none of its own.
    pub fn delegated() -> Result<PathBuf, CgroupError> {
        let own = Path::new("/proc/self/cgroup");
        let text = fs::read_to_string(own).map_err(step("read", own))?;
        let here = group(&text).ok_or_else(|| CgroupError::NotV2(MOUNT.into()))?;
        if let Some(above) = above(here) {
            return Ok(folder(above).join(WORKERS));
        }
        if here == "/" && is_real_root(Path::new(MOUNT)) {
            let none = io::Error::new(io::ErrorKind::PermissionDenied, "it is nobody's own");
            return Err(step("move below", Path::new(MOUNT))(none));
        }
        let host = folder(here).join(HOST);
        make_folder(&host)?;
        join(&host).map_err(step("move to", &host))?;
        Ok(folder(here).join(WORKERS))
    }
}

/// The group of version 2 in a `/proc/PID/cgroup` (cgroups(7)).
fn group(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("0::")).filter(|path| path.starts_with('/'))
}

/// The group that was handed over, where this process has been moved below it before.
fn above(here: &str) -> Option<&str> {
    here.strip_suffix(HOST)?.strip_suffix('/')
}

/// Whether this is the root of all groups and not just of a namespace. It has all processes of the host that are in no group:
/// nobody can have been handed it. It is the only one without a `cgroup.type` (cgroup-v2.rst, "Core Interface Files").
fn is_real_root(mount: &Path) -> bool {
    !mount.join("cgroup.type").exists()
}

fn folder(group: &str) -> PathBuf {
    Path::new(MOUNT).join(group.trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_read_and_found() {
        let both = "8:pids:/x\n0::/system.slice/calve.service\n";
        assert_eq!(group(both), Some("/system.slice/calve.service"));
        assert_eq!(group("8:pids:/x\n"), None);
        let there = "/sys/fs/cgroup/system.slice/calve.service";
        assert_eq!(folder("/system.slice/calve.service"), Path::new(there));
        assert_eq!(folder("/"), Path::new("/sys/fs/cgroup/"));
    }

    #[test]
    fn only_a_group_of_our_own_name_is_one_that_was_moved_to() {
        assert_eq!(
            above("/system.slice/calve.service/calve-host"),
            Some("/system.slice/calve.service")
        );
        assert_eq!(above("/calve-host"), Some(""));
        assert_eq!(folder(""), folder("/"));
        for handed in ["/", "/host", "/pods/host", "/my-calve-host", "/calve-host/below"] {
            assert_eq!(above(handed), None, "{handed}");
        }
    }

    #[test]
    fn the_root_of_a_namespace_is_no_real_root() {
        let mount = std::env::temp_dir().join(format!("calve-root-{}", std::process::id()));
        fs::create_dir_all(&mount).unwrap();
        assert!(is_real_root(&mount));
        fs::write(mount.join("cgroup.type"), "domain\n").unwrap();
        assert!(!is_real_root(&mount));
        fs::remove_dir_all(&mount).unwrap();
    }
}
