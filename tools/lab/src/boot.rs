//! What the nested host boots from: Debian's stock kernel and a small initial file system with the
//! modules that lead to this machine's files and to KVM. Made once, then kept in the cache folder.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest as _, Sha256};

use crate::Error;

/// The Debian packages that the lab needs: QEMU, and what the boot files are made with.
pub const PACKAGES: [&str; 5] = ["qemu-system-x86", "busybox-static", "cpio", "kmod", "xz-utils"];

/// Debian's *cloud* kernel has no 9p, so the lab takes the general one.
const KERNEL_PACKAGE: &str = "linux-image-6.12-amd64";
/// The way to this machine's files, KVM, and what a network of the lab's own machines needs.
const MODULES: [&str; 7] =
    ["9pnet_virtio", "9p", "overlay", "kvm-amd", "virtio_console", "virtio_net", "tun"];
/// A disk, which few labs have: loaded where there is one.
const DISK_MODULES: [&str; 2] = ["virtio_blk", "ext4"];
const INIT: &str = include_str!("boot/init.sh");
const BUSYBOX: &str = "/bin/busybox";

/// The folder of all caches: `$CALVE_CACHE`, else `$XDG_CACHE_HOME/calve`, else `~/.cache/calve`.
pub fn cache_dir() -> PathBuf {
    let folder = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    folder("CALVE_CACHE")
        .or_else(|| folder("XDG_CACHE_HOME").map(|base| base.join("calve")))
        .or_else(|| folder("HOME").map(|home| home.join(".cache/calve")))
        .unwrap_or_else(|| PathBuf::from("/var/cache/calve"))
}

/// The kernel and the initial file system of the nested host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootFiles {
    /// Debian's kernel.
    pub kernel: PathBuf,
    /// Our initial file system.
    pub initrd: PathBuf,
}

impl BootFiles {
    /// Takes the boot files from `cache`, or makes them there. `step` hears of every step that takes
    /// longer than a moment; once the files are cached there is none, and apt is not asked.
    pub fn prepare(cache: &Path, step: &mut dyn FnMut(&str)) -> Result<Self, Error> {
        if let Some(files) = Self::cached(cache) {
            return Ok(files);
        }
        let lab = cache.join("lab");
        let folder = lab.join(key());
        fs::create_dir_all(&lab).map_err(Error::file("create", &lab))?;
        let lock = lab.join("lock");
        let file = File::create(&lock).map_err(Error::file("create", &lock))?;
        let _lock = Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, errno)| Error::file("lock", &lock)(errno.into()))?;
        if !folder.is_dir() {
            let work = tempfile::Builder::new().prefix(".making-").tempdir_in(&lab);
            let work = work.map_err(Error::file("create a folder in", &lab))?;
            make(work.path(), step)?;
            let done = work.path().join("done");
            fs::rename(&done, &folder).map_err(Error::file("rename", &done))?;
        }
        Ok(Self::of(&folder))
    }

    /// The boot files, if `cache` has them.
    pub fn cached(cache: &Path) -> Option<Self> {
        let folder = cache.join("lab").join(key());
        folder.is_dir().then(|| Self::of(&folder))
    }

    fn of(folder: &Path) -> Self {
        Self { kernel: folder.join("vmlinuz"), initrd: folder.join("initrd") }
    }
}

/// Names the recipe, not its outcome: a newer kernel at apt's is no reason to ask apt every time.
fn key() -> String {
    let mut hash = Sha256::new();
    for part in [KERNEL_PACKAGE, INIT].iter().chain(&MODULES).chain(&DISK_MODULES) {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    hex::encode(&hash.finalize()[..8])
}

/// Leaves the boot files in the folder `done` of `work`.
fn make(work: &Path, step: &mut dyn FnMut(&str)) -> Result<(), Error> {
    step("fetching the lab's kernel");
    let package = kernel_package()?;
    let mut apt = Command::new("apt-get");
    apt.args(["-qq", "-o", "APT::Sandbox::User=root", "download", &package]).current_dir(work);
    run("apt-get", "apt", "downloading the lab's kernel", &mut apt)?;

    step("making the lab's initial file system");
    let unpacked = work.join("unpacked");
    let deb = first_entry(work, |name| name.ends_with(".deb"))?;
    let mut dpkg = Command::new("dpkg-deb");
    run("dpkg-deb", "dpkg", "unpacking the kernel", dpkg.arg("-x").arg(&deb).arg(&unpacked))?;
    let release = first_entry(&unpacked.join("lib/modules"), |_| true)?;
    let release = release.file_name().map(|name| name.to_string_lossy().into_owned());
    let release = release.unwrap_or_default();

    let tree = work.join("tree");
    plant(&tree, &unpacked, &release)?;
    let done = work.join("done");
    fs::create_dir(&done).map_err(Error::file("create", &done))?;
    pack(&tree, &done.join("initrd"))?;
    let kernel = unpacked.join(format!("boot/vmlinuz-{release}"));
    fs::copy(&kernel, done.join("vmlinuz")).map_err(Error::file("copy", &kernel))?;
    Ok(())
}

/// The package that the meta package [`KERNEL_PACKAGE`] stands for today.
fn kernel_package() -> Result<String, Error> {
    let unknown = || Error::NoKernelPackage { package: KERNEL_PACKAGE };
    let mut apt = Command::new("apt-cache");
    let told =
        run("apt-cache", "apt", "asking for the kernel", apt.args(["depends", KERNEL_PACKAGE]));
    let told = told.map_err(|error| match error {
        Error::ProgramFailed { .. } => unknown(),
        other => other,
    })?;
    told.lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|name| name.starts_with("linux-image-"))
        .map(str::to_owned)
        .ok_or_else(unknown)
}

