use super::error::PACKAGES;
use super::*;
use crate::progress::Silent;
use std::time::Instant;

fn sh(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

#[test]
fn output_is_returned_line_by_line() {
    assert_eq!(
        output(&mut sh("echo a; printf 'b\\n\\nc'"), &mut Silent).unwrap(),
        ["a", "b", "", "c"]
    );
}

#[test]
fn a_missing_program_is_reported_with_its_package() {
    let error = require(&["sh", "no-such-program"]).unwrap_err();
    assert!(error.to_string().contains("`no-such-program` is not installed"), "{error}");
    let error = missing("mkfs.erofs").to_string();
    assert!(error.contains("apt-get install erofs-utils"), "{error}");
    let error = quietly(&mut Command::new("/no/such/program"), &mut Silent).unwrap_err();
    assert!(matches!(error, CommandError::Missing { .. }), "{error}");
}

#[test]
fn every_package_named_as_a_remedy_is_essential_or_on_the_host_list() {
    let essential = ["apt", "dpkg", "gzip", "tar", "util-linux"];
    for (program, package) in PACKAGES {
        assert!(
            essential.contains(package) || crate::HOST_PACKAGES.contains(package),
            "{program} is in {package}, which nobody installs"
        );
    }
}

#[test]
fn a_failure_tells_the_line_that_matters() {
    let script =
        "echo start >&2; echo 'x.c:1: error: boom' >&2; echo 'make: *** Error 1' >&2; exit 2";
    let error = quietly(&mut sh(script), &mut Silent).unwrap_err();
    assert_eq!(error.to_string(), "`sh` failed (exit status: 2): x.c:1: error: boom");
    let error = quietly(&mut sh("exit 3"), &mut Silent).unwrap_err();
    assert_eq!(error.to_string(), "`sh` failed (exit status: 3): it said nothing");
}

#[test]
fn only_the_tail_of_a_long_error_output_is_kept() {
    let error = quietly(&mut sh("seq 1 100000 >&2; exit 1"), &mut Silent).unwrap_err();
    let CommandError::Failed { stderr, .. } = &error else { panic!("{error}") };
    assert_eq!(stderr.len(), TAIL_LINES);
    assert!(error.to_string().ends_with(": 100000"), "{error}");
}

struct Cancelled;

impl Progress for Cancelled {
    fn cancelled(&self) -> bool {
        true
    }
}

#[test]
fn a_cancelled_program_is_ended() {
    let before = Instant::now();
    let error = quietly(&mut sh("exec sleep 600"), &mut Cancelled).unwrap_err();
    assert!(matches!(error, CommandError::Interrupted), "{error}");
    assert!(before.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_pipe_hands_on_the_output_and_fails_with_either_end() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let cat = || {
        let mut cat = sh("cat > \"$OUT\"");
        cat.env("OUT", &out);
        cat
    };
    pipe(&mut sh("echo through"), &mut cat(), &mut Silent).unwrap();
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "through\n");

    let error = pipe(&mut sh("echo broken deb >&2; exit 2"), &mut cat(), &mut Silent).unwrap_err();
    assert_eq!(error.to_string(), "`sh` failed (exit status: 2): broken deb");
    let error = pipe(&mut sh("yes"), &mut sh("exit 4"), &mut Silent).unwrap_err();
    assert!(error.to_string().contains("exit status: 4"), "{error}");
}
