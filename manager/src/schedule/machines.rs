//! The table of machines, with an index for each question that is asked on a request's way.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::{Code, MachineId, Request, State};
use crate::model::Millis;

/// A machine.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) code: Arc<Code>,
    state: State,
    since: Millis,
    request: Option<Request>,
    /// The routing value that it is kept for.
    route: Option<Arc<str>>,
    /// Its snapshot is no longer anybody's: it ends with its request.
    retired: bool,
}

/// All machines.
#[derive(Debug, Default)]
pub(super) struct Machines {
    all: HashMap<MachineId, Machine>,
    last: MachineId,
    counts: HashMap<State, usize>,
    /// Idle ones that are kept for no routing value, by snapshot; the last used last.
    idle: HashMap<Arc<str>, Vec<MachineId>>,
    /// By snapshot.
    warm: HashMap<Arc<str>, Vec<MachineId>>,
    /// By snapshot: how many boot.
    booting: HashMap<Arc<str>, usize>,
    /// Every idle one, by the moment since when.
    idle_since: BTreeSet<(Millis, MachineId)>,
    memory: u64,
    draining: u64,
    /// By tenant: memory of all, and of those that are being ended.
    tenants: HashMap<Arc<str>, (u64, u64)>,
}

impl Machines {
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn get(&self, machine: MachineId) -> Option<&Machine> {
        self.all.get(&machine)
    }

    pub(super) fn state(&self, machine: MachineId) -> Option<State> {
        self.get(machine).map(|machine| machine.state)
    }

    pub(super) fn count(&self, state: State) -> usize {
        self.counts.get(&state).copied().unwrap_or(0)
    }

    /// How many a tenant has in a state.
    pub(super) fn count_of(&self, tenant: &str, state: State) -> usize {
        let is_one = |machine: &&Machine| machine.state == state && &*machine.code.tenant == tenant;
        self.all.values().filter(is_one).count()
    }

    /// Memory of all, MiB.
    pub(super) fn memory(&self) -> u64 {
        self.memory
    }

    pub(super) fn memory_mib(&self, machine: MachineId) -> u64 {
        self.get(machine).map_or(0, |machine| machine.code.memory_mib.into())
    }

    pub(super) fn memory_of(&self, tenant: &str) -> u64 {
        self.tenants.get(tenant).map_or(0, |(all, _)| *all)
    }

    /// Memory of those that are being ended; of one tenant, or of all.
    pub(super) fn draining_memory(&self, tenant: Option<&str>) -> u64 {
        match tenant {
            Some(tenant) => self.tenants.get(tenant).map_or(0, |(_, draining)| *draining),
            None => self.draining,
        }
    }

    /// Adds one.
    pub(super) fn add(&mut self, code: &Arc<Code>, state: State) -> MachineId {
        self.last += 1;
        let code = code.clone();
        let memory = u64::from(code.memory_mib);
        self.memory += memory;
        self.tenants.entry(code.tenant.clone()).or_default().0 += memory;
        *self.counts.entry(state).or_default() += 1;
        if state == State::Booting {
            *self.booting.entry(code.snapshot.clone()).or_default() += 1;
        }
        let machine = Machine { code, state, since: 0, request: None, route: None, retired: false };
        self.all.insert(self.last, machine);
        self.last
    }

    /// Moves one to a state.
    pub(super) fn set(&mut self, now: Millis, id: MachineId, state: State) {
        let Some(machine) = self.all.get_mut(&id) else { return };
        let before = std::mem::replace(&mut machine.state, state);
        let since = std::mem::replace(&mut machine.since, now);
        let (snapshot, memory) =
            (machine.code.snapshot.clone(), u64::from(machine.code.memory_mib));
        let (tenant, routed) = (machine.code.tenant.clone(), machine.route.is_some());
        if let Some(count) = self.counts.get_mut(&before) {
            *count -= 1;
        }
        *self.counts.entry(state).or_default() += 1;
        match before {
            State::Booting => {
                if let Some(count) = self.booting.get_mut(&snapshot) {
                    *count -= 1;
                    if *count == 0 {
                        self.booting.remove(&snapshot);
                    }
                }
            }
            State::Warm => remove(&mut self.warm, &snapshot, id),
            State::Idle => {
                self.idle_since.remove(&(since, id));
                remove(&mut self.idle, &snapshot, id);
            }
            _ => {}
        }
        match state {
            State::Warm => self.warm.entry(snapshot).or_default().push(id),
            State::Idle => {
                self.idle_since.insert((now, id));
                if !routed {
                    self.idle.entry(snapshot).or_default().push(id);
                }
            }
            State::Draining => {
                self.draining += memory;
                self.tenants.entry(tenant).or_default().1 += memory;
            }
            _ => {}
        }
    }

