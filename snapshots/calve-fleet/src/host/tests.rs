use super::facts::Facts;
use super::probe::{available_kib, chosen, virtualisation};
use super::*;

fn server() -> Facts {
    Facts {
        virtualisation: Some("svm"),
        modules: vec!["kvm_amd"],
        kvm: Some(Ok(())),
        cgroup_v2: true,
        cgroups: Some(Ok("/sys/fs/cgroup/calve".into())),
        controllers: ["cpu", "memory", "pids", "io"].map(String::from).to_vec(),
        available_kib: 8 << 20,
        user_namespaces: Some(1000),
        open_files: 1 << 16,
        thp: "madvise".into(),
        ..Facts::default()
    }
}

fn find(facts: &Facts, name: &str) -> Check {
    facts.checks().into_iter().find(|check| check.name == name).unwrap()
}

#[test]
fn a_server_has_no_complaints() {
    assert!(server().verdict().is_ok());
    let complaints: Vec<_> =
        server().checks().into_iter().filter(|c| c.state != State::Good).collect();
    assert_eq!(complaints, []);
}

#[test]
fn a_kvm_without_hardware_is_no_kvm() {
    let facts = Facts { virtualisation: None, modules: vec!["kvm_pvm"], ..server() };
    let error = facts.verdict().unwrap_err();
    assert!(matches!(error, HostError::NoVirtualisation { pvm: true }));
    assert!(error.to_string().contains("PVM"));
    let check = find(&facts, "virtualisation");
    assert_eq!(check.state, State::Bad);
    assert!(check.remedy.is_some_and(|r| r.contains("bare-metal")));
}

#[test]
fn a_missing_device_names_the_module() {
    let facts = Facts { device: Some(nix::libc::ENOENT), intel: true, ..server() };
    assert!(facts.verdict().unwrap_err().to_string().contains("kvm_intel"));
    let facts = Facts { device: Some(nix::libc::ENOENT), ..server() };
    assert!(facts.verdict().unwrap_err().to_string().contains("kvm_amd"));
}

#[test]
fn a_closed_device_names_the_group() {
    let facts = Facts { device: Some(nix::libc::EACCES), ..server() };
    assert!(matches!(facts.verdict(), Err(HostError::NoAccess(_))));
}

#[test]
fn cgroups_that_cannot_be_used_are_not_promised() {
    let why = "the cgroup /a cannot have the controllers cpu: enable them above it".to_owned();
    let check = find(&Facts { cgroups: Some(Err(why)), ..server() }, "cgroup");
    assert_eq!((check.state, check.remedy.as_deref()), (State::Poor, Some("enable them above it")));
    assert_eq!(find(&Facts { cgroups: None, ..server() }, "cgroup").state, State::Poor);
}

#[test]
fn whatever_is_not_good_has_a_remedy() {
    let worst = Facts {
        smt: true,
        ksm: true,
        thp: "always".into(),
        vulnerable: vec!["l1tf".into()],
        ..Facts::default()
    };
    for check in worst.checks() {
        assert_eq!(check.state != State::Good, check.remedy.is_some(), "{check:?}");
    }
}

#[test]
fn the_flags_decide_and_not_words_that_contain_them() {
    assert_eq!(virtualisation("flags\t: fpu vmx\n"), Some("vmx"));
    assert_eq!(virtualisation("flags\t: fpu svm_lock\nbugs: vmx\n"), None);
    assert_eq!(virtualisation(""), None);
}

#[test]
fn proc_and_sys_are_read_as_written() {
    assert_eq!(available_kib("MemTotal: 9 kB\nMemAvailable:   1234 kB\n"), 1234);
    assert_eq!(available_kib("MemAvailable: lots\n"), 0);
    assert_eq!(chosen("always [madvise] never\n"), "madvise");
    assert_eq!(chosen(""), "not available");
}

#[test]
fn this_host_can_be_surveyed() {
    let checks = survey();
    assert!(checks.len() > 5);
    let verdict = Facts::gather().verdict();
    let first = &checks[0];
    assert_eq!(first.state == State::Good, verdict.is_ok());
}
