//! Routing values: which machine each has, and who waits for it.
//!
//! A value is of one code: the same one of another tenant, function or version is another.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use super::lost::Lost;
use super::{Code, MachineId, Request, RequestId};
use crate::model::Millis;

/// A snapshot and a value.
pub(super) type Key = (Arc<str>, Arc<str>);

/// What a value has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Row {
    /// This machine.
    Machine(MachineId),
    /// None any more: whoever asks next is to be told.
    Lost,
}

/// All values.
#[derive(Debug, Default)]
pub(super) struct Routes {
    /// Values that have a machine.
    rows: HashMap<Key, MachineId>,
    /// Those that have none any more.
    lost: Lost,
    machines: HashMap<MachineId, Key>,
    queues: HashMap<Key, VecDeque<Request>>,
    /// Requests whose machine is gone.
    orphans: Vec<Request>,
    expiries: BTreeSet<(Millis, RequestId)>,
    whose: HashMap<RequestId, Key>,
}

impl Routes {
    /// What a value has.
    pub(super) fn find(&self, code: &Code, value: &Arc<str>) -> Option<Row> {
        let key = (code.snapshot.clone(), value.clone());
        let lost = || self.lost.contains(&key).then_some(Row::Lost);
        self.rows.get(&key).map(|machine| Row::Machine(*machine)).or_else(lost)
    }

    pub(super) fn set(&mut self, code: &Code, value: &Arc<str>, machine: MachineId) {
        let key = (code.snapshot.clone(), value.clone());
        self.lost.remove(&key);
        self.rows.insert(key.clone(), machine);
        self.machines.insert(machine, key);
    }

    /// The machine of a tenant's value is gone.
    pub(super) fn lose(&mut self, value: &Arc<str>, machine: MachineId, tenant: &Arc<str>) {
        let Some(key) = self.machines.remove(&machine) else { return };
        debug_assert_eq!(key.1, *value, "a machine has one value");
        for request in self.queues.remove(&key).unwrap_or_default() {
            self.leave(&request);
            self.orphans.push(request);
        }
        self.rows.remove(&key);
        self.lost.insert(tenant, key);
    }

    /// Takes the requests whose machine is gone.
    pub(super) fn orphans(&mut self) -> Vec<Request> {
        std::mem::take(&mut self.orphans)
    }

    pub(super) fn waiting(&self) -> usize {
        self.whose.len() + self.orphans.len()
    }

    pub(super) fn waiting_of(&self, tenant: &str) -> usize {
        let all = self.queues.values().flatten().chain(&self.orphans);
        all.filter(|request| &*request.code.tenant == tenant).count()
    }

    pub(super) fn waiting_for(&self, request: &Request) -> usize {
        let key = key(request);
        key.and_then(|key| self.queues.get(&key)).map_or(0, VecDeque::len)
    }

    pub(super) fn wait(&mut self, request: Request) {
        let Some(key) = key(&request) else { return };
        self.expiries.insert((request.patience, request.id));
        self.whose.insert(request.id, key.clone());
        self.queues.entry(key).or_default().push_back(request);
    }

    /// Takes who waits for longest for a machine.
    pub(super) fn next_for(&mut self, machine: MachineId) -> Option<Request> {
        let key = self.machines.get(&machine)?.clone();
        let queue = self.queues.get_mut(&key)?;
        let request = queue.pop_front()?;
        if queue.is_empty() {
            self.queues.remove(&key);
        }
        self.leave(&request);
        Some(request)
    }

    pub(super) fn remove(&mut self, id: RequestId) -> Option<Request> {
        if let Some(at) = self.orphans.iter().position(|request| request.id == id) {
            return Some(self.orphans.remove(at));
        }
        let key = self.whose.get(&id)?.clone();
        let queue = self.queues.get_mut(&key)?;
        let at = queue.iter().position(|request| request.id == id)?;
        let request = queue.remove(at)?;
        if queue.is_empty() {
            self.queues.remove(&key);
        }
        self.leave(&request);
        Some(request)
    }

    pub(super) fn expired(&mut self, now: Millis) -> Vec<Request> {
        let due = self.expiries.iter().take_while(|(at, _)| *at <= now).map(|(_, id)| *id);
        let due: Vec<_> = due.collect();
        due.into_iter().filter_map(|id| self.remove(id)).collect()
    }

    pub(super) fn next_expiry(&self) -> Option<Millis> {
        self.expiries.first().map(|(at, _)| *at)
    }

    fn leave(&mut self, request: &Request) {
        self.expiries.remove(&(request.patience, request.id));
        self.whose.remove(&request.id);
    }
}

fn key(request: &Request) -> Option<Key> {
    let (value, _) = request.route.as_ref()?;
    Some((request.code.snapshot.clone(), value.clone()))
}
