//! The endpoints: what each request does to the client's state, and what it is answered.

use calve_proto::ErrorKind;

use super::head::{Method, Request};
use super::reply::{self, Reply};
use super::{LambdaApi, State};
use crate::runtime::{RuntimeEvent, parse_error};

/// First part of every path.
pub(super) const PREFIX: &str = "/2018-06-01/runtime/";

impl LambdaApi {
    /// Carries a request out. `None` if its answer comes later.
    pub(super) fn route(
        &mut self,
        slot: u32,
        request: Request,
        events: &mut Vec<RuntimeEvent>,
    ) -> Option<Reply> {
        let path = request.path.clone();
        let Some(path) = path.strip_prefix(PREFIX) else { return Some(Reply::not_found()) };
        let invocation = path.strip_prefix("invocation/").and_then(|rest| rest.split_once('/'));
        match (request.method, path, invocation) {
            (Method::Get, "invocation/next", _) => self.next(slot, events),
            (Method::Get, "restore/next", _) => self.restore_next(slot, events),
            (Method::Post, "init/error", _) => Some(self.init_error(&request, events)),
            (Method::Post, "restore/error", _) => Some(self.restore_error(&request, events)),
            (Method::Post, _, Some((id, "response"))) => {
                Some(self.response(id, request.body, events))
            }
            (Method::Post, _, Some((id, "error"))) => Some(self.error(id, &request, events)),
            (_, "invocation/next" | "restore/next" | "init/error" | "restore/error", _)
            | (_, _, Some((_, "response" | "error"))) => Some(Reply::method_not_allowed()),
            _ => Some(Reply::not_found()),
        }
    }

    fn next(&mut self, slot: u32, events: &mut Vec<RuntimeEvent>) -> Option<Reply> {
        match &mut self.state {
            State::Init => {
                self.state = State::Waiting(vec![slot]);
                events.push(RuntimeEvent::Ready);
            }
            State::Waiting(slots) => slots.push(slot),
            State::Between => self.state = State::Waiting(vec![slot]),
            State::Restoring(_) | State::Running { .. } | State::Streaming(_) | State::Failed => {
                return Some(Reply::wrong_state(self.state.name(), "RuntimeReady"));
            }
        }
        // The hooks of a client that came from restore/next have run.
        events.push(RuntimeEvent::Thawed);
        if let Some(invocation) = self.queued.take() {
            self.invoke(invocation);
        }
        None
    }

    fn restore_next(&mut self, slot: u32, events: &mut Vec<RuntimeEvent>) -> Option<Reply> {
        if !matches!(self.state, State::Init) {
            return Some(Reply::wrong_state(self.state.name(), "RuntimeRestoring"));
        }
        self.state = State::Restoring(slot);
        events.push(RuntimeEvent::Ready);
        if self.queued.is_some() {
            self.restore();
        }
        None
    }

    fn init_error(&mut self, request: &Request, events: &mut Vec<RuntimeEvent>) -> Reply {
        // A before_snapshot hook fails where init has not ended yet, or while it is parked.
        if !matches!(self.state, State::Init | State::Restoring(_)) {
            return Reply::wrong_state(self.state.name(), "RuntimeInitError");
        }
        self.state = State::Failed;
        let error = parse_error(&request.body, request.error_type.as_deref(), ErrorKind::Init);
        events.push(RuntimeEvent::InitFailed(error));
        Reply::accepted()
    }

    fn restore_error(&mut self, request: &Request, events: &mut Vec<RuntimeEvent>) -> Reply {
        if !matches!(self.state, State::Between) {
            return Reply::wrong_state(self.state.name(), "RuntimeRestoreError");
        }
        self.state = State::Failed;
        let error = parse_error(&request.body, request.error_type.as_deref(), ErrorKind::Hook);
        events.push(RuntimeEvent::HookFailed(error));
        Reply::accepted()
    }

    fn response(&mut self, id: &str, body: Vec<u8>, events: &mut Vec<RuntimeEvent>) -> Reply {
        if let Some(refusal) = self.finish(id) {
            return refusal;
        }
        events.push(match serde_json::from_slice::<serde::de::IgnoredAny>(&body) {
            Ok(_) => RuntimeEvent::Result(body),
            Err(e) => RuntimeEvent::Failed(reply::not_json(&e)),
        });
        Reply::accepted()
    }

    fn error(&mut self, id: &str, request: &Request, events: &mut Vec<RuntimeEvent>) -> Reply {
        if let Some(refusal) = self.finish(id) {
            return refusal;
        }
        let error = parse_error(&request.body, request.error_type.as_deref(), ErrorKind::Handler);
        events.push(RuntimeEvent::Failed(error));
        Reply::accepted()
    }

    /// Ends the running invocation if it is `id`, else says why not.
    fn finish(&mut self, id: &str) -> Option<Reply> {
        match &self.state {
            State::Running { request_id } if request_id == id => {
                self.state = State::Between;
                self.streamed = None;
                None
            }
            State::Running { .. } | State::Waiting(_) | State::Between => {
                Some(Reply::invalid_request_id())
            }
            _ => Some(Reply::wrong_state(self.state.name(), "RuntimeResponseSent")),
        }
    }
}
