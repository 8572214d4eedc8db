//! The bare-KVM floor: the least that any program must do to give a prepared VM its memory and registers
//! and run it to its first exit, or to put it back. No devices, no interrupt state, no MSRs.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use kvm_bindings::{KVM_MAX_CPUID_ENTRIES, kvm_regs, kvm_sregs, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};

/// Where the guest's code is.
const CODE: u64 = 0x1000;
/// Says `X` on port 0x3f8 and halts, again and again, in 16-bit code.
const GUEST: [u8; 9] = [0xb0, b'X', 0xba, 0xf8, 0x03, 0xee, 0xf4, 0xeb, 0xf7];

/// A VM that waits for its memory and registers.
pub(crate) struct Floor {
    // Dropped in this order: the vCPU and the VM before the memory that they use.
    vcpu: VcpuFd,
    _vm: VmFd,
    memory: Reserved,
    content: File,
    sregs: kvm_sregs,
}

/// An address range that is ours.
struct Reserved {
    at: *mut libc::c_void,
    len: usize,
}

impl Reserved {
    fn new(len: usize) -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        map(std::ptr::null_mut(), len, flags, -1).map(|at| Self { at, len })
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `new` and is used by nothing any more: see the order of
        // `Floor`'s fields.
        unsafe { libc::munmap(self.at, self.len) };
    }
}

fn map(
    at: *mut libc::c_void,
    len: usize,
    flags: libc::c_int,
    file: libc::c_int,
) -> io::Result<*mut libc::c_void> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: either at an address of the kernel's choice, or over a range that `Reserved` owns.
    let at = unsafe { libc::mmap(at, len, protection, flags, file, 0) };
    if at == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(at) }
}

/// A file of guest memory, half of it in use.
pub(crate) fn content(mib: usize) -> io::Result<File> {
    use std::os::unix::fs::FileExt;
    let file = File::from(memfd_create("floor", MFdFlags::MFD_CLOEXEC)?);
    file.set_len((mib as u64) << 20)?;
    let page = vec![1; 1 << 20];
    for n in 0..mib as u64 / 2 {
        file.write_all_at(&page, n << 20)?;
    }
    file.write_all_at(&GUEST, CODE)?;
    Ok(file)
}

impl Floor {
    /// Makes the VM; none of this counts.
    pub(crate) fn new(kvm: &Kvm, content: &File) -> anyhow::Result<Self> {
        let len = usize::try_from(content.metadata()?.len())?;
        let memory = Reserved::new(len)?;
        let vm = kvm.create_vm().context("KVM_CREATE_VM")?;
        vm.set_tss_address(0xfffb_d000).context("KVM_SET_TSS_ADDR")?;
        vm.create_irq_chip().context("KVM_CREATE_IRQCHIP")?;
        let slot = kvm_userspace_memory_region {
            memory_size: len as u64,
            userspace_addr: memory.at as u64,
            ..Default::default()
        };
        // SAFETY: the range is mapped, of this size, and outlives the VM.
        unsafe { vm.set_user_memory_region(slot) }.context("KVM_SET_USER_MEMORY_REGION")?;
        let vcpu = vm.create_vcpu(0).context("KVM_CREATE_VCPU")?;
        let cpuid = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)?;
        vcpu.set_cpuid2(&cpuid).context("KVM_SET_CPUID2")?;
        let mut sregs = vcpu.get_sregs().context("KVM_GET_SREGS")?;
        (sregs.cs.base, sregs.cs.selector) = (0, 0);
        Ok(Self { vcpu, _vm: vm, memory, content: content.try_clone()?, sregs })
    }

    /// Memory, registers, first exit.
    pub(crate) fn thaw(&mut self) -> anyhow::Result<Duration> {
        let started = Instant::now();
        let flags = libc::MAP_PRIVATE | libc::MAP_NORESERVE | libc::MAP_FIXED;
        map(self.memory.at, self.memory.len, flags, self.content.as_raw_fd())?;
        self.run()?;
        Ok(started.elapsed())
    }

    /// Writes to so many pages, as a guest would have.
    pub(crate) fn dirty(&mut self, pages: usize) {
        for n in 0..pages {
            let page = self.memory.at.cast::<u8>().wrapping_add((2 << 20) + n * 4096);
            // SAFETY: page `n` from 2 MiB on lies in the range, and nobody runs on it.
            unsafe { page.write_volatile(2) };
        }
    }

    /// Private pages dropped, registers, first exit.
    pub(crate) fn reset(&mut self) -> anyhow::Result<Duration> {
        let started = Instant::now();
        // SAFETY: the range is ours; what is read from it later is the file's again.
        let done = unsafe { libc::madvise(self.memory.at, self.memory.len, libc::MADV_DONTNEED) };
        if done != 0 {
            return Err(io::Error::last_os_error()).context("MADV_DONTNEED");
        }
        self.run()?;
        Ok(started.elapsed())
    }

    fn run(&mut self) -> anyhow::Result<()> {
        self.vcpu.set_sregs(&self.sregs).context("KVM_SET_SREGS")?;
        let regs = kvm_regs { rflags: 2, rip: CODE, ..Default::default() };
        self.vcpu.set_regs(&regs).context("KVM_SET_REGS")?;
        match self.vcpu.run().context("KVM_RUN")? {
            VcpuExit::IoOut(0x3f8, b"X") => Ok(()),
            other => bail!("the floor's guest does not run: {other:?}"),
        }
    }
}
