//! Blocking helpers: wait for the one answer that is due, hand logs to a callback on the way.

use std::io::{Read, Write};
use std::time::Duration;

use super::{Answer, Event, LogSink, ResultSink, Session, SessionError};
use crate::FunctionError;

/// What [`Session::wait_answer`] has of an answer so far; it outlives a time-out.
#[derive(Debug, Default)]
pub(super) struct Partial {
    result: Vec<u8>,
    dropped: u64,
}

impl<S: Read + Write> Session<S> {
    /// Waits until the runtime is up; returns what its start took. The inner error is the function's.
    pub fn wait_ready(
        &mut self,
        logs: &mut LogSink<'_>,
    ) -> Result<Result<Duration, FunctionError>, SessionError> {
        self.wait(logs, "Ready", |event| match event {
            Event::Ready { init } => Ok(Ok(init)),
            Event::InitFailed(error) => Ok(Err(error)),
            other => Err(other),
        })
    }

    /// Waits until the clone is itself. The inner error is a hook's or the agent's.
    pub fn wait_thawed(
        &mut self,
        logs: &mut LogSink<'_>,
    ) -> Result<Result<(), FunctionError>, SessionError> {
        self.wait(logs, "Thawed", |event| match event {
            Event::Thawed => Ok(Ok(())),
            Event::ThawFailed(error) => Ok(Err(error)),
            other => Err(other),
        })
    }

    /// Waits until the machine may be frozen; returns how many bytes of free memory were zeroed.
    pub fn wait_freeze_ready(
        &mut self,
        logs: &mut LogSink<'_>,
    ) -> Result<Result<u64, FunctionError>, SessionError> {
        self.wait(logs, "FreezeReady", |event| match event {
            Event::FreezeReady { zeroed_bytes } => Ok(Ok(zeroed_bytes)),
            Event::FreezeFailed(error) => Ok(Err(error)),
            other => Err(other),
        })
    }

    /// Waits for the answer of the call in flight and assembles its result, at most
    /// [`MAX_BODY`](crate::limits::MAX_BODY) bytes. Welcome, Ready and Thawed on the way are taken as read; a failed
    /// thaw or start is the call's error, too. After [`SessionError::TimedOut`] it may be called again and goes on.
    pub fn wait_answer(&mut self, logs: &mut LogSink<'_>) -> Result<Answer, SessionError> {
        self.wait_result(logs, None)
    }

    /// The same, with a result that goes to `results` as it comes, the bytes of a runtime that does not stream
    /// included: that of the answer is empty. An error of the function may come after a part of its result.
    pub fn wait_streamed(
        &mut self,
        logs: &mut LogSink<'_>,
        results: &mut ResultSink<'_>,
    ) -> Result<Answer, SessionError> {
        self.wait_result(logs, Some(results))
    }

    fn wait_result(
        &mut self,
        logs: &mut LogSink<'_>,
        mut results: Option<&mut ResultSink<'_>>,
    ) -> Result<Answer, SessionError> {
        loop {
            match self.next_event()? {
                Event::Log { stream, data } => logs(stream, &data),
                Event::LogTruncated { dropped } => {
                    self.partial.dropped = self.partial.dropped.saturating_add(dropped);
                }
                Event::ResultChunk { data, content_type } => match &mut results {
                    Some(results) => results(&data, &content_type),
                    None => self.partial.result.extend_from_slice(&data),
                },
                Event::Done { outcome, first_byte } => {
                    let Partial { mut result, dropped } = std::mem::take(&mut self.partial);
                    let outcome = outcome.map(|tail| {
                        match &mut results {
                            Some(results) if !tail.is_empty() => results(&tail, ""),
                            Some(_) => {}
                            None => result.extend_from_slice(&tail),
                        }
                        result
                    });
                    return Ok(Answer { outcome, first_byte, dropped_log_bytes: dropped });
                }
                // A call that came along is answered by itself.
                Event::Welcome { .. }
                | Event::Ready { .. }
                | Event::InitFailed(_)
                | Event::Thawed
                | Event::ThawFailed(_)
                | Event::RuntimeExited { .. }
                | Event::Pong { .. } => {}
                Event::FreezeReady { .. } | Event::FreezeFailed(_) => {
                    return Err(SessionError::Unexpected { frame: "FreezeReady" });
                }
            }
        }
    }

    /// Waits for the event that `pick` wants. Logs go to `logs`, Welcome and news of the runtime are passed over,
    /// anything else is an answer that this caller did not wait for.
    fn wait<T>(
        &mut self,
        logs: &mut LogSink<'_>,
        wanted: &'static str,
        pick: impl Fn(Event) -> Result<T, Event>,
    ) -> Result<T, SessionError> {
        loop {
            match pick(self.next_event()?) {
                Ok(found) => return Ok(found),
                Err(Event::Log { stream, data }) => logs(stream, &data),
                Err(
                    Event::Welcome { .. }
                    | Event::LogTruncated { .. }
                    | Event::RuntimeExited { .. }
                    | Event::Pong { .. },
                ) => {}
                Err(_) => return Err(SessionError::Unexpected { frame: wanted }),
            }
        }
    }
}
