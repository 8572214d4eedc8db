use super::*;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};

#[test]
fn results_come_in_order_whatever_finishes_first() {
    // Each even number waits until its successor is done.
    let turns: Vec<Barrier> = (0..50).map(|_| Barrier::new(2)).collect();
    let done = Mutex::new(Vec::new());
    let mut seen = Vec::new();
    let end = run::<_, ()>(
        100,
        2,
        |n| {
            if n % 2 == 1 {
                done.lock().unwrap().push(n);
            }
            turns[usize::try_from(n / 2).unwrap()].wait();
            if n % 2 == 0 {
                done.lock().unwrap().push(n);
            }
            n * n
        },
        |n, result| {
            seen.push((n, result));
            ControlFlow::Continue(())
        },
    );
    assert_eq!(end, None);
    assert_eq!(seen, (0..100).map(|n| (n, n * n)).collect::<Vec<_>>());
    let done = done.into_inner().unwrap();
    assert_eq!(done[..2], [1, 0], "the second was done first");
}

#[test]
fn a_break_stops_new_work() {
    let begun = AtomicU64::new(0);
    let end = run(
        1_000_000,
        4,
        |_| begun.fetch_add(1, Ordering::Relaxed),
        |n, _| if n == 10 { ControlFlow::Break("enough") } else { ControlFlow::Continue(()) },
    );
    assert_eq!(end, Some("enough"));
    // 0 to 10 were handed out, and at most the window was under way.
    assert!(begun.load(Ordering::Relaxed) <= 11 + 4 * WINDOW);
}

#[test]
fn work_never_runs_far_ahead_of_the_output() {
    let (begun, emitted) = (AtomicU64::new(0), AtomicU64::new(0));
    run::<_, ()>(
        200,
        3,
        |n| {
            begun.fetch_max(n, Ordering::SeqCst);
            assert!(n <= emitted.load(Ordering::SeqCst) + 3 * WINDOW);
        },
        |_, ()| {
            emitted.fetch_add(1, Ordering::SeqCst);
            ControlFlow::Continue(())
        },
    );
    assert_eq!(begun.load(Ordering::SeqCst), 199);
}

#[test]
fn no_work_is_done_at_once() {
    assert_eq!(run::<_, ()>(0, 4, |_| (), |_, ()| ControlFlow::Continue(())), None);
}
