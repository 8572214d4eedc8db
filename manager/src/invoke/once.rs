//! Calls that are answered from the record of the same work, where there is one.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::task::spawn_blocking;

use super::{Invocation, Invoked, Replay};
use crate::api::{ApiError, ThrottleReason};
use crate::control::Target;
use crate::engine::{Answer, EngineError, chain};
use crate::host::Host;
use crate::idempotent::{Idempotency, Key, Request, RunError, Work};
use crate::metrics::{Outcome, Start};

/// What a run that is not kept came back with, for everybody who waited for it.
pub(crate) type Attempt = Arc<Result<Invoked, ApiError>>;

impl Host {
    /// Answers a call from the record of the same work; makes it if there is none.
    pub(super) async fn invoke_once(
        self: &Arc<Self>,
        target: Target,
        idempotency: Idempotency,
        invocation: Invocation,
    ) -> Result<Invoked, ApiError> {
        let timeout = Duration::from_secs(target.snapshot.timeout_s.into());
        let key = key(&target, &idempotency, &invocation).await?;
        let request = Request {
            tenant: invocation.tenant.clone(),
            function: target.function.name.clone(),
            version: target.version.clone(),
            key,
            ttl: idempotency.ttl(),
            resources: idempotency.resources,
            patience: timeout + self.settings.patience,
        };
        // What a success leaves besides its result, for its own caller.
        let rest = Mutex::new(None);
        let run = async {
            let invoked = self.run(&target, invocation).await;
            match &invoked {
                Ok(Invoked { answer: Ok(Answer { result: Ok(bytes), .. }), .. }) => {
                    let bytes = Bytes::copy_from_slice(bytes);
                    *rest.lock().unwrap_or_else(PoisonError::into_inner) = invoked.ok();
                    Ok(bytes)
                }
                _ => Err(Arc::new(invoked)),
            }
        };
        let verdict = self.idempotent.run(request, run).await.map_err(refused)?;
        if let Some(invoked) = rest.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Ok(invoked);
        }
        let replay = if verdict.hit { Replay::Hit } else { Replay::Joined };
        match verdict.result {
            Ok(bytes) => {
                self.metrics.record_invocation(Outcome::Ok, Start::Record, Duration::ZERO);
                Ok(replayed(bytes, target.version, replay))
            }
            Err(attempt) => Arc::try_unwrap(attempt).unwrap_or_else(|shared| copy(&shared)),
        }
    }
}

/// Which work a call is: hashing a large event takes a thread.
async fn key(
    target: &Target,
    idempotency: &Idempotency,
    invocation: &Invocation,
) -> Result<Key, ApiError> {
    let function = target.function.clone();
    let (snapshot, resources) = (target.snapshot.clone(), idempotency.resources.clone());
    let (own, event) = (invocation.key.clone(), invocation.event.clone());
    let number = target.version.parse().ok();
    let work = move || {
        let version = number.and_then(|number| function.versions.get(&number));
        let version = version.unwrap_or(&function.latest);
        let work = Work {
            tenant: &function.tenant,
            function: &function.name,
            lineage: snapshot.lineage(),
            environment: &version.configuration.environment,
            resources: &resources,
        };
        own.map_or_else(|| Key::of_event(work, &event), |own| Key::of_caller(work, &own))
    };
    spawn_blocking(work).await.map_err(|_| ApiError::internal())
}

fn replayed(bytes: Bytes, version: String, replay: Replay) -> Invoked {
    let answer = Answer { result: Ok(bytes.into()), first_output_us: 0, private_kib: None };
    Invoked {
        answer: Ok(answer),
        version,
        start: Start::Record,
        machine: String::new(),
        state_lost: false,
        logs: Vec::new(),
        replay: Some(replay),
    }
}

/// A failure, for one of several who waited for it.
fn copy(attempt: &Result<Invoked, ApiError>) -> Result<Invoked, ApiError> {
    let invoked = attempt.as_ref().map_err(Clone::clone)?;
    let answer = match &invoked.answer {
        Ok(answer) => Ok(answer.clone()),
        Err(EngineError::TimedOut) => Err(EngineError::TimedOut),
        Err(EngineError::Snapshot { snapshot, source }) => {
            let (snapshot, source) = (snapshot.clone(), chain(&**source).into());
            Err(EngineError::Snapshot { snapshot, source })
        }
        Err(error) => Err(EngineError::Machine(chain(error).into())),
    };
    Ok(Invoked {
        answer,
        version: invoked.version.clone(),
        start: Start::Record,
        machine: invoked.machine.clone(),
        state_lost: invoked.state_lost,
        logs: Vec::new(),
        replay: Some(Replay::Joined),
    })
}

fn refused(error: RunError) -> ApiError {
    match error {
        RunError::Patience => {
            let text = "the same call is still running; try again";
            ApiError::throttled(ThrottleReason::Concurrency, text, 1)
        }
        RunError::Ledger(error) => {
            tracing::error!(error = chain(&error), "records cannot be read");
            ApiError::of(&error)
        }
        RunError::Interrupted(_) => ApiError::internal(),
    }
}
