//! Every system call that a sealed worker may make: by which threads, and why.
//!
//! No call here opens a path, makes a thread or a process but a plain copy of this one, maps executable memory, or reaches
//! another process. Only a vCPU's thread enters the guest; only the devices' thread has to do with the disks and with
//! what goes through streams; only the main thread loads and saves a machine.
//!
//! A call that no thread makes any more has no place here: `lab_filters` of `calve-fleet` watches machines live and
//! names each that it has not seen.

use kvm_bindings as kvm;
use libc::{
    SYS_accept4, SYS_brk, SYS_clock_gettime, SYS_clone, SYS_close, SYS_close_range, SYS_epoll_ctl,
    SYS_epoll_wait, SYS_exit, SYS_exit_group, SYS_fcntl, SYS_fdatasync, SYS_ftruncate, SYS_futex,
    SYS_getpid, SYS_getrandom, SYS_gettid, SYS_ioctl, SYS_lseek, SYS_madvise, SYS_memfd_create,
    SYS_mmap, SYS_mremap, SYS_munmap, SYS_poll, SYS_prctl, SYS_pread64, SYS_preadv, SYS_pwrite64,
    SYS_pwritev, SYS_read, SYS_recvfrom, SYS_recvmsg, SYS_restart_syscall, SYS_rt_sigaction,
    SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_sched_yield, SYS_sendmsg, SYS_sendto, SYS_shutdown,
    SYS_sigaltstack, SYS_socketpair, SYS_statx, SYS_tgkill, SYS_wait4, SYS_write, SYS_writev,
};

use crate::Thread::{self, Devices, Main, Vcpu};

/// A check on one argument, by its number from 0. All are 32-bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// The argument is this value.
    Is(u8, u64),
    /// The argument is the id of this process.
    IsSelf(u8),
    /// The argument has all of these bits.
    Has(u8, u64),
    /// The argument has none of these bits.
    Lacks(u8, u64),
}
use Check::{Has, Is, IsSelf, Lacks};

/// One way in which a call may be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Number of the call.
    pub call: i64,
    /// What its arguments must be, all of it. Without checks any will do.
    pub checks: Vec<Check>,
}

/// What threads need calls for.
struct Need {
    why: &'static str,
    threads: &'static [Thread],
    rules: &'static [Rule],
}

