//! Tests of where calls go.

use super::super::request::{AliasSettings, Precondition, Publish, RoutingConfig};
use super::super::testing::{Bench, one, variable};

/// A function with versions 1 and 2, and an alias that sends a tenth of all calls to 2.
fn bench() -> Bench {
    let mut bench = Bench::new();
    bench.active("f");
    bench.control.publish(&one(), "f", Publish::default()).unwrap();
    bench.build_all();
    let change = variable("AB", "2");
    bench.control.update_configuration(&one(), "f", change, &Precondition::default()).unwrap();
    bench.build_all();
    bench.control.publish(&one(), "f", Publish::default()).unwrap();
    bench.build_all();
    let weights = Some([("2".to_owned(), 0.1)].into());
    let alias = AliasSettings {
        name: Some("prod".into()),
        function_version: Some("1".into()),
        routing_config: Some(RoutingConfig { additional_version_weights: weights }),
        ..AliasSettings::default()
    };
    bench.control.create_alias(&one(), "f", alias).unwrap();
    bench
}

#[test]
fn aliases_divide_by_weight() {
    let bench = bench();
    let version = |random| bench.control.resolve("one", "f", Some("prod"), random).unwrap().version;
    assert_eq!((version(0), version(99_999)), ("2".into(), "2".into()));
    assert_eq!((version(100_000), version(999_999)), ("1".into(), "1".into()));
}

#[test]
fn qualifiers_choose_versions_with_snapshots_of_their_own() {
    let bench = bench();
    let ask = |name, qualifier| bench.control.resolve("one", name, qualifier, 500_000).unwrap();
    let (latest, first) = (ask("f", None), ask("f:1", None));
    assert_eq!((&*latest.version, &*first.version), ("$LATEST", "1"));
    assert_eq!((&*latest.qualifier, &*first.qualifier), ("$LATEST", "1"));
    assert_ne!(latest.snapshot, first.snapshot);
    assert_eq!(
        ask("f", Some("prod")).arn,
        "arn:aws:lambda:eu-central-1:111111111111:function:f:prod"
    );
    assert_eq!(ask("111111111111:function:f", None).version, "$LATEST");
}

#[test]
fn what_is_not_there_is_not_found() {
    let bench = bench();
    for (tenant, name, qualifier) in
        [("one", "g", None), ("one", "f", Some("9")), ("one", "f", Some("x")), ("two", "f", None)]
    {
        let error = bench.control.resolve(tenant, name, qualifier, 0).unwrap_err();
        assert_eq!(error.name, "ResourceNotFoundException", "{tenant} {name}");
        assert!(error.message.starts_with("Function not found: arn:aws:lambda:"));
    }
}

#[test]
fn what_is_not_built_conflicts_and_an_update_does_not() {
    let mut bench = Bench::new();
    bench.create("f");
    let pending = bench.control.resolve("one", "f", None, 0).unwrap_err();
    assert_eq!((pending.status.as_u16(), pending.name), (409, "ResourceConflictException"));
    bench.fail_next();
    let failed = bench.control.resolve("one", "f", None, 0).unwrap_err();
    assert!(failed.message.contains("it raised"), "{failed}");

    bench.active("g");
    let before = bench.control.resolve("one", "g", None, 0).unwrap().snapshot;
    let change = || variable("AB", "2");
    let precondition = Precondition::default();
    bench.control.update_configuration(&one(), "g", change(), &precondition).unwrap();
    assert_eq!(bench.control.resolve("one", "g", None, 0).unwrap().snapshot, before);
    bench.fail_next();
    assert_eq!(bench.control.resolve("one", "g", None, 0).unwrap().snapshot, before);
    bench.control.update_configuration(&one(), "g", change(), &precondition).unwrap();
    bench.build_all();
    assert_ne!(bench.control.resolve("one", "g", None, 0).unwrap().snapshot, before);
    assert_eq!(bench.retired.try_recv().unwrap(), before.name);
}
