//! Plain cases, one rule each.

use super::*;

/// The actions, without those that only tell.
fn done(scheduler: &mut Scheduler) -> Vec<Action> {
    let mut actions = scheduler.actions();
    actions.retain(|action| !matches!(action, Action::Changed { .. }));
    actions
}

fn run(request: RequestId, machine: MachineId, origin: Origin) -> Action {
    Action::Run { request, machine, origin, state_lost: false }
}

fn refused(request: RequestId, why: Refusal) -> Action {
    Action::Refuse { request, why }
}

#[test]
fn a_fresh_machine_serves_once() {
    let code = code("t1", "f", "s1", Reuse::Fresh);
    let mut s = small(10);
    s.request(0, request(1, &code));
    assert_eq!(done(&mut s), [run(1, 1, Origin::New)]);
    s.finished(5, 1, true);
    assert_eq!(done(&mut s), [Action::Destroy { machine: 1 }]);
    s.request(6, request(2, &code));
    assert_eq!(done(&mut s), [run(2, 2, Origin::New)]);
    s.gone(7, 1);
    assert_eq!((s.count(State::Busy), s.count(State::Draining)), (1, 0));
}

#[test]
fn a_kept_machine_serves_its_own_code_again_and_no_other() {
    let kept = code("t1", "f", "s1", Reuse::Keep);
    let mut s = small(10);
    s.request(0, request(1, &kept));
    s.finished(1, 1, true);
    s.request(2, request(2, &kept));
    assert_eq!(done(&mut s), [run(1, 1, Origin::New), run(2, 1, Origin::Idle)]);
    s.finished(3, 1, true);
    // Another version, another function, another tenant.
    for (id, other) in [("t1", "f", "s2"), ("t1", "g", "s1"), ("t2", "f", "s1")].iter().enumerate()
    {
        let other = code(other.0, other.1, other.2, Reuse::Keep);
        s.request(4, request(10 + id as u64, &other));
        assert!(matches!(done(&mut s)[..], [Action::Run { origin: Origin::New, .. }]));
    }
}

#[test]
fn a_machine_of_another_policy_is_not_reused_even_if_its_call_came_after_the_change() {
    let (kept, fresh) = (code("t1", "f", "s1", Reuse::Keep), code("t1", "f", "s1", Reuse::Fresh));
    let mut s = small(10);
    s.retire(0, &fresh.snapshot);
    // It was under way with the policy of before.
    s.request(1, request(1, &kept));
    s.finished(2, 1, true);
    assert_eq!(done(&mut s), [run(1, 1, Origin::New)]);
    s.request(3, request(2, &fresh));
    assert_eq!(done(&mut s), [Action::Destroy { machine: 1 }, run(2, 2, Origin::New)]);
}

#[test]
fn one_that_is_reset_is_idle_when_that_is_done() {
    let code = code("t1", "f", "s1", Reuse::Reset);
    let mut s = small(1);
    s.request(0, request(1, &code));
    s.request(0, request(2, &code));
    s.finished(1, 1, true);
    assert_eq!(done(&mut s), [run(1, 1, Origin::New), Action::Reset { machine: 1 }]);
    s.ready(2, 1);
    assert_eq!(done(&mut s), [run(2, 1, Origin::Idle)]);
    s.finished(3, 1, true);
    s.failed(4, 1);
    assert_eq!(done(&mut s), [Action::Reset { machine: 1 }, Action::Destroy { machine: 1 }]);
}

#[test]
fn an_idle_machine_makes_room_and_a_busy_one_does_not() {
    let (one, two) = (code("t1", "f", "s1", Reuse::Keep), code("t2", "f", "s1", Reuse::Keep));
    let mut s = small(1);
    s.request(0, request(1, &one));
    s.request(0, request(2, &two));
    assert_eq!(done(&mut s), [run(1, 1, Origin::New)]);
    s.finished(1, 1, true);
    assert_eq!(done(&mut s), [Action::Destroy { machine: 1 }]);
    s.gone(2, 1);
    assert_eq!(done(&mut s), [run(2, 2, Origin::New)]);
}

#[test]
fn whoever_waits_for_too_long_is_refused() {
    let code = code("t1", "f", "s1", Reuse::Fresh);
    let mut s = small(1);
    s.request(0, request(1, &code));
    s.request(0, request(2, &code));
    assert_eq!(s.next_tick(), Some(1000));
    s.tick(999);
    assert_eq!(done(&mut s), [run(1, 1, Origin::New)]);
    s.tick(1000);
    assert_eq!(done(&mut s), [refused(2, Refusal::Capacity)]);
    assert_eq!(s.next_tick(), None);
}

