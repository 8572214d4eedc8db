//! What needs neither a store nor a machine: usage, events, help, outputs.
#![allow(clippy::unwrap_used, reason = "in the functions that the tests are made of")]

mod common;

use std::fs::{self, File};
use std::process::Stdio;

use common::{Place, function, words};

/// Longest event, bytes.
const MAX_EVENT: usize = 6 << 20;

#[test]
fn wrong_usage_is_one_line_and_status_2() {
    let place = Place::new();
    for (line, text) in [
        ("", "a command is missing"),
        ("rum", "'run'"),
        ("run", "--event"),
        ("run n --event {} --count 0", "--count"),
        ("run n --event {} --event []", "cannot be used multiple times"),
        ("snapshot build --runtime node20 --code . n", "--handler"),
        ("snapshot build --runtime cobol --code . --handler h n", "python3.11, node20, provided"),
        ("snapshot build --runtime node20 --code . --handler h --memory 0 n", "MiB"),
        ("boot", "--kernel"),
        ("completions tcsh", "bash"),
    ] {
        place.calve(words(line)).status(2).silent().line(text).line("--help`");
    }
}

#[test]
fn a_bad_event_is_refused_before_anything_else() {
    let place = Place::new();
    let file = place.folder.path().join("event.json");
    let at_file = format!("@{}", file.display());
    place.calve(["run", "n", "--event", "{"]).status(2).silent().line("event is not JSON: EOF");
    place.calve(["run", "n", "--event", "hello"]).status(2).line("or @FILE, or - for stdin");
    place.calve(["run", "n", "--event", &at_file]).status(2).line("No such file or directory");
    fs::write(&file, format!("\"{}\"", "x".repeat(MAX_EVENT - 1))).unwrap();
    place.calve(["run", "n", "--event", &at_file]).status(2).line("is over 6 MiB");
    place.feed(["run", "n", "--event", "-"], b"[1,").status(2).line("event from stdin is not JSON");
    let endless = vec![b' '; MAX_EVENT + 4096];
    place.feed(["run", "n", "--event", "-"], &endless).status(2).line("stdin is over 6 MiB");
    place.feed(["run", "n", "--events", "-"], b"{}\n{").status(2).line("line 2 of stdin");
    assert!(!place.store().exists(), "nothing was made");
}

#[test]
fn a_bad_warm_event_is_refused_before_anything_else() {
    let place = Place::new();
    let code = function("python");
    let said = place
        .command(["snapshot", "build", "--runtime", "python3.11", "--handler", "app.handler"])
        .args(["--warm", "nonsense", "--code"])
        .arg(code)
        .arg("n")
        .output();
    common::Said::from(said.unwrap()).status(2).silent().line("event is not JSON");
}

#[test]
fn help_goes_to_stdout() {
    let place = Place::new();
    for line in [
        "--help",
        "run --help",
        "snapshot build --help",
        "image ls --help",
        "function --help",
        "key ls --help",
        "--version",
    ] {
        let said = place.calve(words(line)).status(0);
        assert_eq!(said.stderr, "");
        assert!(line == "--version" || said.stdout.contains("Examples:"), "{line}");
    }
}

#[test]
fn completions_are_scripts() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let said = place.calve(["completions", shell]).status(0);
        assert!(said.stdout.contains("snapshot") && said.stdout.contains("invoke"), "{shell}");
        if shell == "bash" {
            let script = place.folder.path().join("calve.bash");
            fs::write(&script, said.stdout).unwrap();
            let checked = std::process::Command::new("bash").arg("-n").arg(script).status();
            assert!(checked.unwrap().success());
        }
    }
}

#[test]
fn a_reader_that_has_gone_is_no_failure() {
    let place = Place::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output =
        place.command(["completions", "bash"]).stdout(writer).stderr(Stdio::piped()).output();
    let said = common::Said::from(output.unwrap()).status(0);
    assert_eq!(said.stderr, "");
}

#[test]
fn a_full_disk_under_stdout_is_told() {
    let place = Place::new();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output =
        place.command(["completions", "bash"]).stdout(full).stderr(Stdio::piped()).output();
    common::Said::from(output.unwrap()).status(3).line("No space left on device");
}

#[test]
fn a_signal_ends_a_command_that_waits_for_its_event() {
    let place = Place::new();
    let mut command = place.command(["run", "n", "--event", "-"]);
    command.stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Kept open, so that nothing but the signal ends the wait.
    let _stdin = child.stdin.take();
    // It reads from stdin once its handlers are in place.
    common::leftovers::wait_until(|| common::leftovers::is_reading(child.id()));
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap()),
        nix::sys::signal::Signal::SIGTERM,
    )
    .unwrap();
    common::Said::from(child.wait_with_output().unwrap()).status(130).line("interrupted");
}
