use std::collections::BTreeSet;
use std::process::Command;

use nix::libc;
use nix::sys::signal::Signal;

use super::seccomp::compile;
use super::seccomp::table::{Check, Entry, allowed};
use super::*;

/// Runs one ignored test of this binary as a process of its own and says how that ended.
fn child(test: &str) -> std::process::ExitStatus {
    let program = std::env::current_exe().unwrap();
    let args = ["--exact", test, "--ignored", "--nocapture", "--test-threads=1"];
    // One heap for all threads, as a worker has: more are made with other calls.
    let output = Command::new(program).args(args).env("MALLOC_ARENA_MAX", "1").output().unwrap();
    output.status
}

/// What [`enter`]'s copy was killed by, from how the process around it ended.
fn killed_by(test: &str) -> Option<i32> {
    child(test).code().and_then(|code| code.checked_sub(KILLED)).filter(|signal| *signal > 0)
}

/// As a shell says that a signal ended a program.
const KILLED: i32 = 128;

/// Goes on in a copy of this process, which has one thread, and not the test harness's as well; this one ends as that does.
#[allow(unsafe_code)]
fn enter_with<T>(open: impl FnOnce() -> T) -> (Inside, T) {
    // SAFETY: the harness waits for this thread and holds no lock that its copy would need.
    let copy = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
    if copy != 0 {
        let copy = nix::unistd::Pid::from_raw(libc::pid_t::try_from(copy).unwrap());
        match nix::sys::wait::waitpid(copy, None).unwrap() {
            nix::sys::wait::WaitStatus::Exited(_, status) => exit_group(status),
            nix::sys::wait::WaitStatus::Signaled(_, signal, _) => {
                exit_group(KILLED + signal as i32)
            }
            other => panic!("{other:?}"),
        }
    }
    Jail::new(std::os::unix::process::parent_id()).enter(open).unwrap()
}

fn enter() -> Inside {
    enter_with(|| ()).0
}

#[test]
fn a_sealed_process_does_what_the_table_allows() {
    assert!(child("tests::child_stays_in_bounds").success());
}

#[test]
fn a_sealed_process_that_opens_a_path_is_killed() {
    assert_eq!(killed_by("tests::child_opens_a_path"), Some(Signal::SIGSYS as i32));
}

#[test]
fn a_thread_that_has_shut_itself_is_bound_by_that() {
    assert_eq!(killed_by("tests::child_thread_opens_a_path"), Some(Signal::SIGSYS as i32));
}

#[test]
fn a_jail_is_not_sealed_while_a_thread_is_open() {
    assert!(child("tests::child_forgets_a_thread").success());
}

#[test]
fn threads_work_and_end_behind_the_seal() {
    assert!(child("tests::child_ends_its_threads").success());
}

#[test]
fn a_sealed_process_aborts_from_any_thread() {
    for test in ["child_aborts", "child_aborts_in_a_vcpu", "child_aborts_in_a_device"] {
        let killed_by = killed_by(&format!("tests::{test}"));
        assert_eq!(killed_by, Some(Signal::SIGABRT as i32), "{test}");
    }
}

#[test]
fn a_sealed_process_that_maps_code_is_killed() {
    assert_eq!(killed_by("tests::child_maps_code"), Some(Signal::SIGSYS as i32));
}

#[test]
fn a_sealed_process_that_makes_a_datagram_socket_is_killed() {
    assert_eq!(killed_by("tests::child_makes_datagrams"), Some(Signal::SIGSYS as i32));
}

#[test]
fn page_tables_that_a_process_has_brought_along_name_no_physical_page() {
    assert!(child("tests::child_reads_page_tables").success());
}

#[test]
#[ignore = "a process of its own, run by another test"]
fn child_reads_page_tables() {
    use std::os::unix::fs::FileExt;
    /// Bits of a physical page's number (Linux `Documentation/admin-guide/mm/pagemap.rst`).
    const FRAME: u64 = (1 << 55) - 1;
    let open = || std::fs::File::open("/proc/self/pagemap").unwrap();
    // Of this process: the jail's is a copy of it.
    let frame = |tables: &std::fs::File, byte: &u8| {
        let mut entry = [0; 8];
        tables.read_exact_at(&mut entry, std::ptr::from_ref(byte) as u64 / 4096 * 8).unwrap();
        u64::from_ne_bytes(entry) & FRAME
    };
    let byte = Box::new(1);
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SYS_ADMIN).unwrap() {
        assert_ne!(frame(&open(), &byte), 0, "root sees them outside");
    }
    let (inside, tables) = enter_with(open);
    inside.seal().unwrap();
    exit_group(i32::from(frame(&tables, &byte) != 0));
}