#[test]
fn tenants_take_turns() {
    let (one, two) = (code("t1", "f", "s1", Reuse::Fresh), code("t2", "f", "s1", Reuse::Fresh));
    let mut s = small(1);
    s.request(0, request(1, &one));
    for id in 2..5 {
        s.request(0, request(id, &one));
    }
    s.request(0, request(10, &two));
    let mut order = Vec::new();
    for machine in 1..=5 {
        s.finished(1, machine, true);
        s.gone(1, machine);
        order.extend(done(&mut s).iter().filter_map(|action| match action {
            Action::Run { request, .. } => Some(*request),
            _ => None,
        }));
    }
    assert_eq!(order, [1, 2, 10, 3, 4]);
}

#[test]
fn allowances_are_checked_before_anything_is_done() {
    let code = code("t1", "f", "s1", Reuse::Fresh);
    let mut s = small(10);
    let with = |id, allowance| Request { allowance, ..request(id, &code) };
    let two = Allowance { concurrency: 2, ..allowance() };
    for id in 1..=3 {
        s.request(0, with(id, two));
    }
    assert_eq!(done(&mut s)[2..], [refused(3, Refusal::Concurrency)]);
    s.request(0, with(4, Allowance { share: Share::Reserved(2), ..allowance() }));
    s.request(0, with(5, Allowance { share: Share::Common(2), ..allowance() }));
    s.request(0, with(6, Allowance { memory_mib: 127, ..allowance() }));
    assert_eq!(
        done(&mut s),
        [
            refused(4, Refusal::Reserved),
            refused(5, Refusal::Concurrency),
            refused(6, Refusal::TooLarge)
        ]
    );
    s.finished(1, 1, true);
    s.request(1, with(7, two));
    assert!(matches!(done(&mut s)[..], [Action::Destroy { .. }, Action::Run { request: 7, .. }]));
}

#[test]
fn a_rate_is_an_average_with_bursts() {
    let code = code("t1", "f", "s1", Reuse::Fresh);
    let mut s = small(100);
    let slow =
        |id| Request { allowance: Allowance { rate: 2, ..allowance() }, ..request(id, &code) };
    let mut refusals = |now, ids: std::ops::Range<u64>| {
        ids.for_each(|id| s.request(now, slow(id)));
        let refused =
            |action: &&Action| matches!(action, Action::Refuse { why: Refusal::Rate, .. });
        s.actions().iter().filter(refused).count()
    };
    assert_eq!(refusals(0, 0..5), 3);
    assert_eq!(refusals(499, 5..6), 1);
    assert_eq!(refusals(500, 6..8), 1);
    assert_eq!(refusals(60_000, 8..13), 3);
}

#[test]
fn what_is_provisioned_is_ready_and_made_up_for_when_it_is_taken() {
    let code = code("t1", "f", "s1", Reuse::Fresh);
    let mut s = small(3);
    s.provision(0, &code, 2, 1000);
    let start = |machine| Action::Start { machine, code: code.clone() };
    assert_eq!(done(&mut s), [start(1), start(2)]);
    s.ready(1, 1);
    s.ready(1, 2);
    s.request(2, request(1, &code));
    assert_eq!(done(&mut s), [run(1, 2, Origin::Warm)]);
    s.request(3, request(2, &code));
    // The first is made up for, of spare room; then there is none.
    assert_eq!(done(&mut s), [run(2, 1, Origin::Warm)]);
}

#[test]
fn failures_of_what_is_provisioned_back_off() {
    let code = code("t1", "f", "s1", Reuse::Fresh);
    let mut s = small(3);
    s.provision(0, &code, 1, 1000);
    s.actions();
    let mut now = 0;
    let mut pauses = Vec::new();
    for machine in 1..=12 {
        s.failed(now, machine);
        s.gone(now, machine);
        assert!(!s.actions().iter().any(|action| matches!(action, Action::Start { .. })));
        let due = s.next_tick().unwrap();
        pauses.push(due - now);
        now = due;
        s.tick(now);
        assert!(s.actions().iter().any(|action| matches!(action, Action::Start { .. })));
    }
    assert_eq!(
        pauses,
        [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000, 30_000]
    );
}

#[test]
fn a_routing_value_has_one_machine() {
    let code = code("t1", "f", "s1", Reuse::Keep);
    let mut s = small(10);
    let one = |id| routed(id, &code, "session-1", Routing::Preferred);
    s.request(0, one(1));
    s.finished(1, 1, true);
    // Others do not get it.
    s.request(1, request(2, &code));
    s.request(1, routed(3, &code, "session-2", Routing::Preferred));
    s.request(2, one(4));
    // Busy: another one, which the value does not move to.
    s.request(2, one(5));
    let expected = [
        (1, 1, Origin::New),
        (2, 2, Origin::New),
        (3, 3, Origin::New),
        (4, 1, Origin::Idle),
        (5, 4, Origin::New),
    ];
    assert_eq!(done(&mut s), expected.map(|(id, machine, origin)| run(id, machine, origin)));
    s.finished(3, 1, true);
    s.request(4, one(6));
    assert_eq!(done(&mut s), [run(6, 1, Origin::Idle)]);
}

