//! Makes pages ready before a clone runs, so that it does not stop at each.
//!
//! A first touch costs an exit from the guest, a fault in the host and an entry in each of the two page
//! tables, page by page. Done for runs of pages at once, that is one system call a run, and the
//! copying of pages that will be written is the only part that remains of it.
#![allow(unsafe_code)]

use kvm_bindings::{KVMIO, kvm_pre_fault_memory};
use kvm_ioctls::VcpuFd;
use nix::errno::Errno;
use nix::libc;
use vmm_sys_util::ioctl::ioctl_with_mut_ref;
use vmm_sys_util::ioctl_iowr_nr;

use super::{MemoryPlan, Ram};

ioctl_iowr_nr!(KVM_PRE_FAULT_MEMORY, KVMIO, 0xd5, kvm_pre_fault_memory);

/// Runs of pages to make ready, by where they are in this process and in the guest.
#[derive(Debug, Default)]
pub(crate) struct Prefault {
    host: Vec<HostRun>,
    guest: Vec<GuestRun>,
}

/// Pages that get copies of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct HostRun {
    address: usize,
    len: usize,
}

/// Pages that get entries in the guest's page tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct GuestRun {
    gpa: u64,
    len: u64,
}

impl Prefault {
    /// What `plan`, which fits, means for `ram`.
    pub(super) fn new(ram: &Ram, plan: &MemoryPlan) -> Self {
        let mut runs = Self::default();
        for touched in &plan.touched {
            for (address, gpa, len) in ram.places(touched.at) {
                if touched.written {
                    runs.host.push(HostRun { address, len });
                }
                let len = len as u64;
                match runs.guest.last_mut() {
                    // One call for neighbours, whether they are written or not.
                    Some(last) if last.gpa + last.len == gpa => last.len += len,
                    _ => runs.guest.push(GuestRun { gpa, len }),
                }
            }
        }
        runs
    }

    /// Makes the pages ready for a vCPU that has its state and does not run. Nothing depends on it: a
    /// page that was not made ready is made so when it is touched, so what this host cannot do is
    /// left undone.
    pub(crate) fn run(&self, vcpu: &VcpuFd) {
        for run in &self.host {
            // SAFETY: the run lies in the guest memory of the machine whose vCPU this is: `shell::load`
            // makes the runs of `parts.ram`, which stays mapped while `parts` is borrowed there, and
            // drops them with its end. Populating changes no content.
            let done = unsafe {
                let at = run.address as *mut libc::c_void;
                libc::madvise(at, run.len, libc::MADV_POPULATE_WRITE)
            };
            if done != 0 {
                // A kernel before 5.14, or a host that is out of memory.
                break;
            }
        }
        for run in &self.guest {
            if !enter(vcpu, *run) {
                break;
            }
        }
    }
}

/// Has KVM enter a run into the guest's page tables (Linux `Documentation/virt/kvm/api.rst`,
/// KVM_PRE_FAULT_MEMORY; from 6.11 on). False if it cannot.
fn enter(vcpu: &VcpuFd, run: GuestRun) -> bool {
    let mut range = kvm_pre_fault_memory { gpa: run.gpa, size: run.len, ..Default::default() };
    while range.size > 0 {
        let before = range.size;
        // SAFETY: the kernel reads and writes this structure of its own layout and nothing else of ours.
        let done = unsafe { ioctl_with_mut_ref(vcpu, KVM_PRE_FAULT_MEMORY(), &mut range) };
        // Interrupted, it has stored how far it came. Without progress there will be none.
        let interrupted = done != 0 && Errno::last() == Errno::EINTR;
        if done != 0 && range.size == before && !interrupted {
            return false;
        }
    }
    true
}
