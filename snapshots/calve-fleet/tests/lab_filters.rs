//! That every system call in the table of the workers' filters is still made, and by the threads that it is there for:
//! machines are booted, called, stopped, reset and forked while `strace` looks on. That no other is made needs no test: it
//! would kill them.
#![allow(clippy::unwrap_used, reason = "in the functions that the tests are made of")]

mod common;
#[path = "common/lab.rs"]
mod functions;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::sync_channel;

use calve_fleet::{Access, BootSpec, CallOptions, Clone, Fleet, Options, Ports, ThawOptions};
use calve_jail::Thread;
use calve_jail::seccomp::table::{Entry, reasons};
use common::eventually;
use functions::{Lab, call, function, result};
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

/// What needs to be seen on one of the threads that may, for any of them may need it: by the reason in the table.
const ON_ANY_THREAD: [&str; 5] =
    ["interrupt it", "say where it stood", "wake threads", "map guest memory", "kick vCPUs"];

/// What need not be seen here.
const ELSEWHERE: [(i64, Option<u64>, &str); 15] = [
    (
        libc::SYS_rt_sigaction,
        None,
        "abort: `a_sealed_process_aborts_from_any_thread` of calve-jail",
    ),
    (libc::SYS_gettid, None, "the same"),
    (
        libc::SYS_rt_sigprocmask,
        None,
        "the same; `threads_work_and_end_behind_the_seal` of calve-jail",
    ),
    (libc::SYS_sigaltstack, None, "the same"),
    (libc::SYS_exit, None, "the same"),
    (libc::SYS_clock_gettime, None, "a host whose clock cannot be read without a call"),
    (libc::SYS_mremap, None, "large blocks that grow, as the allocator sees fit"),
    (libc::SYS_munmap, None, "as the allocator sees fit"),
    (libc::SYS_sched_yield, None, "a thread that does not answer at once"),
    (libc::SYS_writev, None, "the C library's own last words"),
    (libc::SYS_close, None, "panics of debug builds, on threads of vCPUs"),
    (libc::SYS_getrandom, None, "hash tables, of the devices' thread as of the main one"),
    (
        libc::SYS_ioctl,
        Some(0x4008_ae90),
        "KVM_SET_CPUID2: a snapshot of a host with another processor",
    ),
    (libc::SYS_ioctl, Some(0xaea2), "KVM_SET_TSC_KHZ: a snapshot of a host with another clock"),
    (libc::SYS_ioctl, Some(0xc040_aed5), "KVM_PRE_FAULT_MEMORY: kernels that have it"),
];

