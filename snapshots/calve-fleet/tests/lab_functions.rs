//! Whole functions in Linux guests: built, frozen, thawed, called.
#![allow(clippy::unwrap_used, reason = "in the functions that the tests are made of")]

mod common;
#[path = "common/lab.rs"]
mod functions;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use calve_fleet::{
    Access, BootError, BootSpec, BuildError, CallError, CallOptions, ErrorKind, LiveMachine,
    Outcome, Ports, ThawOptions, WorkerError,
};
use calve_proto::{Call, Opening, Session};
use common::{Belongings, eventually, kill_9, lives};
use functions::{call, error, function, lab, result};
use serde_json::{Value, json};

#[test]
#[ignore = "needs the lab"]
fn a_clone_answers() {
    let mut clone = lab().thaw("py");
    let mut logs = Vec::new();
    let mut sink = |_: calve_fleet::LogStream, bytes: &[u8]| logs.extend_from_slice(bytes);
    let options = CallOptions { logs: Some(&mut sink), ..CallOptions::default() };
    let outcome = clone.call(br#"{"n":1}"#, options).unwrap();
    // The warm-up before the freeze was its first call.
    assert_eq!(result(&outcome), json!({"echo": {"n": 1}, "calls": 2}));
    assert_eq!(outcome.machine, clone.machine_id());
    assert_eq!(String::from_utf8(logs).unwrap(), "an echo\n");

    let times = outcome.timings;
    assert!(times.load_us.unwrap() <= times.thaw_us.unwrap());
    assert!(times.thaw_us.unwrap() < times.first_output_us);
    assert!(times.first_output_us <= times.call_us + times.thaw_us.unwrap());
    assert!(outcome.private_kib.unwrap() > 0);

    let again = call(&mut clone, &json!({"n": 2}));
    assert_eq!(result(&again), json!({"echo": {"n": 2}, "calls": 3}));
    assert_eq!(again.timings.thaw_us, None, "it was thawed before");
}

#[test]
#[ignore = "needs the lab"]
fn a_prepared_shell_answers_sooner() {
    let frozen = lab().frozen("py");
    let mut times = [false, true].map(|ahead| {
        if ahead {
            lab().fleet.prepare(frozen.shape(), 1).unwrap();
        }
        let outcome = call(&mut lab().fleet.thaw(&frozen).unwrap(), &json!({}));
        assert_eq!(outcome.timings.prepared, ahead);
        println!("{:?}, {:?} KiB private", outcome.timings, outcome.private_kib);
        outcome.timings.thaw_us.unwrap()
    });
    times.reverse();
    assert!(times.is_sorted(), "{times:?}");
}

#[test]
#[ignore = "needs the lab"]
fn memory_that_a_function_frees_goes_back_to_the_host() {
    const MIB: u64 = 64;
    let mut clone = lab().thaw("py");
    call(&mut clone, &json!({}));
    let grown = call(&mut clone, &json!({"do": "grow", "mib": MIB}));
    assert_eq!(result(&grown), json!(MIB << 20));
    let grown = grown.private_kib.unwrap();
    assert!(grown > MIB << 10);
    // The guest's kernel reports what is free in pieces of 2 MiB, every two seconds (PAGE_REPORTING_DELAY), but not what
    // it keeps in its processor's own lists of free pages: up to an eighth of memory.
    eventually("a good part of it is the host's again", || {
        clone.private_kib().unwrap() + (MIB << 10) / 4 < grown
    });
    assert_eq!(result(&call(&mut clone, &json!({"n": 1})))["echo"], json!({"n": 1}));
}

#[test]
#[ignore = "needs the lab"]
fn a_reset_clone_answers_as_if_it_were_fresh() {
    let frozen = lab().frozen("py");
    let mut clone = lab().fleet.thaw(&frozen).unwrap();
    let (mut randoms, mut machines) = (Vec::new(), Vec::new());
    for round in 0..8 {
        let identity = call(&mut clone, &json!({"do": "identity"}));
        let (time, is) = (now(), result(&identity));
        assert!((time - is["time"].as_f64().unwrap()).abs() < 2.0, "{time} {is}");
        randoms.extend(["random", "uuid", "urandom"].map(|field| is[field].to_string()));
        machines.push(identity.machine);
        // Leaves a file, a thread, an open connection and much memory behind.
        let mess = call(&mut clone, &json!({"do": "mess"}));
        assert_eq!(result(&mess), json!({"found": 0, "calls": 3}), "round {round}");
        clone = clone.reset().unwrap();
    }
    let outcome = call(&mut clone, &json!({"n": 9}));
    assert_eq!(result(&outcome), json!({"echo": {"n": 9}, "calls": 2}));
    println!("reset and call: {:?}", outcome.timings);
    for mut all in [randoms, machines] {
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}

#[test]
#[ignore = "needs the lab"]
fn clones_have_identities_of_their_own() {
    let mut clones: Vec<_> = (0..3).map(|_| lab().thaw("py")).collect();
    let answers: Vec<_> = clones
        .iter_mut()
        .map(|clone| (clone.machine_id().to_owned(), call(clone, &json!({"do": "identity"}))))
        .map(|(machine, outcome)| (machine, result(&outcome)))
        .collect();
    for (machine, answer) in &answers {
        assert_eq!(answer["machine"], **machine);
    }
    for field in ["random", "uuid", "urandom", "secrets", "openssl"] {
        for pair in [[0, 1], [1, 2], [0, 2]] {
            let [a, b] = pair.map(|n| &answers[n].1[field]);
            assert_ne!(a, b, "{field}");
        }
    }
}

#[test]
#[ignore = "needs the lab"]
fn clones_share_no_files_and_cannot_write_to_their_images() {
    let mut clones = [lab().thaw("py"), lab().thaw("py")];
    for clone in &mut clones {
        assert_eq!(result(&call(clone, &json!({"do": "mess"})))["found"], 0);
        let refused = result(&call(clone, &json!({"do": "disks"})));
        assert_eq!(refused, json!(["/var/task/calve-was-here", "/dev/vda"]));
    }
    // Each finds its own file, and no other.
    for clone in &mut clones {
        assert_eq!(result(&call(clone, &json!({"do": "mess"})))["found"], 1);
    }
}

#[test]
#[ignore = "needs the lab"]
fn the_monotonic_clock_goes_on_from_the_freeze() {
    let clocks = || result(&call(&mut lab().thaw("py"), &json!({"do": "clocks"})));
    let first = clocks();
    // Time that no clone may notice.
    std::thread::sleep(Duration::from_secs(4));
    let second = clocks();
    let difference = |field: &str| second[field].as_f64().unwrap() - first[field].as_f64().unwrap();
    assert!(difference("wall") > 4.0, "{first} {second}");
    assert!(difference("since_start").abs() < 2.0, "{first} {second}");
}

#[test]
#[ignore = "needs the lab"]
fn a_clone_knows_the_time() {
    let before = now();
    let outcome = call(&mut lab().thaw("py"), &json!({"do": "identity"}));
    let time = result(&outcome)["time"].as_f64().unwrap();
    assert!(before - 0.1 < time && time < now() + 0.1, "{before} {time} {}", now());
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

#[test]
#[ignore = "needs the lab"]
fn errors_of_the_function_are_told_apart() {
    let fails = error(call(&mut lab().thaw("py"), &json!({"do": "fail"})));
    assert_eq!((fails.kind, &*fails.error_type), (ErrorKind::Handler, "KeyError"));
    let exits = error(call(&mut lab().thaw("py"), &json!({"do": "exit"})));
    assert_eq!(exits.kind, ErrorKind::RuntimeExited);
    let timeout = Some(Duration::from_secs(2));
    let options = CallOptions { timeout, ..CallOptions::default() };
    let loops = lab().thaw("py").call(br#"{"do":"loop"}"#, options).unwrap();
    assert_eq!(error(loops).kind, ErrorKind::Timeout);
}

#[test]
#[ignore = "needs the lab"]
fn the_largest_event_and_result_pass() {
    let mut clone = lab().thaw("py");
    let most = (6 << 20) - 2; // two quotation marks around it
    let outcome = call(&mut clone, &json!({"do": "large", "bytes": most}));
    assert_eq!(outcome.result.unwrap().len(), most + 2);
    let event = format!("{{\"do\":\"fail\",\"text\":\"{}\"}}", "y".repeat((6 << 20) - 100));
    let outcome = clone.call(event.as_bytes(), CallOptions::default()).unwrap();
    assert_eq!(error(outcome).error_type, "KeyError");
}

/// Boots the function that [`Lab::frozen`] freezes.
fn boot() -> LiveMachine {
    let frozen = lab().frozen("py");
    let snapshot = frozen.snapshot();
    let open = |file: &std::fs::File| file.try_clone().unwrap();
    let cmdline = &*snapshot.manifest().machine.cmdline;
    let mut spec = BootSpec::new(frozen.shape(), open(snapshot.kernel()), cmdline);
    let disks = [snapshot.root(), snapshot.code().unwrap()];
    spec.disks = disks.map(|disk| (open(disk), Access::ReadOnly)).into();
    spec.up_timeout = functions::SLOW;
    lab().fleet.boot(spec, &function("app.handler")).unwrap()
}

/// Calls every machine twice. What they say of themselves must differ; each must have served `calls` calls
/// before.
fn all_are_themselves(machines: &mut [&mut dyn FnMut(Value) -> Outcome], calls: u64) {
    let mut seen = Vec::new();
    for machine in machines {
        let is = machine(json!({"do": "identity"}));
        let (time, says) = (now(), result(&is));
        assert!((time - says["time"].as_f64().unwrap()).abs() < 2.0, "{time} {says}");
        assert_eq!(says["machine"], json!(is.machine));
        seen.extend(
            ["machine", "random", "uuid", "urandom", "openssl"].map(|f| says[f].to_string()),
        );
        let echo = machine(json!({"n": 1}));
        assert_eq!(result(&echo), json!({"echo": {"n": 1}, "calls": calls + 2}));
    }
    let count = seen.len();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), count, "{seen:?}");
}

#[test]
#[ignore = "needs the lab"]
fn a_clone_is_forked_into_others_that_go_on_like_it() {
    let fleet = &lab().fleet;
    let mut parent = lab().thaw("py");
    for n in 0..3 {
        call(&mut parent, &json!({"n": n}));
    }
    call(&mut parent, &json!({"do": "mess"}));
    let id = parent.machine_id().to_owned();
    let (parent, moment) = parent.branch(ThawOptions::default()).unwrap();
    println!("a clone stood still for {:?}", moment.paused());
    assert_eq!(parent.machine_id(), id, "a parent stays who it is");
    let (mut parent, mut children) = (parent, Vec::new());
    for _ in 0..3 {
        children.push(fleet.thaw_moment(&moment, ThawOptions::default()).unwrap());
    }
    let mut machines: Vec<_> = children.iter_mut().chain([&mut parent]).collect();
    let mut calls: Vec<_> =
        machines.iter_mut().map(|clone| |event: Value| call(clone, &event)).collect();
    let mut calls: Vec<_> =
        calls.iter_mut().map(|c| c as &mut dyn FnMut(Value) -> Outcome).collect();
    // One call before the freeze, and four since.
    all_are_themselves(&mut calls, 5);
    // What the parent left behind is there in its children, each with its own.
    for child in &mut children {
        assert_eq!(result(&call(child, &json!({"do": "mess"})))["found"], json!(1));
    }
    // A child is a clone like any other: it is reset to where it was forked, and forked itself.
    let child = children.pop().unwrap().reset().unwrap();
    let (mut child, mut grandchildren) = child.fork(fleet, 2).unwrap();
    let mut grandchild = grandchildren.pop().unwrap();
    all_are_themselves(
        &mut [&mut |event| call(&mut child, &event), &mut |event| call(&mut grandchild, &event)],
        5,
    );
    drop(parent);
    assert_eq!(result(&call(&mut grandchildren[0], &json!({})))["calls"], json!(6));
}

/// What its moments hold counts as its worker's, which would be killed if it had room for one copy alone.
#[test]
#[ignore = "needs the lab"]
fn a_clone_is_forked_again_and_again_while_its_moments_are_kept() {
    const MIB: u64 = 35;
    let mut parent = lab().thaw("py");
    let mut moments = Vec::new();
    for _ in 0..5 {
        assert_eq!(
            result(&call(&mut parent, &json!({"do": "keep", "mib": MIB}))),
            json!(MIB << 20)
        );
        let (same, moment) = parent.branch(ThawOptions::default()).unwrap();
        parent = same;
        moments.push(moment);
    }
    assert_eq!(result(&call(&mut parent, &json!({})))["calls"], json!(7));
    let first = moments.first().unwrap();
    let mut child = lab().fleet.thaw_moment(first, ThawOptions::default()).unwrap();
    assert_eq!(result(&call(&mut child, &json!({})))["calls"], json!(3));
}

#[test]
#[ignore = "needs the lab"]
fn a_booted_machine_is_forked_twice() {
    let fleet = &lab().fleet;
    let mut live = boot();
    live.call(b"{}", CallOptions::default()).unwrap();
    let (mut live, moment) = live.branch(ThawOptions::default()).unwrap();
    println!("a booted machine stood still for {:?}", moment.paused());
    live.call(b"{}", CallOptions::default()).unwrap();
    let (mut live, mut second) = live.fork(fleet, 1).unwrap();
    let mut first = fleet.thaw_moment(&moment, ThawOptions::default()).unwrap();
    let mut second = second.pop().unwrap();
    let live: &mut dyn FnMut(Value) -> Outcome = &mut |event: Value| {
        live.call(event.to_string().as_bytes(), CallOptions::default()).unwrap()
    };
    all_are_themselves(&mut [live, &mut |event| call(&mut second, &event)], 2);
    all_are_themselves(&mut [&mut |event| call(&mut first, &event)], 1);
}

#[test]
#[ignore = "needs the lab"]
fn a_cold_boot_answers_like_a_clone() {
    let mut live = boot();
    let outcome = live.call(b"{}", CallOptions::default()).unwrap();
    assert_eq!(result(&outcome), json!({"echo": {}, "calls": 1}));
    println!("cold: up {:?}, init {:?}, {:?}", live.boot_time(), live.init_time(), outcome.timings);
    let warm = call(&mut lab().thaw("py"), &json!({}));
    println!("thawed: {:?}", warm.timings);
    assert!(warm.timings.first_output_us < outcome.timings.first_output_us);
}

#[test]
#[ignore = "needs the lab"]
fn a_handler_that_is_not_there_leaves_no_snapshot() {
    let failed = lab().build("nope", "app.nope", &[]).unwrap_err();
    let BuildError::Boot(BootError::Init(error)) = failed else { panic!("{failed:?}") };
    assert_eq!(error.kind, ErrorKind::Init);
    assert!(lab().fleet.open(&lab().store, "nope").is_err());
}

#[test]
#[ignore = "needs the lab"]
fn a_worker_killed_in_the_middle_of_a_call_is_a_typed_error() {
    let mut clone = lab().thaw("py");
    call(&mut clone, &json!({}));
    let pid = clone.pid();
    let killer = std::thread::spawn(move || kill_9(pid));
    let failed = clone.call(br#"{"do":"loop"}"#, CallOptions::default()).unwrap_err();
    killer.join().unwrap();
    assert!(matches!(failed, CallError::Worker(WorkerError::Died { .. })), "{failed:?}");
    assert!(!lives(pid));
}

#[test]
#[ignore = "needs the lab"]
fn parents_that_are_killed_at_any_moment_of_a_fork_leave_nothing() {
    let frozen = lab().frozen("py");
    drop(lab().fleet.thaw(&frozen).unwrap());
    let before = Belongings::now();
    let (mut died, mut lived) = (0, 0);
    for n in 0..40 {
        let mut parent = lab().fleet.thaw(&frozen).unwrap();
        call(&mut parent, &json!({"do": "mess"}));
        let pid = nix::unistd::Pid::from_raw(parent.pid().try_into().unwrap());
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_micros(n * 79_190 % 900_000));
            // It may have been dropped by then.
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        });
        // Whatever was made of it lives or died of that, and no child that was made is worse for its parent's death.
        match parent.fork(&lab().fleet, 1) {
            Ok((parent, mut children)) => {
                killer.join().unwrap();
                drop(parent);
                assert!(call(&mut children[0], &json!({})).result.is_ok());
                lived += 1;
            }
            Err(error) => {
                killer.join().unwrap();
                let text = format!("{error:?}");
                assert!(text.contains("Died") || text.contains("Closed"), "{text}");
                died += 1;
            }
        }
        assert!(!lives(pid.as_raw().try_into().unwrap()));
    }
    println!("{died} died in the middle of a fork, {lived} were done with it");
    assert!(died > 5, "the moments are too late");
    assert_eq!(Belongings::now(), before);
}