#[test]
fn strictly_routed_requests_wait_in_order_and_within_bounds() {
    let code = code("t1", "f", "s1", Reuse::Keep);
    let mut s = small(10);
    for id in 1..=4 {
        s.request(0, routed(id, &code, "v", Routing::Strict));
    }
    assert_eq!(done(&mut s), [run(1, 1, Origin::New), refused(4, Refusal::Route)]);
    s.finished(1, 1, true);
    s.finished(2, 1, true);
    assert_eq!(done(&mut s), [run(2, 1, Origin::Idle), run(3, 1, Origin::Idle)]);
}

#[test]
fn a_lost_machine_is_told_to_whoever_comes_next() {
    let code = code("t1", "f", "s1", Reuse::Keep);
    let mut s = small(10);
    let one = |id| routed(id, &code, "v", Routing::Strict);
    s.request(0, one(1));
    s.request(0, one(2));
    s.finished(1, 1, false);
    let lost = Action::Run { request: 2, machine: 2, origin: Origin::New, state_lost: true };
    assert_eq!(done(&mut s), [run(1, 1, Origin::New), Action::Destroy { machine: 1 }, lost]);
    s.finished(2, 2, true);
    s.request(3, one(3));
    assert_eq!(done(&mut s), [run(3, 2, Origin::Idle)]);
}

#[test]
fn a_machine_that_was_dead_before_its_request_came_costs_nobody_anything() {
    let code = code("t1", "f", "s1", Reuse::Keep);
    let mut s = small(10);
    s.request(0, request(1, &code));
    s.finished(1, 1, true);
    s.request(2, request(2, &code));
    s.died_unused(3, 1);
    let expected = [
        run(1, 1, Origin::New),
        run(2, 1, Origin::Idle),
        Action::Destroy { machine: 1 },
        run(2, 2, Origin::New),
    ];
    assert_eq!(done(&mut s), expected);
}

#[test]
fn machines_of_a_snapshot_that_is_retired_end() {
    let code = code("t1", "f", "s1", Reuse::Keep);
    let mut s = small(10);
    s.request(0, request(1, &code));
    s.request(0, request(2, &code));
    s.finished(1, 1, true);
    done(&mut s);
    s.retire(2, &code.snapshot);
    assert_eq!(done(&mut s), [Action::Destroy { machine: 1 }]);
    s.finished(3, 2, true);
    assert_eq!(done(&mut s), [Action::Destroy { machine: 2 }]);
}

#[test]
fn idle_machines_end_after_a_while() {
    let code = code("t1", "f", "s1", Reuse::Keep);
    let mut s = small(10);
    s.request(0, request(1, &code));
    s.finished(5, 1, true);
    assert_eq!(s.next_tick(), Some(600_005));
    done(&mut s);
    s.tick(600_005);
    assert_eq!(done(&mut s), [Action::Destroy { machine: 1 }]);
}

#[test]
fn a_drained_host_serves_what_it_has_taken() {
    let code = code("t1", "f", "s1", Reuse::Fresh);
    let mut s = small(1);
    s.request(0, request(1, &code));
    s.request(0, request(2, &code));
    s.drain(0);
    s.request(0, request(3, &code));
    assert_eq!(done(&mut s), [run(1, 1, Origin::New), refused(3, Refusal::Draining)]);
    s.finished(1, 1, true);
    s.gone(1, 1);
    s.finished(2, 2, true);
    assert!(s.is_quiet());
}

#[test]
fn who_no_longer_wants_it_leaves_the_queue() {
    let code = code("t1", "f", "s1", Reuse::Keep);
    let mut s = small(1);
    s.request(0, request(1, &code));
    s.request(0, request(2, &code));
    s.request(0, request(3, &code));
    assert!(s.cancel(1, 2) && !s.cancel(1, 2) && !s.cancel(1, 1));
    s.finished(2, 1, true);
    assert_eq!(done(&mut s), [run(1, 1, Origin::New), run(3, 1, Origin::Idle)]);
}

#[test]
fn what_is_provisioned_no_more_by_the_time_it_has_booted_ends() {
    let code = code("t1", "f", "s1", Reuse::Fresh);
    let mut s = small(10);
    s.provision(0, &code, 3, 1000);
    s.provision(1, &code, 1, 1000);
    done(&mut s);
    assert!((1..=3).all(|machine| s.ready(2, machine)));
    assert_eq!(done(&mut s), [Action::Destroy { machine: 2 }, Action::Destroy { machine: 3 }]);
    assert_eq!(s.count(State::Warm), 1);
}

#[test]
fn nothing_is_made_ready_while_somebody_waits() {
    let (one, two) = (code("t1", "f", "s1", Reuse::Fresh), code("t2", "f", "s1", Reuse::Fresh));
    let mut s = small(1);
    s.request(0, request(1, &one));
    s.request(0, request(2, &one));
    s.provision(0, &two, 1, 1000);
    s.finished(1, 1, true);
    s.gone(1, 1);
    let expected = [run(1, 1, Origin::New), Action::Destroy { machine: 1 }, run(2, 2, Origin::New)];
    assert_eq!(done(&mut s), expected);
}