/// A fleet whose workers are traced, each into a file in `traces`.
fn traced(traces: &Path) -> Fleet {
    let script = traces.join("worker");
    let (to, worker) = (traces.display(), common::worker_program());
    // The worker is the fleet's child, and the tracer its grandchild.
    let text = format!(
        "#!/bin/sh\nexec strace -D -f -q -n -Y -e raw=all -o {to}/$$.trace {} \"$@\"\n",
        worker.display()
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    Fleet::new(Options { worker: Some(script), ..Options::default() }).unwrap()
}

#[test]
#[ignore = "needs the lab"]
fn every_call_of_the_filters_is_made_by_the_threads_that_may() {
    let version = Command::new("strace").arg("-V").output();
    version.expect("strace: apt-get install strace");
    let traces = tempfile::tempdir().unwrap();
    let lab = Lab::new(traced(traces.path()));
    boot_with_a_disk(&lab);
    thaw_reset_and_fork(&lab);
    drop(lab);
    eventually("every tracer has written its end", || !is_traced(traces.path()));

    let (seen, before) = seen(traces.path());
    // The lab's kernel has no core scheduling: that it is asked for is all that can be seen here.
    let cores = [libc::PR_SCHED_CORE, libc::PR_SCHED_CORE_CREATE, 0, 1, 0, 0];
    let cores = cores.map(|argument| u64::try_from(argument).unwrap());
    assert!(before.contains(&(libc::SYS_prctl, cores)), "no core of its own is asked for");
    let mut missing = Vec::new();
    for thread in Thread::ALL {
        for (why, entry) in reasons(thread) {
            let on_any = ON_ANY_THREAD.iter().any(|start| why.starts_with(start));
            let on = |thread: &Thread| {
                seen.get(thread)
                    .is_some_and(|calls| calls.iter().any(|(n, a)| entry.allows(1, *n, a)))
            };
            let was = if on_any { Thread::ALL.iter().any(on) } else { on(&thread) };
            if !was && !is_elsewhere(&entry) {
                missing.push(format!("{thread:?}: {entry:x?} ({why})"));
            }
        }
    }
    assert!(missing.is_empty(), "nobody makes these calls:\n{}", missing.join("\n"));
}

fn is_elsewhere(entry: &Entry) -> bool {
    // A debug build's own.
    let checks_descriptors = entry.allows(1, libc::SYS_fcntl, &[0, 1, 0, 0, 0, 0]);
    checks_descriptors
        || ELSEWHERE.iter().any(|(call, request, _)| {
            entry.call == *call
                && request.is_none_or(|request| entry.allows(1, *call, &[0, request, 0, 0, 0, 0]))
        })
}

/// A machine that is booted, writes to a disk, is stopped by a signal, goes on, and is forked.
fn boot_with_a_disk(lab: &Lab) {
    let frozen = lab.frozen("py");
    let snapshot = frozen.snapshot();
    let open = |file: &fs::File| file.try_clone().unwrap();
    let cmdline = &*snapshot.manifest().machine.cmdline;
    let shape = calve_fleet::Shape::new(256, 1, 3).unwrap();
    let mut spec = BootSpec::new(shape, open(snapshot.kernel()), cmdline);
    let disk = tempfile::tempfile().unwrap();
    disk.set_len(1 << 20).unwrap();
    spec.disks = vec![
        (open(snapshot.root()), Access::ReadOnly),
        (open(snapshot.code().unwrap()), Access::ReadOnly),
        (open(&disk), Access::ReadWrite),
    ];
    spec.up_timeout = functions::SLOW;
    let mut live = lab.fleet.boot(spec, &function("app.handler")).unwrap();
    let pid = Pid::from_raw(live.pid().try_into().unwrap());
    for signal in [Signal::SIGSTOP, Signal::SIGCONT] {
        kill(pid, signal).unwrap();
    }
    let event = json!({"do": "flush", "disk": "/dev/vdc"}).to_string();
    let flushed = live.call(event.as_bytes(), CallOptions::default()).unwrap();
    assert_eq!(result(&flushed), json!("flushed"));
    let mut text = [0; 7];
    disk.read_exact_at(&mut text, 0).unwrap();
    assert_eq!(&text, b"flushed");
}

/// Clones that speak with the host in both directions, free memory, are reset and forked.
fn thaw_reset_and_fork(lab: &Lab) {
    let (sender, receiver) = sync_channel(1);
    let ports = Ports::default().accept(7000, sender);
    let options = ThawOptions { ports, ..ThawOptions::default() };
    let mut clone = lab.fleet.thaw_with(&lab.frozen("py"), options).unwrap();
    let host = std::thread::spawn(move || {
        let mut stream: UnixStream = receiver.recv().unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        stream.write_all(b"from the host").unwrap();
    });
    let answer = result(&call(&mut clone, &json!({"do": "dial", "port": 7000})));
    assert_eq!(answer, json!({"answer": "from the host"}));
    host.join().unwrap();

    call(&mut clone, &json!({"do": "grow", "mib": 64}));
    call(&mut clone, &json!({"do": "mess"}));
    let clone = clone.reset().unwrap();
    let (mut clone, mut children): (Clone, Vec<Clone>) = clone.fork(&lab.fleet, 1).unwrap();
    for clone in children.iter_mut().chain([&mut clone]) {
        assert_eq!(result(&call(clone, &json!({"n": 1})))["echo"], json!({"n": 1}));
    }

    // The disk for the code of a runtime's functions has room for more than this one's.
    lab.build_on_a_runtime("on");
    let mut clone = lab.thaw("on");
    let beyond = call(&mut clone, &json!({"do": "beyond", "disk": "/dev/vdb"}));
    assert_eq!(result(&beyond), json!({"bytes": 1 << 20, "zeros": true}));

    let door = lab.dir.path().join("door.sock");
    let options = ThawOptions { listen: Some(door.clone()), ..ThawOptions::default() };
    let mut clone = lab.fleet.thaw_with(&lab.frozen("py"), options).unwrap();
    clone.introduce().unwrap().unwrap();
    greet(&door);
}

/// Knocks at a machine's door and goes.
fn greet(door: &Path) {
    let mut stream = UnixStream::connect(door).unwrap();
    stream.write_all(b"CONNECT 1024\n").unwrap();
    let mut byte = [0];
    while byte != *b"\n" {
        stream.read_exact(&mut byte).unwrap();
    }
}

/// Whether a tracer is still writing to this folder.
fn is_traced(traces: &Path) -> bool {
    let traces = traces.to_str().unwrap();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|process| fs::read_to_string(process.path().join("cmdline")).ok())
        .any(|line| line.starts_with("strace") && line.contains(traces))
}

