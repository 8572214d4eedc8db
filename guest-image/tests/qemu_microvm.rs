//! The kernel and the root images boot on a machine that is not ours: QEMU's microvm, in software.
//!
//! Run with `--ignored` once the images are built. Needs qemu-system-x86, but neither KVM nor the network. Programs
//! of the root images are started as init by the kernel's command line, so these tests do not depend on the agent.

// Clippy knows test functions, not the helpers of an integration test.
#![allow(clippy::unwrap_used)]

use calve_image::{BASE_CMDLINE, Cache, EntryKind, Runtime, Silent, kernel, ls};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A machine to be booted.
struct Microvm {
    kernel: PathBuf,
    root: PathBuf,
    cpus: u32,
    mib: u32,
}

impl Microvm {
    /// One CPU, 256 MiB, our kernel, and the newest root image of a runtime.
    fn new(runtime: Runtime) -> Self {
        let kernel = kernel::ensure(&cache(), &mut Silent).unwrap().vmlinux;
        Self { kernel, root: root(runtime), cpus: 1, mib: 256 }
    }

    /// Boots with `program` as PID 1, its one argument `script` after `flag`; what the serial console showed until
    /// the machine ended. A guest that does not end is ended, and fails the test by what is missing in its output.
    fn run(&self, program: &str, flag: &str, script: &str) -> String {
        assert!(!script.contains('"'), "the kernel takes a quote for the end of the argument");
        let drive = format!("id=root,file={},format=raw,if=none,readonly=on", self.root.display());
        let mut qemu = Command::new("timeout");
        qemu.args(["300", "qemu-system-x86_64", "-M", "microvm", "-accel", "tcg,thread=single"]);
        qemu.args(["-cpu", "EPYC,-xsaves,-xsavec", "-nodefaults", "-no-user-config"]);
        qemu.args(["-no-reboot", "-display", "none", "-serial", "stdio"]);
        qemu.args(["-smp", &self.cpus.to_string(), "-m", &self.mib.to_string()]);
        qemu.arg("-kernel").arg(&self.kernel);
        qemu.args(["-drive", &drive, "-device", "virtio-blk-device,drive=root"]);
        qemu.args(["-device", "virtio-rng-device"]);
        // A later `init=` wins over the agent. Without kvmclock the kernel would time the TSC by a PIT, which fails on
        // a busy host, and then has no timer at all; any plausible frequency does.
        let cmdline =
            format!("{BASE_CMDLINE} tsc_early_khz=2500000 init={program} -- {flag} \"{script}\"");
        let output = qemu.args(["-append", &cmdline]).output().unwrap();
        let console = String::from_utf8_lossy(&output.stdout).replace('\r', "");
        let errors = String::from_utf8_lossy(&output.stderr);
        format!("{console}\n{}", errors.replace("warning: TCG doesn't support", ""))
    }
}

fn cache() -> Cache {
    Cache::from_env().unwrap()
}

/// The newest root image of a runtime.
fn root(runtime: Runtime) -> PathBuf {
    let entries = ls(&cache()).unwrap();
    let modified = |path: &Path| path.metadata().and_then(|m| m.modified()).unwrap();
    entries
        .into_iter()
        .filter(|entry| entry.kind == EntryKind::Root && entry.name == runtime.as_str())
        .map(|entry| entry.path)
        .max_by_key(|path| modified(path))
        .unwrap_or_else(|| panic!("no {runtime} root image: run `calve image build` first"))
}

/// Fails with the whole console when a line is missing.
fn assert_lines(console: &str, lines: &[&str]) {
    for line in lines {
        assert!(console.lines().any(|l| l == *line), "no line `{line}` in:\n{console}");
    }
}

