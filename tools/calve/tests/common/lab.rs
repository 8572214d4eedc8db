//! Functions in machines, for tests that run in the lab.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::{Place, Said, function};

/// Version of AWS's runtime client that is tested.
const CLIENT: &str = "awslambdaric==4.2.2";

/// The function of `functions/python`, frozen after one call.
pub(crate) fn python() -> &'static Place {
    static PLACE: OnceLock<Place> = OnceLock::new();
    PLACE.get_or_init(|| {
        let place = Place::in_memory();
        let more = ["--env", "STAGE=test", "--warm", "{}"];
        let said = build(&place, "python3.11", &function("python"), "app.handler", &more, "py");
        let said = said.status(0);
        assert!(said.stdout.starts_with("sha256:"), "{said:#?}");
        assert_eq!(said.stderr, "", "{said:#?}");
        place
    })
}

/// Builds a snapshot called `name`.
pub(crate) fn build(
    place: &Place,
    runtime: &str,
    code: &Path,
    handler: &str,
    more: &[&str],
    name: &str,
) -> Said {
    build_command(place, runtime, code, handler, more, name).output().unwrap().into()
}

/// The command that builds a snapshot called `name`, with the cache's kernel.
pub(crate) fn build_command(
    place: &Place,
    runtime: &str,
    code: &Path,
    handler: &str,
    more: &[&str],
    name: &str,
) -> Command {
    let mut command = place.command(["snapshot", "build", "--runtime", runtime]);
    command.args(["--handler", handler, "--code"]).arg(code);
    // An emulated host is some 20 times slower than those that the defaults are for.
    for (option, seconds) in [("--init-timeout", "120"), ("--timeout", "60")] {
        if !more.contains(&option) {
            command.args([option, seconds]);
        }
    }
    command.args(more).arg(name);
    command
}

/// Calls `py` with `event`.
pub(crate) fn run(event: &str, more: &[&str]) -> Said {
    python().calve(["run", "py", "--event", event].iter().chain(more))
}

/// Folder with AWS's runtime client for Python.
pub(crate) fn client() -> PathBuf {
    package(CLIENT, "awslambdaric")
}

/// Folder with a package, and what it needs, as PyPI has it. Installed here by the first who asks, and never in the lab,
/// which has no network.
pub(crate) fn package(requirement: &str, module: &str) -> PathBuf {
    let parent = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let folder = parent.join(requirement);
    if !folder.join(module).exists() {
        // Installed beside and renamed: half an install is not taken for a whole one.
        let fresh = tempfile::tempdir_in(parent).unwrap();
        let mut pip = Command::new("python3.11");
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", requirement]);
        let status = pip.arg("--target").arg(fresh.path()).status();
        assert!(
            status.is_ok_and(|s| s.success()),
            "cannot install {requirement}: apt-get install python3-pip"
        );
        std::fs::rename(fresh.keep(), &folder).unwrap();
    }
    folder
}

/// What the function of `functions/contract-python` imports: requirement and module.
pub(crate) const CONTRACT_PACKAGES: [(&str, &str); 2] =
    [("numpy==2.3.5", "numpy"), ("snapshot-restore-py==1.0.0", "snapshot_restore_py.py")];
