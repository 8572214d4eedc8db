//! Checks each frame of the guest against what is due and against its bounds.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use super::{Event, LogStream, Session, SessionError};
use crate::error::{Exit, FunctionError};
use crate::limits::{MAX_CHUNK, MAX_CONTENT_TYPE, MAX_TEXT, PROTOCOL_VERSION};
use crate::wire::{self, guest_frame::Body, invoke_done::Outcome};

fn bounded(ok: bool, frame: &'static str) -> Result<(), SessionError> {
    if ok { Ok(()) } else { Err(SessionError::OutOfBounds { frame }) }
}

fn due(flag: &mut bool, frame: &'static str) -> Result<(), SessionError> {
    if std::mem::take(flag) { Ok(()) } else { Err(SessionError::Unexpected { frame }) }
}

fn function_error(
    error: Option<wire::FunctionError>,
    frame: &'static str,
) -> Result<FunctionError, SessionError> {
    error.and_then(FunctionError::from_wire).ok_or(SessionError::OutOfBounds { frame })
}

impl<S: Read + Write> Session<S> {
    /// Turns a frame, the first byte of which came at `arrived`, into an event.
    pub(super) fn accept(
        &mut self,
        frame: wire::GuestFrame,
        arrived: Instant,
    ) -> Result<Event, SessionError> {
        let Some(body) = frame.body else {
            return Err(SessionError::Unexpected { frame: "an unknown frame" });
        };
        // Nothing but a refusal and a sign of life comes before the greeting.
        let early = matches!(body, Body::Welcome(_) | Body::ProtocolError(_) | Body::Pong(_));
        if self.due.welcome && !early {
            return Err(SessionError::Unexpected { frame: "a frame before Welcome" });
        }
        match body {
            Body::Welcome(welcome) => self.accept_welcome(welcome),
            Body::Ready(ready) => {
                due(&mut self.due.ready, "Ready")?;
                Ok(Event::Ready { init: Duration::from_micros(ready.init_us) })
            }
            Body::InitFailed(failed) => {
                due(&mut self.due.ready, "InitFailed")?;
                Ok(Event::InitFailed(function_error(failed.error, "InitFailed")?))
            }
            Body::Thawed(wire::Thawed {}) => {
                due(&mut self.due.thawed, "Thawed")?;
                Ok(Event::Thawed)
            }
            Body::ThawFailed(failed) => {
                due(&mut self.due.thawed, "ThawFailed")?;
                Ok(Event::ThawFailed(function_error(failed.error, "ThawFailed")?))
            }
            Body::Log(log) => self.accept_log(log),
            Body::LogTruncated(cut) => Ok(Event::LogTruncated { dropped: cut.dropped }),
            Body::ResultChunk(chunk) => self.accept_chunk(chunk, arrived),
            Body::InvokeDone(done) => self.accept_done(done, arrived),
            Body::RuntimeExited(exited) => {
                let exit = exited.exit.as_ref().and_then(Exit::from_wire);
                let exit = exit.ok_or(SessionError::OutOfBounds { frame: "RuntimeExited" })?;
                Ok(Event::RuntimeExited { exit, out_of_memory: exited.out_of_memory })
            }
            Body::FreezeReady(ready) => {
                due(&mut self.due.freeze, "FreezeReady")?;
                Ok(Event::FreezeReady { zeroed_bytes: ready.zeroed_bytes })
            }
            Body::FreezeFailed(failed) => {
                due(&mut self.due.freeze, "FreezeFailed")?;
                Ok(Event::FreezeFailed(function_error(failed.error, "FreezeFailed")?))
            }
            Body::Pong(wire::Pong { nonce }) => {
                let at = self.due.pings.iter().position(|&due| due == nonce);
                self.due.pings.remove(at.ok_or(SessionError::Unexpected { frame: "Pong" })?);
                Ok(Event::Pong { nonce })
            }
            Body::ProtocolError(refusal) => {
                bounded(refusal.message.len() <= MAX_TEXT, "ProtocolError")?;
                Err(SessionError::Refused { code: refusal.code(), message: refusal.message })
            }
        }
    }

    fn accept_welcome(&mut self, welcome: wire::Welcome) -> Result<Event, SessionError> {
        due(&mut self.due.welcome, "Welcome")?;
        if welcome.protocol_version != PROTOCOL_VERSION {
            return Err(SessionError::Version { guest: welcome.protocol_version });
        }
        bounded(welcome.agent_version.len() <= MAX_TEXT, "Welcome")?;
        Ok(Event::Welcome { agent_version: welcome.agent_version })
    }

    fn accept_log(&mut self, log: wire::Log) -> Result<Event, SessionError> {
        let stream = match log.stream() {
            wire::log::Stream::Stdout => LogStream::Stdout,
            wire::log::Stream::Stderr => LogStream::Stderr,
            wire::log::Stream::Unspecified => {
                return Err(SessionError::OutOfBounds { frame: "Log" });
            }
        };
        bounded((1..=MAX_CHUNK).contains(&log.data.len()), "Log")?;
        self.log_bytes += log.data.len() as u64;
        if self.log_bytes > self.log_limit {
            return Err(SessionError::TooMuch { what: "logs", limit: self.log_limit });
        }
        Ok(Event::Log { stream, data: log.data })
    }

    fn accept_chunk(
        &mut self,
        chunk: wire::ResultChunk,
        arrived: Instant,
    ) -> Result<Event, SessionError> {
        let call = self.due.call.as_mut().filter(|call| call.request_id == chunk.request_id);
        let call = call.ok_or(SessionError::ForeignRequest { frame: "ResultChunk" })?;
        bounded((1..=MAX_CHUNK).contains(&chunk.data.len()), "ResultChunk")?;
        bounded(chunk.content_type.len() <= MAX_CONTENT_TYPE, "ResultChunk")?;
        call.first_byte.get_or_insert(arrived);
        call.received += chunk.data.len();
        if call.received > call.most {
            return Err(SessionError::TooMuch { what: "result", limit: call.most as u64 });
        }
        Ok(Event::ResultChunk { data: chunk.data, content_type: chunk.content_type })
    }

    fn accept_done(
        &mut self,
        done: wire::InvokeDone,
        arrived: Instant,
    ) -> Result<Event, SessionError> {
        let call = self.due.call.take_if(|call| call.request_id == done.request_id);
        let call = call.ok_or(SessionError::ForeignRequest { frame: "InvokeDone" })?;
        let first_byte = call.first_byte.unwrap_or(arrived);
        let outcome = match done.outcome {
            None => return Err(SessionError::OutOfBounds { frame: "InvokeDone" }),
            Some(Outcome::Error(error)) => Err(function_error(Some(error), "InvokeDone")?),
            Some(Outcome::Success(success)) => {
                let size = call.received + success.tail.len();
                if size > call.most {
                    return Err(SessionError::TooMuch { what: "result", limit: call.most as u64 });
                }
                bounded(success.size == size as u64, "InvokeDone")?;
                Ok(success.tail)
            }
        };
        Ok(Event::Done { outcome, first_byte })
    }
}
