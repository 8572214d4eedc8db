//! Tests of what a function may be configured as.

use super::super::request::{EphemeralStorage, SnapStart, Tracing, Vpc};
use super::super::testing::{settings, variable};
use super::*;

fn refused(change: impl FnOnce(&mut Settings)) -> String {
    let mut given = settings();
    change(&mut given);
    let error = create(given).unwrap_err();
    assert_eq!(error.name, "InvalidParameterValueException");
    error.message
}

#[test]
fn what_is_not_said_is_as_with_lambda() {
    let made = create(settings()).unwrap();
    assert_eq!((made.timeout_s, made.memory_mib, made.ephemeral_mib), (3, 128, 512));
    assert_eq!((&*made.tracing, &*made.snap_start), ("PassThrough", "None"));
}

#[test]
fn bounds_hold() {
    for value in [0, -1, 901, i64::MAX] {
        refused(|s| s.timeout = Some(value));
    }
    for value in [127, 10_241, -128] {
        refused(|s| s.memory_size = Some(value));
    }
    refused(|s| s.ephemeral_storage = Some(EphemeralStorage { size: Some(511) }));
    refused(|s| s.description = Some("x".repeat(257)));
    refused(|s| s.handler = Some("x".repeat(129)));
    refused(|s| s.handler = Some("a b".into()));
    refused(|s| s.handler = None);
    refused(|s| s.role = None);
    refused(|s| s.role = Some("admin".into()));
    refused(|s| s.tracing_config = Some(Tracing { mode: Some("Full".into()) }));
    refused(|s| s.snap_start = Some(SnapStart { apply_on: Some("All".into()) }));

    let edges = [(1, 128), (900, 10_240)];
    for (timeout, memory) in edges {
        let given = Settings { timeout: Some(timeout), memory_size: Some(memory), ..settings() };
        create(given).unwrap();
    }
}

#[test]
fn other_runtimes_are_refused_by_the_names_of_ours() {
    let message = refused(|s| s.runtime = Some("java21".into()));
    for runtime in RUNTIMES {
        assert!(message.contains(runtime));
        create(Settings { runtime: Some(runtime.into()), ..settings() }).unwrap();
    }
}

#[test]
fn environments_are_small_and_well_named() {
    let set = |name: &'static str, value: &str| {
        let environment = variable(name, value).environment;
        move |s: &mut Settings| s.environment = environment
    };
    assert!(refused(set("AWS_REGION", "x")).contains("AWS_REGION"));
    for name in ["1A", "A", "", "A-B", "A=B"] {
        refused(set(name, "x"));
    }
    refused(set("AB", "a\0b"));
    refused(set("AB", &"x".repeat(4088)));
    // {"AB":"…"} has 9 characters besides the value.
    let fits = variable("AB", &"x".repeat(4087)).environment;
    let made = create(Settings { environment: fits, ..settings() });
    assert_eq!(made.unwrap().environment["AB"].len(), 4087);
}

#[test]
fn what_cannot_be_done_is_refused() {
    refused(|s| s.vpc_config = Some(Vpc { subnet_ids: vec!["subnet-1".into()], ..Vpc::default() }));
    refused(|s| s.kms_key_arn = Some("arn:aws:kms:::key".into()));
    refused(|s| s.architectures = Some(vec!["arm64".into()]));
    refused(|s| s.layers = Some(vec!["layer".into()]));
    let layer = |n: u32| format!("arn:aws:lambda:r:1:layer:l:{n}");
    refused(|s| s.layers = Some(vec![layer(1), layer(2)]));
    let six = (0..6).map(|n| format!("arn:aws:lambda:r:1:layer:l{n}:1")).collect();
    refused(|s| s.layers = Some(six));
    create(Settings { vpc_config: Some(Vpc::default()), ..settings() }).unwrap();
    create(Settings { architectures: Some(vec!["x86_64".into()]), ..settings() }).unwrap();
}

#[test]
fn a_change_leaves_the_rest_and_says_whether_to_build() {
    let before = create(Settings { timeout: Some(9), ..settings() }).unwrap();
    let mut after = before.clone();
    let described = Settings { description: Some("new".into()), ..Settings::default() };
    apply(described, &mut after).unwrap();
    assert_eq!((after.timeout_s, &*after.description), (9, "new"));
    assert!(!differ(&before, &after));
    apply(variable("AB", "x"), &mut after).unwrap();
    assert!(differ(&before, &after));
}
