//! The AWS Lambda Runtime API, version 2018-06-01, on the loopback.
//!
//! ```text
//!            GET invocation/next              an event comes
//!   Init ───────────────────────► Waiting ───────────────────► Running
//!    │ │   GET restore/next          ▲                            │
//!    │ └──────────► Restoring ───────┘◄───────────────────────────┘
//!    │                 │   GET invocation/next      POST {id}/response | {id}/error
//!    │ POST init/error │ POST restore/error
//!    ▼                 ▼
//!  (the agent ends the runtime)
//! ```
//!
//! A response that the client streams is passed on as it comes, where the host wants that: `Running` is then `Streaming`
//! until its end ([`stream`]).
//!
//! A request that does not fit the state gets the status and the error object that AWS's service gives. `Waiting` holds
//! the connection of `next` open until an event comes; that is also the state in which a machine is frozen. Clients that
//! know of snapshots (`awslambdaric`) park in `restore/next` instead, and run their hooks around it.

mod chunked;
mod head;
mod http;
mod reply;
mod routes;
mod stream;

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};

use crate::control::is_transient;
use crate::poll::{Interest, Poll, Token, Watch};
use crate::runtime::{Invocation, RuntimeEvent};
pub(crate) use head::content_type;
use http::{Connection, Incoming};
use reply::Reply;
pub(crate) use reply::not_json;
use routes::PREFIX;
use stream::Stream;

/// Connections open at a time. Clients use one or two; the rest waits in the listen queue.
const MAX_CONNECTIONS: usize = 16;

/// Where the client is in its life.
#[derive(Debug)]
enum State {
    Init,
    /// Parked in restore/next on this connection.
    Restoring(u32),
    /// The connections parked in invocation/next, the oldest first. More than one only if the client is odd.
    Waiting(Vec<u32>),
    /// Between a result and the next `next`; an event that comes now waits.
    Between,
    Running {
        request_id: String,
    },
    /// Its result is coming, in parts.
    Streaming(Stream),
    /// An error of init or restore has been reported.
    Failed,
}

impl State {
    /// Its name in AWS's "state transition" errors.
    fn name(&self) -> &'static str {
        match self {
            Self::Init => "RuntimeInit",
            Self::Restoring(_) => "RuntimeRestoring",
            Self::Waiting(_) | Self::Between => "RuntimeReady",
            Self::Running { .. } | Self::Streaming(_) => "RuntimeRunning",
            Self::Failed => "RuntimeInitError",
        }
    }
}

/// The server side.
#[derive(Debug)]
pub(crate) struct LambdaApi {
    listener: TcpListener,
    watch: Watch,
    address: SocketAddr,
    connections: BTreeMap<u32, Connection>,
    next_slot: u32,
    state: State,
    /// Where a result is posted to that may be streamed.
    streamed: Option<String>,
    /// An event for which no `next` has come yet.
    queued: Option<Invocation>,
    /// A client that was parked in restore/next has gone on: its after_restore hooks run once, and that was it.
    restored: bool,
}

impl LambdaApi {
    /// Opens the listening socket.
    pub(crate) fn listen(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(Self {
            listener,
            watch: Watch::new(Token::ApiListener),
            address,
            connections: BTreeMap::new(),
            next_slot: 0,
            state: State::Init,
            streamed: None,
            queued: None,
            restored: false,
        })
    }

    /// `AWS_LAMBDA_RUNTIME_API` of the runtime.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether the client waits in restore/next, with hooks to run after it.
    pub(crate) fn is_parked_for_restore(&self) -> bool {
        matches!(self.state, State::Restoring(_))
    }

    /// Whether the client's hooks for a restore have been let run already.
    pub(crate) fn is_restored(&self) -> bool {
        self.restored
    }

    /// Lets a client go on that is parked in restore/next.
    pub(crate) fn restore(&mut self) {
        if let State::Restoring(slot) = self.state {
            self.restored = true;
            self.state = State::Between;
            self.answer(slot, &Reply::restored());
        }
    }

    /// Hands an event out, now or with the next `next`.
    pub(crate) fn invoke(&mut self, invocation: Invocation) {
        self.restore();
        let waiting = match &mut self.state {
            State::Waiting(slots) if !slots.is_empty() => Some(slots.remove(0)),
            _ => None,
        };
        match waiting {
            Some(slot) => self.hand_out(slot, invocation),
            None => self.queued = Some(invocation),
        }
    }

