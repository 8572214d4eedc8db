use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use nix::libc;
use nix::sys::signal::Signal;

use super::seccomp::table::{Check, allowed};
use super::*;

/// Runs one ignored test of this binary as a process of its own and says how that ended.
fn child(test: &str) -> std::process::ExitStatus {
    let program = std::env::current_exe().unwrap();
    let args = ["--exact", test, "--ignored", "--nocapture", "--test-threads=1"];
    let output = Command::new(program).args(args).output().unwrap();
    output.status
}

fn enter() -> Inside {
    Jail::new(std::os::unix::process::parent_id()).enter(|| ()).unwrap().0
}

#[test]
fn a_sealed_process_does_what_the_table_allows() {
    assert!(child("tests::child_stays_in_bounds").success());
}

#[test]
fn a_sealed_process_that_opens_a_path_is_killed() {
    assert_eq!(child("tests::child_opens_a_path").signal(), Some(Signal::SIGSYS as i32));
}

#[test]
fn a_thread_from_before_the_seal_is_bound_by_it() {
    assert_eq!(child("tests::child_thread_opens_a_path").signal(), Some(Signal::SIGSYS as i32));
}

#[test]
fn threads_that_have_not_had_their_first_turn_survive_the_seal() {
    assert!(child("tests::child_seals_over_new_threads").success());
}

#[test]
fn a_sealed_process_that_maps_code_is_killed() {
    assert_eq!(child("tests::child_maps_code").signal(), Some(Signal::SIGSYS as i32));
}

#[test]
fn a_sealed_process_that_makes_a_datagram_socket_is_killed() {
    assert_eq!(child("tests::child_makes_datagrams").signal(), Some(Signal::SIGSYS as i32));
}

#[test]
fn a_sealed_process_copies_itself_and_makes_nothing_else() {
    assert!(child("tests::child_copies_itself").success());
    assert_eq!(child("tests::child_makes_a_thread").signal(), Some(Signal::SIGSYS as i32));
}

#[test]
fn a_sealed_process_dies_of_every_call_that_is_not_in_the_table() {
    assert!(child("tests::child_tries_every_call").success());
}

#[test]
fn a_process_whose_parent_is_gone_does_not_enter() {
    assert!(child("tests::child_of_somebody_else").success());
}

#[test]
#[ignore = "a process of its own, run by another test"]
fn child_stays_in_bounds() {
    let kept = std::io::stderr();
    let lost = std::fs::File::open("/dev/null").unwrap();
    let lost_fd = std::os::fd::AsRawFd::as_raw_fd(&lost);
    // Its descriptor is closed under it: do not close it twice.
    std::mem::forget(lost);
    let inside = enter();
    assert!(nix::fcntl::fcntl(borrow(lost_fd), nix::fcntl::FcntlArg::F_GETFD).is_err());
    let limit = nix::sys::resource::getrlimit(Resource::RLIMIT_CORE).unwrap();
    assert_eq!(limit, (0, 0));
    inside.seal().unwrap();
    let (mut a, mut b) = std::os::unix::net::UnixStream::pair().unwrap();
    std::io::Write::write_all(&mut a, b"x").unwrap();
    std::io::Read::read_exact(&mut b, &mut [0]).unwrap();
    drop((kept, vec![0_u8; 1 << 20]));
    exit_group(0);
}

#[test]
#[ignore = "a process of its own, run by another test"]
#[allow(unsafe_code)]
fn child_copies_itself() {
    enter().seal().unwrap();
    // SAFETY: the child does nothing but end.
    let child = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
    if child == 0 {
        exit_group(7);
    }
    let child = nix::unistd::Pid::from_raw(libc::pid_t::try_from(child).unwrap());
    let status = nix::sys::wait::waitpid(child, None).unwrap();
    exit_group(if status == nix::sys::wait::WaitStatus::Exited(child, 7) { 0 } else { 1 });
}

#[test]
#[ignore = "a process of its own, run by another test"]
fn child_makes_a_thread() {
    enter().seal().unwrap();
    let _ = std::thread::spawn(|| ());
    exit_group(0);
}

/// Numbers of system calls: more than any kernel has, and those of the x32 interface, which come through the same door
/// (`__X32_SYSCALL_BIT` of Linux `arch/x86/include/uapi/asm/unistd.h`).
fn call_numbers() -> impl Iterator<Item = i64> {
    const X32: i64 = 0x4000_0000;
    /// `uretprobe` and `uprobe`, which newer kernels pass by every filter (`seccomp_uprobe_exception` of Linux
    /// `kernel/seccomp.c`): they do nothing for a caller that the kernel has not put a probe into.
    const NEVER_FILTERED: [i64; 2] = [335, 336];
    let native = (0..1024).filter(|number| !NEVER_FILTERED.contains(number));
    native.chain((0..1024).map(|number| X32 + number)).chain([-1, i64::from(i32::MAX)])
}

/// Arguments that no entry for this call allows, or none where every call of it is allowed.
fn refused_arguments(table: &[super::seccomp::table::Entry], call: i64) -> Option<[u64; 6]> {
    let mut arguments = [0xdead_beef; 6];
    for entry in table.iter().filter(|entry| entry.call == call) {
        if entry.checks.is_empty() {
            return None;
        }
        for check in &entry.checks {
            match *check {
                Check::Is(argument, value) => {
                    assert_ne!(arguments[usize::from(argument)], value, "call {call}");
                }
                Check::Has(argument, _) => arguments[usize::from(argument)] = 0,
                Check::Lacks(argument, bits) => arguments[usize::from(argument)] = bits,
            }
        }
    }
    Some(arguments)
}

