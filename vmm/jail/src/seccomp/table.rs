//! Every system call that a sealed worker may make, each with its reason.
//!
//! One list for all threads of the process: the main thread (control socket), the device thread
//! (disks, vsock) and the vCPU threads. No call here opens a path, makes a thread or a process but a
//! plain copy of this one, maps executable memory, or reaches another process.

use kvm_bindings as kvm;
use libc::{
    SYS_accept4, SYS_brk, SYS_clock_gettime, SYS_clone, SYS_close, SYS_close_range, SYS_dup,
    SYS_epoll_ctl, SYS_epoll_pwait, SYS_epoll_wait, SYS_eventfd2, SYS_exit, SYS_exit_group,
    SYS_fcntl, SYS_fdatasync, SYS_fstat, SYS_fsync, SYS_ftruncate, SYS_futex, SYS_getpid,
    SYS_getrandom, SYS_getsockopt, SYS_gettid, SYS_ioctl, SYS_lseek, SYS_madvise, SYS_memfd_create,
    SYS_mmap, SYS_mprotect, SYS_mremap, SYS_munmap, SYS_poll, SYS_ppoll, SYS_prctl, SYS_pread64,
    SYS_preadv, SYS_pwrite64, SYS_pwritev, SYS_read, SYS_readv, SYS_recvfrom, SYS_recvmsg,
    SYS_restart_syscall, SYS_rseq, SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn,
    SYS_sched_getaffinity, SYS_sched_yield, SYS_sendmsg, SYS_sendto, SYS_set_robust_list,
    SYS_shutdown, SYS_sigaltstack, SYS_socketpair, SYS_statx, SYS_tgkill, SYS_wait4, SYS_write,
    SYS_writev,
};

/// A check on one argument, by its number from 0. All are 32-bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// The argument is this value.
    Is(u8, u64),
    /// The argument has all of these bits.
    Has(u8, u64),
    /// The argument has none of these bits.
    Lacks(u8, u64),
}
use Check::{Has, Is, Lacks};

/// One way in which a call may be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Number of the call.
    pub call: i64,
    /// What its arguments must be, all of it. Without checks any will do.
    pub checks: Vec<Check>,
}

/// Calls that take whatever arguments, by reason.
const FREE: &[(&str, &[i64])] = &[
    (
        "move bytes through descriptors that the fleet handed over",
        &[
            SYS_read,
            SYS_write,
            SYS_readv,
            SYS_writev,
            SYS_pread64,
            SYS_pwrite64,
            SYS_preadv,
            SYS_pwritev,
            SYS_lseek,
        ],
    ),
    ("flush a disk for the guest", &[SYS_fsync, SYS_fdatasync]),
    (
        "talk over the control socket and the vsock's streams",
        &[SYS_recvmsg, SYS_sendmsg, SYS_recvfrom, SYS_sendto, SYS_shutdown, SYS_getsockopt],
    ),
    ("take connections at the public door", &[SYS_accept4]),
    ("wait", &[SYS_poll, SYS_ppoll, SYS_epoll_wait, SYS_epoll_pwait, SYS_epoll_ctl, SYS_futex]),
    ("size the file for guest memory and for saved state", &[SYS_ftruncate]),
    ("wake threads", &[SYS_eventfd2, SYS_sched_yield]),
    (
        "let descriptors go; share an interrupt's eventfd with a reloaded serial port",
        &[SYS_close, SYS_close_range, SYS_dup],
    ),
    ("ask the size of a file", &[SYS_fstat]),
    ("allocate and free memory", &[SYS_brk, SYS_munmap, SYS_mremap, SYS_madvise]),
    ("let malloc choose its number of arenas", &[SYS_sched_getaffinity]),
    ("tell time where the vDSO cannot", &[SYS_clock_gettime]),
    ("make a generation identifier and seed hash tables", &[SYS_getrandom]),
    (
        "handle the signal that kicks a vCPU",
        &[SYS_rt_sigreturn, SYS_rt_sigprocmask, SYS_sigaltstack],
    ),
    ("know oneself, to kick one's own threads", &[SYS_gettid, SYS_getpid]),
    ("go on after a stop signal", &[SYS_restart_syscall]),
    // Made before the seal, a thread may get its first turn on a processor after it.
    ("finish the start of a thread", &[SYS_rseq, SYS_set_robust_list]),
    ("end", &[SYS_exit, SYS_exit_group]),
];

