//! Random histories against a bookkeeper who believes nothing: it only sees the actions.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;

const MACHINES: usize = 6;
const MEMORY: u64 = 640;

#[derive(Clone, Debug)]
enum Step {
    Request { code: usize, route: Option<(u8, bool)>, patience: u8 },
    Cancel(u8),
    Finish { which: u8, usable: bool },
    Gone(u8),
    Ready { which: u8, well: bool },
    DiesUnused(u8),
    DiesIdle(u8),
    Provision { code: usize, wanted: u8 },
    Retire(usize),
    Wait(u16),
}

fn step() -> impl Strategy<Value = Step> {
    let code = 0..CODES.len();
    prop_oneof![
        8 => (code.clone(), proptest::option::of((0..3_u8, any::<bool>())), any::<u8>())
            .prop_map(|(code, route, patience)| Step::Request { code, route, patience }),
        1 => any::<u8>().prop_map(Step::Cancel),
        6 => (any::<u8>(), proptest::bool::weighted(0.9)).prop_map(|(which, usable)| Step::Finish { which, usable }),
        5 => any::<u8>().prop_map(Step::Gone),
        4 => (any::<u8>(), proptest::bool::weighted(0.8)).prop_map(|(which, well)| Step::Ready { which, well }),
        1 => any::<u8>().prop_map(Step::DiesUnused),
        1 => any::<u8>().prop_map(Step::DiesIdle),
        1 => (code.clone(), 0..3_u8).prop_map(|(code, wanted)| Step::Provision { code, wanted }),
        1 => code.prop_map(Step::Retire),
        3 => (0..400_u16).prop_map(Step::Wait),
    ]
}

/// Tenant, function, snapshot, reuse, memory.
const CODES: [(&str, &str, &str, Reuse, u32); 6] = [
    ("t1", "f", "1", Reuse::Fresh, 128),
    ("t1", "g", "1", Reuse::Keep, 128),
    ("t1", "g", "2", Reuse::Keep, 256),
    ("t2", "f", "1", Reuse::Keep, 128),
    ("t2", "h", "1", Reuse::Reset, 128),
    ("t3", "f", "1", Reuse::Fresh, 384),
];

/// What an onlooker knows of a machine.
struct Seen {
    code: Arc<Code>,
    request: Option<RequestId>,
    served: u32,
    route: Option<Arc<str>>,
    starting: bool,
    resetting: bool,
    ending: bool,
}

#[derive(Default)]
struct Onlooker {
    machines: HashMap<MachineId, Seen>,
    open: HashMap<RequestId, Request>,
    running: HashMap<RequestId, MachineId>,
    done: HashSet<RequestId>,
    retired: HashSet<Arc<str>>,
}

