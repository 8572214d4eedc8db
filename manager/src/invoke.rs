//! A call: from a function's name to what came of it.

use std::sync::Arc;
use std::time::Duration;

mod once;
mod streamed;

pub(crate) use once::Attempt;
pub use streamed::{Next, Streamed};

use bytes::Bytes;
use tokio::task::spawn_blocking;

use crate::api::{ApiError, ThrottleReason};
use crate::clock::now;
use crate::control::Target;
use crate::dispatch::{Job, Results, Served, Unserved};
use crate::engine::{Answer, EngineError, chain};
use crate::host::{Host, Recent, code_of};
use crate::idempotent::{Idempotency, OwnKey};
use crate::metrics::{FailureKind, Outcome, Start};
use crate::model::{Function, Reuse, Tenant};
use crate::schedule::{Allowance, Origin, Refusal, Share};

/// How often a call is made whose code is replaced or lost before it gets a machine.
const TRIES: u32 = 5;

/// A call to be made.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// Whose function.
    pub tenant: String,
    /// Its name or ARN, as the caller gave it.
    pub name: String,
    /// Version or alias, if the caller gave one besides.
    pub qualifier: Option<String>,
    /// JSON.
    pub event: Bytes,
    /// Its id.
    pub request: String,
    /// X-Ray trace header, or empty.
    pub trace: String,
    /// The routing value.
    pub route: Option<String>,
    /// The caller's idempotency key.
    pub key: Option<OwnKey>,
    /// Where its result goes as it comes; none: into the answer, when it is whole.
    pub results: Option<Results>,
}

/// A call that was made.
#[derive(Debug)]
pub struct Invoked {
    /// What came of it.
    pub answer: Result<Answer, EngineError>,
    /// The version that ran.
    pub version: String,
    /// Where its machine came from.
    pub start: Start,
    /// The machine's identity; empty where none ran for this call.
    pub machine: String,
    /// Whether the machine of its routing value is gone, and what it kept with it.
    pub state_lost: bool,
    /// The last of what the function printed.
    pub logs: Vec<u8>,
    /// Whether it was answered without running.
    pub replay: Option<Replay>,
}

/// Why a call was answered without running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// There is a record of the same work.
    Hit,
    /// Another call did the same work at the same time.
    Joined,
}

impl Host {
    /// Makes a call, or answers it from the record of the same work. Giving up on this gives it up: in the guest, too.
    ///
    /// # Errors
    ///
    /// When it finds no function or no machine.
    pub async fn invoke(self: &Arc<Self>, invocation: Invocation) -> Result<Invoked, ApiError> {
        let mut tries = 0;
        loop {
            let invoked = self.try_invoke(invocation.clone()).await?;
            tries += 1;
            match invoked.answer {
                // Its code was replaced while it waited for a machine, or its snapshot is lost and will be built anew.
                // Nothing of it has run: it goes to the code that there is now, or is told that there is none yet.
                Err(error @ EngineError::Snapshot { .. }) if tries < TRIES => {
                    self.restore_for(error).await?;
                }
                _ => return Ok(invoked),
            }
        }
    }

    /// Has the snapshot that a call could not be answered from built anew, if it is in use still.
    async fn restore_for(self: &Arc<Self>, error: EngineError) -> Result<(), ApiError> {
        let host = self.clone();
        let restored = spawn_blocking(move || match &error {
            EngineError::Snapshot { snapshot, .. } => host.restore(snapshot, &error),
            _ => Ok(()),
        });
        restored.await.map_err(|_| ApiError::internal())?
    }

    /// Makes a call with the code that there is now.
    async fn try_invoke(self: &Arc<Self>, invocation: Invocation) -> Result<Invoked, ApiError> {
        let Invocation { tenant, name, qualifier, .. } = &invocation;
        let target = self.control.resolve(tenant, name, qualifier.as_deref(), random())?;
        let policy = &target.function.policy;
        if invocation.route.is_some() && policy.reuse != Reuse::Keep {
            return Err(ApiError::invalid(
                "X-Calve-Route: calls are routed only where machines are kept; set the function's policy to reuse: keep",
            ));
        }
        match policy.idempotency.clone().or(invocation.key.as_ref().map(|_| Idempotency::default()))
        {
            // What is recorded is whole.
            Some(idempotency) => {
                let invocation = Invocation { results: None, ..invocation };
                self.invoke_once(target, idempotency, invocation).await
            }
            None => self.run(&target, invocation).await,
        }
    }

    /// Makes a call in a machine.
    async fn run(&self, target: &Target, invocation: Invocation) -> Result<Invoked, ApiError> {
        let Invocation { tenant, event, request, trace, route, results, .. } = invocation;
        let owner =
            self.keyring.tenant(&tenant).ok_or_else(|| ApiError::not_found("no such tenant"))?;
        let function = &target.function;
        let started = now();
        let served = self
            .dispatcher
            .call(Job {
                code: code_of(function, &target.snapshot),
                route: route.map(|route| (route.into(), function.policy.routing)),
                allowance: self.allowance(&owner, function),
                patience: self.settings.patience,
                request: request.clone(),
                event,
                timeout: Duration::from_secs(target.snapshot.timeout_s.into()),
                trace,
                results: results.map(|results| results.of(&target.version)),
            })
            .await
            .map_err(|unserved| self.refused(unserved, &target.arn))?;
        self.take_down(&target.version, function, &request, started, &served);
        let Served { answer, origin, machine, state_lost, logs, .. } = served;
        let (version, start) = (target.version.clone(), start(origin));
        Ok(Invoked { answer, version, start, machine, state_lost, logs, replay: None })
    }

