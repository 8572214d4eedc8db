//! QEMU as the nested host's hardware: its command line, and how it is started.

#![allow(unsafe_code)] // `CommandExt::pre_exec`, in one place

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::{prctl, signal::Signal};

use crate::{BootFiles, Error};

const PROGRAM: &str = "qemu-system-x86_64";
/// One emulation thread for all processors: with a thread each, the nested host's kernel dies now and
/// then (`int3` in `__schedule`) when KVM patches its own code. The cache for translated code is in
/// MiB, the most that QEMU takes: nested guests fill it, and when it is full everything is translated anew, which shows
/// as a pause of a tenth of a second.
const ACCELERATOR: &str = "tcg,thread=single,tb-size=2047";
/// SVM and nested paging are what this is about. Without XSAVES and XSAVEC guests do not complain
/// about sizes that TCG gets wrong.
const PROCESSOR: &str = "EPYC,+svm,+npt,-xsaves,-xsavec";
///
/// Now and then the nested host's kernel gets stuck under emulation, seen with guests of several vCPUs.
/// `softlockup_panic` with a threshold of twice 20 s makes that an end with a reason on the console instead of
/// a wait without one.
const KERNEL_COMMAND_LINE: &str = "quiet loglevel=3 reboot=t panic=-1 softlockup_panic=1 \
    watchdog_thresh=20 mitigations=off console=ttyS0";

/// Where a lab with a disk has it.
pub const DISK: &str = "/disk";

/// What the nested host is made of.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Processors. More than one is no faster: one thread emulates them all.
    pub cpus: u32,
    /// Memory in MiB, for its RAM file systems too. Taken from this machine as it is used.
    pub mem_mib: u32,
    /// The path of the program `calve-lab`, which is the agent inside as well.
    pub program: PathBuf,
    /// MiB of a disk of its own, empty at first and gone with it, at [`DISK`](crate::DISK).
    pub disk_mib: Option<u32>,
}

/// The ways into the agent, one call at a time each.
pub(crate) enum Ports {
    /// One port, connected to what is QEMU's standard input.
    Stdin,
    /// A listening socket each.
    Listeners(Vec<UnixListener>),
}

/// What happens to QEMU when the thread that started it ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// It ends too, even if the thread is killed.
    OfThread,
    /// It stays, in a session of its own.
    OfItsOwn,
}

/// Starts the nested host; `console` gets its console and QEMU's own messages.
pub(crate) fn spawn(
    machine: &Machine,
    files: &BootFiles,
    ports: Ports,
    lifetime: Lifetime,
    stdin: Stdio,
    console: File,
) -> Result<Child, Error> {
    let messages = console.try_clone().map_err(Error::system("share the console"))?;
    let disk = machine.disk_mib.map(disk).transpose().map_err(Error::system("make a disk"))?;
    let mut command = Command::new(PROGRAM);
    let agent = agent_path(&machine.program)?;
    command.args(arguments(machine, files, &ports, disk.as_ref(), &agent));
    command.stdin(stdin).stdout(console).stderr(messages);
    let parent = nix::unistd::getpid();
    // Ctrl-C at a terminal goes to its whole session: the lab is ended by us, not beside us.
    let detach = move || {
        nix::unistd::setsid()?;
        if let Some(disk) = &disk {
            fcntl(disk, FcntlArg::F_SETFD(FdFlag::empty()))?;
        }
        if let Ports::Listeners(listeners) = &ports {
            for listener in listeners {
                fcntl(listener, FcntlArg::F_SETFD(FdFlag::empty()))?;
            }
        }
        if lifetime == Lifetime::OfThread {
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            // The parent may have died before the line above.
            if nix::unistd::getppid() != parent {
                return Err(std::io::ErrorKind::Interrupted.into());
            }
        }
        Ok(())
    };
    // SAFETY: between fork and exec `detach` calls only `setsid`, `fcntl`, `prctl` and `getppid`, which are
    // async-signal-safe; it allocates nothing and takes no lock.
    unsafe { command.pre_exec(detach) };
    command.spawn().map_err(|source| Error::Program {
        program: PROGRAM,
        package: "qemu-system-x86",
        source,
    })
}

/// A file of so many MiB without a name, which costs what is written to it.
fn disk(mib: u32) -> io::Result<File> {
    let file = tempfile::tempfile()?;
    file.set_len(u64::from(mib) << 20)?;
    Ok(file)
}

fn arguments(
    machine: &Machine,
    files: &BootFiles,
    ports: &Ports,
    disk: Option<&File>,
    agent: &str,
) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = Vec::new();
    let mut add = |words: &[&str]| arguments.extend(words.iter().map(OsString::from));
    add(&["-no-reboot", "-nodefaults", "-no-user-config", "-display", "none"]);
    add(&["-accel", ACCELERATOR, "-cpu", PROCESSOR]);
    add(&["-smp", &machine.cpus.to_string(), "-m", &machine.mem_mib.to_string()]);
    // What follows `--` becomes arguments of the initial file system's /init.
    let with_disk = if disk.is_some() { " disk" } else { "" };
    add(&["-append", &format!("{KERNEL_COMMAND_LINE} -- {agent}{with_disk}")]);
    add(&["-chardev", "file,id=console,path=/proc/self/fd/1,append=on"]);
    add(&["-serial", "chardev:console"]);
    add(&[
        "-virtfs",
        "local,path=/,mount_tag=hostroot,security_model=none,readonly=on,multidevs=remap",
    ]);
    if let Some(fd) = disk.map(AsRawFd::as_raw_fd) {
        let drive = format!("file=/proc/self/fd/{fd},format=raw,if=virtio,cache=unsafe");
        add(&["-drive", &drive]);
    }
    add(&["-device", "virtio-serial-pci"]);
    match ports {
        Ports::Stdin => {
            add(&["-chardev", "socket,id=port-1,fd=0", "-device", "virtserialport,chardev=port-1"]);
        }
        Ports::Listeners(listeners) => {
            for fd in listeners.iter().map(AsRawFd::as_raw_fd) {
                add(&["-chardev", &format!("socket,id=port-{fd},server=on,wait=off,fd={fd}")]);
                add(&["-device", &format!("virtserialport,chardev=port-{fd}")]);
            }
        }
    }
    arguments.extend(["-kernel".into(), files.kernel.clone().into()]);
    arguments.extend(["-initrd".into(), files.initrd.clone().into()]);
    arguments
}

/// This program's path as the kernel's command line can carry it.
fn agent_path(program: &Path) -> Result<String, Error> {
    let bad = || Error::BadProgramPath { path: program.to_owned() };
    let text = program.to_str().ok_or_else(bad)?;
    if text.contains(['"', '\n']) { Err(bad()) } else { Ok(format!("\"{text}\"")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_paths_reach_the_guest_or_are_refused() {
        assert_eq!(agent_path(Path::new("/a b/lab")).unwrap(), "\"/a b/lab\"");
        assert!(matches!(agent_path(Path::new("/a\"b")), Err(Error::BadProgramPath { .. })));
    }
}
