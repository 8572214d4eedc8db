//! How many machines of each snapshot can serve a call, for whoever asks without waiting.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use crate::schedule::{Code, MachineId, State};

/// Machines that have started and are not being ended, by snapshot.
#[derive(Debug, Default)]
pub(super) struct Ready(Mutex<HashMap<Arc<str>, HashSet<MachineId>>>);

impl Ready {
    /// A machine has changed its state.
    pub(super) fn note(&self, machine: MachineId, code: &Code, state: State) {
        let mut ready = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state {
            State::Warm | State::Idle | State::Busy | State::Resetting => {
                ready.entry(code.snapshot.clone()).or_default().insert(machine);
            }
            State::Booting | State::Draining | State::Dead => {
                if let Some(machines) = ready.get_mut(&code.snapshot) {
                    machines.remove(&machine);
                    if machines.is_empty() {
                        ready.remove(&code.snapshot);
                    }
                }
            }
        }
    }

    /// Machines of a snapshot.
    pub(super) fn count(&self, snapshot: &str) -> usize {
        let ready = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ready.get(snapshot).map_or(0, HashSet::len)
    }
}
