//! `calve snapshot build` with real machines: every runtime, every way a start can fail, full disks, signals.
#![allow(clippy::unwrap_used, reason = "in the functions that the tests are made of")]

mod common;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use common::lab::{build, build_command, client};
use common::leftovers::{World, entries, wait_until};
use common::{Place, Said, function};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

/// Builds the Python function of a folder, with more options, as `n`.
fn python(place: &Place, name: &str, handler: &str, more: &[&str]) -> Said {
    build(place, "python3.11", &function(name), handler, more, "n")
}

/// A store with a function `first` and the runtime that it was built on.
fn shared() -> &'static Place {
    static PLACE: OnceLock<Place> = OnceLock::new();
    PLACE.get_or_init(|| {
        let place = Place::in_memory();
        build(&place, "python3.11", &function("python"), "app.handler", &[], "first").status(0);
        place
    })
}

/// Asserts that the start failed in the function, and that nothing is left.
#[track_caller]
fn failed(name: &str, handler: &str, more: &[&str], status: i32, error_type: &str, text: &str) {
    let (place, world) = (shared(), World::now());
    let all = || ["names", "snapshots", "images"].map(|dir| entries(&place.store().join(dir)));
    let before = all();
    let said = python(place, name, handler, more).status(status).line("n: ").line(text);
    let error = said.json().remove(0);
    assert_eq!(error["errorType"], error_type, "{said:#?}");
    world.assert_unchanged(place);
    assert_eq!(all(), before);
}

#[test]
#[ignore = "needs the lab"]
fn functions_share_the_memory_of_their_runtime() {
    let place = shared();
    python(place, "python", "app.handler", &["--env", "STAGE=two", "--warm", "{}"]).status(0);
    let layers = |name: &str| {
        let inspected = place.calve(["snapshot", "inspect", name]).status(0).json().remove(0);
        let files = inspected["files"].as_array().unwrap().clone();
        let files = files.into_iter().filter(|f| f["name"].as_str().unwrap().starts_with("memory"));
        files.map(|f| (f["shared"] == true, f["on_disk"].as_u64().unwrap())).collect::<Vec<_>>()
    };
    let (first, second) = (layers("first"), layers("n"));
    for layers in [&first, &second] {
        assert!(layers.len() == 2 && layers[0].0 && !layers[1].0, "{layers:?}");
        assert!(layers[1].1 * 2 < layers[0].1, "most of it is the runtime's: {layers:?}");
    }
    // What a process would have known from its start, the function knows all the same.
    let said = place.calve(["run", "n", "--event", "{\"do\": \"about\"}"]).status(0);
    assert_eq!(said.json()[0]["stage"], "two");
    let names = place.calve(["snapshot", "ls", "--json"]).status(0).json();
    let runtimes: Vec<_> =
        names.iter().filter(|n| n["name"].as_str().unwrap().starts_with("runtime.")).collect();
    assert_eq!(runtimes.len(), 1);
    let runtime = runtimes[0]["name"].as_str().unwrap();
    place
        .calve(["run", runtime, "--event", "{}"])
        .status(2)
        .line("is a runtime without a function");
    place.calve(["snapshot", "verify", "n"]).status(0);
    place.calve(["snapshot", "rm", "n"]).status(0);
    place.calve(["snapshot", "verify", "first"]).status(0);
}

#[test]
#[ignore = "needs the lab"]
fn a_function_that_no_runtime_fits_has_a_process_of_its_own() {
    let more = ["--env", "PYTHONHASHSEED=7", "--env", "STAGE=own"];
    python(shared(), "python", "app.handler", &more).status(0);
    let said = shared().calve(["run", "n", "--event", "{\"do\": \"about\"}"]).status(0);
    assert_eq!(said.json()[0]["stage"], "own");
    shared().calve(["snapshot", "rm", "n"]).status(0);
}

#[test]
#[ignore = "needs the lab"]
fn a_handler_that_does_not_exist_is_named() {
    failed("python", "app.nope", &[], 1, "Runtime.HandlerNotFound", "nope");
    failed("python", "nope.handler", &[], 1, "Runtime.ImportModuleError", "nope");
}

