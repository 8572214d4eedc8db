//! How many system calls a thaw makes on the thread that waits for it: each is time of every request.
#![allow(clippy::unwrap_used, reason = "in the functions that the tests are made of")]
#![allow(
    unsafe_code,
    reason = "the guests are assembled into this binary; the tracer's child is made with fork"
)]

mod common;

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::process::Command;

use calve_vmm::memory::MemoryPlan;
use calve_vmm::{Hypervisor, Shell, ThawMemory};
use common::{Mode, Output, attachments, boot, eventually};
use nix::libc;
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use vm_memory::{Bytes, GuestAddress};

guest!(counter, 32, "2: inc dword ptr [0x120000]", "jmp 2b");

/// Between two of these, calls are counted. The C library makes none by itself.
fn mark() {
    // SAFETY: takes nothing, changes nothing.
    unsafe { libc::syscall(libc::SYS_getppid) };
}

#[test]
#[ignore = "a process of its own, run by another test"]
fn child_thaws_and_resets() {
    let (mut machine, _) = boot(counter(), Mode::Protected, 64, 1);
    machine.resume().unwrap();
    eventually("it counts", || {
        machine.memory().read_obj::<u32>(GuestAddress(0x12_0000)).unwrap() > 10
    });
    machine.pause().unwrap();
    let state = machine.save().unwrap();
    let files = [machine.memory_file().unwrap().try_clone().unwrap()];
    let plan = MemoryPlan::whole(64 << 20);
    let memory = ThawMemory { files: &files, plan: &plan, recorded: false, huge_pages: false };
    let shell = Shell::new(&Hypervisor::open().unwrap(), state.shape()).unwrap();
    let (first, second) = (attachments(&Output::default()), attachments(&Output::default()));
    mark();
    let mut machine = shell.thaw(&state, memory, first).unwrap();
    machine.resume().unwrap();
    mark();
    eventually("it counts on", || {
        machine.memory().read_obj::<u32>(GuestAddress(0x12_0000)).unwrap() > 20
    });
    machine.pause().unwrap();
    mark();
    machine.reset(&state, memory, second).unwrap();
    machine.resume().unwrap();
    mark();
}

/// Calls by name: how many.
type Calls = BTreeMap<String, usize>;

/// Runs a test of this binary as a traced process; returns what its thread called between each pair of marks.
fn traced(test: &str) -> Vec<Calls> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--ignored", "--test-threads=1"]);
    // SAFETY: one system call, between fork and exec.
    unsafe { command.pre_exec(|| Ok(ptrace::traceme()?)) };
    let child = Pid::from_raw(command.spawn().unwrap().id().try_into().unwrap());
    assert!(matches!(waitpid(child, None).unwrap(), WaitStatus::Stopped(_, Signal::SIGTRAP)));
    let options = ptrace::Options::PTRACE_O_TRACECLONE
        | ptrace::Options::PTRACE_O_TRACESYSGOOD
        | ptrace::Options::PTRACE_O_EXITKILL;
    ptrace::setoptions(child, options).unwrap();
    ptrace::syscall(child, None).unwrap();
    let (mut found, mut counting) = (Vec::new(), None::<(Pid, Calls)>);
    loop {
        let (pid, status) = next_stop();
        if libc::WIFEXITED(status) && pid == child {
            assert_eq!(libc::WEXITSTATUS(status), 0, "the traced test failed");
            return found;
        }
        if !libc::WIFSTOPPED(status) {
            continue;
        }
        let signal = libc::WSTOPSIG(status);
        if signal == libc::SIGTRAP | 0x80
            && let Some((call, argument)) = entered(pid)
        {
            let is_mark = call == libc::SYS_getppid;
            counting = match counting.take() {
                None if is_mark => Some((pid, Calls::new())),
                Some((thread, calls)) if is_mark && thread == pid => {
                    found.push(calls);
                    None
                }
                Some((thread, mut calls)) => {
                    if thread == pid {
                        *calls.entry(name(call, argument)).or_default() += 1;
                    }
                    Some((thread, calls))
                }
                None => None,
            };
        }
        // A new thread begins with the one, and so does whoever is told of it with the other.
        let ours = [libc::SIGTRAP | 0x80, libc::SIGTRAP, libc::SIGSTOP].contains(&signal);
        go_on(pid, if ours { 0 } else { signal });
    }
}

/// The next thread that stops or ends, and how. Not nix's: it knows no real-time signals.
fn next_stop() -> (Pid, libc::c_int) {
    let mut status = 0;
    // SAFETY: writes one integer.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL) };
    assert!(pid > 0, "{}", std::io::Error::last_os_error());
    (Pid::from_raw(pid), status)
}

/// Lets a thread go on to its next call or signal; it may be gone by now.
fn go_on(pid: Pid, signal: libc::c_int) {
    // SAFETY: PTRACE_SYSCALL takes a number and touches no memory of ours.
    unsafe { libc::ptrace(libc::PTRACE_SYSCALL, pid.as_raw(), 0, signal) };
}