type Calls = BTreeSet<(i64, [u64; 6])>;

/// What each kind of thread called once it had shut itself in, and what any of them called before.
fn seen(traces: &Path) -> (BTreeMap<Thread, Calls>, Calls) {
    let (mut seen, mut before) = (BTreeMap::<Thread, Calls>::new(), Calls::new());
    let files = fs::read_dir(traces).unwrap().flatten().map(|entry| entry.path());
    for file in files.filter(|path| path.extension().is_some_and(|e| e == "trace")) {
        let (mut known, mut shut) = (BTreeSet::new(), BTreeSet::new());
        let mut is_sealed = false;
        for line in fs::read_to_string(file).unwrap().lines() {
            let Some(Line { thread, kind, call, arguments }) = parse(line) else { continue };
            // Whoever appears after the seal is a copy of the main thread, filter included.
            if known.insert(thread) && is_sealed {
                shut.insert(thread);
            }
            if shut.contains(&thread) {
                seen.entry(kind).or_default().insert((call, arguments));
            } else {
                before.insert((call, arguments));
            }
            if call == libc::SYS_seccomp {
                shut.insert(thread);
                is_sealed |= kind == Thread::Main;
            }
        }
    }
    (seen, before)
}

struct Line {
    thread: u32,
    kind: Thread,
    call: i64,
    arguments: [u64; 6],
}

/// Such as `123<vcpu0> [  16] ioctl(0x5, 0xae80, 0) = 0`.
fn parse(line: &str) -> Option<Line> {
    let (thread, rest) = line.split_once('<')?;
    let (name, rest) = rest.split_once('>')?;
    let (number, rest) = rest.trim_start().strip_prefix('[')?.split_once(']')?;
    // `<... ioctl resumed>` is the end of one that was seen.
    let (_, rest) = rest.split_once('(')?;
    let end = rest.find(')').or_else(|| rest.find(" <unfinished")).unwrap_or(rest.len());
    let mut arguments = [0; 6];
    for (argument, text) in arguments.iter_mut().zip(rest.get(..end)?.split(", ")) {
        let hex = text.trim().trim_start_matches("0x");
        *argument = u64::from_str_radix(hex, 16).unwrap_or(0);
    }
    let kind = match name {
        name if name.starts_with("vcpu") => Thread::Vcpu,
        "devices" => Thread::Devices,
        _ => Thread::Main,
    };
    Some(Line {
        thread: thread.trim().parse().ok()?,
        kind,
        call: number.trim().parse().ok()?,
        arguments,
    })
}
