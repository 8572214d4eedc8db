//! The Debian package, as `cargo xtask test` has built it: what is in it, that its unit is understood, and that its programs find
//! each other where it puts them.
#![allow(clippy::unwrap_used, reason = "in the functions that the tests are made of")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::Said;
use tempfile::TempDir;

/// Every file and its mode.
const FILES: [(&str, &str); 18] = [
    ("etc/calve/calve.toml", "-rw-r--r--"),
    ("usr/bin/calve", "-rwxr-xr-x"),
    ("usr/lib/calve/calve-agent", "-rwxr-xr-x"),
    ("usr/lib/calve/calve-worker", "-rwxr-xr-x"),
    (UNIT, "-rw-r--r--"),
    ("usr/share/bash-completion/completions/calve", "-rw-r--r--"),
    ("usr/share/doc/calve/CHANGELOG.md", "-rw-r--r--"),
    ("usr/share/doc/calve/LICENSE", "-rw-r--r--"),
    ("usr/share/doc/calve/README.Debian", "-rw-r--r--"),
    ("usr/share/doc/calve/README.md", "-rw-r--r--"),
    ("usr/share/doc/calve/SECURITY.md", "-rw-r--r--"),
    ("usr/share/doc/calve/THIRD-PARTY-NOTICES", "-rw-r--r--"),
    ("usr/share/doc/calve/changelog.Debian.gz", "-rw-r--r--"),
    ("usr/share/doc/calve/copyright", "-rw-r--r--"),
    ("usr/share/fish/vendor_completions.d/calve.fish", "-rw-r--r--"),
    ("usr/share/lintian/overrides/calve", "-rw-r--r--"),
    ("usr/share/zsh/vendor-completions/_calve", "-rw-r--r--"),
    ("usr/share/doc/calve", "drwxr-xr-x"),
];
const UNIT: &str = "usr/lib/systemd/system/calve.service";

fn package() -> PathBuf {
    let path = std::env::var_os("CALVE_TEST_PACKAGE").map(PathBuf::from);
    path.filter(|path| path.is_file()).expect("no package: run this by `cargo xtask test`")
}

/// `dpkg-deb OPTION PACKAGE REST…`.
fn dpkg_deb(option: &str, rest: &[&str]) -> String {
    let mut command = Command::new("dpkg-deb");
    command.arg(option).arg(package()).args(rest);
    Said::from(command.output().unwrap()).status(0).stdout
}

/// The package's files in a folder, as if that was the root.
fn unpacked() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let status = Command::new("dpkg").arg("-x").arg(package()).arg(root.path()).status();
    assert!(status.unwrap().success());
    root
}

#[test]
#[ignore = "needs the package: cargo xtask test"]
fn it_has_what_belongs_to_it() {
    let said = dpkg_deb("--contents", &[]);
    let found: BTreeMap<&str, &str> = said
        .lines()
        .map(|line| {
            let words = common::words(line);
            assert_eq!(words[1], "0/0", "{line}");
            (words[5].trim_start_matches("./").trim_end_matches('/'), words[0])
        })
        .collect();
    for (path, mode) in FILES {
        assert_eq!(found.get(path), Some(&mode), "{path}: {said}");
    }
    let files = found.values().filter(|mode| !mode.starts_with('d')).count();
    assert_eq!(files, FILES.len() - 1, "what else is there? {said}");
}

#[test]
#[ignore = "needs the package: cargo xtask test"]
fn it_says_what_it_needs_and_starts_nothing() {
    let depends = dpkg_deb("--field", &["Depends"]);
    assert!(depends.contains("libc6 (>= "), "{depends}");
    assert!(dpkg_deb("--field", &["Recommends"]).contains("erofs-utils"));
    assert_eq!(dpkg_deb("--field", &["Package", "Architecture"]).lines().count(), 2);
    assert_eq!(dpkg_deb("--info", &["conffiles"]).trim(), "/etc/calve/calve.toml");
    let script = dpkg_deb("--info", &["postinst"]);
    assert!(script.contains("deb-systemd-invoke try-restart"), "{script}");
    assert!(!script.contains("=start") && !script.contains("invoke start"), "{script}");
    let version = dpkg_deb("--field", &["Version"]);
    let news = include_str!("../debian/changelog");
    assert!(news.starts_with(&format!("calve ({}) ", version.trim())), "{version}");
}

#[test]
#[ignore = "needs the package: cargo xtask test"]
fn its_unit_is_understood() {
    let root = unpacked();
    let unit = fs::read_to_string(root.path().join(UNIT)).unwrap();
    let program = root.path().join("usr/bin/calve");
    let here = unit.replace("/usr/bin/calve", program.to_str().unwrap());
    assert_ne!(here, unit);
    let copy = root.path().join("calve.service");
    fs::write(&copy, here).unwrap();
    let mut verify = Command::new("systemd-analyze");
    // What is not understood is said, and is no failure.
    let said = Said::from(verify.args(["verify", "--man=no"]).arg(copy).output().unwrap());
    assert_eq!((&*said.clone().status(0).stderr, &*said.stdout), ("", ""));
}

#[test]
#[ignore = "needs the package: cargo xtask test"]
fn its_programs_find_each_other() {
    let root = unpacked();
    let calve = |args: &[&str]| {
        let mut calve = Command::new(root.path().join("usr/bin/calve"));
        calve.env_remove("CALVE_WORKER").env_remove("CALVE_AGENT").args(args);
        Said::from(calve.env("CALVE_STORE", root.path().join("store")).output().unwrap())
    };
    let version = calve(&["--version"]).status(0).stdout;
    assert_eq!(version, concat!("calve ", env!("CARGO_PKG_VERSION"), "\n"));
    // Whether machines can run here does not matter.
    let told = calve(&["doctor", "--json"]).json().remove(0);
    for (name, program) in [("worker", "calve-worker"), ("agent", "calve-agent")] {
        let checks = told["checks"].as_array().unwrap();
        let check = checks.iter().find(|check| check["name"] == name).unwrap();
        let place = root.path().join("usr/lib/calve").join(program);
        assert_eq!(
            (&check["status"], Path::new(check["found"].as_str().unwrap())),
            (&"ok".into(), &*place)
        );
    }
}