/// Makes the tree of the initial file system.
fn plant(tree: &Path, unpacked: &Path, release: &str) -> Result<(), Error> {
    for folder in ["bin", "dev", "host", "modules", "proc", "root", "rw"] {
        let folder = tree.join(folder);
        fs::create_dir_all(&folder).map_err(Error::file("create", &folder))?;
    }
    fs::copy(BUSYBOX, tree.join("bin/busybox")).map_err(|source| Error::Program {
        program: BUSYBOX,
        package: "busybox-static",
        source,
    })?;
    let init = tree.join("init");
    fs::write(&init, INIT).map_err(Error::file("write", &init))?;
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(&init, executable).map_err(Error::file("make executable", &init))?;

    let mut depmod = Command::new("depmod");
    run("depmod", "kmod", "listing modules", depmod.arg("-b").arg(unpacked).arg(release))?;
    let mut planted = plant_modules(tree, unpacked, release, "order", &MODULES, &[])?;
    planted.extend(plant_modules(tree, unpacked, release, "disk", &DISK_MODULES, &planted)?);
    Ok(())
}

/// Plants modules and what they hang on, but for what is `there`, and a list of them in the order of loading.
fn plant_modules(
    tree: &Path,
    unpacked: &Path,
    release: &str,
    list: &str,
    modules: &[&str],
    there: &[String],
) -> Result<Vec<String>, Error> {
    let mut order = Vec::<String>::new();
    for module in modules {
        let mut modprobe = Command::new("modprobe");
        modprobe.args(["-S", release, "-d"]).arg(unpacked).args(["--show-depends", module]);
        let told = run("modprobe", "kmod", "resolving modules", &mut modprobe)?;
        // A line is `insmod PATH`, or `builtin NAME` for what the kernel has in itself.
        for path in told.lines().filter_map(|line| line.trim().strip_prefix("insmod ")) {
            let path = Path::new(path.trim());
            let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
            let name = name.trim_end_matches(".xz").to_owned();
            if !order.contains(&name) && !there.contains(&name) {
                unpack_module(path, &tree.join("modules").join(&name))?;
                order.push(name);
            }
        }
    }
    let list = tree.join("modules").join(list);
    fs::write(&list, order.join("\n") + "\n").map_err(Error::file("write", &list))?;
    Ok(order)
}

fn unpack_module(from: &Path, to: &Path) -> Result<(), Error> {
    if from.extension().is_none_or(|extension| extension != "xz") {
        return fs::copy(from, to).map(drop).map_err(Error::file("copy", from));
    }
    let file = File::create(to).map_err(Error::file("create", to))?;
    let mut xz = Command::new("xz");
    run("xz", "xz-utils", "unpacking modules", xz.arg("-dc").arg(from).stdout(file)).map(drop)
}

/// Packs `tree` uncompressed: QEMU loads it at once, while unpacking it costs emulated time.
fn pack(tree: &Path, initrd: &Path) -> Result<(), Error> {
    let mut names = Vec::new();
    list(tree, Path::new(""), &mut names)?;
    let file = File::create(initrd).map_err(Error::file("create", initrd))?;
    let mut cpio = Command::new("cpio");
    cpio.args(["--create", "--format=newc", "--quiet", "--reproducible", "--owner=0:0"]);
    cpio.current_dir(tree).stdin(Stdio::piped()).stdout(file);
    let absent = |source| Error::Program { program: "cpio", package: "cpio", source };
    let mut child = cpio.stderr(Stdio::piped()).spawn().map_err(absent)?;
    if let Some(mut stdin) = child.stdin.take() {
        let names = names.join("\n") + "\n";
        stdin.write_all(names.as_bytes()).map_err(Error::system("write to cpio"))?;
    }
    let output = child.wait_with_output().map_err(Error::system("wait for cpio"))?;
    succeeded("cpio", "packing the initial file system", &output)
}

/// The paths below `folder`, relative to `tree`, sorted, a folder before what is in it.
fn list(tree: &Path, folder: &Path, names: &mut Vec<String>) -> Result<(), Error> {
    let absolute = tree.join(folder);
    let entries = fs::read_dir(&absolute).map_err(Error::file("read", &absolute))?;
    let mut entries =
        entries.collect::<Result<Vec<_>, _>>().map_err(Error::file("read", &absolute))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = folder.join(entry.file_name());
        names.push(path.to_string_lossy().into_owned());
        if entry.path().is_dir() {
            list(tree, &path, names)?;
        }
    }
    Ok(())
}

/// Runs a program of Debian's to its end and returns what it said.
fn run(
    program: &'static str,
    package: &'static str,
    task: &'static str,
    command: &mut Command,
) -> Result<String, Error> {
    // depmod and modprobe live where an ordinary user's PATH does not lead.
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let command = command.env("PATH", path).env("LC_ALL", "C").stdin(Stdio::null());
    let child = command.stderr(Stdio::piped());
    let output = child.output().map_err(|source| Error::Program { program, package, source })?;
    succeeded(program, task, &output)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn succeeded(
    program: &'static str,
    task: &'static str,
    output: &std::process::Output,
) -> Result<(), Error> {
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let stderr = stderr.lines().next_back().unwrap_or("it said nothing").to_owned();
    Err(Error::ProgramFailed { program, task, stderr })
}

fn first_entry(folder: &Path, wanted: impl Fn(&str) -> bool) -> Result<PathBuf, Error> {
    let entries = fs::read_dir(folder).map_err(Error::file("read", folder))?;
    let mut paths = entries.flatten().filter(|entry| wanted(&entry.file_name().to_string_lossy()));
    let missing =
        || Error::file("find what was unpacked in", folder)(std::io::ErrorKind::NotFound.into());
    paths.next().map(|entry| entry.path()).ok_or_else(missing)
}
