//! The host of a hostile guest: a machine with every kind of device, and what it may cost.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

use calve_vmm::layout::{VIRTIO_BASE, VIRTIO_WINDOW};
use calve_vmm::memory::GuestMemory;
use calve_vmm::{
    Access, Attachments, Boot, Disk, Exit, HostPorts, Hypervisor, Machine, MachineError,
    MachineState, Shape, Shell, VsockHost,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::common::{self, Mode, Output, elf};
use crate::script::Script;

/// The devices of a machine here, by the number of their window.
pub(crate) const DISK: u64 = 0;
pub(crate) const WRITABLE_DISK: u64 = 1;
pub(crate) const VSOCK: u64 = 2;
pub(crate) const BALLOON: u64 = 3;
pub(crate) const DEVICES: [u64; 4] = [DISK, WRITABLE_DISK, VSOCK, BALLOON];

/// Memory of a machine here.
pub(crate) const MEMORY_MIB: u32 = 4;
/// Bytes of each disk, all with the same value.
const DISK_LEN: usize = 64 << 10;
pub(crate) const DISK_BYTE: u8 = 0xd5;

/// Address of a device's register.
pub(crate) fn register(device: u64, offset: u64) -> u64 {
    VIRTIO_BASE + device * VIRTIO_WINDOW + offset
}

/// A machine, and what is behind its devices.
pub(crate) struct Host {
    pub(crate) machine: Machine,
    pub(crate) output: Output,
    pub(crate) door: Door,
    disks: Vec<File>,
}

/// Lets the guest connect to every port of the host, and keeps the streams.
#[derive(Clone, Debug, Default)]
pub(crate) struct Door(pub(crate) Arc<Mutex<Vec<UnixStream>>>);

impl HostPorts for Door {
    fn connect(&mut self, _port: u32) -> io::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        self.0.lock().unwrap().push(ours);
        Ok(theirs)
    }
}

fn attachments(disks: &[File], door: &Door, output: &Output) -> Attachments {
    let disk = |file: &File, access| Disk {
        file: file.try_clone().unwrap(),
        access,
        id: String::new(),
        room: 0,
    };
    Attachments {
        disks: vec![disk(&disks[0], Access::ReadOnly), disk(&disks[1], Access::ReadWrite)],
        vsock: VsockHost { host_ports: Box::new(door.clone()), ..VsockHost::unconnected(3) },
        console: Some(Box::new(output.clone())),
    }
}

impl Host {
    /// A machine that is about to run a script.
    pub(crate) fn new(script: &Script) -> Self {
        let disks: Vec<_> = (0..2).map(|_| disk()).collect();
        let (door, output) = (Door::default(), Output::default());
        let hypervisor = Hypervisor::open().unwrap();
        let shape = Shape::new(MEMORY_MIB, 1, 2).unwrap();
        let kernel = elf(&script.code(), Mode::Long);
        let boot = Boot { kernel, initrd: None, cmdline: String::new() };
        let devices = attachments(&disks, &door, &output);
        let shell = Shell::new(&hypervisor, shape).unwrap();
        let machine = shell.boot(boot, devices).unwrap();
        Self { machine, output, door, disks }
    }

    pub(crate) fn memory(&self) -> &GuestMemory {
        self.machine.memory()
    }

    /// Lets the guest go on, and waits for its end.
    #[track_caller]
    pub(crate) fn finish(&mut self) -> Exit {
        self.machine.resume().unwrap();
        self.end()
    }

    /// Waits for the guest's end.
    #[track_caller]
    pub(crate) fn end(&self) -> Exit {
        let mut fds = [PollFd::new(self.machine.exit_fd(), PollFlags::POLLIN)];
        let within = PollTimeout::try_from(60_000).unwrap();
        assert_eq!(poll(&mut fds, within).unwrap(), 1, "the guest has not come to its end");
        self.machine.exit().unwrap()
    }

    /// What the guest has left behind can be frozen, and goes on in another machine.
    #[track_caller]
    pub(crate) fn can_be_frozen_and_thawed(&mut self) {
        self.goes_on_elsewhere().unwrap();
    }

    /// The same of a guest that may die of what it did at any moment, there or here.
    #[track_caller]
    pub(crate) fn can_be_frozen_and_thawed_or_dies(&mut self) {
        match self.goes_on_elsewhere() {
            Ok(()) | Err(MachineError::Ended(_)) => {}
            Err(error) => panic!("{error:?}"),
        }
    }

    #[track_caller]
    fn goes_on_elsewhere(&mut self) -> Result<(), MachineError> {
        self.machine.pause()?;
        let sections = self.machine.save()?.to_sections().unwrap();
        let state = MachineState::try_from(&sections[..]).unwrap();
        let memory = self.machine.memory_file().unwrap();
        let shell = Shell::new(&Hypervisor::open().unwrap(), state.shape()).unwrap();
        let devices = attachments(&self.disks, &Door::default(), &self.output);
        let mut clone = common::thaw(shell, &state, memory, devices).unwrap();
        clone.resume()?;
        clone.pause()?;
        clone.save().map(|_| ())
    }

    /// Whether the disks are what they were.
    pub(crate) fn disks_are_untouched(&self) -> [bool; 2] {
        [0, 1].map(|number| {
            let mut bytes = vec![0; DISK_LEN];
            let file: &File = &self.disks[number];
            std::os::unix::fs::FileExt::read_exact_at(file, &mut bytes, 0).unwrap();
            file.metadata().unwrap().len() == DISK_LEN as u64
                && bytes.iter().all(|&byte| byte == DISK_BYTE)
        })
    }
}

fn disk() -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&[DISK_BYTE; DISK_LEN]).unwrap();
    file.as_fd();
    file
}

/// What this process has of the host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub(crate) descriptors: usize,
    pub(crate) threads: usize,
    /// Memory that is neither a file's nor a guest's, in KiB.
    pub(crate) kib: usize,
}

impl Cost {
    pub(crate) fn now() -> Self {
        let count = |folder| fs::read_dir(folder).unwrap().count();
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let anonymous = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        let kib = anonymous.trim().trim_end_matches(" kB").parse().unwrap();
        Self { descriptors: count("/proc/self/fd"), threads: count("/proc/self/task"), kib }
    }

    /// Fails where more than this much has come since.
    #[track_caller]
    pub(crate) fn has_grown_by_at_most(self, more: Self) {
        let now = Self::now();
        let within = now.descriptors <= self.descriptors + more.descriptors
            && now.threads <= self.threads + more.threads
            && now.kib <= self.kib + more.kib;
        assert!(within, "from {self:?} to {now:?}, where {more:?} are allowed");
    }
}