#[test]
#[ignore = "needs the lab"]
fn a_handler_that_raises_on_import_is_told() {
    failed("python-broken", "app.handler", &[], 1, "RuntimeError", "no database");
}

#[test]
#[ignore = "needs the lab"]
fn a_handler_that_never_gets_ready_is_given_up() {
    let more = ["--init-timeout", "2"];
    failed(
        "python-slow-start",
        "app.handler",
        &more,
        4,
        "Runtime.InitTimeout",
        "longer --init-timeout",
    );
}

#[test]
#[ignore = "needs the lab"]
fn a_warm_up_call_that_fails_is_told() {
    let more = ["--warm", "{}", "--warm", "{\"do\": \"fail\"}"];
    failed("python", "app.handler", &more, 1, "KeyError", "warm-up event 2 failed");
}

#[test]
#[ignore = "needs the lab"]
fn node_answers() {
    let place = Place::in_memory();
    build(&place, "node20", &function("node"), "index.handler", &["--memory", "512"], "js")
        .status(0);
    let said = place.calve(["run", "js", "--event", "{\"n\": 1}", "--count", "2"]).status(0);
    let results = said.json();
    assert_eq!(results[0]["echo"], json!({"n": 1}));
    assert_ne!(results[0]["random"], results[1]["random"]);
    assert_ne!(results[0]["uuid"], results[1]["uuid"]);
    assert_eq!(said.stderr.matches("hello from node").count(), 2, "{said:#?}");
    let said = place.calve(["run", "js", "--event", "{\"do\": \"fail\"}"]).status(1);
    assert_eq!(said.json()[0]["errorType"], "TypeError");
}

#[test]
#[ignore = "needs the lab"]
fn a_bootstrap_answers() {
    let place = Place::in_memory();
    build(&place, "provided", &function("provided"), "my.handler", &[], "sh").status(0);
    let said = place.calve(["run", "sh", "--event", "{\"n\": 1}"]).status(0);
    assert_eq!(said.json()[0], json!({"echo": {"n": 1}, "handler": "my.handler"}));
    let said = place.calve(["run", "sh", "--event", "\"no-json\""]).status(1);
    assert_eq!(said.json()[0]["errorType"], "Runtime.MarshalError", "{said:#?}");
}

/// Our kernel, as a user would give a kernel of his own.
fn kernel(name: &str) -> std::path::PathBuf {
    let folder = std::env::var_os("CALVE_TEST_KERNEL").expect("CALVE_TEST_KERNEL is not set");
    Path::new(&folder).join(name)
}

#[test]
#[ignore = "needs the lab"]
fn a_kernel_of_ones_own_freezes_a_function() {
    let place = Place::in_memory();
    let kernel = kernel("bzImage");
    let more = ["--kernel", kernel.to_str().unwrap()];
    build(&place, "python3.11", &function("python"), "app.handler", &more, "own").status(0);
    let said = place.calve(["run", "own", "--event", "{\"n\": 1}"]).status(0);
    assert_eq!(said.json()[0], json!({"n": 1}));
    let said = place.calve(
        ["snapshot", "build", "--runtime", "python3.11", "--handler", "app.handler"]
            .into_iter()
            .chain(["--code", function("python").to_str().unwrap()])
            .chain(["--kernel", function("python").join("app.py").to_str().unwrap(), "no"]),
    );
    said.status(2).silent().line("app.py");
}

#[test]
#[ignore = "needs the lab"]
fn linux_boots_on_the_terminal_from_either_kernel_file() {
    let place = Place::in_memory();
    let images = place.calve(["image", "ls", "--json"]).status(0).json();
    let root = images.iter().find(|image| image["name"] == "python3.11").unwrap();
    let root = root["path"].as_str().unwrap();
    for name in ["vmlinux", "bzImage"] {
        let mut boot = place.command(["boot", "--root", root, "--timeout", "120", "--kernel"]);
        boot.arg(kernel(name)).arg("--cmdline").arg(
            "console=ttyS0 quiet reboot=t panic=-1 pci=off root=/dev/vda rootfstype=erofs ro \
             init=/bin/sh -- -c \"echo the answer is $((6 * 7))\"",
        );
        let said = Said::from(boot.output().unwrap()).status(0);
        assert!(said.stdout.contains("the answer is 42"), "{said:#?}");
    }
}