#[test]
fn a_sealed_process_copies_itself_and_makes_nothing_else() {
    assert!(child("tests::child_copies_itself").success());
    assert_eq!(killed_by("tests::child_makes_a_thread"), Some(Signal::SIGSYS as i32));
}

#[test]
fn a_shut_thread_dies_of_every_call_that_the_table_does_not_have_for_it() {
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
    let flags = nix::sys::memfd::MFdFlags::MFD_CLOEXEC;
    let mut file = std::fs::File::from(nix::sys::memfd::memfd_create("kept", flags).unwrap());
    std::io::Write::write_all(&mut file, b"x").unwrap();
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut [0], 0).unwrap();
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
fn refused_arguments(table: &[Entry], call: i64) -> Option<[u64; 6]> {
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
                Check::IsSelf(argument) => arguments[usize::from(argument)] = 1 << 30,
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
    let mut survived = Vec::new();
    for thread in Thread::ALL {
        let table = allowed(thread);
        let filter = compile(&table).unwrap();
        for call in call_numbers() {
            let Some([a, b, c, d, e, f]) = refused_arguments(&table, call) else { continue };
            // SAFETY: the copy takes a filter, makes one call that it is to be killed for, and ends.
            let copy = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
            if copy == 0 {
                seccompiler::apply_filter(&filter).unwrap();
                // SAFETY: as above; the arguments are no addresses of ours.
                unsafe { libc::syscall(call, a, b, c, d, e, f) };
                exit_group(0);
            }
            let copy = nix::unistd::Pid::from_raw(libc::pid_t::try_from(copy).unwrap());
            let status = nix::sys::wait::waitpid(copy, None).unwrap();
            if !matches!(status, nix::sys::wait::WaitStatus::Signaled(_, Signal::SIGSYS, _)) {
                survived.push((thread, call, status));
            }
        }
    }
    drop(inside);
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
    let inside = enter();
    let (go, thread) = shut(&inside, Thread::Devices, || drop(std::fs::File::open("/dev/null")));
    inside.seal().unwrap();
    go.send(()).unwrap();
    let _ = thread.join();
    exit_group(0);
}

#[test]
#[ignore = "a process of its own, run by another test"]
fn child_forgets_a_thread() {
    let inside = enter();
    let (_go, wait) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || wait.recv());
    let sealed = inside.seal();
    exit_group(libc::c_int::from(!matches!(sealed, Err(JailError::Open { threads: 1, shut: 0 }))));
}

/// A thread that has shut itself in, and what lets it go on from there.
fn shut(
    inside: &Inside,
    kind: Thread,
    then: impl FnOnce() + Send + 'static,
) -> (std::sync::mpsc::Sender<()>, std::thread::JoinHandle<()>) {
    let threads = inside.threads();
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let (done, ready) = std::sync::mpsc::channel();
    let body = move || {
        threads.shut(kind).unwrap();
        done.send(()).unwrap();
        wait.recv().unwrap();
        then();
    };
    let thread = std::thread::Builder::new().name(format!("{kind:?}")).spawn(body).unwrap();
    ready.recv().unwrap();
    (go, thread)
}

#[test]
#[ignore = "a process of its own, run by another test"]
fn child_ends_its_threads() {
    let inside = enter();
    let work = || drop(vec![1_u8; 1 << 20]);
    let kinds = [Thread::Vcpu, Thread::Devices].into_iter().cycle().take(32);
    let threads: Vec<_> = kinds.map(|kind| shut(&inside, kind, work)).collect();
    inside.seal().unwrap();
    for (go, thread) in threads {
        go.send(()).unwrap();
        thread.join().unwrap();
    }
    exit_group(0);
}

#[test]
#[ignore = "a process of its own, run by another test"]
fn child_aborts() {
    enter().seal().unwrap();
    std::process::abort();
}

#[test]
#[ignore = "a process of its own, run by another test"]
fn child_aborts_in_a_vcpu() {
    abort_in(Thread::Vcpu);
}

