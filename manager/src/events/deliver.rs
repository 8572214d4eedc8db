//! Hands messages to the ledger, if they may be.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use thiserror::Error;
use uuid::Uuid;

use super::registry::Live;
use super::table::TableError;
use super::{Events, MOST_WAITING};
use crate::ledger::{LedgerError, Message};

/// Why a message must not reach a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The mapping has been removed.
    #[error("its event source has been removed")]
    NoSource,
    /// The function has been removed.
    #[error("its function has been removed")]
    NoFunction,
    /// Source, message and function are not of one tenant.
    #[error("its event source belongs to another tenant")]
    Foreign,
}

/// Why a source delivered nothing.
#[derive(Debug, Error)]
pub(super) enum Undelivered {
    /// It has been changed, disabled or removed meanwhile.
    #[error("the event source is not what it was")]
    Stale,
    /// Its function may not have it.
    #[error("the event source's function may not have its events")]
    Refused(#[from] Refusal),
    /// The ledger failed.
    #[error("the ledger failed")]
    Ledger(#[from] LedgerError),
    /// The folder cannot be read.
    #[error("the event source's folder cannot be read")]
    Folder(#[from] std::io::Error),
    /// The table cannot be read.
    #[error("the event source's table cannot be read")]
    Table(#[from] TableError),
}

impl Events {
    /// Whether a message that came from a source may be delivered now; to be asked by whoever has it in hand. One that
    /// came from none may. That its source is disabled does not matter: that keeps new events out. Blocks.
    ///
    /// # Errors
    ///
    /// Why not. It will not be allowed later either.
    pub fn authorise(&self, message: &Message) -> Result<(), Refusal> {
        if message.source.is_empty() {
            return Ok(());
        }
        let live = self.registry.hold().get(&message.source).cloned().ok_or(Refusal::NoSource)?;
        if live.source.tenant != message.tenant {
            return Err(Refusal::Foreign);
        }
        self.may_have(&message.tenant, &message.function)
    }

    /// Whether there is such a function, and it is the tenant's.
    fn may_have(&self, tenant: &str, function: &str) -> Result<(), Refusal> {
        let found = (self.parts.functions)(tenant, function).ok_or(Refusal::NoFunction)?;
        if found.tenant == tenant { Ok(()) } else { Err(Refusal::Foreign) }
    }

    /// Whether a source's function has as much to do as it may.
    pub(super) fn is_swamped(&self, live: &Live) -> Result<bool, LedgerError> {
        let (waiting, _) = self.parts.ledger.backlog(&live.source.tenant, &live.source.function)?;
        Ok(waiting > MOST_WAITING)
    }

    /// Makes messages durable, with the source's position. Either all of it is done or nothing.
    pub(super) fn deliver(
        &self,
        live: &Arc<Live>,
        position: &str,
        messages: &[Message],
    ) -> Result<(), Undelivered> {
        let outcome = {
            let all = self.registry.hold();
            let same = all
                .get(&live.source.id)
                .is_some_and(|now| Arc::ptr_eq(now, live) && now.source.enabled);
            if !same {
                return Err(Undelivered::Stale);
            }
            self.may_have(&live.source.tenant, &live.source.function)?;
            self.parts.ledger.deliver(&live.source.id, position, messages)
        };
        match outcome {
            Ok(()) if messages.is_empty() => Ok(()),
            Ok(()) => {
                self.parts.arrived.notify_one();
                Ok(())
            }
            // It went with its function.
            Err(LedgerError::Missing { .. }) => {
                self.refresh()?;
                Err(Undelivered::Stale)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// A message of a source.
    pub(super) fn message(&self, live: &Live, id: String, event: Vec<u8>) -> Message {
        let now = self.now();
        Message {
            id,
            tenant: live.source.tenant.clone(),
            function: live.source.function.clone(),
            qualifier: live.source.qualifier.clone(),
            event,
            created: now,
            due: now,
            tries: 0,
            source: live.source.id.clone(),
            trace: String::new(),
            key: String::new(),
        }
    }
}

/// What tells an event of a source from all others: the same for the same event, whenever it is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Identity([u8; 32]);

impl Identity {
    /// From the source and what is particular to the event.
    pub(super) fn of(source: &str, parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new_with_prefix(source);
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Self(hash.finalize().into())
    }

    /// As the id of a message (a UUID of version 8, which is for one's own: RFC 9562, §5.8).
    pub(super) fn id(&self) -> String {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&self.0[..16]);
        uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string()
    }

    /// In short, for positions.
    pub(super) fn short(&self) -> u64 {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.0[24..]);
        u64::from_be_bytes(bytes)
    }
}

/// An id that nothing else has.
pub(super) fn new_id() -> String {
    Uuid::new_v4().to_string()
}
