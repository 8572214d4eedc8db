//! What `calve snapshot build` refuses before it asks for a machine, and the doctor.
#![allow(clippy::unwrap_used, reason = "in the functions that the tests are made of")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use common::{Place, Said, function};

/// Builds `code` with some more options.
fn build(place: &Place, code: &Path, more: &[&str]) -> Said {
    let mut command = place.command(["snapshot", "build", "--runtime", "python3.11", "--handler"]);
    command.args(["app.handler", "--code"]).arg(code).args(more).arg("n");
    command.output().unwrap().into()
}

#[test]
fn a_code_folder_must_be_one() {
    let place = Place::new();
    let folder = place.folder.path().join("code");
    build(&place, &folder, &[]).status(2).silent().line("code folder").line("does not exist");
    fs::create_dir(&folder).unwrap();
    build(&place, &folder, &[]).status(2).line("is empty: put the function's files into it");
    let file = folder.join("app.py");
    fs::write(&file, "").unwrap();
    build(&place, &file, &[]).status(2).line("is a file: name the folder it is in");
    let _socket = UnixListener::bind(folder.join("socket")).unwrap();
    build(&place, &folder, &[]).status(2).line("is a socket");
    assert!(!place.store().exists(), "nothing was made");
}

#[test]
fn a_layer_must_be_a_folder_or_a_zip_file() {
    let place = Place::new();
    let code = function("python");
    let layer = place.folder.path().join("layer");
    let more = ["--layer", layer.to_str().unwrap()];
    build(&place, &code, &more).status(2).silent().line("layer does not exist");
    fs::create_dir(&layer).unwrap();
    build(&place, &code, &more).status(2).line("layer is empty");
    fs::remove_dir(&layer).unwrap();
    fs::write(&layer, "no zip").unwrap();
    build(&place, &code, &more).status(2).line("neither a folder nor a zip file");
    fs::write(&layer, "PK\x03\x04 and nothing else").unwrap();
    build(&place, &code, &more).status(2).line("layer: the package is not a zip file");
    assert!(!place.store().exists(), "nothing was made");
}

#[test]
fn an_unreadable_code_folder_is_refused() {
    let place = Place::new();
    let folder = place.folder.path().join("code");
    fs::create_dir(&folder).unwrap();
    let file = folder.join("app.py");
    fs::write(&file, "").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o0)).unwrap();
    // Root reads everything, unless it gives that up.
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all", "--"]);
    command.arg(common::program()).args(["snapshot", "build", "--runtime", "node20", "--handler"]);
    command.args(["a.b", "n", "--code"]).arg(&folder).env("CALVE_STORE", place.store());
    let said = Said::from(command.output().unwrap());
    said.status(2).silent().line("app.py of the code folder").line("Permission denied");
}

#[test]
fn a_kernel_or_root_that_is_none_is_refused() {
    let place = Place::new();
    let code = function("python");
    let text = place.folder.path().join("text");
    fs::write(&text, "no kernel").unwrap();
    let text = text.to_str().unwrap();
    build(&place, &code, &["--kernel", text]).status(2).silent().line("is no kernel");
    build(&place, &code, &["--kernel", "/nonexistent"]).status(2).line("cannot read kernel");
    build(&place, &code, &["--root", "/nonexistent"]).status(2).line("cannot read root image");
    build(&place, &code, &["--root", "/"]).status(2).line("is no regular file");
    Said::from(place.command(["boot", "--kernel", text]).output().unwrap())
        .status(2)
        .silent()
        .line("give the vmlinux or bzImage");
}

#[test]
fn a_name_that_is_wrong_or_in_use_is_told_first() {
    let place = Place::new();
    let code = function("python");
    let command = |name| {
        let mut command = place.command(["snapshot", "build", "--runtime", "node20", "--handler"]);
        command.args(["a.b", name, "--code"]).arg(&code).output().unwrap()
    };
    Said::from(command("a/b")).status(2).silent().line("`a/b` is no snapshot name");
    let store = calve_snapshots::Store::open(place.store()).unwrap();
    let _draft = store.draft("busy").unwrap();
    Said::from(command("busy")).status(2).silent().line("`busy` is being built by another process");
}

#[test]
fn a_full_disk_under_temporary_files_is_told() {
    let place = Place::new();
    let code = place.folder.path().join("code");
    fs::create_dir(&code).unwrap();
    fs::write(code.join("app.py"), vec![b'#'; 100 << 10]).unwrap();
    // The shell bounds files at 4 KiB: what is written beyond fails, as on a full disk.
    let script = format!(
        "ulimit -f 4; trap '' XFSZ; exec {} snapshot build --runtime python3.11 --handler a.b --code {} n",
        common::program().display(),
        code.display()
    );
    let mut command = Command::new("bash");
    command
        .args(["-c", &script])
        .env("CALVE_STORE", place.store())
        .env("TMPDIR", place.temporary());
    let said = Said::from(command.output().unwrap()).status(3).silent();
    said.line("File too large");
    assert_eq!(fs::read_dir(place.temporary()).unwrap().count(), 0);
}

#[test]
fn the_doctor_s_verdict_is_its_exit_status() {
    let place = Place::new();
    let said = place.calve(["doctor", "--json"]);
    let report = &said.json()[0];
    let checks = report["checks"].as_array().unwrap();
    assert!(checks.len() > 8, "{report}");
    let missing = checks.iter().any(|check| check["status"] == "missing");
    assert_eq!(report["able"], !missing);
    assert_eq!(said.status, Some(if missing { 3 } else { 0 }), "{said:#?}");
    for check in checks {
        assert_eq!(check["remedy"].is_null(), check["status"] == "ok", "{check}");
    }
    let table = place.calve(["doctor"]);
    assert_eq!(table.status, said.status);
    let remedies = checks.iter().filter(|check| !check["remedy"].is_null()).count();
    assert_eq!(table.stdout.lines().count(), 1 + checks.len() + remedies);
}

#[test]
fn a_processor_without_virtualisation_cannot() {
    let flags = fs::read_to_string("/proc/cpuinfo").unwrap();
    let flags = flags.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    let able = flags.split_whitespace().any(|flag| flag == "vmx" || flag == "svm");
    let place = Place::new();
    common::frozen::plant(&place.store(), "n");
    let doctor = &place.calve(["doctor", "--json"]).json()[0];
    let check = doctor["checks"].as_array().unwrap().iter().find(|c| c["name"] == "virtualisation");
    assert!(able || check.unwrap()["status"] == "missing", "{doctor}");
    if !able {
        let said = place.calve(["run", "n", "--event", "{}"]).status(3).silent();
        said.line("no VMX or SVM").line("use a bare-metal host");
        build(&place, &function("python"), &[]).status(3).silent().line("no VMX or SVM");
    }
}

#[test]
fn a_missing_worker_is_named() {
    let place = Place::new();
    let folder = place.folder.path();
    let kernel = common::guest::kernel(folder, common::guest::HELLO);
    let mut command = place.command(["boot", "--kernel"]);
    command.arg(kernel).env("CALVE_WORKER", folder.join("none"));
    Said::from(command.output().unwrap()).status(3).silent().line("calve-worker");
}

#[test]
fn packages_are_there_for_the_lab() {
    assert!(common::lab::client().join("awslambdaric/__main__.py").is_file());
    for (requirement, module) in common::lab::CONTRACT_PACKAGES {
        assert!(common::lab::package(requirement, module).join(module).exists());
    }
}