    /// Forgets one that is being ended.
    pub(super) fn forget(&mut self, id: MachineId) {
        let Some(machine) = self.all.remove(&id) else { return };
        let memory = u64::from(machine.code.memory_mib);
        self.memory -= memory;
        self.draining -= memory;
        if let Some(count) = self.counts.get_mut(&machine.state) {
            *count -= 1;
        }
        if let Some((all, draining)) = self.tenants.get_mut(&machine.code.tenant) {
            *all -= memory;
            *draining -= memory;
            if *all == 0 {
                self.tenants.remove(&machine.code.tenant);
            }
        }
    }

    /// The idle one that was used last, of those that are kept for no routing value.
    pub(super) fn last_idle(&self, snapshot: &str) -> Option<MachineId> {
        self.idle.get(snapshot)?.last().copied()
    }

    pub(super) fn last_warm(&self, snapshot: &str) -> Option<MachineId> {
        self.warm.get(snapshot)?.last().copied()
    }

    /// Whether this one is idle.
    pub(super) fn is_idle(&self, machine: MachineId) -> bool {
        self.state(machine) == Some(State::Idle)
    }

    pub(super) fn warm_of(&self, snapshot: &str) -> usize {
        self.warm.get(snapshot).map_or(0, Vec::len)
    }

    /// Those that were never called, or will be soon.
    pub(super) fn ready_of(&self, snapshot: &str) -> usize {
        self.warm_of(snapshot) + self.booting.get(snapshot).copied().unwrap_or(0)
    }

    pub(super) fn give(&mut self, machine: MachineId, request: Request) {
        if let Some(machine) = self.all.get_mut(&machine) {
            machine.request = Some(request);
        }
    }

    /// Takes the request that it has.
    pub(super) fn take_request(&mut self, machine: MachineId) -> Option<Request> {
        let machine = self.all.get_mut(&machine)?;
        machine.request.take()
    }

    pub(super) fn is_retired(&self, machine: MachineId) -> bool {
        self.get(machine).is_some_and(|machine| machine.retired)
    }

    pub(super) fn route(&mut self, machine: MachineId, value: &Arc<str>) {
        if let Some(machine) = self.all.get_mut(&machine) {
            machine.route = Some(value.clone());
        }
    }

    /// Takes its routing value from it: that, and whose it is.
    pub(super) fn unroute(&mut self, machine: MachineId) -> Option<(Arc<str>, Arc<str>)> {
        let machine = self.all.get_mut(&machine)?;
        Some((machine.route.take()?, machine.code.tenant.clone()))
    }

    /// Idle ones that have been so since then or longer.
    pub(super) fn idle_since(&self, then: Millis) -> Vec<MachineId> {
        self.idle_since.iter().take_while(|(since, _)| *since <= then).map(|(_, id)| *id).collect()
    }

    /// Since when the one that has been idle for longest is so.
    pub(super) fn longest_idle(&self) -> Option<Millis> {
        self.idle_since.first().map(|(since, _)| *since)
    }

    /// The one that has been idle for longest; of one tenant, or of all.
    pub(super) fn longest_idle_of(&self, tenant: Option<&str>) -> Option<MachineId> {
        let is_theirs = |id: &MachineId| {
            tenant.is_none_or(|tenant| {
                self.get(*id).is_some_and(|machine| &*machine.code.tenant == tenant)
            })
        };
        self.idle_since.iter().map(|(_, id)| *id).find(is_theirs)
    }

    /// Those that were never called, nor are about to be.
    pub(super) fn unused(&self) -> Vec<MachineId> {
        let unused = |machine: &Machine| matches!(machine.state, State::Booting | State::Warm);
        self.all.iter().filter(|(_, machine)| unused(machine)).map(|(id, _)| *id).collect()
    }

    /// Marks those of a snapshot, and returns the ones that wait for nothing.
    pub(super) fn retire(&mut self, snapshot: &str) -> Vec<MachineId> {
        let theirs = self.all.iter_mut().filter(|(_, machine)| &*machine.code.snapshot == snapshot);
        let ended = theirs.filter_map(|(id, machine)| {
            machine.retired = true;
            (!matches!(machine.state, State::Busy | State::Draining)).then_some(*id)
        });
        ended.collect()
    }
}

fn remove(index: &mut HashMap<Arc<str>, Vec<MachineId>>, snapshot: &Arc<str>, id: MachineId) {
    let Some(machines) = index.get_mut(snapshot) else { return };
    // Nearly always the last one.
    if let Some(at) = machines.iter().rposition(|machine| *machine == id) {
        machines.remove(at);
    }
    if machines.is_empty() {
        index.remove(snapshot);
    }
}