#[test]
#[ignore = "a process of its own, run by another test"]
fn child_aborts_in_a_device() {
    abort_in(Thread::Devices);
}

fn abort_in(kind: Thread) {
    let inside = enter();
    let (go, thread) = shut(&inside, kind, || std::process::abort());
    inside.seal().unwrap();
    go.send(()).unwrap();
    let _ = thread.join();
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
    for thread in Thread::ALL {
        let calls: BTreeSet<i64> = allowed(thread).iter().map(|entry| entry.call).collect();
        assert!(forbidden.iter().all(|call| !calls.contains(call)), "{thread:?}");
    }
    // A copy of oneself, and nothing that shares with it.
    let clones = |thread| allowed(thread).into_iter().filter(|entry| entry.call == libc::SYS_clone);
    let plain = Check::Is(0, u64::try_from(libc::SIGCHLD).unwrap());
    assert_eq!(clones(Thread::Main).map(|entry| entry.checks).collect::<Vec<_>>(), [[plain]]);
    assert_eq!(clones(Thread::Vcpu).chain(clones(Thread::Devices)).count(), 0);
}

#[test]
fn a_worker_stays_tied_to_its_parent_and_takes_no_huge_pages() {
    let number = |value: libc::c_int| u64::try_from(value).unwrap();
    let may = |call, arguments: [u64; 6]| {
        Thread::ALL.into_iter().any(|t| allowed(t).iter().any(|e| e.allows(1, call, &arguments)))
    };
    let tied = |signal| may(libc::SYS_prctl, [number(libc::PR_SET_PDEATHSIG), signal, 0, 0, 0, 0]);
    assert!(tied(number(libc::SIGKILL)));
    assert!(!tied(0) && !tied(number(libc::SIGTERM)));
    let maps = |flags| may(libc::SYS_mmap, [0, 4096, number(libc::PROT_READ), number(flags), 0, 0]);
    assert!(maps(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS));
    assert!(!maps(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_HUGETLB));
    let makes = |flags: libc::c_uint| may(libc::SYS_memfd_create, [0, flags.into(), 0, 0, 0, 0]);
    assert!(makes(libc::MFD_CLOEXEC) && !makes(libc::MFD_CLOEXEC | libc::MFD_HUGETLB));
}

#[test]
fn no_call_is_in_a_threads_table_twice_or_both_free_and_checked() {
    for thread in Thread::ALL {
        let table = allowed(thread);
        for (n, entry) in table.iter().enumerate() {
            let free = table.iter().any(|e| e.call == entry.call && e.checks.is_empty());
            assert_eq!(free, entry.checks.is_empty(), "call {}", entry.call);
            assert!(!table[n + 1..].contains(entry), "call {} of {thread:?}", entry.call);
        }
    }
}

#[test]
fn only_the_thread_of_a_vcpu_runs_it_and_only_the_main_thread_loads_it() {
    let may = |thread, request| {
        let arguments = [7, request, 0, 0, 0, 0];
        allowed(thread).iter().any(|e| e.allows(1, libc::SYS_ioctl, &arguments))
    };
    let who = |request| Thread::ALL.into_iter().filter(|&t| may(t, request)).collect::<Vec<_>>();
    assert_eq!(who(0xae80), [Thread::Vcpu], "KVM_RUN");
    assert_eq!(who(0x4138_ae84), [Thread::Main], "KVM_SET_SREGS");
    assert_eq!(who(0xc060_6610), [Thread::Main], "PAGEMAP_SCAN");
}

/// Numbers as `strace` prints them and the kernel's headers give them.
#[test]
fn ioctl_numbers_are_the_kernels() {
    let table: Vec<_> = Thread::ALL.into_iter().flat_map(allowed).collect();
    let has = |request| table.iter().any(|e| e.checks == [Check::Is(1, request)]);
    for request in [0xae80_u64, 0x8090_ae81, 0x4090_ae82, 0x8138_ae83, 0x4138_ae84, 0xc208_ae62] {
        assert!(has(request), "{request:#x}");
    }
    assert!(!has(0x4020_ae46), "KVM_SET_USER_MEMORY_REGION");
    assert!(!has(0xae01), "KVM_CREATE_VM");
    assert!(!has(0xae41), "KVM_CREATE_VCPU");
}
