//! An engine without machines: starts and calls return at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use calve_manager::engine::{
    Answer, Blueprint, BuildFailure, Call, Engine, EngineError, Instance, Killer,
};

use super::clock;

/// The engine.
#[derive(Default)]
pub(super) struct Stub(AtomicU64);

/// A machine that is none.
struct Nothing(String);

impl Engine for Stub {
    fn build(&self, _: &Blueprint<'_>) -> Result<(), BuildFailure> {
        Ok(())
    }

    fn start(&self, _: &str) -> Result<Box<dyn Instance>, EngineError> {
        let number = self.0.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(Nothing(format!("m-{number:016x}"))))
    }

    fn remove(&self, _: &str) -> Result<(), EngineError> {
        Ok(())
    }
}

impl Instance for Nothing {
    /// Answers when it was called, and when it returned.
    fn call(&mut self, _: Call<'_>) -> Result<Answer, EngineError> {
        let called = clock();
        let result = Ok(times(called));
        Ok(Answer { result, first_output_us: 1, private_kib: None })
    }

    fn reset(self: Box<Self>) -> Result<Box<dyn Instance>, EngineError> {
        Ok(self)
    }

    fn has_ended(&self) -> bool {
        false
    }

    fn machine(&self) -> &str {
        &self.0
    }

    fn killer(&self) -> Option<Arc<dyn Killer>> {
        None
    }
}

/// When a call came, and now, as an answer.
pub(super) fn times(called: u64) -> Vec<u8> {
    format!("[{called},{}]", clock()).into_bytes()
}
