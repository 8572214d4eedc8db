//! Ticks, with a clock that runs as fast as nobody is at work.

use super::*;
use crate::model::Millis;

/// 2026-11-28 12:00:00 UTC.
const NOON: Millis = 1_795_867_200_000;

/// The clock of tokio, which passes at once while everything waits.
fn paused_clock() -> Clock {
    let start = tokio::time::Instant::now();
    Arc::new(move || NOON + u64::try_from(start.elapsed().as_millis()).unwrap())
}

/// Lets time pass, in steps so that the sources get to see it.
async fn pass(minutes: u64) {
    for _ in 0..minutes * 60 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn every_tick_is_one_message() {
    let host = Host::with_clock(paused_clock());
    host.add(r#"{"kind":"schedule","expression":"rate(5 minutes)","input":{"n":1}}"#);
    host.add(r#"{"kind":"schedule","expression":"cron(0/10 * * * ? *)"}"#);
    let sources = Sources::start(host.events.clone()).unwrap();
    pass(31).await;
    sources.stop().await;
    let bodies = host.bodies();
    assert_eq!(bodies.iter().filter(|body| body["n"] == 1).count(), 6);
    let times: Vec<_> = bodies.iter().filter_map(|body| body["time"].as_str()).collect();
    let expected =
        ["2026-11-28T12:10:00.000Z", "2026-11-28T12:20:00.000Z", "2026-11-28T12:30:00.000Z"];
    assert_eq!(times, expected);
}

#[tokio::test(start_paused = true)]
async fn what_was_missed_is_caught_up_with_once() {
    let mut host = Host::with_clock(paused_clock());
    host.add(r#"{"kind":"schedule","expression":"* * * * *"}"#);
    let sources = Sources::start(host.events.clone()).unwrap();
    pass(2).await;
    // Not in the instant of a tick.
    tokio::time::sleep(Duration::from_secs(30)).await;
    sources.stop().await;
    let before = host.waiting();
    host.messages().iter().for_each(|message| host.ledger.acknowledge(&message.id).unwrap());
    // The host is down.
    tokio::time::sleep(Duration::from_secs(3600)).await;
    host.reopen();
    for _ in 0..3 {
        let sources = Sources::start(host.events.clone()).unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        sources.stop().await;
    }
    assert_eq!((before, host.waiting()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn what_passes_while_it_is_disabled_is_not_caught_up_with() {
    let host = Host::with_clock(paused_clock());
    let live = host.add(r#"{"kind":"schedule","expression":"* * * * *"}"#);
    host.set_enabled(&live, false);
    let sources = Sources::start(host.events.clone()).unwrap();
    pass(10).await;
    host.set_enabled(&live, true);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(host.waiting(), 0);
    pass(1).await;
    assert_eq!(host.waiting(), 1);
    sources.stop().await;
}