#[test]
#[ignore = "needs the lab"]
fn awslambdaric_serves_a_handler_unchanged() {
    let place = Place::in_memory();
    let code = place.folder.path().join("code");
    for from in [client(), function("python-ric")] {
        let copied = Command::new("cp").args(["-a", "--"]).arg(from.join(".")).arg(&code).status();
        assert!(copied.unwrap().success());
    }
    let more = ["--memory", "512"];
    build(&place, "python3.11", &code, "app.handler", &more, "ric").status(0);
    let said = place.calve(["run", "ric", "--event", "{\"numbers\": [1, 2, 39]}"]).status(0);
    assert_eq!(said.json()[0]["sum"], 42);
    let said = place.calve(["run", "ric", "--event", "{}"]).status(1);
    assert_eq!(said.json()[0]["errorType"], "KeyError");
}

#[test]
#[ignore = "needs the lab"]
fn two_builds_of_one_name_do_not_mix() {
    let place = Place::in_memory();
    let command =
        || build_command(&place, "python3.11", &function("python"), "app.handler", &[], "n");
    let first = command().stdout(std::process::Stdio::piped()).spawn().unwrap();
    wait_until(|| place.store().join("tmp/n").is_dir());
    let second = Said::from(command().output().unwrap());
    second.status(2).silent().line("`n` is being built by another process");
    Said::from(first.wait_with_output().unwrap()).status(0);
    place.calve(["snapshot", "verify", "n"]).status(0);
}

/// A small file system, until it is dropped.
struct Disk<'a>(&'a Path);

impl<'a> Disk<'a> {
    fn mount(at: &'a Path, mib: u32) -> Self {
        fs::create_dir_all(at).unwrap();
        let size = format!("size={mib}m,mode=0700");
        let status =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at).status();
        assert!(status.unwrap().success());
        Self(at)
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

#[test]
#[ignore = "needs the lab"]
fn a_disk_that_fills_up_in_the_middle_leaves_nothing() {
    let (place, world) = (Place::in_memory(), World::now());
    let store = place.store();
    let root = runtime_image_mib(&place);
    // Too small for the images; large enough for them, but not for the memory.
    for room in [root / 2, root + 30] {
        let disk = Disk::mount(&store, room);
        let said = python(&place, "python", "app.handler", &[]).status(3).silent();
        said.line("no space left to write").line("free some, or choose another store");
        world.assert_unchanged(&place);
        for folder in ["snapshots", "images", "names"] {
            assert_eq!(entries(&store.join(folder)).len(), 0, "{folder}");
        }
        drop(disk);
    }
}

/// MiB of the Python root image.
fn runtime_image_mib(place: &Place) -> u32 {
    let images = place.calve(["image", "ls", "--json"]).status(0).json();
    let root = images.iter().find(|image| image["name"] == "python3.11").unwrap();
    u32::try_from(root["bytes"].as_u64().unwrap() >> 20).unwrap()
}

#[test]
#[ignore = "needs the lab"]
fn a_signal_at_any_moment_of_a_build_leaves_nothing() {
    let (place, world) = (Place::in_memory(), World::now());
    for milliseconds in [0, 100, 400, 1_000, 2_000, 4_000, 7_000] {
        let mut command =
            build_command(&place, "python3.11", &function("python"), "app.handler", &[], "n");
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let child = command.spawn().unwrap();
        std::thread::sleep(Duration::from_millis(milliseconds));
        let id = Pid::from_raw(i32::try_from(child.id()).unwrap());
        kill(id, Signal::SIGINT).unwrap();
        let output = child.wait_with_output().unwrap();
        // Before its handlers are in place the signal kills it, which is as good; after its end it does nothing.
        if output.status.signal() != Some(2) && !output.status.success() {
            Said::from(output).status(130).silent().line("interrupted");
        }
        world.assert_unchanged(&place);
    }
}
