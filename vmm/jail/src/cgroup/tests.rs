use super::*;

#[test]
fn figures_are_found_by_their_whole_name() {
    let events = "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 1\n";
    assert_eq!(field(events, "oom_kill"), Some(2));
    assert_eq!(field(events, "oom"), Some(3));
    assert_eq!(field(events, "kill"), None);
    assert_eq!(field("throttled_usec lots\n", "throttled_usec"), None);
    assert_eq!(field("", "max"), None);
}

#[test]
fn groups_of_workers_are_known_by_their_names() {
    for ours in ["1-0", "4194304-18446744073709551615"] {
        assert!(is_workers(ours), "{ours}");
    }
    for other in ["", "-", "1-", "-1", "1", "app.slice", "user@1000-0", "1-0-0", "+1-0", "workers"]
    {
        assert!(!is_workers(other), "{other}");
    }
}

#[test]
fn a_folder_outside_of_cgroup_v2_is_refused_and_not_made() {
    let folder = std::env::temp_dir().join("calve-no-cgroup");
    let error = Cgroups::open(&folder, false).unwrap_err();
    assert!(matches!(&error, CgroupError::NotV2(path) if *path == folder), "{error}");
    assert!(error.to_string().contains("CALVE_CGROUP"));
    assert!(!folder.exists());
}

#[test]
fn only_the_last_part_of_a_path_may_be_missing() {
    let error = Cgroups::open("/sys/fs/cgroup/calve-none/calve", false).unwrap_err();
    assert!(error.to_string().starts_with("cannot find /sys/fs/cgroup/calve-none: "), "{error}");
}