    /// Whether a call could be made, without making it.
    ///
    /// # Errors
    ///
    /// As [`Host::invoke`].
    pub fn dry_run(
        &self,
        tenant: &str,
        name: &str,
        qualifier: Option<&str>,
    ) -> Result<(), ApiError> {
        self.control.resolve(tenant, name, qualifier, 0).map(drop)
    }

    /// What a tenant and a function may have at once.
    fn allowance(&self, owner: &Tenant, function: &Function) -> Allowance {
        let quota = owner.quota;
        let share = match function.reserved {
            Some(reserved) => Share::Reserved(reserved),
            None => Share::Common(
                quota.concurrency.saturating_sub(self.control.catalog().reserved(&owner.name)),
            ),
        };
        Allowance {
            concurrency: quota.concurrency,
            share,
            rate: quota.rate,
            memory_mib: quota.memory_mib,
        }
    }

    /// Counts a call and remembers it.
    fn take_down(
        &self,
        version: &str,
        function: &Function,
        request: &str,
        started: u64,
        served: &Served,
    ) {
        let outcome = match &served.answer {
            Ok(answer) => match &answer.result {
                Ok(_) => Outcome::Ok,
                Err(failure) if failure.timed_out => Outcome::Timeout,
                Err(_) => Outcome::FunctionError,
            },
            Err(EngineError::TimedOut) => Outcome::Timeout,
            Err(_) => Outcome::MachineError,
        };
        let answer = served.answer.as_ref().ok();
        let first_output = answer.map(|answer| Duration::from_micros(answer.first_output_us));
        let start = start(served.origin);
        self.metrics.record_invocation(outcome, start, served.took);
        let window = self.percentiles.window(&function.tenant, &function.name);
        window.count(outcome != Outcome::Ok);
        if let Some(first_output) = first_output {
            self.metrics.record_first_output(first_output);
            window.record(first_output);
        }
        if let Some(kib) = answer.and_then(|answer| answer.private_kib) {
            self.metrics.set_private_memory(kib);
        }
        if let Err(error) = &served.answer {
            if let Some(kind) = FailureKind::of(error) {
                self.metrics.record_machine_failure(kind);
            }
            let why = chain(error);
            tracing::warn!(function = %function.name, request, why, "a call got no answer");
        }
        tracing::debug!(
            tenant = %function.tenant, function = %function.name, version, request,
            machine = %served.machine, start = start.as_str(), outcome = outcome.as_str(), "called"
        );
        self.recents.push(Recent {
            tenant: function.tenant.clone(),
            function: function.name.clone(),
            version: version.to_owned(),
            request: request.to_owned(),
            machine: served.machine.clone(),
            start: start.as_str(),
            outcome: outcome.as_str(),
            started_ms: started,
            took_ms: served.took.as_secs_f64() * 1000.0,
            first_output_ms: first_output.map(|took| took.as_secs_f64() * 1000.0),
            logs: String::from_utf8_lossy(&served.logs).into_owned(),
        });
    }

    /// Says why a call found no machine, as AWS Lambda does.
    fn refused(&self, unserved: Unserved, arn: &str) -> ApiError {
        let Unserved::Refused(why) = unserved else {
            return unavailable();
        };
        if why != Refusal::Draining {
            self.metrics.record_invocation(Outcome::Throttled, Start::None, Duration::ZERO);
        }
        match why {
            Refusal::Rate => ApiError::throttled(ThrottleReason::CallerRate, "Rate Exceeded.", 1),
            Refusal::Concurrency => ApiError::throttled(
                ThrottleReason::Concurrency,
                "Rate Exceeded: the tenant has as many calls at once as it may",
                1,
            ),
            Refusal::Reserved => ApiError::throttled(
                ThrottleReason::ReservedConcurrency,
                format!("Rate Exceeded: {arn} has as many calls at once as are reserved for it"),
                1,
            ),
            // Lambda, which always has another machine, has no words of their own for these.
            Refusal::Capacity => ApiError::throttled(
                ThrottleReason::Concurrency,
                "no machine was free in time; try again",
                1,
            ),
            Refusal::Route => ApiError::throttled(
                ThrottleReason::Concurrency,
                "the machine of this routing value was not free in time; try again",
                1,
            ),
            Refusal::TooLarge => ApiError::invalid(format!(
                "{arn} needs more memory than this host or its tenant may use at all: give it less"
            )),
            Refusal::Draining => unavailable(),
        }
    }
}

fn unavailable() -> ApiError {
    let status = http::StatusCode::SERVICE_UNAVAILABLE;
    let text = "the function host is being shut down; try again";
    ApiError { retry_after: Some(1), ..ApiError::new(status, "ServiceException", text) }
}

fn start(origin: Origin) -> Start {
    match origin {
        Origin::Idle => Start::Reuse,
        Origin::Warm => Start::Warm,
        Origin::New => Start::Cold,
    }
}

/// Evenly distributed in 0..1,000,000.
fn random() -> u32 {
    let mut bytes = [0; 8];
    // Without randomness, an alias goes to its first version.
    let _ = getrandom::fill(&mut bytes);
    u32::try_from(u64::from_le_bytes(bytes) % 1_000_000).unwrap_or(0)
}
