//! What fuzz targets reach of the inside: see `tools/fuzz`. No part of the crate's interface.
//!
//! The real agent, Runtime API and shim link, over socket pairs in one thread. No function can be started, as there is
//! no code, no interpreter and no run folder; what is meant to happen then is an answer to the host.
#![allow(missing_docs, clippy::missing_panics_doc, clippy::unwrap_used)] // a host that refuses descriptors ends a run

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use calve_proto::wire::ThawFacts;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::agent::Agent;
use crate::lambda_api::LambdaApi;
use crate::place::{Place, PlaceError};
use crate::poll::{Poll, Token};
use crate::runtime::shim::ShimLink;
use crate::runtime::{Invocation, RuntimeEvent};

/// Where nothing is.
const NOWHERE: &str = "/dev/null/nothing";
const LOOPBACK: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// Surroundings in which one host connects and nothing else is.
#[derive(Debug)]
struct Nowhere {
    listener: UnixListener,
    host: Option<OwnedFd>,
}

impl Place for Nowhere {
    fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    fn accept(&mut self) -> io::Result<Option<OwnedFd>> {
        Ok(self.host.take())
    }

    fn task_root(&self) -> &Path {
        Path::new(NOWHERE)
    }

    fn layers_root(&self) -> &Path {
        Path::new(NOWHERE)
    }

    fn mount_code(&mut self) -> Result<(), PlaceError> {
        Ok(())
    }

    fn run_dir(&self) -> &Path {
        Path::new(NOWHERE)
    }

    fn search_path(&self) -> String {
        NOWHERE.to_owned()
    }

    fn api_address(&self) -> SocketAddr {
        LOOPBACK
    }

    fn signal_function(&self, leader: Pid, _signal: Signal) {
        panic!("{leader} was started from nothing");
    }

    fn backdate_clock(&mut self) -> Result<(), PlaceError> {
        Ok(())
    }

    fn reclaim(&mut self, _leader: Option<Pid>) -> Result<u64, PlaceError> {
        Ok(0)
    }

    fn apply(&mut self, _facts: &ThawFacts) -> Result<(), PlaceError> {
        Ok(())
    }
}

/// Sends `pieces` to an agent as its host; returns what it answered.
pub fn host_frames<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    thread_local! {
        /// Never connected to; one socket of one name for all runs.
        static LISTENER: UnixListener = unnamed_listener();
    }
    let (host, agent_end) = UnixStream::pair().unwrap();
    agent_end.set_nonblocking(true).unwrap();
    host.set_nonblocking(true).unwrap();
    let listener = LISTENER.with(|listener| listener.try_clone().unwrap());
    let mut agent = Agent::new(Nowhere { listener, host: Some(agent_end.into()) }).unwrap();
    agent.take_host().unwrap();
    exchange(&host, pieces, || agent.round().unwrap())
}

/// A listening socket whose name the kernel chooses (unix(7), autobind).
fn unnamed_listener() -> UnixListener {
    use nix::sys::socket::{
        AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
    };
    use std::os::fd::AsRawFd;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None).unwrap();
    bind(fd.as_raw_fd(), &UnixAddr::new_unnamed()).unwrap();
    listen(&fd, Backlog::new(1).unwrap()).unwrap();
    fd.into()
}

/// Sends `pieces` to the Runtime API as a function's client, with an invocation waiting behind every `invoke_every`th;
/// returns what it answered.
pub fn runtime_api<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, invoke_every: usize) -> Vec<u8> {
    let (client, server) = UnixStream::pair().unwrap();
    client.set_nonblocking(true).unwrap();
    server.set_nonblocking(true).unwrap();
    let mut api = LambdaApi::listen(LOOPBACK).unwrap();
    // Reads, writes and polls are those of any stream socket.
    api.adopt(TcpStream::from(OwnedFd::from(server)));
    let poll = Poll::new().unwrap();
    let mut events = Vec::new();
    let mut rounds = 0;
    exchange(&client, pieces, || {
        rounds += 1;
        if rounds % invoke_every.max(1) == 0 {
            api.restore();
            api.invoke(invocation(rounds, rounds % 2 == 0));
        }
        api.flush(&poll, true).unwrap();
        for token in poll.wait(Some(std::time::Instant::now())).unwrap() {
            api.on_ready(token, &mut events);
        }
        api.flush(&poll, true).unwrap();
        bounded(&mut events);
    })
}

fn invocation(number: usize, stream: bool) -> Invocation {
    Invocation {
        request_id: format!("r-{number}"),
        event: b"{}".to_vec(),
        deadline_epoch_ms: 0,
        function_arn: String::new(),
        trace_id: String::new(),
        stream,
    }
}

/// Sends `pieces` to the agent as its shim.
pub fn shim_frames<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) {
    let (shim, agent_end) = UnixStream::pair().unwrap();
    shim.set_nonblocking(true).unwrap();
    agent_end.set_nonblocking(true).unwrap();
    let mut link = ShimLink::new(agent_end);
    let poll = Poll::new().unwrap();
    let mut events = Vec::new();
    let mut rounds = 0;
    exchange(&shim, pieces, || {
        // Seldom: a stream takes more than one round.
        if rounds % 32 == 0 {
            link.invoke(&invocation(rounds, rounds % 64 == 0));
        }
        rounds += 1;
        link.flush(&poll, true).unwrap();
        if poll.wait(Some(std::time::Instant::now())).unwrap().contains(&Token::Shim) {
            link.on_readable(&mut events);
        }
        bounded(&mut events);
    });
}

/// What the runtime says of itself is bounded by the protocol with the host.
fn bounded(events: &mut Vec<RuntimeEvent>) {
    for event in events.drain(..) {
        if let RuntimeEvent::Result(value) = event {
            assert!(value.len() <= calve_proto::limits::MAX_BODY, "{} bytes", value.len());
        }
    }
}

/// Writes each piece, lets the other side have a round, and reads what it says. A peer that reads no more is over.
fn exchange<'a>(
    mut stream: &UnixStream,
    pieces: impl IntoIterator<Item = &'a [u8]>,
    mut round: impl FnMut(),
) -> Vec<u8> {
    let mut answers = Vec::new();
    round();
    for piece in pieces {
        if stream.write_all(piece).is_err() {
            break;
        }
        // Each round reads once.
        for _ in 0..=piece.len() / 4096 {
            round();
        }
        // `WouldBlock` ends it; what came before is kept.
        let _ = stream.read_to_end(&mut answers);
    }
    answers
}
