//! Debian packages: what is missing is installed, nothing else is touched.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::bail;

use crate::process::{command, output, run, step};

const LISTS: &str = "/var/lib/apt/lists";
/// Mirrors drop a superseded version after some days, and then an old list leads nowhere.
const LISTS_LAST: Duration = Duration::from_secs(3 * 24 * 60 * 60);

/// Installs what is missing of `wanted`.
pub(crate) fn install(wanted: &[&str]) -> anyhow::Result<()> {
    let missing = missing(wanted)?;
    if missing.is_empty() {
        return Ok(());
    }
    if !nix::unistd::geteuid().is_root() {
        bail!("packages are missing: run `apt-get install {}` as root", missing.join(" "));
    }
    refresh_lists()?;
    step(&format!("installing {}", missing.join(" ")));
    run(apt().args(["install", "--yes", "--no-install-recommends"]).args(missing))
}

/// Fetches apt's package lists where there are none or they are old.
pub(crate) fn refresh_lists() -> anyhow::Result<()> {
    if newest_list().is_some_and(|age| age < LISTS_LAST) {
        return Ok(());
    }
    if !nix::unistd::geteuid().is_root() {
        bail!("apt's package lists are missing or old: run `apt-get update` as root");
    }
    step("fetching the package lists");
    run(apt().arg("update"))
}

fn apt() -> Command {
    let mut apt = command("apt-get", Path::new("/"));
    apt.env("DEBIAN_FRONTEND", "noninteractive").arg("-qq");
    apt
}

fn missing<'a>(wanted: &[&'a str]) -> anyhow::Result<Vec<&'a str>> {
    let mut query = command("dpkg-query", Path::new("/"));
    let told = output(query.args(["--show", "--showformat=${db:Status-Abbrev}${Package}\\n"]))?;
    Ok(wanted.iter().copied().filter(|name| !is_installed(&told, name)).collect())
}

/// `told` has lines such as `ii curl`; the second letter is the package's present state.
fn is_installed(told: &str, name: &str) -> bool {
    told.lines().any(|line| {
        line.split_once(' ')
            .is_some_and(|(state, package)| state.get(1..2) == Some("i") && package.trim() == name)
    })
}

/// The age of the newest package list; none if there is no list.
fn newest_list() -> Option<Duration> {
    let lists = fs::read_dir(LISTS).ok()?.flatten();
    let lists = lists.filter(|entry| entry.file_name().to_string_lossy().contains("_Packages"));
    let newest = lists.filter_map(|entry| entry.metadata().ok()?.modified().ok()).max()?;
    // The folder's own time is that of the last `apt-get update`, even one that found nothing new.
    let update = fs::metadata(LISTS).ok()?.modified().ok()?;
    SystemTime::now().duration_since(newest.max(update)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_packages_that_are_there_now_count() {
        let told = "ii  curl\nrc  gone\nhi  held\niU  unpacked\n";
        for (name, there) in
            [("curl", true), ("held", true), ("gone", false), ("unpacked", false), ("cur", false)]
        {
            assert_eq!(is_installed(told, name), there, "{name}");
        }
    }
}
