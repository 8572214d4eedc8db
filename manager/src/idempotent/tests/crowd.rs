//! Many calls at once.

use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_duplicates_are_one_execution() {
    let host = Host::new();
    host.write("a", "1");
    let mut calls = JoinSet::new();
    for _ in 0..50 {
        let (idempotent, work) = (host.idempotent.clone(), host.work_after(LATER));
        calls.spawn(async move { idempotent.run(call("1", &["a"]), work).await.unwrap() });
    }
    let verdicts = calls.join_all().await;
    assert_eq!(host.runs(), 1);
    assert!(verdicts.iter().all(|it| it.result == Ok("1".into()) && !it.hit));
    assert_eq!(verdicts.iter().filter(|it| it.joined).count(), 49);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_duplicates_on_two_hosts_are_one_execution() {
    let host = Host::new();
    let engines = [host.idempotent.clone(), host.sibling()];
    let mut calls = JoinSet::new();
    for number in 0..50 {
        let (idempotent, work) = (engines[number % 2].clone(), host.work_after(LATER));
        calls.spawn(async move { idempotent.run(call("1", &[]), work).await.unwrap() });
    }
    let verdicts = calls.join_all().await;
    assert_eq!(host.runs(), 1);
    assert!(verdicts.iter().all(|it| it.result == Ok("1".into())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_comes_when_another_host_is_just_done_has_its_result() {
    let host = Host::new();
    let sibling = host.sibling();
    for number in 0..200_u32 {
        let event = number.to_string();
        let first = tokio::spawn({
            let (idempotent, request, work) =
                (host.idempotent.clone(), call(&event, &[]), host.work());
            async move { idempotent.run(request, work).await.unwrap() }
        });
        // At another moment of the other's way each time. Sleeping would be too coarse.
        let (began, wait) = (Instant::now(), Duration::from_micros(u64::from(number) * 25));
        while began.elapsed() < wait {
            std::hint::spin_loop();
        }
        let second = sibling.run(call(&event, &[]), host.work()).await.unwrap();
        assert_eq!(first.await.unwrap().result, second.result);
        assert_eq!(host.runs(), number + 1);
    }
}

#[tokio::test]
async fn a_failure_is_everybodys() {
    let host = Host::new();
    let (fail, failed) = oneshot::channel();
    let run = async { Err(failed.await.unwrap()) };
    let leader = host.idempotent.run(call("1", &[]), run);
    let joiner = host.idempotent.run(call("1", &[]), host.work());
    let later = async {
        tokio::time::sleep(LATER).await;
        fail.send("no".to_owned()).unwrap();
    };
    let (leader, joiner, ()) = tokio::join!(leader, joiner, later);
    assert_eq!((leader.unwrap().joined, host.runs()), (false, 0));
    assert_eq!(joiner.unwrap(), Verdict { result: Err("no".into()), hit: false, joined: true });
}

#[tokio::test]
async fn a_joiner_takes_over_from_a_leader_that_is_gone() {
    let host = Host::new();
    let (idempotent, work) = (host.idempotent.clone(), host.work_after(FOREVER));
    let leader = tokio::spawn(async move { idempotent.run(call("1", &[]), work).await });
    while host.runs() == 0 {
        tokio::task::yield_now().await;
    }
    let mut calls = JoinSet::new();
    for _ in 0..5 {
        let (idempotent, work) = (host.idempotent.clone(), host.work());
        calls.spawn(async move { idempotent.run(call("1", &[]), work).await.unwrap() });
    }
    tokio::time::sleep(LATER).await;
    leader.abort();
    let verdicts = calls.join_all().await;
    assert_eq!(host.runs(), 2, "the leader's and one more");
    assert!(verdicts.iter().all(|it| it.result == Ok("2".into())));
}

#[tokio::test]
async fn a_run_that_is_done_is_kept_though_its_caller_is_gone() {
    let host = Host::new();
    let began = Instant::now();
    // A leader that is dropped at whatever point of its way is followed by a call that has a result, and no run that was
    // done is done again.
    for micros in (0..20_000).step_by(500) {
        let event = micros.to_string();
        let done = Arc::new(AtomicU32::new(0));
        let counted = done.clone();
        let work = async move {
            counted.fetch_add(1, Ordering::SeqCst);
            Ok("first".into())
        };
        let time = Duration::from_micros(micros);
        let gone = tokio::time::timeout(time, host.idempotent.run(call(&event, &[]), work)).await;
        let next = host.idempotent.run(call(&event, &[]), async { Ok("second".into()) });
        let next = next.await.unwrap();
        let first = done.load(Ordering::SeqCst) == 1;
        assert!(first || gone.is_err());
        assert_eq!(next.result, Ok(if first { "first".into() } else { Bytes::from("second") }));
    }
    assert!(began.elapsed() < LEASE, "no lease was left behind");
}

#[tokio::test]
async fn who_came_after_a_change_does_not_have_what_was_before() {
    let host = Host::new();
    host.write("a", "1");
    let (finish, finished) = oneshot::channel::<()>();
    let run = async {
        finished.await.unwrap();
        Ok("old".into())
    };
    let leader = host.idempotent.run(call("1", &["a"]), run);
    let late = async {
        tokio::time::sleep(LATER).await;
        host.write("a", "2");
        let late = host.idempotent.run(call("1", &["a"]), host.work());
        let later = async {
            tokio::time::sleep(LATER).await;
            finish.send(()).unwrap();
        };
        tokio::join!(late, later).0
    };
    let (leader, late) = tokio::join!(leader, late);
    assert_eq!((leader.unwrap(), late.unwrap()), (ran("old"), ran("1")));
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_than_its_patience() {
    let host = Host::new();
    let request = Request { patience: Duration::from_secs(2), ..call("1", &[]) };
    let leader = host.idempotent.run(request.clone(), host.work_after(Duration::from_secs(60)));
    let joiner = host.idempotent.run(request, host.work());
    let (leader, joiner) = tokio::join!(leader, joiner);
    assert_eq!(leader.unwrap(), ran("1"), "its own run may take its time");
    assert!(matches!(joiner, Err(RunError::Patience)));
}

/// Enough for everybody to be where they are going.
const LATER: Duration = Duration::from_millis(200);
/// More than any test takes.
const FOREVER: Duration = Duration::from_secs(3600);
