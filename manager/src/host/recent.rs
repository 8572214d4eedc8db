//! The last calls, for people who look for a reason.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::model::Millis;

/// Calls that are remembered, of all functions together: each takes its log's last 4 KiB.
const MOST: usize = 2000;

/// A call that is over.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Recent {
    #[serde(skip)]
    pub(crate) tenant: String,
    pub(crate) function: String,
    pub(crate) version: String,
    pub(crate) request: String,
    pub(crate) machine: String,
    pub(crate) start: &'static str,
    pub(crate) outcome: &'static str,
    pub(crate) started_ms: Millis,
    pub(crate) took_ms: f64,
    pub(crate) first_output_ms: Option<f64>,
    pub(crate) logs: String,
}

/// The last calls.
#[derive(Debug, Default)]
pub(crate) struct Recents(Mutex<VecDeque<Recent>>);

impl Recents {
    pub(crate) fn push(&self, recent: Recent) {
        let mut recents = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if recents.len() >= MOST {
            recents.pop_front();
        }
        recents.push_back(recent);
    }

    /// A tenant's, newest first; of one function, or of all.
    pub(crate) fn of(&self, tenant: &str, function: Option<&str>, most: usize) -> Vec<Recent> {
        let recents = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let theirs = recents.iter().rev().filter(|recent| {
            recent.tenant == tenant && function.is_none_or(|function| recent.function == function)
        });
        theirs.take(most).cloned().collect()
    }
}