impl Onlooker {
    fn see(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Run { request, machine, origin, .. } => self.run(request, machine, origin),
                Action::Start { machine, code } => {
                    let new = self.machines.insert(machine, seen(code, true));
                    assert!(new.is_none(), "a number was given twice");
                }
                Action::Reset { machine } => {
                    let seen = self.machines.get_mut(&machine).unwrap();
                    assert!(seen.request.is_none() && seen.code.reuse == Reuse::Reset);
                    seen.resetting = true;
                }
                Action::Destroy { machine } => {
                    let seen = self.machines.get_mut(&machine).unwrap();
                    assert!(seen.request.is_none() && !seen.ending, "ended with its request");
                    (seen.ending, seen.starting, seen.resetting) = (true, false, false);
                }
                Action::Refuse { request, .. } => {
                    assert!(self.open.remove(&request).is_some() && self.done.insert(request));
                    assert!(!self.running.contains_key(&request));
                }
                Action::Changed { .. } => {}
            }
        }
    }

    fn run(&mut self, id: RequestId, machine: MachineId, origin: Origin) {
        let request = self.open.get(&id).expect("somebody wants it").clone();
        let code = request.code.clone();
        match (origin, self.machines.get(&machine)) {
            (Origin::New, None) => drop(self.machines.insert(machine, seen(code.clone(), false))),
            (Origin::Warm, Some(seen)) => assert_eq!(seen.served, 0, "not warm any more"),
            (Origin::Idle, Some(seen)) => {
                assert!(seen.served > 0 && seen.code.reuse != Reuse::Fresh);
            }
            _ => panic!("{origin:?} of a machine that there is or is not"),
        }
        let seen = self.machines.get_mut(&machine).unwrap();
        assert_eq!(seen.code, code, "a machine of another tenant, function or version");
        assert!(seen.request.is_none() && !seen.starting && !seen.resetting && !seen.ending);
        assert!(!self.retired.contains(&code.snapshot) || seen.served == 0, "of what is retired");
        match (&seen.route, &request.route) {
            (Some(has), Some((wants, _))) => assert_eq!(has, wants, "kept for another value"),
            (Some(_), None) => panic!("kept for a value"),
            _ => {}
        }
        if let Some((value, _)) = &request.route {
            // A value has one machine; one that takes another because that is busy does not move.
            let taken = self.machines.values().any(|other| {
                !other.ending && other.route.as_ref() == Some(value) && other.code == code
            });
            if !taken {
                self.machines.get_mut(&machine).unwrap().route = Some(value.clone());
            }
        }
        let seen = self.machines.get_mut(&machine).unwrap();
        (seen.request, seen.served) = (Some(id), seen.served + 1);
        assert!(self.running.insert(id, machine).is_none(), "runs twice");
    }

    fn check(&self, scheduler: &Scheduler) {
        let memory: u64 = self.machines.values().map(|seen| u64::from(seen.code.memory_mib)).sum();
        assert!(memory <= MEMORY && self.machines.len() <= MACHINES, "over the budget");
        for (tenant, most) in [("t1", 4), ("t2", 3), ("t3", 9)] {
            let open = self.open.values().filter(|request| &*request.code.tenant == tenant).count();
            assert!(open <= most, "{tenant} has {open} at once");
            let mine = self.machines.values().filter(|seen| &*seen.code.tenant == tenant);
            let memory: u64 = mine.map(|seen| u64::from(seen.code.memory_mib)).sum();
            assert!(memory <= 512, "{tenant} has {memory} MiB");
        }
        assert_eq!(scheduler.count(State::Busy), self.running.len());
        assert_eq!(scheduler.waiting() + self.running.len(), self.open.len(), "a request was lost");
        let ending = self.machines.values().filter(|seen| seen.ending).count();
        assert_eq!(scheduler.count(State::Draining), ending);
    }

    /// Of the machines that are as wanted, one.
    fn pick(&self, which: u8, wanted: impl Fn(&Seen) -> bool) -> Option<MachineId> {
        let mut fit: Vec<_> =
            self.machines.iter().filter(|(_, seen)| wanted(seen)).map(|(id, _)| *id).collect();
        fit.sort_unstable();
        (!fit.is_empty()).then(|| fit[usize::from(which) % fit.len()])
    }

    fn take(&mut self, machine: MachineId) -> RequestId {
        let request = self.machines.get_mut(&machine).unwrap().request.take().unwrap();
        self.running.remove(&request);
        request
    }
}

fn seen(code: Arc<Code>, starting: bool) -> Seen {
    Seen { code, request: None, served: 0, route: None, starting, resetting: false, ending: false }
}

fn allowance_of(tenant: &str) -> Allowance {
    let (concurrency, share) = match tenant {
        "t1" => (4, Share::Common(4)),
        "t2" => (3, Share::Reserved(3)),
        _ => (9, Share::Common(9)),
    };
    Allowance { concurrency, share, rate: 1_000_000, memory_mib: 512 }
}

