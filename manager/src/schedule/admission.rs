//! What a tenant and a function may have at once, and how often they may ask.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Refusal, Request};
use crate::model::Millis;

/// What a request's tenant and function may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Requests of the tenant at once, those that wait included.
    pub concurrency: u32,
    /// What of it this function has.
    pub share: Share,
    /// Requests of the tenant a second, on average; bursts of as many.
    pub rate: u32,
    /// Guest memory of the tenant's machines, MiB.
    pub memory_mib: u64,
}

/// What of a tenant's concurrency a function has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// So many are kept for it, and it gets no more.
    Reserved(u32),
    /// So many are there for all functions that have none of their own.
    Common(u32),
}

/// Who has how much.
#[derive(Debug, Default)]
pub(super) struct Admission {
    tenants: HashMap<Arc<str>, Tenant>,
}

#[derive(Debug, Default)]
struct Tenant {
    all: u32,
    /// Of functions without a share of their own.
    common: u32,
    functions: HashMap<Arc<str>, u32>,
    /// Requests that may still be made, in thousandths.
    tokens: u64,
    filled: Option<Millis>,
}

impl Admission {
    /// Takes a request in, if it is within its allowance.
    pub(super) fn admit(&mut self, now: Millis, request: &Request) -> Result<(), Refusal> {
        let Allowance { concurrency, share, rate, .. } = request.allowance;
        let tenant = self.tenants.entry(request.code.tenant.clone()).or_default();
        tenant.fill(now, rate);
        if tenant.tokens < 1000 {
            return Err(Refusal::Rate);
        }
        let function = tenant.functions.get(&request.code.function).copied().unwrap_or(0);
        match share {
            Share::Reserved(most) if function >= most => return Err(Refusal::Reserved),
            Share::Common(most) if tenant.common >= most => return Err(Refusal::Concurrency),
            _ if tenant.all >= concurrency => return Err(Refusal::Concurrency),
            _ => {}
        }
        tenant.tokens -= 1000;
        tenant.all += 1;
        tenant.common += u32::from(matches!(share, Share::Common(_)));
        *tenant.functions.entry(request.code.function.clone()).or_default() += 1;
        Ok(())
    }

    /// A request that was taken in is over.
    pub(super) fn leave(&mut self, request: &Request) {
        let Some(tenant) = self.tenants.get_mut(&request.code.tenant) else { return };
        tenant.all -= 1;
        tenant.common -= u32::from(matches!(request.allowance.share, Share::Common(_)));
        if let Some(function) = tenant.functions.get_mut(&request.code.function) {
            *function -= 1;
            if *function == 0 {
                tenant.functions.remove(&request.code.function);
            }
        }
    }
}

impl Tenant {
    /// A thousandth of a request a millisecond for each that it may make a second.
    fn fill(&mut self, now: Millis, rate: u32) {
        let full = u64::from(rate) * 1000;
        let since = self.filled.replace(now);
        let gained =
            since.map_or(full, |since| now.saturating_sub(since).saturating_mul(rate.into()));
        self.tokens = self.tokens.saturating_add(gained).min(full);
    }
}
