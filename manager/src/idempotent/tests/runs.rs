//! One call after the other.

use super::*;

#[tokio::test]
async fn the_second_call_is_a_hit_with_the_same_bytes() {
    let host = Host::new();
    host.write("a", "1");
    assert_eq!(host.call(call("{\"n\": 1}", &["a"])).await, ran("1"));
    assert_eq!(host.call(call(" {\"n\":1}", &["a"])).await, hit("1"));
    assert_eq!(host.call(call("{\"n\":2}", &["a"])).await, ran("2"));
    let verdict = host.sibling().run(call("{\"n\":1}", &["a"]), host.work()).await.unwrap();
    assert_eq!((verdict, host.runs()), (hit("1"), 2), "and after a restart");
}

#[tokio::test]
async fn any_bytes_come_back_as_they_were() {
    let host = Host::new();
    let bytes: Bytes = (0..=255).collect::<Vec<u8>>().into();
    let result = bytes.clone();
    host.idempotent.run(call("1", &[]), async { Ok(result) }).await.unwrap();
    assert_eq!(host.call(call("1", &[])).await.result, Ok(bytes));
}

#[tokio::test]
async fn a_change_of_a_resource_runs_again() {
    let host = Host::new();
    host.write("a", "1");
    host.write("b", "1");
    host.call(call("1", &["a", "b"])).await;
    // Same length, and within the same tick of the file system's clock as likely as not.
    host.write("b", "2");
    assert_eq!(host.call(call("1", &["a", "b"])).await, ran("2"));
    assert_eq!(host.call(call("1", &["a", "b"])).await, hit("2"));
    host.write("b", "1");
    assert_eq!(host.call(call("1", &["a", "b"])).await, ran("3"));
}

#[tokio::test]
async fn deploying_runs_again() {
    let host = Host::new();
    host.call(call_of("acme", "s1", "1", &[])).await;
    assert_eq!(host.call(call_of("acme", "s2", "1", &[])).await, ran("2"));
    assert_eq!(host.call(call_of("acme", "s1", "1", &[])).await, hit("1"), "back again");
}

#[tokio::test]
async fn a_missing_resource_runs_every_time() {
    let host = Host::new();
    assert_eq!(host.call(call("1", &["a"])).await, ran("1"));
    assert_eq!(host.call(call("1", &["a"])).await, ran("2"));
    host.write("a", "1");
    assert_eq!(host.call(call("1", &["a"])).await, ran("3"));
    assert_eq!(host.call(call("1", &["a"])).await, hit("3"));
    std::fs::remove_file(host.path("acme", "a")).unwrap();
    assert_eq!(host.call(call("1", &["a"])).await, ran("4"));
}

#[tokio::test]
async fn failures_are_not_stored() {
    let host = Host::new();
    let failed = host.idempotent.run(call("1", &[]), async { Err("no".to_owned()) }).await;
    assert_eq!(failed.unwrap().result, Err("no".to_owned()));
    assert_eq!(host.call(call("1", &[])).await, ran("1"), "and its lease is given up");
    assert_eq!(host.call(call("1", &[])).await, hit("1"));
}

#[tokio::test]
async fn what_changed_midway_is_not_stored() {
    let host = Host::new();
    host.write("a", "1");
    let path = host.path("acme", "a");
    let meddles = async {
        std::fs::write(path, "2").unwrap();
        Ok("old".into())
    };
    let verdict = host.idempotent.run(call("1", &["a"]), meddles).await.unwrap();
    assert_eq!(verdict, ran("old"), "returned");
    assert_eq!(host.call(call("1", &["a"])).await, ran("1"), "but not kept");
    assert_eq!(host.call(call("1", &["a"])).await, hit("1"));
}

#[tokio::test]
async fn a_removed_function_keeps_nothing() {
    let host = Host::new();
    let ledger = host.ledger.clone();
    let removed = async {
        ledger.remove_function("acme", "f").unwrap();
        Ok("last".into())
    };
    let verdict = host.idempotent.run(call("1", &[]), removed).await.unwrap();
    assert_eq!(verdict, ran("last"));
    host.ledger.put_function(&function("acme")).unwrap();
    assert_eq!(host.call(call("1", &[])).await, ran("1"));
}

#[tokio::test]
async fn tenants_share_nothing() {
    let host = Host::new();
    for tenant in ["acme", "other"] {
        std::fs::write(host.path(tenant, "a"), "1").unwrap();
    }
    assert_eq!(host.call(call_of("acme", "s1", "1", &["a"])).await, ran("1"));
    assert_eq!(host.call(call_of("other", "s1", "1", &["a"])).await, ran("2"));
    // Even one that could guess the other's key.
    let stolen = Request {
        key: call_of("acme", "s1", "1", &["a"]).key,
        ..call_of("other", "s1", "1", &["a"])
    };
    assert_eq!(host.call(stolen).await, ran("3"));
    assert_eq!(host.call(call_of("acme", "s1", "1", &["a"])).await, hit("1"));
}

#[tokio::test(start_paused = true)]
async fn results_run_out() {
    let host = Host::new();
    host.call(call("1", &[])).await;
    tokio::time::advance(Duration::from_secs(3599)).await;
    assert_eq!(host.call(call("1", &[])).await, hit("1"));
    let shorter = Request { ttl: Duration::from_secs(60), ..call("1", &[]) };
    assert_eq!(host.call(shorter).await, ran("2"), "by the policy of now");
    tokio::time::advance(Duration::from_secs(61)).await;
    assert_eq!(host.call(call("1", &[])).await, ran("3"), "by the policy of then");
}

#[tokio::test]
async fn a_callers_key_hits_whatever_the_event() {
    let host = Host::new();
    let environment = BTreeMap::new();
    let (tenant, function, lineage, resources) = ("acme", "f", "s1", &[]);
    let work = Work { tenant, function, lineage, environment: &environment, resources };
    let request = |key: &[u8]| Request {
        key: Key::of_caller(work, &OwnKey::parse(key).unwrap()),
        ..call("any", &[])
    };
    assert_eq!(host.call(request(b"order 7")).await, ran("1"));
    assert_eq!(host.call(request(b"order 7")).await, hit("1"));
    assert_eq!(host.call(request(b"order 8")).await, ran("2"));
}