#[test]
#[ignore = "a process of its own, run by another test"]
#[allow(unsafe_code)]
fn child_tries_every_call() {
    let inside = enter();
    let table = allowed(std::process::id());
    inside.seal().unwrap();
    let mut survived = Vec::new();
    for call in call_numbers() {
        let Some([a, b, c, d, e, f]) = refused_arguments(&table, call) else { continue };
        // SAFETY: the child makes one call that its filter is to kill it for, and ends.
        let copy = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
        if copy == 0 {
            // SAFETY: as above; the arguments are no addresses of ours.
            unsafe { libc::syscall(call, a, b, c, d, e, f) };
            exit_group(0);
        }
        let copy = nix::unistd::Pid::from_raw(libc::pid_t::try_from(copy).unwrap());
        let status = nix::sys::wait::waitpid(copy, None).unwrap();
        if !matches!(status, nix::sys::wait::WaitStatus::Signaled(_, Signal::SIGSYS, _)) {
            survived.push((call, status));
        }
    }
    eprintln!("survived: {survived:?}");
    exit_group(libc::c_int::from(!survived.is_empty()));
}

#[test]
#[ignore = "a process of its own, run by another test"]
fn child_opens_a_path() {
    enter().seal().unwrap();
    let _ = std::fs::File::open("/dev/null");
    exit_group(0);
}

#[test]
#[ignore = "a process of its own, run by another test"]
fn child_thread_opens_a_path() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        let _ = wait.recv();
        let _ = std::fs::File::open("/dev/null");
    });
    enter().seal().unwrap();
    go.send(()).unwrap();
    let _ = thread.join();
    exit_group(0);
}

#[test]
#[ignore = "a process of its own, run by another test"]
fn child_seals_over_new_threads() {
    let inside = enter();
    let start = |n: usize| std::thread::Builder::new().name(format!("new{n}")).spawn(|| ());
    let threads: Vec<_> = (0..32).map(|n| start(n).unwrap()).collect();
    inside.seal().unwrap();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    exit_group(0);
}

#[test]
#[ignore = "a process of its own, run by another test"]
fn child_makes_datagrams() {
    enter().seal().unwrap();
    let _ = std::os::unix::net::UnixDatagram::pair();
    exit_group(0);
}

#[test]
#[ignore = "a process of its own, run by another test"]
fn child_maps_code() {
    use nix::sys::mman::{MapFlags, ProtFlags};
    enter().seal().unwrap();
    let size = std::num::NonZeroUsize::new(4096).unwrap();
    let prot = ProtFlags::PROT_READ | ProtFlags::PROT_EXEC;
    #[allow(unsafe_code)]
    // SAFETY: a fresh private mapping that nothing refers to.
    let _ = unsafe { nix::sys::mman::mmap_anonymous(None, size, prot, MapFlags::MAP_PRIVATE) };
    exit_group(0);
}

#[test]
#[ignore = "a process of its own, run by another test"]
fn child_of_somebody_else() {
    let refused = Jail::new(std::process::id()).enter(|| ());
    assert!(matches!(refused, Err(JailError::Orphan)));
}

/// Ends without the test harness, which would do more than a sealed process may.
fn exit_group(status: libc::c_int) -> ! {
    #[allow(unsafe_code)]
    // SAFETY: ends the process; nothing runs after it.
    unsafe {
        libc::_exit(status)
    }
}

#[allow(unsafe_code)]
fn borrow<'a>(fd: std::os::fd::RawFd) -> std::os::fd::BorrowedFd<'a> {
    // SAFETY: used for one fcntl that is expected to fail, because the descriptor is closed.
    unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) }
}

#[test]
fn no_call_of_the_table_opens_creates_or_reaches_out() {
    let forbidden = [
        libc::SYS_open,
        libc::SYS_openat,
        libc::SYS_execve,
        libc::SYS_fork,
        libc::SYS_vfork,
        libc::SYS_clone3,
        libc::SYS_socket,
        libc::SYS_connect,
        libc::SYS_kill,
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_seccomp,
        libc::SYS_bpf,
        libc::SYS_io_uring_setup,
        libc::SYS_userfaultfd,
        libc::SYS_mount,
    ];
    let calls: BTreeSet<i64> = allowed(1).iter().map(|entry| entry.call).collect();
    assert!(forbidden.iter().all(|call| !calls.contains(call)));
    // A copy of oneself, and nothing that shares with it.
    let mut clones = allowed(1).into_iter().filter(|entry| entry.call == libc::SYS_clone);
    let plain = vec![Check::Is(0, u64::try_from(libc::SIGCHLD).unwrap())];
    assert_eq!(clones.next().map(|entry| entry.checks), Some(plain));
    assert!(clones.next().is_none());
}

#[test]
fn no_call_is_both_free_and_checked() {
    let table = allowed(1);
    for entry in &table {
        let free = table.iter().any(|e| e.call == entry.call && e.checks.is_empty());
        assert_eq!(free, entry.checks.is_empty(), "call {}", entry.call);
    }
}

/// Numbers as `strace` prints them and the kernel's headers give them.
#[test]
fn ioctl_numbers_are_the_kernels() {
    let table = allowed(1);
    let has = |request| table.iter().any(|e| e.checks == [Check::Is(1, request)]);
    for request in [0xae80_u64, 0x8090_ae81, 0x4090_ae82, 0x8138_ae83, 0x4138_ae84, 0xc208_ae62] {
        assert!(has(request), "{request:#x}");
    }
    assert!(!has(0x4020_ae46), "KVM_SET_USER_MEMORY_REGION");
    assert!(!has(0xae01), "KVM_CREATE_VM");
    assert!(!has(0xae41), "KVM_CREATE_VCPU");
}
