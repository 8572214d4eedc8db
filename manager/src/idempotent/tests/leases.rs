//! Leases of other processes, the dead ones among them.

use crate::idempotent::claim::Claim;
use crate::ledger::Ledger;

use super::*;

fn claimed(host: &Host, request: &Request, seconds: u64) -> bool {
    let until = now() + seconds * 1000;
    host.ledger.claim("acme", request.key.as_str(), "somebody", now(), until).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_lease_of_the_dead_is_waited_for() {
    let host = Host::new();
    let request = call("1", &[]);
    assert!(claimed(&host, &request, 30));
    let began = tokio::time::Instant::now();
    assert_eq!(host.call(request).await, ran("1"));
    let waited = began.elapsed();
    assert!((30..33).contains(&waited.as_secs()), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_not_waited_for_any_longer_than_one_wants() {
    let host = Host::new();
    let request = Request { patience: Duration::from_secs(5), ..call("1", &[]) };
    assert!(claimed(&host, &request, 30));
    let began = tokio::time::Instant::now();
    let refused = host.idempotent.run(request, host.work()).await;
    assert!(matches!(refused, Err(RunError::Patience)));
    assert_eq!((began.elapsed().as_secs(), host.runs()), (5, 0));
}

#[tokio::test(start_paused = true)]
async fn what_another_host_stores_is_a_hit_for_who_waits() {
    let host = Host::new();
    let sibling = host.sibling();
    let first = host.idempotent.run(call("1", &[]), host.work_after(Duration::from_secs(10)));
    let second = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        sibling.run(call("1", &[]), host.work()).await
    };
    let (first, second) = tokio::join!(first, second);
    assert_eq!((first.unwrap(), second.unwrap()), (ran("1"), hit("1")));
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_extended_while_the_run_goes_on() {
    let host = Host::new();
    let request = call("1", &[]);
    let long = host.idempotent.run(request.clone(), host.work_after(LEASE * 10));
    let others = async {
        for _ in 0..19 {
            tokio::time::sleep(LEASE / 2).await;
            assert!(!claimed(&host, &request, 1));
        }
    };
    let (long, ()) = tokio::join!(long, others);
    assert_eq!(long.unwrap(), ran("1"));
    assert!(claimed(&host, &request, 1), "and given up afterwards");
    assert_eq!(host.call(request).await, hit("1"));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_lost_its_lease_is_not_stored() {
    let host = Host::new();
    let request = call("1", &[]);
    let (ledger, key) = (host.ledger.clone(), request.key.clone());
    let stopped = async move {
        // The whole host is: nothing is extended meanwhile.
        tokio::time::advance(LEASE * 2).await;
        let at = now();
        assert!(ledger.claim("acme", key.as_str(), "somebody", at, at + 1000).unwrap());
        Ok("late".into())
    };
    assert_eq!(host.idempotent.run(request.clone(), stopped).await.unwrap(), ran("late"));
    assert!(!host.ledger.claim("acme", request.key.as_str(), "third", now(), now() + 1).unwrap());
    assert_eq!(host.call(request).await, ran("1"), "when somebody's lease has ended");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_given_up_gives_its_lease_up() {
    let host = Host::new();
    let request = call("1", &[]);
    let forever = host.idempotent.run(request.clone(), std::future::pending());
    assert!(tokio::time::timeout(LEASE / 2, forever).await.is_err());
    let began = tokio::time::Instant::now();
    assert_eq!(host.call(request).await, ran("1"));
    assert!(began.elapsed() < LEASE / 4);
}

#[tokio::test]
async fn a_ledger_that_fails_is_told_of() {
    let host = Host::new();
    let database = rusqlite::Connection::open(host.directory.path().join("ledger")).unwrap();
    database.execute("DROP TABLE claims", []).unwrap();
    for _ in 0..2 {
        let refused = host.idempotent.run(call("1", &[]), host.work()).await;
        assert!(matches!(refused, Err(RunError::Ledger(_))));
    }
    assert_eq!(host.runs(), 0);
}

#[tokio::test]
async fn a_lease_that_was_given_up_is_not_taken_by_a_thread_that_comes_late() {
    let host = Host::new();
    let request = call("1", &[]);
    let (tenant, owner) = ("acme".to_owned(), "me".to_owned());
    let clock: Clock = Arc::new(now);
    let claim = Claim::new(host.ledger.clone(), clock, tenant, request.key.clone(), owner, 1000);
    let lease = claim.lease.clone();
    lease.finish(None).unwrap();
    assert!(!lease.take().unwrap());
    assert!(claimed(&host, &request, 1));
}