/// The whole table for the process `pid`.
pub fn allowed(pid: u32) -> Vec<Entry> {
    let free = FREE.iter().flat_map(|(_, calls)| calls.iter());
    let free = free.map(|&call| Entry { call, checks: Vec::new() });
    let ioctls = KVM_IOCTLS.iter().chain(&[FIONBIO, PAGEMAP_SCAN]);
    let ioctls = ioctls.map(|&request| entry(SYS_ioctl, &[Is(1, request)]));
    let checked = [
        // Guest memory is mapped over its reservation at boot or thaw; malloc maps, too.
        entry(SYS_mmap, &[Lacks(2, bits(libc::PROT_EXEC))]),
        entry(SYS_mprotect, &[Lacks(2, bits(libc::PROT_EXEC))]),
        // Memory of a booting machine and saved state live in memfds.
        entry(SYS_memfd_create, &[Has(1, u64::from(libc::MFD_CLOEXEC))]),
        // A stream for each connection to a port of the host.
        // No datagram socket: one that is connected can still be made to send to any address.
        entry(
            SYS_socketpair,
            &[Is(0, bits(libc::AF_UNIX)), Is(1, bits(libc::SOCK_STREAM | libc::SOCK_CLOEXEC))],
        ),
        // The size of a disk, through its descriptor.
        entry(SYS_statx, &[Has(2, bits(libc::AT_EMPTY_PATH))]),
        // A copy of this process, shut in like it, to keep memory as it is while a machine that is
        // forked goes on; and its end.
        entry(SYS_clone, &[Is(0, bits(libc::SIGCHLD))]),
        entry(SYS_prctl, &[Is(0, bits(libc::PR_SET_PDEATHSIG))]),
        entry(SYS_wait4, &[Is(2, 0)]),
        // Kick a vCPU out of the guest; abort after a panic. Nobody but oneself.
        entry(SYS_tgkill, &[Is(0, u64::from(pid))]),
        // Process 1 of a pid namespace is not killed by its own SIGABRT; abort(3) tries that, restores the default, tries
        // again, and executes what a processor traps on, which kills it.
        entry(SYS_rt_sigaction, &[Is(0, bits(libc::SIGABRT))]),
        // The name that a starting thread gives itself.
        entry(SYS_prctl, &[Is(0, bits(libc::PR_SET_NAME))]),
        // Descriptors are duplicated, checked and sealed, but the flags of an open file, which is
        // shared with other machines, are not changed.
        entry(SYS_fcntl, &[Is(1, bits(libc::F_DUPFD_CLOEXEC))]),
        entry(SYS_fcntl, &[Is(1, bits(libc::F_GETFD))]),
        entry(SYS_fcntl, &[Is(1, bits(libc::F_GETFL))]),
        entry(SYS_fcntl, &[Is(1, bits(libc::F_ADD_SEALS))]),
    ];
    free.chain(ioctls).chain(checked).collect()
}

fn entry(call: i64, checks: &[Check]) -> Entry {
    Entry { call, checks: checks.to_vec() }
}

#[allow(clippy::cast_sign_loss, reason = "constants of the kernel, all positive or a bit pattern")]
const fn bits(value: libc::c_int) -> u64 {
    value as u32 as u64
}

/// Makes a stream non-blocking.
const FIONBIO: u64 = libc::FIONBIO;

/// Finds the pages that a clone has written, on page tables that were opened before the seal: `_IOWR('f',
/// 16, struct pm_scan_arg)` of Linux `include/uapi/linux/fs.h`, a structure of 96 bytes.
const PAGEMAP_SCAN: u64 = nix::request_code_readwrite!(b'f', 16, 96);

/// `KVMIO` of Linux `include/uapi/linux/kvm.h`.
const KVMIO: u8 = 0xae;

