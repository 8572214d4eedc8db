//! One message: one try, and what becomes of it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::{Fate, PAUSE};
use crate::api::{ApiError, ThrottleReason};
use crate::clock::now;
use crate::engine::EngineError;
use crate::host::Host;
use crate::idempotent::OwnKey;
use crate::invoke::{Invocation, Invoked};
use crate::ledger::{LedgerError, Message};
use crate::metrics::AsyncOutcome;
use crate::model::{EventInvoke, LATEST};

/// The longest wait for another try after a failure that is not the function's: AWS Lambda's five minutes.
const LONGEST: Duration = Duration::from_secs(300);

/// What became of a message, and what there is to tell of it.
struct Outcome {
    message: Message,
    settings: EventInvoke,
    fate: Fate,
    /// None: it was not called.
    invoked: Option<Result<Invoked, ApiError>>,
}

impl Host {
    /// Tries a message and takes down what became of it.
    pub(super) async fn deliver(self: &Arc<Self>, message: Message) {
        let settings = self.event_invoke(&message);
        let age = now().saturating_sub(message.created);
        let too_old = age > u64::from(settings.max_age_s) * 1000;
        let (fate, invoked) = if too_old {
            (Fate::Dead("EventAgeExceeded".into()), None)
        } else if let Some(refusal) = self.refusal(&message).await {
            (Fate::Dead(refusal), None)
        } else {
            let invoked = self.call_for(&message).await;
            (self.fate(&message, &settings, &invoked), Some(invoked))
        };
        self.keep(Outcome { message, settings, fate, invoked }).await;
        self.queue.wake();
    }

