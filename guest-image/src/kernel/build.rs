//! Unpacks, configures, checks, compiles and strips.

use super::config::{self, FRAGMENT};
use super::source::Source;
use super::{KernelError, KernelManifest, MANIFEST, measure};
use crate::command;
use crate::fsutil::{self, in_file};
use crate::progress::Progress;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::available_parallelism;
use std::time::Instant;

/// Changes whenever the steps below change what comes out; part of the key.
pub(super) const RECIPE: &str = "1: allnoconfig + fragment, make bzImage, strip --strip-all";

/// Files of the source that no x86 guest build reads, left packed: a third of the tree.
const UNUSED: [&str; 5] = [
    "*/drivers/gpu/drm/amd/include/*",
    "*/arch/*/boot/dts/*",
    "*/tools/testing/*",
    "*/Documentation/*.rst",
    "*/sound/*.[ch]",
];

/// Lines `make` prints for this fragment, one a file; only a measure for the progress bar.
const MAKE_LINES: u64 = 1600;

/// Fails early, with the package's name, when a tool of the build is missing.
pub(super) fn require_tools() -> Result<(), KernelError> {
    command::require(&["make", "gcc", "flex", "bison", "bc", "tar", "xz", "strip", "gzip"])?;
    // objtool is compiled as part of the build.
    if fsutil::file_len(Path::new("/usr/include/libelf.h")).is_none() {
        return Err(KernelError::NoLibelf);
    }
    Ok(())
}

/// Builds `source` inside `work` and leaves the finished files in `out`.
pub(super) fn build(
    source: &Source,
    key: &str,
    work: &Path,
    out: &Path,
    progress: &mut dyn Progress,
) -> Result<(), KernelError> {
    let started = Instant::now();
    let tree = work.join("linux");
    unpack(source, &tree, progress)?;
    configure(&tree, progress)?;
    compile(&tree, progress)?;

    let keep = |from: &str, to: &str| {
        let from = tree.join(from);
        fs::copy(&from, out.join(to)).map(drop).map_err(in_file("copy", &from))
    };
    keep("arch/x86/boot/bzImage", "bzImage")?;
    keep("System.map", "System.map")?;
    keep(".config", "config")?;
    let vmlinux = out.join("vmlinux");
    command::quietly(
        Command::new("strip").arg("--strip-all").arg("-o").arg(&vmlinux).arg(tree.join("vmlinux")),
        progress,
    )?;

    let release = tree.join("include/config/kernel.release");
    let (vmlinux_bytes, vmlinux_sha256) = measure(&vmlinux)?;
    let (bzimage_bytes, bzimage_sha256) = measure(&out.join("bzImage"))?;
    let manifest = KernelManifest {
        key: key.to_owned(),
        release: fs::read_to_string(&release).map_err(in_file("read", &release))?.trim().to_owned(),
        source_version: source.id.version.clone(),
        source_sha256: source.id.sha256.clone(),
        vmlinux_sha256,
        vmlinux_bytes,
        bzimage_sha256,
        bzimage_bytes,
        build_seconds: started.elapsed().as_secs(),
    };
    Ok(fsutil::write_json(&out.join(MANIFEST), &manifest)?)
}

fn unpack(source: &Source, tree: &Path, progress: &mut dyn Progress) -> Result<(), KernelError> {
    progress.stage("Unpacking the kernel source");
    fsutil::create_dir(tree)?;
    let mut tar = Command::new("tar");
    tar.arg("--extract").arg("--xz").arg("--file").arg(&source.tarball);
    tar.arg("--strip-components=1").arg("--no-same-owner").arg("--directory").arg(tree);
    tar.arg("--wildcards").args(UNUSED.map(|pattern| format!("--exclude={pattern}")));
    Ok(command::quietly(&mut tar, progress)?)
}

fn configure(tree: &Path, progress: &mut dyn Progress) -> Result<(), KernelError> {
    progress.stage("Configuring the guest kernel");
    let fragment = tree.join("calve.config");
    fs::write(&fragment, FRAGMENT).map_err(in_file("write", &fragment))?;
    let mut make = make(tree);
    make.arg("allnoconfig").env("KCONFIG_ALLCONFIG", &fragment);
    command::quietly(&mut make, progress)?;
    let config = tree.join(".config");
    config::check(FRAGMENT, &fs::read_to_string(&config).map_err(in_file("read", &config))?)
}

fn compile(tree: &Path, progress: &mut dyn Progress) -> Result<(), KernelError> {
    progress.stage("Building the guest kernel");
    let jobs = available_parallelism().map_or(1, usize::from);
    let mut lines = 0;
    command::run(make(tree).arg(format!("-j{jobs}")).arg("bzImage"), progress, &mut |_, bar| {
        lines += 1;
        bar.advance(lines.min(MAKE_LINES), MAKE_LINES);
    })?;
    Ok(())
}

/// `make` in an environment that leaves no trace of the machine, the user or the time in the kernel.
fn make(tree: &Path) -> Command {
    let mut make = Command::new("make");
    make.arg("-C").arg(tree).arg("ARCH=x86_64").env("LC_ALL", "C");
    for (name, value) in [
        ("KBUILD_BUILD_TIMESTAMP", "Thu Jan  1 00:00:00 UTC 1970"),
        ("KBUILD_BUILD_USER", "calve"),
        ("KBUILD_BUILD_HOST", "calve"),
        ("KBUILD_BUILD_VERSION", "1"),
    ] {
        make.env(name, value);
    }
    for name in ["MAKEFLAGS", "MFLAGS", "KCFLAGS", "KAFLAGS", "CROSS_COMPILE", "LOCALVERSION"] {
        make.env_remove(name);
    }
    for name in ["LLVM", "KBUILD_OUTPUT", "CC", "LD", "HOSTCC", "KCONFIG_CONFIG"] {
        make.env_remove(name);
    }
    make
}