    /// Takes an event back for which no `next` has come.
    pub(crate) fn take_unserved(&mut self) -> Option<Invocation> {
        self.queued.take()
    }

    /// Handles readiness of the listener or of one connection.
    pub(crate) fn on_ready(&mut self, token: Token, events: &mut Vec<RuntimeEvent>) {
        match token {
            Token::ApiListener => self.accept(),
            Token::ApiConnection(slot) => self.serve(slot, events),
            _ => {}
        }
    }

    /// Sends what is due, drops what is over, watches the rest. `room`: parts of a result can be passed on.
    pub(crate) fn flush(&mut self, poll: &Poll, room: bool) -> io::Result<()> {
        let more = self.connections.len() < MAX_CONNECTIONS;
        let interest = if more { Interest::READ } else { Interest::default() };
        poll.set(&mut self.watch, &self.listener, interest)?;
        let mut over = Vec::new();
        for (&slot, connection) in &mut self.connections {
            // A connection that fails is the client's loss, not the agent's.
            if !connection.flush(poll, room).unwrap_or(false) {
                over.push(slot);
            }
        }
        for slot in over {
            self.close(slot);
        }
        Ok(())
    }

    fn accept(&mut self) {
        while self.connections.len() < MAX_CONNECTIONS {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(e) if is_transient(&e) => return,
                // The client gave up, or the kernel is short of memory: nothing to serve.
                Err(_) => return,
            };
            if stream.set_nonblocking(true).is_ok() {
                self.adopt(stream);
            }
        }
    }

    /// Serves a client from now on.
    pub(crate) fn adopt(&mut self, stream: TcpStream) {
        // A slot number comes back after 2^32 connections, when its first owner is long gone.
        let slot = self.next_slot;
        self.next_slot = self.next_slot.wrapping_add(1);
        self.connections.insert(slot, Connection::new(stream, slot));
    }

    fn serve(&mut self, slot: u32, events: &mut Vec<RuntimeEvent>) {
        let Some(connection) = self.connections.get_mut(&slot) else { return };
        if !connection.read() {
            self.break_off(slot, events);
            self.close(slot);
            return;
        }
        loop {
            let Some(connection) = self.connections.get_mut(&slot) else { return };
            match connection.next(self.streamed.as_deref()) {
                None => return,
                Some(Ok(incoming)) => {
                    if let Some(reply) = self.take(slot, incoming, events) {
                        self.answer(slot, &reply);
                    }
                }
                Some(Err(refusal)) => {
                    self.answer(slot, &refusal);
                    if let Some(connection) = self.connections.get_mut(&slot) {
                        connection.close_after_reply();
                    }
                    if refusal.status == 413 {
                        self.overflow(slot, events);
                    }
                    self.break_off(slot, events);
                    // A result too large ends the invocation, as on AWS Lambda.
                    if refusal.status == 413 && matches!(self.state, State::Running { .. }) {
                        self.state = State::Between;
                        self.streamed = None;
                        events.push(RuntimeEvent::Failed(reply::too_large()));
                    }
                    return;
                }
            }
        }
    }

    /// Carries out what a client has sent. `None` if its answer comes later, or none is due.
    fn take(
        &mut self,
        slot: u32,
        incoming: Incoming,
        events: &mut Vec<RuntimeEvent>,
    ) -> Option<Reply> {
        match incoming {
            Incoming::Whole(request) => self.route(slot, request, events),
            Incoming::Begin(content_type) => {
                self.begin_stream(slot, content_type);
                None
            }
            Incoming::Part(data) => {
                self.pass_on(data, events);
                None
            }
            Incoming::End(trailers) => Some(self.end_stream(&trailers, events)),
        }
    }

    fn hand_out(&mut self, slot: u32, invocation: Invocation) {
        let reply = Reply::invocation(&invocation);
        let id = &invocation.request_id;
        self.streamed = invocation.stream.then(|| format!("{PREFIX}invocation/{id}/response"));
        self.state = State::Running { request_id: invocation.request_id };
        self.answer(slot, &reply);
    }

    fn answer(&mut self, slot: u32, reply: &Reply) {
        if let Some(connection) = self.connections.get_mut(&slot) {
            connection.reply(reply);
        }
    }

    fn close(&mut self, slot: u32) {
        self.connections.remove(&slot);
        if let State::Waiting(slots) = &mut self.state {
            slots.retain(|&waiting| waiting != slot);
        }
    }
}

#[cfg(test)]
mod tests;
