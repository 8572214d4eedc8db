//! What the leader of a flight does: looks for a record, takes the lease, runs, and stores.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::task::spawn_blocking;
use tokio::time::Instant as Deadline;

use super::claim::Claim;
use super::flights::{Flight, Outcome};
use super::{Idempotent, Request, RunError};
use crate::ledger::{LedgerError, Record};
use crate::model::Millis;

/// How often the ledger is asked for a lease that somebody else has: soon at first, as it may be one that is just being
/// given up, then less and less often.
const POLLS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// What there is to know before a run.
struct Look {
    /// When it was begun.
    at: Instant,
    /// States of the resources; none: they cannot be told.
    states: Option<String>,
    /// The result that is right for them.
    result: Option<Bytes>,
}

/// A run that is to be made.
struct Start {
    began: Instant,
    states: Option<String>,
    /// None where nothing will be stored: then it does not matter who else runs.
    claim: Option<Claim>,
}

impl<F: Clone + Send + Sync + 'static> Idempotent<F> {
    pub(super) async fn lead(
        &self,
        flight: Flight<F>,
        request: Arc<Request>,
        deadline: Deadline,
        execute: impl Future<Output = Result<Bytes, F>>,
    ) -> Result<Outcome<F>, RunError> {
        let start = match self.prepare(&request, deadline).await? {
            Ok(start) => start,
            Err(hit) => {
                flight.land(hit.clone());
                return Ok(hit);
            }
        };
        let result = match &start.claim {
            None => execute.await,
            Some(claim) => {
                let (execute, keep) = (pin!(execute), pin!(claim.keep()));
                tokio::select! {
                    biased;
                    result = execute => result,
                    never = keep => match never {},
                }
            }
        };
        // The work is done: from here on it is finished even if the leader is gone, or a joiner would do it again.
        let settled = tokio::spawn(self.clone().settle(flight, request, start, result));
        settled.await.map_err(RunError::Interrupted)
    }

    /// Looks for a record and takes the lease, waiting for it if need be. A run to be made, or a hit.
    async fn prepare(
        &self,
        request: &Arc<Request>,
        deadline: Deadline,
    ) -> Result<Result<Start, Outcome<F>>, RunError> {
        let claim = self.claim(request);
        let mut pause = POLLS.0;
        loop {
            let mut look = self.look(request).await?;
            if look.states.is_none() {
                return Ok(Ok(Start { began: look.at, states: None, claim: None }));
            }
            if look.result.is_none() && claim.take().await? {
                // Once more: somebody may have given the lease up after storing what was not there a moment ago.
                look = self.look(request).await?;
                if look.result.is_none() {
                    let (began, states) = (look.at, look.states);
                    return Ok(Ok(Start { began, states, claim: Some(claim) }));
                }
            }
            if let Some(result) = look.result {
                return Ok(Err(Outcome { result: Ok(result), hit: true, right_until: look.at }));
            }
            if Deadline::now() >= deadline {
                return Err(RunError::Patience);
            }
            tokio::time::sleep_until(deadline.min(Deadline::now() + pause)).await;
            pause = (pause * 2).min(POLLS.1);
        }
    }

    /// Stores what may be stored, gives the lease up and lands.
    async fn settle(
        self,
        flight: Flight<F>,
        request: Arc<Request>,
        start: Start,
        result: Result<Bytes, F>,
    ) -> Outcome<F> {
        let Start { began, states: before, claim } = start;
        let mut record = None;
        let mut right_until = began;
        match &result {
            // There is nothing to be wrong about: nobody is told that this is the result.
            Err(_) => right_until = Instant::now(),
            Ok(bytes) => {
                let at = Instant::now();
                let after = self.states(&request).await;
                if let (Some(before), Some(after)) = (before, after)
                    && before == after
                {
                    right_until = at;
                    record = Some(self.record(&request, after, bytes));
                }
            }
        }
        if let Some(claim) = claim {
            match claim.finish(record).await {
                // The function was removed while it ran: there is nothing to keep its result for.
                Ok(()) | Err(RunError::Ledger(LedgerError::Missing { .. })) => {}
                Err(error) => {
                    let source = std::error::Error::source(&error);
                    tracing::warn!(%error, source, key = ?request.key, "a result is not stored");
                }
            }
        }
        let outcome = Outcome { result, hit: false, right_until };
        flight.land(outcome.clone());
        outcome
    }

    async fn look(&self, request: &Arc<Request>) -> Result<Look, RunError> {
        let (this, request) = (self.clone(), request.clone());
        let look = spawn_blocking(move || {
            let at = Instant::now();
            let states = this.resources.states(&request.tenant, &request.resources);
            let Some(states) = states else {
                return Ok(Look { at, states: None, result: None });
            };
            let now = (this.clock)();
            let record = this.ledger.record(&request.tenant, request.key.as_str(), now)?;
            let fits = |record: &Record| {
                // By the policy of now, which may be shorter than that of when it was stored.
                let expires = record.created.saturating_add(millis(request.ttl));
                record.resources == states && now < expires
            };
            let result = record.filter(fits).map(|record| record.result.into());
            Ok::<_, LedgerError>(Look { at, states: Some(states), result })
        });
        Ok(look.await??)
    }

    async fn states(&self, request: &Arc<Request>) -> Option<String> {
        let (resources, request) = (self.resources.clone(), request.clone());
        let states = spawn_blocking(move || resources.states(&request.tenant, &request.resources));
        states.await.ok().flatten()
    }

    fn record(&self, request: &Request, resources: String, result: &Bytes) -> Record {
        let now = (self.clock)();
        Record {
            tenant: request.tenant.clone(),
            function: request.function.clone(),
            key: request.key.as_str().to_owned(),
            resources,
            result: result.to_vec(),
            version: request.version.clone(),
            created: now,
            expires: now.saturating_add(millis(request.ttl)),
        }
    }

    fn claim(&self, request: &Request) -> Claim {
        let owner = format!("{}/{}", self.host, uuid::Uuid::new_v4());
        Claim::new(
            self.ledger.clone(),
            self.clock.clone(),
            request.tenant.clone(),
            request.key.clone(),
            owner,
            millis(self.lease),
        )
    }
}

fn millis(duration: Duration) -> Millis {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
