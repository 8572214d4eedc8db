//! Makes requests when they are due, whatever became of those before: a stall delays all that fall into it, and each counts
//! from when it was due, not from when it could be sent.
//!
//! One thread, in a process of its own: it sleeps until a request is due or an answer comes.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::prctl;
use nix::sys::time::TimeSpec;
use serde::{Deserialize, Serialize};

use super::clock;

/// The longest that an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What to do.
#[derive(Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) address: SocketAddr,
    /// The request, whole.
    pub(super) request: String,
    /// Nanoseconds between two.
    pub(super) pause: u64,
    pub(super) requests: u64,
    pub(super) connections: usize,
}

/// What came of it.
#[derive(Serialize, Deserialize)]
pub(super) struct Outcome {
    pub(super) shots: Vec<Shot>,
    pub(super) failures: u64,
    /// What the last failure was.
    pub(super) failure: Option<String>,
}

/// A request that was answered; times are nanoseconds.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) struct Shot {
    /// Which.
    pub(super) number: u64,
    pub(super) due: u64,
    pub(super) sent: u64,
    /// Whether a connection was free when it was due: what it was late then is this thread's own.
    pub(super) awaited: bool,
    /// When the function was called.
    pub(super) called: u64,
    /// When the function returned.
    pub(super) returned: u64,
    pub(super) read: u64,
}

struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    shot: Option<Shot>,
}

impl Connection {
    fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(4096), shot: None })
    }

    /// Reads what there is; the times in the answer, if it is whole.
    fn read(&mut self) -> anyhow::Result<Option<(u64, u64)>> {
        let mut chunk = [0; 4096];
        match self.stream.read(&mut chunk) {
            Ok(0) => anyhow::bail!("the connection was closed"),
            Ok(count) => self.buffer.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let found = answer(&self.buffer)?;
        if found.is_some() {
            self.buffer.clear();
        }
        Ok(found)
    }
}

/// The times in an answer; none if it is not whole.
fn answer(bytes: &[u8]) -> anyhow::Result<Option<(u64, u64)>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let (head, body) = (std::str::from_utf8(&bytes[..end])?, &bytes[end + 4..]);
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        if name.eq_ignore_ascii_case("content-length") { value.trim().parse().ok() } else { None }
    });
    let length: usize = length.context("an answer without a length")?;
    if body.len() < length {
        return Ok(None);
    }
    let status = head.lines().next().unwrap_or_default();
    ensure!(status.contains(" 200 "), "{status}: {}", String::from_utf8_lossy(body));
    Ok(Some(serde_json::from_slice(body)?))
}

/// Makes the requests of a plan.
pub(super) fn make(plan: &Plan) -> anyhow::Result<Outcome> {
    // Otherwise sleep may last 50 µs longer than it was to (PR_SET_TIMERSLACK in prctl(2)).
    prctl::set_timerslack(1)?;
    let connections = (0..plan.connections).map(|_| Connection::open(plan.address));
    let mut connections = connections.collect::<anyhow::Result<Vec<_>>>()?;
    let mut free: VecDeque<usize> = (0..connections.len()).collect();
    let mut outcome = Outcome { shots: Vec::new(), failures: 0, failure: None };
    let started = clock() + plan.pause;
    let due = |number: u64| started + number * plan.pause;
    let (mut next, mut awaited) = (0, true);
    while next < plan.requests || free.len() < connections.len() {
        while next < plan.requests && due(next) <= clock() {
            let Some(at) = free.pop_front() else {
                awaited = false;
                break;
            };
            let shot = Shot {
                number: next,
                due: due(next),
                sent: clock(),
                awaited,
                called: 0,
                returned: 0,
                read: 0,
            };
            connections[at].stream.write_all(plan.request.as_bytes())?;
            connections[at].shot = Some(shot);
            next += 1;
        }
        if !free.is_empty() {
            awaited = true;
        }
        let sleeps = if next < plan.requests && !free.is_empty() {
            Duration::from_nanos(due(next).saturating_sub(clock()))
        } else {
            PATIENCE
        };
        let mut polled: Vec<_> = connections
            .iter()
            .map(|connection| PollFd::new(connection.stream.as_fd(), PollFlags::POLLIN))
            .collect();
        let ready = match ppoll(&mut polled, Some(TimeSpec::from(sleeps)), None) {
            Err(Errno::EINTR) => continue,
            ready => ready?,
        };
        ensure!(ready > 0 || sleeps < PATIENCE, "no answer within {PATIENCE:?}");
        let readable: Vec<_> = polled.iter().map(|one| one.any() == Some(true)).collect();
        for (at, _) in readable.into_iter().enumerate().filter(|(_, readable)| *readable) {
            let connection = &mut connections[at];
            let (called, returned) = match connection.read() {
                Ok(Some(times)) => times,
                Ok(None) => continue,
                Err(error) => {
                    outcome.failures += 1;
                    outcome.failure = Some(format!("{error:#}"));
                    *connection = Connection::open(plan.address)?;
                    free.push_back(at);
                    continue;
                }
            };
            if let Some(shot) = connection.shot.take() {
                outcome.shots.push(Shot { called, returned, read: clock(), ..shot });
            }
            free.push_back(at);
        }
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::answer;

    #[test]
    fn an_answer_is_taken_when_it_is_whole() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n[1,2]";
        for end in 0..whole.len() {
            assert_eq!(answer(&whole[..end]).unwrap(), None);
        }
        assert_eq!(answer(whole).unwrap(), Some((1, 2)));
        assert!(answer(b"HTTP/1.1 429 Too Many\r\ncontent-length: 1\r\n\r\nx").is_err());
    }
}