/// The call that a stopped thread enters, and its second argument; `None` if it leaves one.
fn entered(pid: Pid) -> Option<(i64, u64)> {
    let info = ptrace::syscall_info(pid).ok()?;
    if info.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
        return None;
    }
    // SAFETY: the kernel says that this is the entry's part of the union.
    let entry = unsafe { info.u.entry };
    Some((i64::try_from(entry.nr).unwrap(), entry.args[1]))
}

/// What people call it.
fn name(call: i64, argument: u64) -> String {
    const IOCTLS: [(u64, &str); 17] = [
        (0x4008_ae61, "KVM_IRQ_LINE"),
        (0xc060_6610, "PAGEMAP_SCAN"),
        (0x4090_ae82, "KVM_SET_REGS"),
        (0x4138_ae84, "KVM_SET_SREGS"),
        (0x4008_ae89, "KVM_SET_MSRS"),
        (0x4400_ae8f, "KVM_SET_LAPIC"),
        (0x4008_ae90, "KVM_SET_CPUID2"),
        (0x4004_ae99, "KVM_SET_MP_STATE"),
        (0x4040_aea0, "KVM_SET_VCPU_EVENTS"),
        (0x4080_aea2, "KVM_SET_DEBUGREGS"),
        (0x5000_aea5, "KVM_SET_XSAVE"),
        (0x4188_aea7, "KVM_SET_XCRS"),
        (0x8208_ae63, "KVM_SET_IRQCHIP"),
        (0x4070_aea0, "KVM_SET_PIT2"),
        (0x4030_ae7b, "KVM_SET_CLOCK"),
        (0xaea2, "KVM_SET_TSC_KHZ"),
        (0xaea3, "KVM_GET_TSC_KHZ"),
    ];
    match call {
        libc::SYS_ioctl => IOCTLS
            .iter()
            .find(|(number, _)| *number == argument)
            .map_or_else(|| format!("ioctl {argument:#x}"), |(_, name)| (*name).to_owned()),
        libc::SYS_mmap => "mmap".into(),
        libc::SYS_munmap => "munmap".into(),
        libc::SYS_madvise => "madvise".into(),
        libc::SYS_futex => "futex".into(),
        libc::SYS_write => "write".into(),
        libc::SYS_read => "read".into(),
        libc::SYS_getrandom => "getrandom".into(),
        libc::SYS_statx => "statx".into(),
        libc::SYS_close => "close".into(),
        libc::SYS_epoll_ctl => "epoll_ctl".into(),
        libc::SYS_brk => "brk".into(),
        libc::SYS_mprotect => "mprotect".into(),
        libc::SYS_dup => "dup".into(),
        libc::SYS_fcntl => "fcntl".into(),
        other => format!("call {other}"),
    }
}

#[test]
#[ignore = "needs /dev/kvm"]
fn a_thaw_and_a_reset_make_these_calls_and_no_others() {
    let found = traced("child_thaws_and_resets");
    let [thaw, reset] = &found[..] else { panic!("{found:#?}") };
    // At most: what a host's newborn vCPU has already is not set again.
    within(
        thaw,
        &[
            ("mmap", 1),
            ("statx", 1),
            ("KVM_SET_CPUID2", 1),
            // General registers go with the entry.
            ("KVM_SET_SREGS", 1),
            ("KVM_SET_XSAVE", 1),
            ("KVM_SET_LAPIC", 1),
            ("KVM_SET_MSRS", 1),
            ("KVM_SET_VCPU_EVENTS", 1),
            ("KVM_SET_CLOCK", 1),
            // The vCPU's thread and the devices' are woken; who waits for a lock meanwhile adds one.
            ("futex", 6),
        ],
    );
    within(
        reset,
        &[
            ("PAGEMAP_SCAN", 1),
            // A run of written pages each.
            ("madvise", 4),
            ("KVM_SET_MP_STATE", 1),
            ("KVM_SET_SREGS", 1),
            ("KVM_SET_XCRS", 1),
            ("KVM_SET_XSAVE", 1),
            ("KVM_SET_DEBUGREGS", 1),
            ("KVM_SET_LAPIC", 1),
            // What makes up a vCPU, and machine-check banks.
            ("KVM_SET_MSRS", 2),
            ("KVM_SET_PIT2", 2),
            ("KVM_SET_IRQCHIP", 3),
            ("KVM_SET_CLOCK", 1),
            // Another generation identifier.
            ("getrandom", 1),
            ("futex", 6),
        ],
    );
}

#[track_caller]
fn within(found: &Calls, budget: &[(&str, usize)]) {
    for (call, count) in found {
        let most = budget.iter().find(|(name, _)| name == call).map_or(0, |(_, most)| *most);
        assert!(*count <= most, "{count} of {call}, where {most} are planned: {found:#?}");
    }
}
