//! Which machine serves a request, and when: every such decision, free of I/O, locks and clocks.
//!
//! What happens outside is told by a method and a time; what is to be done comes back as [`Action`]s.
//!
//! ```text
//!           Start            ready              Run             finished, kept
//!  (none) ───────► Booting ───────► Warm ─────────────► Busy ───────────────────► Idle
//!     │                                                  ▲ ▲                       │
//!     └────────────── Run, New ──────────────────────────┘ └───────── Run ─────────┘
//!                                                  │
//!                     ┌──── finished, to be reset ─┤ finished otherwise, idle for too long, in the way
//!                     ▼                            ▼
//!                 Resetting ── ready ──► Idle   Draining ── gone ──► Dead (forgotten)
//! ```
//!
//! A request takes, in this order: the machine that its routing value has; an idle one with its code; a warm one; a new
//! one, if need be in the place of one that is idle; or it waits, for a while, in a queue that is fair to tenants.
//!
//! A machine is of one [`Code`] for all its life: one tenant, one function, one snapshot. Nothing here ever gives it to
//! another, and tests hold that against millions of random steps.

mod admission;
mod lost;
mod machines;
mod routes;
#[cfg(test)]
mod tests;
mod types;
mod waiting;

use std::collections::HashMap;
use std::sync::Arc;

use self::admission::Admission;
pub use self::admission::{Allowance, Share};
use self::machines::{Machine, Machines};
use self::routes::Routes;
pub use self::types::{
    Action, Code, MachineId, Origin, Refusal, Request, RequestId, Settings, State,
};
use self::waiting::Waiting;
use crate::model::{Millis, Reuse, Routing};

/// How long after a failure a machine is started ahead again, ms: doubled with each failure in a row.
const BACKOFF_MS: Millis = 100;
/// The longest of these pauses, ms.
const BACKOFF_MOST_MS: Millis = 30_000;

/// Machines that are kept ready for one code.
#[derive(Debug)]
struct Provision {
    code: Arc<Code>,
    wanted: u32,
    /// Guest memory of its tenant's machines, MiB.
    allowed_mib: u64,
    failures: u32,
    /// Until when none is started, after a failure.
    paused: Option<Millis>,
}

/// The state of every machine and of every request that has not got one.
#[derive(Debug)]
pub struct Scheduler {
    settings: Settings,
    machines: Machines,
    waiting: Waiting,
    routes: Routes,
    admission: Admission,
    /// By snapshot.
    provisions: HashMap<Arc<str>, Provision>,
    draining: bool,
    actions: Vec<Action>,
}