/// What the agent builds on, tried from a shell: prints one `ok:` line for each.
const FACILITIES: &str = "\
    mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t tmpfs tmp /mnt; \
    test $$ = 1 && echo ok: init; \
    grep -q ' / erofs ro' /proc/mounts && echo ok: erofs; \
    mkdir /mnt/u /mnt/w /mnt/m; \
    mount -t overlay -o lowerdir=/,upperdir=/mnt/u,workdir=/mnt/w o /mnt/m; \
    echo x > /mnt/m/etc/hostname; rm -r /mnt/m/usr/lib/ssl; mkdir /mnt/m/usr/lib/ssl; \
    test -f /mnt/u/etc/hostname && test ! -e /mnt/m/usr/lib/ssl/certs && echo ok: overlay; \
    mkdir /mnt/c; mount -t cgroup2 c /mnt/c; \
    grep -q pids /mnt/c/cgroup.controllers && echo ok: pids controller; \
    test -c /dev/vsock && echo ok: vsock; \
    test -d /sys/bus/platform/drivers/vmgenid && echo ok: vmgenid; \
    grep -q virtio_rng /sys/class/misc/hw_random/rng_available && echo ok: rng; \
    echo 1 > /proc/sys/vm/compact_memory && echo ok: compaction; \
    echo 3 > /proc/sys/vm/drop_caches && echo ok: caches dropped; \
    grep -q 127.0.0.1 /etc/hosts && ifconfig lo 127.0.0.1 up && ping -c 1 -q 127.0.0.1 > /mnt/p && echo ok: loopback; \
    unshare -p -f -m -i -u -n true && echo ok: namespaces; \
    grep -c ^processor /proc/cpuinfo; \
    awk '/MemTotal/ { print ($2 > 4200000) ? 1 : 0 }' /proc/meminfo > /mnt/big; \
    grep -q 1 /mnt/big && echo ok: memory over 4 GiB; \
    echo ok: end; reboot -f";

const FACILITY_LINES: [&str; 13] = [
    "ok: init",
    "ok: erofs",
    "ok: overlay",
    "ok: pids controller",
    "ok: vsock",
    "ok: vmgenid",
    "ok: rng",
    "ok: compaction",
    "ok: caches dropped",
    "ok: loopback",
    "ok: namespaces",
    "ok: end",
    "1",
];

#[test]
#[ignore = "needs QEMU and the images"]
fn the_kernel_offers_what_the_agent_builds_on() {
    let console = Microvm::new(Runtime::Provided).run("/bin/sh", "-c", FACILITIES);
    assert_lines(&console, &FACILITY_LINES);
}

#[test]
#[ignore = "needs QEMU and the images"]
fn eight_cpus_and_memory_over_four_gib_are_used() {
    let machine = Microvm { cpus: 8, mib: 5000, ..Microvm::new(Runtime::Provided) };
    let console = machine.run("/bin/sh", "-c", FACILITIES);
    assert_lines(&console, &["8", "ok: memory over 4 GiB", "ok: end"]);
}

#[test]
#[ignore = "needs QEMU and the images"]
fn the_bzimage_is_the_same_kernel() {
    let image = kernel::ensure(&cache(), &mut Silent).unwrap();
    let machine = Microvm { kernel: image.bzimage, ..Microvm::new(Runtime::Provided) };
    let console = machine.run("/bin/sh", "-c", "uname -r; reboot -f");
    assert_lines(&console, &[&image.manifest.release]);
}

#[test]
#[ignore = "needs QEMU and the images"]
fn python_has_its_whole_standard_library() {
    let script = "\
        import ssl, sqlite3, ctypes.util, zoneinfo, bz2, lzma, curses, readline, multiprocessing as m; \
        print('certificates', len(ssl.create_default_context().get_ca_certs()) > 100); \
        print('find_library', ctypes.util.find_library('sqlite3')); \
        print('zone', zoneinfo.ZoneInfo('Europe/Berlin').key); \
        import os; os.system('mkdir /dev/shm && mount -t tmpfs t /dev/shm'); \
        print('semaphore', m.Semaphore(3).get_value()); \
        import json; print('compiled', os.path.exists(json.__cached__))";
    let console = Microvm::new(Runtime::Python311).run("/usr/bin/python3.11", "-c", script);
    assert_lines(
        &console,
        &[
            "certificates True",
            "find_library libsqlite3.so.0",
            "zone Europe/Berlin",
            "semaphore 3",
            "compiled True",
        ],
    );
}

#[test]
#[ignore = "needs QEMU and the images"]
fn node_has_its_crypto_and_locales() {
    let script = "\
        console.log('node ' + process.versions.node.split('.')[0]); \
        console.log('uuid ' + require('crypto').randomUUID().length); \
        console.log(new Intl.DateTimeFormat('de-DE', {dateStyle: 'full', timeZone: 'UTC'}).format(0))";
    let console =
        Microvm { mib: 512, ..Microvm::new(Runtime::Node20) }.run("/usr/bin/node", "-e", script);
    assert_lines(&console, &["node 20", "uuid 36", "Donnerstag, 1. Januar 1970"]);
}