fn play(steps: Vec<Step>) {
    let codes = CODES.map(|(tenant, function, snapshot, reuse, memory_mib)| {
        let code = code(tenant, function, snapshot, reuse);
        Arc::new(Code {
            tenant: code.tenant.clone(),
            function: code.function.clone(),
            snapshot: code.snapshot.clone(),
            memory_mib,
            reuse,
        })
    });
    let mut s = Scheduler::new(Settings {
        memory_mib: MEMORY,
        machines: MACHINES,
        waiting: 5,
        waiting_for_route: 2,
        idle_ms: 1000,
    });
    let mut o = Onlooker::default();
    let (mut now, mut last) = (0, 0);
    for step in steps {
        match step {
            Step::Request { code, route, patience } => {
                last += 1;
                let code = codes[code].clone();
                let strictly = |strict| if strict { Routing::Strict } else { Routing::Preferred };
                let route = route.filter(|_| code.reuse == Reuse::Keep);
                let route =
                    route.map(|(value, strict)| (value.to_string().into(), strictly(strict)));
                let allowance = allowance_of(&code.tenant);
                let request = Request {
                    id: last,
                    code,
                    route,
                    allowance,
                    patience: now + u64::from(patience),
                };
                o.open.insert(last, request.clone());
                s.request(now, request);
            }
            Step::Cancel(which) => {
                let id = last.saturating_sub(u64::from(which % 8));
                let waits = o.open.contains_key(&id) && !o.running.contains_key(&id);
                if waits {
                    o.open.remove(&id);
                    o.done.insert(id);
                }
                assert_eq!(s.cancel(now, id), waits);
            }
            Step::Finish { which, usable } => {
                if let Some(machine) = o.pick(which, |seen| seen.request.is_some()) {
                    let request = o.take(machine);
                    o.open.remove(&request);
                    o.done.insert(request);
                    s.finished(now, machine, usable);
                }
            }
            Step::Gone(which) => {
                if let Some(machine) = o.pick(which, |seen| seen.ending) {
                    o.machines.remove(&machine);
                    s.gone(now, machine);
                }
            }
            Step::Ready { which, well } => {
                if let Some(machine) = o.pick(which, |seen| seen.starting || seen.resetting) {
                    let seen = o.machines.get_mut(&machine).unwrap();
                    (seen.starting, seen.resetting) = (false, false);
                    if well {
                        let _ = s.ready(now, machine);
                    } else {
                        s.failed(now, machine);
                    }
                }
            }
            Step::DiesUnused(which) => {
                let of_another = |seen: &Seen| seen.request.is_some() && seen.served > 1;
                if let Some(machine) = o.pick(which, of_another) {
                    o.take(machine);
                    s.died_unused(now, machine);
                }
            }
            Step::DiesIdle(which) => {
                let idle = |seen: &Seen| {
                    seen.request.is_none() && !seen.starting && !seen.resetting && !seen.ending
                };
                if let Some(machine) = o.pick(which, idle) {
                    s.failed(now, machine);
                }
            }
            Step::Provision { code, wanted } => s.provision(now, &codes[code], wanted.into(), 512),
            Step::Retire(code) => s.retire(now, &codes[code].snapshot),
            Step::Wait(ms) => {
                now += u64::from(ms);
                s.tick(now);
                assert!(s.next_tick().is_none_or(|due| due > now), "due, and not done");
            }
        }
        o.see(s.actions());
        o.check(&s);
    }
    // Everything ends: nobody is forgotten.
    s.drain(now);
    o.see(s.actions());
    for _ in 0..1000 {
        now += 1000;
        s.tick(now);
        o.see(s.actions());
        while let Some(machine) = o.pick(0, |seen| seen.request.is_some()) {
            let request = o.take(machine);
            o.open.remove(&request);
            s.finished(now, machine, false);
            o.see(s.actions());
        }
        while let Some(machine) = o.pick(0, |seen| seen.starting || seen.resetting) {
            s.failed(now, machine);
            o.see(s.actions());
        }
        while let Some(machine) = o.pick(0, |seen| seen.ending) {
            o.machines.remove(&machine);
            s.gone(now, machine);
            o.see(s.actions());
        }
        if o.open.is_empty() && o.machines.is_empty() {
            break;
        }
    }
    assert!(o.open.is_empty() && s.is_quiet(), "somebody waits for ever");
    assert!(o.machines.is_empty(), "a machine stays");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 700, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    /// No request is lost or run twice, no machine goes to another tenant, function, version or routing value, no budget is
    /// exceeded: two million steps.
    #[test]
    fn invariants_hold_in_random_histories(steps in proptest::collection::vec(step(), 1..6000)) {
        play(steps);
    }
}
