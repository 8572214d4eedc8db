//! What the runtime reports, and what follows from it in which stage.

use calve_proto::wire::{Ready, guest_frame::Body};
use calve_proto::{ErrorKind, FunctionError};

use super::{Agent, Stage};
use crate::place::Place;
use crate::runtime::RuntimeEvent;

impl<P: Place> Agent<P> {
    /// Carries the consequences of `events` out, in order.
    pub(super) fn handle(&mut self, events: Vec<RuntimeEvent>) {
        for event in events {
            // What a condemned runtime says does not count any more.
            if self.running.as_ref().is_some_and(|running| running.verdict.is_none()) {
                self.handle_one(event);
            }
        }
    }

    fn handle_one(&mut self, event: RuntimeEvent) {
        let calling = self.is_running_call();
        let Some(running) = &mut self.running else { return };
        match (running.stage, event) {
            (Stage::Starting { announce }, RuntimeEvent::Ready) => {
                let init = running.started.elapsed();
                running.stage = Stage::Serving;
                running.deadline = None;
                self.drain_logs();
                if announce {
                    let init_us = u64::try_from(init.as_micros()).unwrap_or(u64::MAX);
                    self.send(Body::Ready(Ready { init_us }));
                }
                self.advance_call();
            }
            // Serving: a client of the Runtime API tells of what fails around restore/next as an error of init.
            (Stage::Starting { .. } | Stage::Serving, RuntimeEvent::InitFailed(error)) => {
                self.condemn(error);
            }
            (Stage::Serving, RuntimeEvent::Result(result)) if calling => {
                self.succeed(result);
            }
            (Stage::Serving, RuntimeEvent::Part { data, content_type }) if calling => {
                self.pass_on(&data, content_type);
            }
            (Stage::Serving, RuntimeEvent::Streamed) if calling => self.finish_stream(),
            (Stage::Serving, RuntimeEvent::Failed(error)) if calling => {
                self.fail(error);
            }
            // Reported when it is gone, so that the next call does not go to a runtime that is about to end.
            (Stage::Serving, RuntimeEvent::Dying(error)) if calling => self.condemn(error),
            (Stage::Freezing, RuntimeEvent::HooksRan { after_restore }) => {
                self.settle(after_restore);
            }
            (Stage::Freezing, RuntimeEvent::Settled) => self.stop(),
            (Stage::Thawing, RuntimeEvent::Thawed) => self.finish_thaw(),
            (
                Stage::Freezing | Stage::Thawing | Stage::Serving,
                RuntimeEvent::HookFailed(error),
            ) => self.condemn(error),
            // A client of the Runtime API passes through `next` more often than after a thaw.
            (Stage::Starting { .. } | Stage::Serving, RuntimeEvent::Thawed) => {}
            (_, RuntimeEvent::Broken(why)) => self.condemn(out_of_step(why)),
            (_, _) => self.condemn(out_of_step("an answer to no question")),
        }
    }
}

/// User code has written to the shim's socket, or a client is broken.
fn out_of_step(why: &str) -> FunctionError {
    let text = format!("The runtime does not keep to its protocol: {why}");
    FunctionError::new(ErrorKind::RuntimeExited, "Runtime.InvalidProtocol", text)
}