/// One way to make a call, as the table has it.
enum Rule {
    /// With whatever arguments.
    Any(i64),
    /// With arguments that pass.
    When(i64, &'static [Check]),
    /// `ioctl` with this request.
    Ioctl(u64),
}
use Rule::{Any, Ioctl, When};

const ALL: &[Thread] = &Thread::ALL;

const TABLE: &[Need] = &[
    Need { why: "run a guest", threads: &[Vcpu], rules: &[Ioctl(KVM_RUN)] },
    Need { why: "be kicked out of it", threads: &[Vcpu], rules: &[Any(SYS_rt_sigreturn)] },
    Need {
        why: "interrupt it: serial port, devices, generation identifier",
        threads: ALL,
        rules: &[Ioctl(KVM_IRQ_LINE)],
    },
    Need {
        why: "say where it stood when KVM could not go on; save it",
        threads: &[Main, Vcpu],
        rules: &[Ioctl(KVM_GET_REGS)],
    },
    Need {
        why: "boot, load, reset and save a machine: nothing here makes anything, changes memory slots or reroutes \
              interrupts",
        threads: &[Main],
        rules: &[
            Ioctl(KVM_SET_REGS),
            Ioctl(KVM_GET_SREGS),
            Ioctl(KVM_SET_SREGS),
            Ioctl(KVM_GET_MSRS),
            Ioctl(KVM_SET_MSRS),
            Ioctl(KVM_GET_LAPIC),
            Ioctl(KVM_SET_LAPIC),
            Ioctl(KVM_GET_CPUID2),
            Ioctl(KVM_SET_CPUID2),
            Ioctl(KVM_GET_MP_STATE),
            Ioctl(KVM_SET_MP_STATE),
            Ioctl(KVM_GET_VCPU_EVENTS),
            Ioctl(KVM_SET_VCPU_EVENTS),
            Ioctl(KVM_GET_DEBUGREGS),
            Ioctl(KVM_SET_DEBUGREGS),
            Ioctl(KVM_GET_TSC_KHZ),
            Ioctl(KVM_SET_TSC_KHZ),
            Ioctl(KVM_GET_XSAVE),
            Ioctl(KVM_SET_XSAVE),
            Ioctl(KVM_GET_XCRS),
            Ioctl(KVM_SET_XCRS),
            Ioctl(KVM_KVMCLOCK_CTRL),
            Ioctl(KVM_PRE_FAULT_MEMORY),
            Ioctl(KVM_GET_IRQCHIP),
            Ioctl(KVM_SET_IRQCHIP),
            Ioctl(KVM_GET_PIT2),
            Ioctl(KVM_SET_PIT2),
            Ioctl(KVM_GET_CLOCK),
            Ioctl(KVM_SET_CLOCK),
        ],
    },
    Need {
        why: "read a kernel, a machine's saved state, and what its memory was before a reset; find holes; know how long \
              a file is",
        threads: &[Main],
        rules: &[
            Any(SYS_read),
            Any(SYS_pread64),
            Any(SYS_lseek),
            When(SYS_statx, &[Has(2, bits(libc::AT_EMPTY_PATH))]),
        ],
    },
    Need {
        why: "make the files that a booting machine's memory, saved state and a fork's pages lie in",
        threads: &[Main],
        rules: &[
            // Not of huge pages: a host has few, and a cgroup does not count them.
            When(
                SYS_memfd_create,
                &[Has(1, libc::MFD_CLOEXEC as u64), Lacks(1, libc::MFD_HUGETLB as u64)],
            ),
            Any(SYS_ftruncate),
            // Not the flags of an open file, which other machines may share.
            When(SYS_fcntl, &[Is(1, bits(libc::F_ADD_SEALS))]),
        ],
    },
    Need {
        why: "find the pages that a clone has written, on page tables that were opened before the seal",
        threads: &[Main],
        rules: &[Ioctl(PAGEMAP_SCAN)],
    },
    Need {
        why: "keep memory as it is while a machine that is forked goes on, in a copy of this process that is shut in like \
              it, lets go of everything else, writes, and ends",
        threads: &[Main],
        rules: &[
            When(SYS_clone, &[Is(0, bits(libc::SIGCHLD))]),
            When(SYS_prctl, &[Is(0, bits(libc::PR_SET_PDEATHSIG)), Is(1, bits(libc::SIGKILL))]),
            Any(SYS_close_range),
            Any(SYS_pwrite64),
            When(SYS_wait4, &[Is(2, 0)]),
        ],
    },
    Need {
        why: "let a machine's door not block the devices' thread",
        threads: &[Main],
        rules: &[Ioctl(FIONBIO)],
    },
    Need {
        why: "wait for the fleet; go on after a stop signal",
        threads: &[Main],
        rules: &[Any(SYS_poll), Any(SYS_restart_syscall)],
    },
    Need {
        why: "make a generation identifier; seed hash tables, once a thread",
        threads: &[Main, Devices],
        rules: &[Any(SYS_getrandom)],
    },
    Need {
        why: "read, write and flush the disks; read what is left of one whose file ends before it does",
        threads: &[Devices],
        rules: &[Any(SYS_preadv), Any(SYS_pwritev), Any(SYS_fdatasync), Any(SYS_pread64)],
    },
    Need {
        why: "let programs of the host in, and the guest out to those of its ports that the fleet hears of. No datagram \
              sockets: one that is connected can still be made to send to any address",
        threads: &[Devices],
        rules: &[
            Any(SYS_accept4),
            When(
                SYS_socketpair,
                &[Is(0, bits(libc::AF_UNIX)), Is(1, bits(libc::SOCK_STREAM | libc::SOCK_CLOEXEC))],
            ),
            Any(SYS_recvfrom),
            Any(SYS_sendto),
            Any(SYS_shutdown),
        ],
    },
    Need {
        why: "wait for devices' notifications and streams",
        threads: &[Devices],
        rules: &[Any(SYS_epoll_wait)],
    },
    Need {
        why: "take and answer the fleet's orders; move bytes through streams, and hand over their other ends; attach and \
              let go of them",
        threads: &[Main, Devices],
        rules: &[Any(SYS_recvmsg), Any(SYS_sendmsg), Any(SYS_epoll_ctl), Any(SYS_close)],
    },
    // Release builds abort.
    #[cfg(debug_assertions)]
    Need { why: "let a vCPU go in a panic", threads: &[Vcpu], rules: &[Any(SYS_close)] },
    #[cfg(debug_assertions)]
    Need {
        why: "make sure that a descriptor is open before it is closed, as the standard library does in debug builds",
        threads: &[Main, Devices],
        rules: &[When(SYS_fcntl, &[Is(1, bits(libc::F_GETFD))])],
    },
    Need {
        why: "wake threads, write to the console, say what went wrong; the C library says it in pieces",
        threads: ALL,
        rules: &[Any(SYS_futex), Any(SYS_write), When(SYS_writev, &[Is(0, 2)])],
    },
    // In channels, too, for whose other end a thread waits that has lost its processor in the middle of a message.
    Need {
        why: "let others have the processor until a thread answers",
        threads: ALL,
        rules: &[Any(SYS_sched_yield)],
    },
    Need {
        why: "map guest memory over its reservation, and give pages back; allocate",
        threads: ALL,
        rules: &[
            When(SYS_mmap, &[Lacks(2, bits(libc::PROT_EXEC)), Lacks(3, bits(libc::MAP_HUGETLB))]),
            Any(SYS_munmap),
            Any(SYS_mremap),
            Any(SYS_madvise),
            Any(SYS_brk),
        ],
    },
    Need { why: "tell time where the vDSO cannot", threads: ALL, rules: &[Any(SYS_clock_gettime)] },
    Need {
        why: "kick vCPUs out of the guest. Nobody but oneself",
        threads: ALL,
        rules: &[When(SYS_tgkill, &[IsSelf(0)]), Any(SYS_getpid)],
    },
    // Process 1 of a pid namespace is not killed by its own SIGABRT; abort(3) tries that, restores the default, tries
    // again, and executes what a processor traps on, which kills it.
    Need {
        why: "abort after a panic",
        threads: ALL,
        rules: &[Any(SYS_gettid), When(SYS_rt_sigaction, &[Is(0, bits(libc::SIGABRT))])],
    },
    Need {
        why: "end",
        threads: ALL,
        rules: &[Any(SYS_rt_sigprocmask), Any(SYS_sigaltstack), Any(SYS_exit)],
    },
    Need {
        why: "end the process, or a copy of it",
        threads: &[Main],
        rules: &[Any(SYS_exit_group)],
    },
];

/// What a thread may call.
pub fn allowed(thread: Thread) -> Vec<Entry> {
    needs(thread).map(|(_, rule)| rule.entry()).collect()
}

/// What a thread may call and what for.
pub fn reasons(thread: Thread) -> Vec<(&'static str, Entry)> {
    needs(thread).map(|(why, rule)| (why, rule.entry())).collect()
}

fn needs(thread: Thread) -> impl Iterator<Item = (&'static str, &'static Rule)> {
    let of = TABLE.iter().filter(move |need| need.threads.contains(&thread));
    of.flat_map(|need| need.rules.iter().map(|rule| (need.why, rule)))
}

impl Rule {
    fn entry(&self) -> Entry {
        match *self {
            Any(call) => Entry { call, checks: Vec::new() },
            When(call, checks) => Entry { call, checks: checks.to_vec() },
            Ioctl(request) => Entry { call: SYS_ioctl, checks: vec![Is(1, request)] },
        }
    }
}

impl Entry {
    /// Whether a call of process `pid` is this one, made in this way.
    pub fn allows(&self, pid: u32, call: i64, arguments: &[u64; 6]) -> bool {
        let value = |n: u8| arguments.get(usize::from(n)).map_or(0, |value| value & 0xffff_ffff);
        let passes = |check: &Check| match *check {
            Is(n, wanted) => value(n) == wanted,
            IsSelf(n) => value(n) == u64::from(pid),
            Has(n, bits) => value(n) & bits == bits,
            Lacks(n, bits) => value(n) & bits == 0,
        };
        self.call == call && self.checks.iter().all(passes)
    }
}

#[allow(clippy::cast_sign_loss, reason = "constants of the kernel, all positive or a bit pattern")]
const fn bits(value: libc::c_int) -> u64 {
    value as u32 as u64
}

/// Makes a stream non-blocking.
const FIONBIO: u64 = libc::FIONBIO;

/// `_IOWR('f', 16, struct pm_scan_arg)` of Linux `include/uapi/linux/fs.h`, a structure of 96 bytes.
const PAGEMAP_SCAN: u64 = nix::request_code_readwrite!(b'f', 16, 96);

/// `KVMIO` of Linux `include/uapi/linux/kvm.h`, where all of these are.
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

const KVM_IRQ_LINE: u64 = write::<kvm::kvm_irq_level>(0x61);
const KVM_GET_IRQCHIP: u64 = both::<kvm::kvm_irqchip>(0x62);
/// Sic: the kernel says `_IOR`.
const KVM_SET_IRQCHIP: u64 = read::<kvm::kvm_irqchip>(0x63);
const KVM_SET_CLOCK: u64 = write::<kvm::kvm_clock_data>(0x7b);
const KVM_GET_CLOCK: u64 = read::<kvm::kvm_clock_data>(0x7c);
const KVM_RUN: u64 = none(0x80);
const KVM_GET_REGS: u64 = read::<kvm::kvm_regs>(0x81);
const KVM_SET_REGS: u64 = write::<kvm::kvm_regs>(0x82);
const KVM_GET_SREGS: u64 = read::<kvm::kvm_sregs>(0x83);
const KVM_SET_SREGS: u64 = write::<kvm::kvm_sregs>(0x84);
const KVM_GET_MSRS: u64 = both::<kvm::kvm_msrs>(0x88);
const KVM_SET_MSRS: u64 = write::<kvm::kvm_msrs>(0x89);
const KVM_GET_LAPIC: u64 = read::<kvm::kvm_lapic_state>(0x8e);
const KVM_SET_LAPIC: u64 = write::<kvm::kvm_lapic_state>(0x8f);
const KVM_SET_CPUID2: u64 = write::<kvm::kvm_cpuid2>(0x90);
const KVM_GET_CPUID2: u64 = both::<kvm::kvm_cpuid2>(0x91);
const KVM_GET_MP_STATE: u64 = read::<kvm::kvm_mp_state>(0x98);
const KVM_SET_MP_STATE: u64 = write::<kvm::kvm_mp_state>(0x99);
const KVM_GET_PIT2: u64 = read::<kvm::kvm_pit_state2>(0x9f);
const KVM_SET_PIT2: u64 = write::<kvm::kvm_pit_state2>(0xa0);
const KVM_GET_VCPU_EVENTS: u64 = read::<kvm::kvm_vcpu_events>(0x9f);
const KVM_SET_VCPU_EVENTS: u64 = write::<kvm::kvm_vcpu_events>(0xa0);
const KVM_GET_DEBUGREGS: u64 = read::<kvm::kvm_debugregs>(0xa1);
const KVM_SET_DEBUGREGS: u64 = write::<kvm::kvm_debugregs>(0xa2);
const KVM_SET_TSC_KHZ: u64 = none(0xa2);
const KVM_GET_TSC_KHZ: u64 = none(0xa3);
const KVM_GET_XSAVE: u64 = read::<kvm::kvm_xsave>(0xa4);
const KVM_SET_XSAVE: u64 = write::<kvm::kvm_xsave>(0xa5);
const KVM_GET_XCRS: u64 = read::<kvm::kvm_xcrs>(0xa6);
const KVM_SET_XCRS: u64 = write::<kvm::kvm_xcrs>(0xa7);
const KVM_KVMCLOCK_CTRL: u64 = none(0xad);
const KVM_PRE_FAULT_MEMORY: u64 = both::<kvm::kvm_pre_fault_memory>(0xd5);