impl Scheduler {
    /// One that has no machine yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            machines: Machines::default(),
            waiting: Waiting::default(),
            routes: Routes::default(),
            admission: Admission::default(),
            provisions: HashMap::new(),
            draining: false,
            actions: Vec::new(),
        }
    }

    /// What is to be done since this was last asked, in this order.
    pub fn actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// Machines in a state.
    pub fn count(&self, state: State) -> usize {
        self.machines.count(state)
    }

    /// Machines of a tenant in a state. Looks at all machines: for people who watch.
    pub fn count_of(&self, tenant: &str, state: State) -> usize {
        self.machines.count_of(tenant, state)
    }

    /// Requests that wait for a machine.
    pub fn waiting(&self) -> usize {
        self.waiting.len() + self.routes.waiting()
    }

    /// Requests of a tenant that wait for a machine.
    pub fn waiting_of(&self, tenant: &str) -> usize {
        self.waiting.len_of(tenant) + self.routes.waiting_of(tenant)
    }

    /// Somebody wants a machine.
    pub fn request(&mut self, now: Millis, request: Request) {
        let id = request.id;
        if self.draining {
            return self.refuse(id, Refusal::Draining);
        }
        let memory = u64::from(request.code.memory_mib);
        if memory > self.settings.memory_mib.min(request.allowance.memory_mib) {
            return self.refuse(id, Refusal::TooLarge);
        }
        if let Err(why) = self.admission.admit(now, &request) {
            return self.refuse(id, why);
        }
        // Nobody overtakes others of the same tenant.
        let placed = match self.waiting.has(&request.code.tenant) {
            true => Placed::Not,
            false => self.place(now, &request),
        };
        match placed {
            Placed::Running => {}
            Placed::WaitsForRoute => self.wait_for_route(request),
            Placed::Not if self.waiting.len() < self.settings.waiting => self.waiting.push(request),
            Placed::Not => self.give_up(&request, Refusal::Capacity),
        }
    }

    /// Whoever made the request no longer wants it. Whether it waited: one that has a machine has it until that is
    /// [finished](Self::finished).
    pub fn cancel(&mut self, now: Millis, request: RequestId) -> bool {
        let found = self.waiting.remove(request).or_else(|| self.routes.remove(request));
        let Some(found) = found else { return false };
        self.admission.leave(&found);
        self.serve(now);
        true
    }

    /// A machine that was started ahead, or reset, is ready. Whether it is wanted still: if not, it is the caller's to end.
    pub fn ready(&mut self, now: Millis, machine: MachineId) -> bool {
        let state = match self.machines.state(machine) {
            Some(State::Booting) => State::Warm,
            Some(State::Resetting) => State::Idle,
            _ => return false,
        };
        let wanted = self.provision_of(machine).map_or(0, |provision| {
            provision.failures = 0;
            provision.wanted as usize
        });
        let snapshot = self.machines.get(machine).map(|machine| machine.code.snapshot.clone());
        self.change(now, machine, state);
        self.serve(now);
        // Fewer are wanted than when it was begun, and nobody waits for one: what was never called does not become idle.
        let surplus = |snapshot: &Arc<str>| self.machines.warm_of(snapshot) > wanted;
        if self.machines.state(machine) == Some(State::Warm)
            && snapshot.as_ref().is_some_and(surplus)
        {
            self.destroy(now, machine);
        }
        true
    }

    /// A machine has served its request; `usable` if it can be called again.
    pub fn finished(&mut self, now: Millis, machine: MachineId, usable: bool) {
        let Some(request) = self.machines.take_request(machine) else { return };
        self.admission.leave(&request);
        let usable = usable && !self.machines.is_retired(machine);
        match request.code.reuse {
            Reuse::Reset if usable => {
                self.change(now, machine, State::Resetting);
                self.actions.push(Action::Reset { machine });
            }
            Reuse::Keep if usable => {
                self.change(now, machine, State::Idle);
                self.hand_on(now, machine);
            }
            _ => self.destroy(now, machine),
        }
        self.serve(now);
    }

    /// A machine could not be started or reset, or has died while nobody had it. It is ended, and what it was kept for
    /// is made up for.
    pub fn failed(&mut self, now: Millis, machine: MachineId) {
        if self.machines.state(machine) == Some(State::Booting)
            && let Some(provision) = self.provision_of(machine)
        {
            let pause = BACKOFF_MS << provision.failures.min(16);
            provision.failures += 1;
            provision.paused = Some(now + pause.min(BACKOFF_MOST_MS));
        }
        if !matches!(self.machines.state(machine), None | Some(State::Draining | State::Busy)) {
            self.destroy(now, machine);
        }
        self.serve(now);
    }

    /// A machine was found dead before it was given its request, which is placed anew and before all others.
    pub fn died_unused(&mut self, now: Millis, machine: MachineId) {
        let Some(request) = self.machines.take_request(machine) else { return };
        self.destroy(now, machine);
        match self.place(now, &request) {
            Placed::Running => {}
            Placed::WaitsForRoute => self.wait_for_route(request),
            Placed::Not => self.waiting.push_front(request),
        }
        self.serve(now);
    }

    /// A machine has ended and takes nothing any more.
    pub fn gone(&mut self, now: Millis, machine: MachineId) {
        if self.machines.state(machine) == Some(State::Draining) {
            self.changed(machine, State::Dead);
            self.machines.forget(machine);
            self.serve(now);
        }
    }

    /// Keeps `wanted` machines of `code` ready from now on, within the memory that its tenant may have, MiB.
    pub fn provision(&mut self, now: Millis, code: &Arc<Code>, wanted: u32, allowed_mib: u64) {
        let wanted = if self.draining { 0 } else { wanted };
        let snapshot = code.snapshot.clone();
        if wanted == 0 {
            self.provisions.remove(&snapshot);
        } else {
            let new =
                || Provision { code: code.clone(), wanted, allowed_mib, failures: 0, paused: None };
            let provision = self.provisions.entry(snapshot.clone()).or_insert_with(new);
            (provision.wanted, provision.allowed_mib) = (wanted, allowed_mib);
            provision.code = code.clone();
        }
        let surplus = self.machines.warm_of(&snapshot).saturating_sub(wanted as usize);
        for _ in 0..surplus {
            if let Some(machine) = self.machines.last_warm(&snapshot) {
                self.destroy(now, machine);
            }
        }
        self.serve(now);
    }

    /// Ends the machines of a snapshot that nobody will be routed to any more; those that serve a request, once it is
    /// done.
    pub fn retire(&mut self, now: Millis, snapshot: &str) {
        self.provisions.remove(snapshot);
        for machine in self.machines.retire(snapshot) {
            self.destroy(now, machine);
        }
        self.serve(now);
    }

    /// No request is taken from now on; those that were are served. What was made ready for others ends.
    pub fn drain(&mut self, now: Millis) {
        self.draining = true;
        self.provisions.clear();
        for machine in self.machines.unused() {
            self.destroy(now, machine);
        }
        self.serve(now);
    }

    /// Whether nobody has a machine or waits for one.
    pub fn is_quiet(&self) -> bool {
        self.waiting() == 0 && self.count(State::Busy) == 0
    }

    /// Does what is due: see [`next_tick`](Self::next_tick).
    pub fn tick(&mut self, now: Millis) {
        for request in self.waiting.expired(now) {
            self.give_up(&request, Refusal::Capacity);
        }
        for request in self.routes.expired(now) {
            self.give_up(&request, Refusal::Route);
        }
        for machine in self.machines.idle_since(now.saturating_sub(self.settings.idle_ms)) {
            self.destroy(now, machine);
        }
        self.serve(now);
    }

    /// When something is due next, if nothing happens before.
    pub fn next_tick(&self) -> Option<Millis> {
        let idle = self.machines.longest_idle().map(|since| since + self.settings.idle_ms);
        // While somebody waits, nothing is made ready for others.
        let again = self.provisions.values().filter(|_| self.waiting.len() == 0);
        let again = again.filter_map(|provision| provision.paused).min();
        [self.waiting.next_expiry(), self.routes.next_expiry(), idle, again]
            .into_iter()
            .flatten()
            .min()
    }

    /// Finds a machine for a request.
    fn place(&mut self, now: Millis, request: &Request) -> Placed {
        let Some((value, routing)) = &request.route else {
            let found = self.find(now, request);
            return found.map_or(Placed::Not, |(machine, origin)| {
                self.run(now, machine, request, origin, false);
                Placed::Running
            });
        };
        let row = self.routes.find(&request.code, value);
        if let Some(routes::Row::Machine(machine)) = row {
            if self.machines.is_idle(machine) {
                self.run(now, machine, request, Origin::Idle, false);
                return Placed::Running;
            }
            if *routing == Routing::Strict {
                return Placed::WaitsForRoute;
            }
        }
        let Some((machine, origin)) = self.find(now, request) else { return Placed::Not };
        // A value whose machine is busy keeps it.
        if !matches!(row, Some(routes::Row::Machine(_))) {
            self.routes.set(&request.code, value, machine);
            self.machines.route(machine, value);
        }
        self.run(now, machine, request, origin, row == Some(routes::Row::Lost));
        Placed::Running
    }

    /// A machine that is kept for no routing value: idle, warm, or new.
    fn find(&mut self, now: Millis, request: &Request) -> Option<(MachineId, Origin)> {
        let snapshot = &request.code.snapshot;
        while let Some(machine) = self.machines.last_idle(snapshot) {
            if self.machines.get(machine).is_some_and(|machine| machine.code == request.code) {
                return Some((machine, Origin::Idle));
            }
            // Of another policy, by a request that was under way when that changed.
            self.destroy(now, machine);
        }
        if let Some(machine) = self.machines.last_warm(snapshot) {
            return Some((machine, Origin::Warm));
        }
        let room = self.make_room(now, &request.code, request.allowance.memory_mib);
        room.then(|| (self.machines.add(&request.code, State::Busy), Origin::New))
    }

    fn run(
        &mut self,
        now: Millis,
        machine: MachineId,
        request: &Request,
        origin: Origin,
        state_lost: bool,
    ) {
        self.machines.give(machine, request.clone());
        self.change(now, machine, State::Busy);
        self.actions.push(Action::Run { request: request.id, machine, origin, state_lost });
    }

    /// Sees to it that a machine of `code` can be started, by ending idle ones, if that helps: the tenant's own where its
    /// allowance is used up, anybody's where there is no room.
    fn make_room(&mut self, now: Millis, code: &Code, allowed_mib: u64) -> bool {
        let memory = u64::from(code.memory_mib);
        let own = self.machines.memory_of(&code.tenant);
        let fits_tenant = own + memory <= allowed_mib;
        let fits_host = self.machines.memory() + memory <= self.settings.memory_mib
            && self.machines.len() < self.settings.machines;
        if fits_tenant && fits_host {
            return true;
        }
        // What is being ended makes room soon, and whoever waits for it is served then.
        let whose = (!fits_tenant).then_some(&*code.tenant);
        let draining = self.machines.draining_memory(whose);
        let needed = if fits_tenant {
            let over = (self.machines.memory() + memory).saturating_sub(self.settings.memory_mib);
            over.max(u64::from(self.machines.len() >= self.settings.machines))
        } else {
            (own + memory).saturating_sub(allowed_mib)
        };
        let mut coming = draining;
        while coming < needed {
            let Some(victim) = self.machines.longest_idle_of(whose) else { break };
            coming += self.machines.memory_mib(victim);
            self.destroy(now, victim);
        }
        false
    }

    /// Gives waiting requests what there is, then makes up for what should be ready.
    fn serve(&mut self, now: Millis) {
        self.routes_serve(now);
        // Each tenant's first in turn, until none of them finds a machine.
        let mut misses = 0;
        while misses < self.waiting.tenants() {
            let Some(request) = self.waiting.pop_next_tenant() else { break };
            match self.place(now, &request) {
                Placed::Running => misses = 0,
                Placed::WaitsForRoute => {
                    self.wait_for_route(request);
                    misses = 0;
                }
                Placed::Not => {
                    self.waiting.push_front(request);
                    misses += 1;
                }
            }
        }
        self.refill(now);
    }

    /// A machine that became idle goes to whoever waits for its routing value.
    fn hand_on(&mut self, now: Millis, machine: MachineId) {
        let Some(request) = self.routes.next_for(machine) else { return };
        if self.machines.is_idle(machine) {
            self.run(now, machine, &request, Origin::Idle, false);
        }
    }

    /// Requests whose routing value has lost its machine are placed anew.
    fn routes_serve(&mut self, now: Millis) {
        for request in self.routes.orphans() {
            match self.place(now, &request) {
                Placed::Running => {}
                Placed::WaitsForRoute => self.wait_for_route(request),
                Placed::Not => self.waiting.push_front(request),
            }
        }
    }

    /// Starts what should be ready, of spare room only: nobody is ended for that.
    fn refill(&mut self, now: Millis) {
        // What becomes free is for whoever waits.
        if self.waiting.len() > 0 {
            return;
        }
        let due = self.provisions.values_mut().filter(|provision| provision.paused <= Some(now));
        let missing = due.map(|provision| {
            provision.paused = None;
            let there = self.machines.ready_of(&provision.code.snapshot);
            let missing = (provision.wanted as usize).saturating_sub(there);
            (provision.code.clone(), missing, provision.allowed_mib)
        });
        let missing: Vec<_> = missing.filter(|(_, missing, _)| *missing > 0).collect();
        for (code, missing, allowed_mib) in missing {
            for _ in 0..missing {
                let memory = u64::from(code.memory_mib);
                let fits = self.machines.memory() + memory <= self.settings.memory_mib
                    && self.machines.memory_of(&code.tenant) + memory <= allowed_mib
                    && self.machines.len() < self.settings.machines;
                if !fits {
                    break;
                }
                let machine = self.machines.add(&code, State::Booting);
                self.changed(machine, State::Booting);
                self.actions.push(Action::Start { machine, code: code.clone() });
            }
        }
    }

    fn wait_for_route(&mut self, request: Request) {
        if self.routes.waiting_for(&request) < self.settings.waiting_for_route {
            self.routes.wait(request);
        } else {
            self.give_up(&request, Refusal::Route);
        }
    }

    fn destroy(&mut self, now: Millis, machine: MachineId) {
        if let Some((value, tenant)) = self.machines.unroute(machine) {
            self.routes.lose(&value, machine, &tenant);
        }
        self.change(now, machine, State::Draining);
        self.actions.push(Action::Destroy { machine });
    }

    fn give_up(&mut self, request: &Request, why: Refusal) {
        self.admission.leave(request);
        self.refuse(request.id, why);
    }

    fn refuse(&mut self, request: RequestId, why: Refusal) {
        self.actions.push(Action::Refuse { request, why });
    }

    fn change(&mut self, now: Millis, machine: MachineId, state: State) {
        self.machines.set(now, machine, state);
        self.changed(machine, state);
    }

    fn changed(&mut self, machine: MachineId, state: State) {
        if let Some(Machine { code, .. }) = self.machines.get(machine) {
            self.actions.push(Action::Changed { machine, code: code.clone(), state });
        }
    }

    fn provision_of(&mut self, machine: MachineId) -> Option<&mut Provision> {
        let code = &self.machines.get(machine)?.code;
        self.provisions.get_mut(&code.snapshot)
    }
}

/// What became of a request that was to be placed.
enum Placed {
    Running,
    WaitsForRoute,
    Not,
}
