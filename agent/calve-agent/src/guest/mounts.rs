//! The guest's file systems.
//!
//! ```text
//! /            overlay: the read-only root image below, a tmpfs above (writes stay in guest memory)
//! /var/task    the code image (EROFS on /dev/vdb), read-only; mounted when the function is known
//! /opt         the layers, of the same image, if it has any
//! /proc /sys /dev /dev/pts /dev/shm /run /tmp
//! ```

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;

use calve_proto::image::{LAYERED, OPT, TASK, UUID_OFFSET};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{chdir, pivot_root};

use crate::place::PlaceError;

/// Where the overlay is put together. `/run` is in every root image and hidden by a mount of its own later.
const STAGE: &str = "/run";

/// Disk with the function's code: the second virtio-blk device.
const CODE_DISK: &str = "/dev/vdb";

/// One file system to mount: type, place, flags, options.
struct Mount(&'static str, &'static str, MsFlags, &'static str);

const NO_DEV: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV);
const NO_EXEC: MsFlags = NO_DEV.union(MsFlags::MS_NOEXEC);

/// In this order: the later ones lie inside the earlier ones.
const TABLE: [Mount; 7] = [
    Mount("proc", "/proc", NO_EXEC, ""),
    Mount("sysfs", "/sys", NO_EXEC, ""),
    Mount("devtmpfs", "/dev", MsFlags::MS_NOSUID, "mode=0755"),
    Mount("devpts", "/dev/pts", MsFlags::MS_NOSUID, "mode=0620,ptmxmode=0666"),
    Mount("tmpfs", "/dev/shm", NO_DEV, "mode=1777"),
    Mount("tmpfs", "/run", NO_DEV, "mode=0755"),
    Mount("tmpfs", "/tmp", NO_DEV, "mode=1777"),
];

/// Names that programs expect beside the device nodes (Linux `Documentation/admin-guide/devices.rst`, "Compulsory
/// links").
const DEV_LINKS: [(&str, &str); 4] = [
    ("/proc/self/fd", "/dev/fd"),
    ("fd/0", "/dev/stdin"),
    ("fd/1", "/dev/stdout"),
    ("fd/2", "/dev/stderr"),
];

/// Mounts everything.
pub(super) fn mount_all() -> Result<(), PlaceError> {
    overlay_root().map_err(PlaceError::doing("lay a writable overlay over the root"))?;
    for Mount(fstype, target, flags, options) in &TABLE {
        // A root image may lack a folder; the overlay takes it.
        std::fs::create_dir_all(target).map_err(PlaceError::doing("create a mount point"))?;
        match mount(Some(*fstype), *target, Some(*fstype), *flags, Some(*options)) {
            // EBUSY: the kernel has mounted devtmpfs already. ENODEV: built without pseudo-terminals.
            Ok(()) | Err(Errno::EBUSY | Errno::ENODEV) => {}
            Err(e) => return Err(PlaceError { what: mount_error(target), source: e.into() }),
        }
    }
    for (to, link) in DEV_LINKS {
        match symlink(to, link) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                return Err(PlaceError { what: "link the standard streams", source: e });
            }
            _ => {}
        }
    }
    // A folder of the overlay until there is code.
    std::fs::create_dir_all(super::TASK_ROOT).map_err(PlaceError::doing("create /var/task"))
}

/// The failure's name, by mount point.
fn mount_error(target: &str) -> &'static str {
    match target {
        "/proc" => "mount /proc",
        "/sys" => "mount /sys",
        "/dev" => "mount /dev",
        _ => "mount a tmpfs",
    }
}

/// Makes the root writable: an overlay of the image and a tmpfs takes its place.
fn overlay_root() -> io::Result<()> {
    let none = None::<&str>;
    mount(Some("tmpfs"), STAGE, Some("tmpfs"), MsFlags::empty(), Some("mode=0755"))?;
    for dir in ["upper", "work", "root"] {
        std::fs::create_dir(Path::new(STAGE).join(dir))?;
    }
    let root = Path::new(STAGE).join("root");
    let options = format!("lowerdir=/,upperdir={STAGE}/upper,workdir={STAGE}/work");
    mount(Some("overlay"), &root, Some("overlay"), MsFlags::empty(), Some(options.as_str()))?;
    // pivot_root(2), "pivot_root(".", ".")": the old root ends up stacked under the new one and is detached. The overlay
    // holds its layers by itself.
    chdir(&root)?;
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    chdir("/")?;
    // Nothing done to these mounts shall travel anywhere.
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    Ok(())
}

/// Mounts the function's code and its layers, if the machine has a disk for them.
pub(super) fn mount_code() -> Result<(), PlaceError> {
    if !Path::new(CODE_DISK).exists() {
        return Ok(());
    }
    let flags = NO_DEV.union(MsFlags::MS_RDONLY);
    mount(Some(CODE_DISK), super::TASK_ROOT, Some("erofs"), flags, None::<&str>)
        .map_err(PlaceError::doing("mount the code image on /var/task"))?;
    if is_layered().map_err(PlaceError::doing("read the code image's superblock"))? {
        // Over the mount itself, which nobody sees any more then.
        bind(OPT, super::LAYERS_ROOT).map_err(PlaceError::doing("mount the layers on /opt"))?;
        bind(TASK, super::TASK_ROOT).map_err(PlaceError::doing("mount the code on /var/task"))?;
    }
    Ok(())
}

/// Whether the code image has layers beside the code.
fn is_layered() -> io::Result<bool> {
    let mut uuid = [0; LAYERED.len()];
    File::open(CODE_DISK)?.read_exact_at(&mut uuid, UUID_OFFSET)?;
    Ok(uuid == LAYERED)
}

/// Shows a folder of the code image elsewhere, as read-only as it is.
fn bind(folder: &str, target: &str) -> io::Result<()> {
    let none = None::<&str>;
    let folder = Path::new(super::TASK_ROOT).join(folder);
    // A root image of somebody else's may lack it.
    std::fs::create_dir_all(target)?;
    mount(Some(&folder), target, none, MsFlags::MS_BIND, none)?;
    Ok(())
}