    /// Takes down what became of a message. While the disk is full, it tries again, and nothing else is delivered in its
    /// place: what has run would run once more.
    async fn keep(self: &Arc<Self>, outcome: Outcome) {
        let outcome = Arc::new(outcome);
        loop {
            let (host, told) = (self.clone(), outcome.clone());
            let request = &outcome.message.id;
            match spawn_blocking(move || host.settle(&told)).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => {
                    tracing::error!(request, %error, "cannot take down what became of a call");
                    if !matches!(error, LedgerError::Full(_)) || self.queue.is_stopped() {
                        // Its lease runs out, or the host starts anew: it is tried again.
                        return;
                    }
                }
                Err(error) => {
                    tracing::error!(request, %error, "cannot settle a call");
                    return;
                }
            }
            sleep(PAUSE).await;
        }
    }

    /// Why a message of an event source may not be delivered: looked at anew each time.
    async fn refusal(self: &Arc<Self>, message: &Message) -> Option<String> {
        if message.source.is_empty() {
            return None;
        }
        let (host, message) = (self.clone(), message.clone());
        let looked = spawn_blocking(move || host.events.authorise(&message)).await;
        looked.ok()?.err().map(|refusal| format!("Refused: {refusal}"))
    }

    async fn call_for(self: &Arc<Self>, message: &Message) -> Result<Invoked, ApiError> {
        let Message { tenant, function, qualifier, event, id, trace, key, .. } = message.clone();
        let qualifier = Some(qualifier).filter(|qualifier| qualifier != LATEST);
        self.invoke(Invocation {
            results: None,
            tenant,
            name: function,
            qualifier,
            event: Bytes::from(event),
            request: id,
            trace,
            route: None,
            // It was looked at when it came.
            key: OwnKey::parse(key.as_bytes()).ok(),
        })
        .await
    }

    fn fate(
        &self,
        message: &Message,
        settings: &EventInvoke,
        invoked: &Result<Invoked, ApiError>,
    ) -> Fate {
        let tries = message.tries + 1;
        let again_or_dead = || {
            if tries > settings.retries {
                return Fate::Dead("RetriesExhausted".into());
            }
            let pause = self.settings.retry * 2_u32.saturating_pow(tries - 1);
            Fate::Again(pause, tries, AsyncOutcome::Retried)
        };
        match invoked {
            Ok(Invoked { answer: Ok(answer), .. }) if answer.result.is_ok() => Fate::Done,
            // The function's own failure, or its time was over.
            Ok(Invoked { answer: Ok(_) | Err(EngineError::TimedOut), .. }) => again_or_dead(),
            // It may have been the function that took its machine down.
            Ok(Invoked { answer: Err(EngineError::Machine(_)), machine, .. })
                if !machine.is_empty() =>
            {
                again_or_dead()
            }
            Ok(Invoked { answer: Err(EngineError::Request(_)), .. }) => {
                Fate::Dead("InvalidRequest".into())
            }
            Err(error) if error.status == http::StatusCode::NOT_FOUND => {
                Fate::Dead(format!("FunctionNotFound: {}", error.message))
            }
            // Others' calls had all that its tenant may make: there will be more in a moment, however old it is.
            Err(error) if error.reason == Some(ThrottleReason::CallerRate) => {
                Fate::Again(PAUSE, message.tries, AsyncOutcome::Retried)
            }
            // Throttled, not active yet, or a failure of ours: it is not the function's try.
            Ok(_) | Err(_) => {
                let age = now().saturating_sub(message.created);
                let pause = Duration::from_millis(age.clamp(1000, 300_000)).min(LONGEST);
                Fate::Again(pause, message.tries, AsyncOutcome::Retried)
            }
        }
    }

    /// Takes down what became of a message, once more if need be. Blocks.
    fn settle(&self, outcome: &Outcome) -> Result<(), LedgerError> {
        let Outcome { message, settings, fate, invoked } = outcome;
        let invoked = invoked.as_ref();
        match fate {
            Fate::Done => {
                self.tell(message, &settings.on_success, "Success", invoked)?;
                self.ledger.acknowledge(&message.id)?;
                self.queue.count(message);
                self.metrics.record_async(AsyncOutcome::Ok);
            }
            Fate::Again(pause, tries, outcome) => {
                let due = now() + u64::try_from(pause.as_millis()).unwrap_or(0);
                self.ledger.postpone(&message.id, due, *tries)?;
                self.metrics.record_async(*outcome);
            }
            Fate::Dead(reason) => {
                let condition = reason.split(':').next().unwrap_or_default().to_owned();
                self.tell(message, &settings.on_failure, &condition, invoked)?;
                self.dead_letter(message)?;
                self.ledger.bury(&message.id, now(), reason)?;
                self.metrics.record_async(AsyncOutcome::Dead);
            }
        }
        Ok(())
    }

    /// Tells a destination, which is a function of the same tenant, what became of a call. Told twice if the host dies
    /// in between: with the same id, which is left out while the first waits.
    fn tell(
        &self,
        message: &Message,
        destination: &str,
        condition: &str,
        invoked: Option<&Result<Invoked, ApiError>>,
    ) -> Result<(), LedgerError> {
        if destination.is_empty() {
            return Ok(());
        }
        let answered = invoked.and_then(|invoked| invoked.as_ref().ok());
        let result = answered.and_then(|invoked| invoked.answer.as_ref().ok());
        let payload = result.map_or(Value::Null, |answer| {
            let bytes = answer.result.as_ref().unwrap_or_else(|failure| &failure.body);
            serde_json::from_slice(bytes).unwrap_or(Value::Null)
        });
        let failed = result.is_some_and(|answer| answer.result.is_err());
        let mut response = json!({
            "statusCode": 200,
            "executedVersion": answered.map(|invoked| invoked.version.as_str()),
        });
        if failed {
            response["functionError"] = json!("Unhandled");
        }
        let envelope = json!({
            "version": "1.0",
            "timestamp": crate::api::timestamp(now()),
            "requestContext": {
                "requestId": message.id,
                "functionArn": self.arn(message),
                "condition": condition,
                "approximateInvokeCount": message.tries + u32::from(invoked.is_some()),
            },
            "requestPayload": serde_json::from_slice(&message.event).unwrap_or(Value::Null),
            "responseContext": response,
            "responsePayload": payload,
        });
        self.forward(message, destination, "told", envelope.to_string().into_bytes())
    }

    /// Sends the event itself to the function's dead-letter target.
    fn dead_letter(&self, message: &Message) -> Result<(), LedgerError> {
        let function = self.control.catalog().get(&message.tenant, &message.function);
        let target = function.map(|function| function.latest.configuration.dead_letter.clone());
        match target.filter(|target| !target.is_empty()) {
            Some(target) => self.forward(message, &target, "dead", message.event.clone()),
            None => Ok(()),
        }
    }

    /// Calls another function of the tenant, asynchronously.
    fn forward(
        &self,
        message: &Message,
        destination: &str,
        why: &str,
        event: Vec<u8>,
    ) -> Result<(), LedgerError> {
        let Ok((function, qualifier)) = self.control.named(&message.tenant, destination, None)
        else {
            tracing::warn!(request = %message.id, destination, "there is no such destination");
            return Ok(());
        };
        // Each round adds to the id, which has bounds: calls that make themselves again end.
        let id = format!("{}-{why}", message.id);
        if id.len() > calve_proto::limits::MAX_ID || function == message.function {
            tracing::warn!(request = %message.id, destination, "a call that makes itself again ends here");
            return Ok(());
        }
        let forwarded = Message {
            id,
            function,
            qualifier,
            event,
            created: now(),
            due: now(),
            tries: 0,
            key: String::new(),
            ..message.clone()
        };
        match self.ledger.enqueue(&forwarded) {
            Err(LedgerError::Exists(_) | LedgerError::Missing { .. }) => Ok(()),
            other => other,
        }
    }

    fn arn(&self, message: &Message) -> String {
        let account = self.keyring.tenant(&message.tenant).map(|tenant| tenant.account.clone());
        let account = account.unwrap_or_default();
        self.control.arn(&account, &message.function, Some(&message.qualifier))
    }

    /// How the calls of a message's function are made.
    fn event_invoke(&self, message: &Message) -> EventInvoke {
        let function = self.control.catalog().get(&message.tenant, &message.function);
        function.and_then(|f| f.event_invoke.get(&message.qualifier).cloned()).unwrap_or_default()
    }
}