const fn none(number: u8) -> u64 {
    nix::request_code_none!(KVMIO, number)
}

const fn read<T>(number: u8) -> u64 {
    nix::request_code_read!(KVMIO, number, size_of::<T>())
}

const fn write<T>(number: u8) -> u64 {
    nix::request_code_write!(KVMIO, number, size_of::<T>())
}

const fn both<T>(number: u8) -> u64 {
    nix::request_code_readwrite!(KVMIO, number, size_of::<T>())
}

/// What a machine asks of KVM once it exists: to run, and to save and load its state. No call here
/// creates anything, changes memory slots or reroutes interrupts. The most frequent come first.
const KVM_IOCTLS: [u64; 36] = [
    none(0x80),                              // KVM_RUN
    write::<kvm::kvm_irq_level>(0x61),       // KVM_IRQ_LINE, every interrupt of a device
    none(0x03),                              // KVM_CHECK_EXTENSION, asked at boot
    read::<kvm::kvm_regs>(0x81),             // KVM_GET_REGS
    write::<kvm::kvm_regs>(0x82),            // KVM_SET_REGS
    read::<kvm::kvm_sregs>(0x83),            // KVM_GET_SREGS
    write::<kvm::kvm_sregs>(0x84),           // KVM_SET_SREGS
    both::<kvm::kvm_msrs>(0x88),             // KVM_GET_MSRS
    write::<kvm::kvm_msrs>(0x89),            // KVM_SET_MSRS
    read::<kvm::kvm_fpu>(0x8c),              // KVM_GET_FPU
    write::<kvm::kvm_fpu>(0x8d),             // KVM_SET_FPU
    read::<kvm::kvm_lapic_state>(0x8e),      // KVM_GET_LAPIC
    write::<kvm::kvm_lapic_state>(0x8f),     // KVM_SET_LAPIC
    write::<kvm::kvm_cpuid2>(0x90),          // KVM_SET_CPUID2
    both::<kvm::kvm_cpuid2>(0x91),           // KVM_GET_CPUID2
    read::<kvm::kvm_mp_state>(0x98),         // KVM_GET_MP_STATE
    write::<kvm::kvm_mp_state>(0x99),        // KVM_SET_MP_STATE
    read::<kvm::kvm_vcpu_events>(0x9f),      // KVM_GET_VCPU_EVENTS
    write::<kvm::kvm_vcpu_events>(0xa0),     // KVM_SET_VCPU_EVENTS
    read::<kvm::kvm_debugregs>(0xa1),        // KVM_GET_DEBUGREGS
    write::<kvm::kvm_debugregs>(0xa2),       // KVM_SET_DEBUGREGS
    none(0xa2),                              // KVM_SET_TSC_KHZ
    none(0xa3),                              // KVM_GET_TSC_KHZ
    read::<kvm::kvm_xsave>(0xa4),            // KVM_GET_XSAVE
    write::<kvm::kvm_xsave>(0xa5),           // KVM_SET_XSAVE
    read::<kvm::kvm_xsave>(0xcf),            // KVM_GET_XSAVE2
    read::<kvm::kvm_xcrs>(0xa6),             // KVM_GET_XCRS
    write::<kvm::kvm_xcrs>(0xa7),            // KVM_SET_XCRS
    none(0xad),                              // KVM_KVMCLOCK_CTRL
    both::<kvm::kvm_pre_fault_memory>(0xd5), // KVM_PRE_FAULT_MEMORY
    both::<kvm::kvm_irqchip>(0x62),          // KVM_GET_IRQCHIP
    read::<kvm::kvm_irqchip>(0x63),          // KVM_SET_IRQCHIP (sic: the kernel says _IOR)
    read::<kvm::kvm_pit_state2>(0x9f),       // KVM_GET_PIT2
    write::<kvm::kvm_pit_state2>(0xa0),      // KVM_SET_PIT2
    write::<kvm::kvm_clock_data>(0x7b),      // KVM_SET_CLOCK
    read::<kvm::kvm_clock_data>(0x7c),       // KVM_GET_CLOCK
];
