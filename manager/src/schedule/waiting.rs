//! Requests that wait for a machine: first come, first served within a tenant; tenants in turn.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use super::{Request, RequestId};
use crate::model::Millis;

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    tenants: HashMap<Arc<str>, VecDeque<Request>>,
    /// Tenants with a request, the next one first.
    turns: VecDeque<Arc<str>>,
    expiries: BTreeSet<(Millis, RequestId)>,
    whose: HashMap<RequestId, Arc<str>>,
}

impl Waiting {
    pub(super) fn len(&self) -> usize {
        self.whose.len()
    }

    pub(super) fn len_of(&self, tenant: &str) -> usize {
        self.tenants.get(tenant).map_or(0, VecDeque::len)
    }

    /// Tenants with a request.
    pub(super) fn tenants(&self) -> usize {
        self.turns.len()
    }

    /// Whether a tenant has one.
    pub(super) fn has(&self, tenant: &str) -> bool {
        self.tenants.contains_key(tenant)
    }

    pub(super) fn push(&mut self, request: Request) {
        self.enter(&request).push_back(request);
    }

    /// Before the others of its tenant.
    pub(super) fn push_front(&mut self, request: Request) {
        self.enter(&request).push_front(request);
    }

    fn enter(&mut self, request: &Request) -> &mut VecDeque<Request> {
        let tenant = request.code.tenant.clone();
        self.expiries.insert((request.patience, request.id));
        self.whose.insert(request.id, tenant.clone());
        let queue = self.tenants.entry(tenant.clone()).or_default();
        if queue.is_empty() {
            self.turns.push_back(tenant);
        }
        queue
    }

    /// Takes the first request of the tenant whose turn it is, which is the last one to have another.
    pub(super) fn pop_next_tenant(&mut self) -> Option<Request> {
        let tenant = self.turns.pop_front()?;
        let queue = self.tenants.get_mut(&tenant)?;
        let request = queue.pop_front()?;
        if queue.is_empty() {
            self.tenants.remove(&tenant);
        } else {
            self.turns.push_back(tenant);
        }
        self.leave(&request);
        Some(request)
    }

    pub(super) fn remove(&mut self, id: RequestId) -> Option<Request> {
        let tenant = self.whose.get(&id)?.clone();
        let queue = self.tenants.get_mut(&tenant)?;
        let at = queue.iter().position(|request| request.id == id)?;
        let request = queue.remove(at)?;
        if queue.is_empty() {
            self.tenants.remove(&tenant);
            self.turns.retain(|other| *other != tenant);
        }
        self.leave(&request);
        Some(request)
    }

    /// Takes those that have waited for long enough.
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