#[test]
#[ignore = "needs the lab"]
fn a_guest_reaches_the_ports_that_are_open_and_no_others() {
    let (sender, receiver) = sync_channel(8);
    let ports = Ports::default().accept(7000, sender);
    let options = ThawOptions { ports, ..ThawOptions::default() };
    let mut clone = lab().fleet.thaw_with(&lab().frozen("py"), options).unwrap();
    let host = std::thread::spawn(move || {
        let mut stream: UnixStream = receiver.recv().unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        stream.write_all(b"from the host").unwrap();
        text
    });
    let answer = result(&call(&mut clone, &json!({"do": "dial", "port": 7000})));
    assert_eq!(answer, json!({"answer": "from the host"}));
    assert_eq!(host.join().unwrap(), "from the guest");
    let refused = result(&call(&mut clone, &json!({"do": "dial", "port": 7001})));
    assert_eq!(refused, json!({"refused": nix::libc::ECONNRESET}));
}

#[test]
#[ignore = "needs the lab"]
fn any_program_calls_a_clone_through_its_door() {
    let path = lab().dir.path().join("door.sock");
    let options = ThawOptions { listen: Some(path.clone()), ..ThawOptions::default() };
    let mut clone = lab().fleet.thaw_with(&lab().frozen("py"), options).unwrap();
    clone.introduce().unwrap().unwrap();

    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(b"CONNECT 1024\n").unwrap();
    let mut byte = [0];
    while byte != *b"\n" {
        stream.read_exact(&mut byte).unwrap();
    }
    let mut session = Session::new(stream);
    let call = Some(Call::new("by-another-program", b"{}"));
    session.open(Opening { call, ..Opening::default() }).unwrap();
    let answer = session.wait_answer(&mut |_, _| {}).unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&answer.outcome.unwrap()).unwrap();
    assert_eq!(answer["echo"], json!({}));
}

#[test]
#[ignore = "needs the lab"]
fn five_hundred_calls_in_five_hundred_clones_leave_nothing() {
    let frozen = lab().frozen("py");
    let cycle = |n: u32| {
        let outcome = call(&mut lab().fleet.thaw(&frozen).unwrap(), &json!({"n": n}));
        assert_eq!(result(&outcome)["echo"]["n"], n);
        outcome
    };
    cycle(0);
    let before = Belongings::now();
    let mut first: Vec<u64> = (0..500)
        .map(|n| {
            if n % 50 == 0 {
                println!("{n} of 500 cycles");
            }
            cycle(n).timings.first_output_us
        })
        .collect();
    assert_eq!(Belongings::now(), before);
    first.sort_unstable();
    println!("thaw to first output: p50 {} µs, p99 {} µs", first[250], first[495]);
}
