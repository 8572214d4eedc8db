//! Tests of the actions as methods; `api::lambda` has them over HTTP.

use super::request::{Concurrency, Precondition, Publish, UpdateCode};
use super::testing::{Bench, creation, one, package, settings, snapshot, two, variable};
use super::*;
use crate::ledger::Ledger;
use crate::model::{Quota, State};

#[test]
fn what_was_being_built_is_built_after_a_restart() {
    let mut bench = Bench::new();
    bench.active("done");
    bench.active("changed");
    bench.create("pending");
    let precondition = Precondition::default();
    let change = variable("AB", "1");
    bench.control.update_configuration(&one(), "changed", change, &precondition).unwrap();

    let bench = bench.restarted();
    let mut unbuilt: Vec<String> =
        bench.control.unbuilt().into_iter().map(|job| job.function).collect();
    unbuilt.sort();
    assert_eq!(unbuilt, ["changed", "pending"]);
    assert_eq!(bench.control.snapshots().len(), 2);
}

#[test]
fn results_for_what_is_gone_are_not_wanted() {
    let mut bench = Bench::new();
    bench.create("f");
    let job = bench.builds.try_recv().unwrap();
    let revision = bench.control.plan(&job).unwrap().version.revision;
    bench.control.delete(&one(), "f", None).unwrap();
    assert!(bench.control.plan(&job).is_none());
    assert!(!bench.control.built(&job, &revision, Ok(snapshot("s"))).unwrap());
    // The same name again is another function.
    bench.create("f");
    assert!(!bench.control.built(&job, &revision, Ok(snapshot("s"))).unwrap());
    let function = bench.control.catalog().get("one", "f").unwrap();
    assert_eq!(function.latest.state, State::Pending);
}

#[test]
fn deleting_lets_go_of_code_and_snapshots() {
    let mut bench = Bench::new();
    bench.active("f");
    assert!(bench.control.codes().used("one") > 0);
    bench.control.delete(&one(), "f", None).unwrap();
    assert_eq!(bench.control.codes().used("one"), 0);
    assert!(bench.retired.try_recv().is_ok());
}

#[test]
fn old_code_stays_as_long_as_a_version_has_it() {
    let mut bench = Bench::new();
    bench.active("f");
    let old = bench.control.codes().used("one");
    bench.control.publish(&one(), "f", Publish::default()).unwrap();
    bench.build_all();
    let request = UpdateCode::default();
    bench.control.update_code(&one(), "f", package("new"), &request).unwrap();
    assert!(bench.control.codes().used("one") > old);
    let first = bench.control.choose(&one(), "f", Some("1")).unwrap();
    assert!(bench.control.package(&one(), &first).is_ok());
    bench.control.delete(&one(), "f", Some("1")).unwrap();
    assert!(bench.control.package(&one(), &first).is_err());
}

#[test]
fn quotas_are_checked_first() {
    let mut bench = Bench::new();
    bench.limit(Quota { functions: 1, ..Quota::default() });
    bench.active("f");
    let used = bench.control.codes().used("one");
    let mut request = creation("g");
    request.code = Some(package("other"));
    let error = bench.control.create(&one(), request, settings()).unwrap_err();
    assert_eq!(error.name, "ServiceQuotaExceededException");
    assert_eq!(bench.control.codes().used("one"), used, "nothing is left of it");
    bench.control.create(&two(), creation("g"), settings()).unwrap();

    bench.limit(Quota { storage: used, ..Quota::default() });
    let request = UpdateCode::default();
    let error = bench.control.update_code(&one(), "f", package("new"), &request).unwrap_err();
    assert_eq!(error.name, "CodeStorageExceededException");
}

#[test]
fn reservations_share_what_the_tenant_has() {
    let mut bench = Bench::new();
    bench.limit(Quota { concurrency: 10, ..Quota::default() });
    bench.active("f");
    bench.active("g");
    let reserve = |name, count| {
        let reserved_concurrent_executions = Some(count);
        let request = Concurrency { reserved_concurrent_executions, ..Concurrency::default() };
        bench.control.put_concurrency(&one(), name, &request)
    };
    assert_eq!(reserve("f", 6).unwrap(), 6);
    assert!(reserve("g", 5).is_err());
    assert_eq!(reserve("g", 4).unwrap(), 4);
    assert_eq!(reserve("f", 5).unwrap(), 5);
    assert!(reserve("f", -1).is_err());
    assert_eq!(bench.control.account_settings(&one()).unwrap().unreserved, 1);
}

#[test]
fn a_description_needs_no_build_and_another_try_does() {
    let mut bench = Bench::new();
    bench.active("f");
    let described = || request::Settings { description: Some("new".into()), ..Default::default() };
    let precondition = Precondition::default();
    bench.control.update_configuration(&one(), "f", described(), &precondition).unwrap();
    assert_eq!(bench.build_all(), 0);

    let change = variable("AB", "1");
    bench.control.update_configuration(&one(), "f", change, &precondition).unwrap();
    bench.fail_next();
    bench.control.update_configuration(&one(), "f", described(), &precondition).unwrap();
    assert_eq!(bench.build_all(), 1);
}

#[test]
fn many_at_once_leave_nothing_behind() {
    let mut bench = Bench::new();
    let control = &bench.control;
    std::thread::scope(|scope| {
        for thread in 0..8 {
            scope.spawn(move || {
                for round in 0..10 {
                    let name = format!("f{}", (thread + round) % 4);
                    let mut request = creation(&name);
                    request.code = Some(package(&format!("{thread} {round}")));
                    // Some find the name taken, or gone: what counts is that what is there is whole.
                    let _ = control.create(&one(), request, settings());
                    if let Ok(chosen) = control.choose(&one(), &name, None)
                        && control.package(&one(), &chosen).is_err()
                    {
                        let now = control.choose(&one(), &name, None);
                        let revision = now.map(|now| now.version().revision.clone());
                        assert_ne!(revision, Ok(chosen.version().revision.clone()));
                    }
                    let _ = control.delete(&one(), &name, None);
                }
            });
        }
    });
    assert_eq!((control.catalog().count("one"), control.codes().used("one")), (0, 0));
    assert_eq!(bench.build_all(), 0);
    assert!(bench.ledger.functions().unwrap().is_empty());
}
