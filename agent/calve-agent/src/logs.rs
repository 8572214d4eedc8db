//! The function's standard output and error: pipes, read into Log frames.
//!
//! The pipes are read only while the host's outbox has room, so that a function that prints without end blocks in its
//! own write and costs the agent a bounded buffer. Past the configured limit the bytes are read and dropped, and counted.
//! What a function printed before its answer is collected by [`drain`](LogPump::drain), so that it arrives before it.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;

use calve_proto::limits::MAX_CHUNK;
use calve_proto::wire::{Log, LogTruncated, guest_frame::Body, log::Stream};

use crate::control::is_transient;
use crate::outbox::Outbox;
use crate::poll::{Interest, Poll, Token, Watch};

/// Most that one drain takes from one pipe: the largest pipe an unprivileged process can make
/// (`/proc/sys/fs/pipe-max-size`, pipe(7)). A thread that goes on printing cannot hold the answer back longer.
const DRAIN_LIMIT: usize = 1 << 20;

/// Bytes asked for in the first read. A read that gets all it asked for asks for more next time: a function that prints
/// little costs its clone one page.
const FIRST_READ: usize = 4 << 10;

/// One of the two pipes.
#[derive(Debug)]
struct Tap {
    pipe: Option<File>,
    watch: Watch,
    stream: Stream,
}

/// Both pipes of a runtime.
#[derive(Debug)]
pub(crate) struct LogPump {
    taps: [Tap; 2],
    /// Bytes that may still be forwarded for this call; `None` means any number.
    left: Option<u64>,
    limit: Option<u64>,
    dropped: u64,
    read_size: usize,
}

impl LogPump {
    /// Takes over the read ends, which must be non-blocking. A `limit` of 0 means none.
    pub(crate) fn new(stdout: OwnedFd, stderr: OwnedFd, limit: u64) -> Self {
        let tap = |pipe: OwnedFd, token, stream| Tap {
            pipe: Some(pipe.into()),
            watch: Watch::new(token),
            stream,
        };
        let limit = (limit > 0).then_some(limit);
        Self {
            taps: [
                tap(stdout, Token::Stdout, Stream::Stdout),
                tap(stderr, Token::Stderr, Stream::Stderr),
            ],
            left: limit,
            limit,
            dropped: 0,
            read_size: FIRST_READ,
        }
    }

    /// Sets another limit; 0 means none.
    pub(crate) fn set_limit(&mut self, limit: u64) {
        self.limit = (limit > 0).then_some(limit);
        self.begin();
    }

    /// Starts the account of a new call.
    pub(crate) fn begin(&mut self) {
        self.left = self.limit;
        self.dropped = 0;
    }

    /// Forwards one read of the pipe that `token` names.
    pub(crate) fn read(&mut self, token: Token, outbox: &mut Outbox) {
        let index = usize::from(token == Token::Stderr);
        self.read_once(index, outbox);
    }

    /// Forwards what is in both pipes now, and says what was dropped.
    pub(crate) fn drain(&mut self, outbox: &mut Outbox) {
        for index in 0..self.taps.len() {
            let mut taken = 0;
            while taken < DRAIN_LIMIT {
                match self.read_once(index, outbox) {
                    0 => break,
                    n => taken += n,
                }
            }
        }
        if self.dropped > 0 {
            let dropped = std::mem::take(&mut self.dropped);
            // A frame of one number always encodes.
            let _ = outbox.push(Body::LogTruncated(LogTruncated { dropped }));
        }
    }

    /// Watches the pipes while `open`, else leaves their bytes where they are.
    pub(crate) fn watch(&mut self, poll: &Poll, open: bool) -> io::Result<()> {
        let interest = if open { Interest::READ } else { Interest::default() };
        for tap in &mut self.taps {
            if let Some(pipe) = &tap.pipe {
                poll.set(&mut tap.watch, pipe, interest)?;
            }
        }
        Ok(())
    }

    /// One read. Returns its bytes; 0 if there is nothing now or nothing ever again.
    fn read_once(&mut self, index: usize, outbox: &mut Outbox) -> usize {
        let tap = &mut self.taps[index];
        let Some(pipe) = &mut tap.pipe else { return 0 };
        let mut data = vec![0; self.read_size];
        let n = match pipe.read(&mut data) {
            Ok(n) if n > 0 => n,
            Err(e) if is_transient(&e) => return 0,
            // The end, or a broken pipe: closing it takes it out of the poll.
            _ => {
                tap.pipe = None;
                return 0;
            }
        };
        let stream = tap.stream;
        if n == self.read_size {
            self.read_size = (n * 2).min(MAX_CHUNK);
        }
        let keep = self.left.map_or(n, |left| usize::try_from(left).map_or(n, |left| left.min(n)));
        self.left = self.left.map(|left| left - keep as u64);
        self.dropped += (n - keep) as u64;
        data.truncate(keep);
        if keep > 0 {
            // At most MAX_CHUNK bytes always encode.
            let _ = outbox.push(Body::Log(Log { stream: stream.into(), data }));
        }
        n
    }
}

#[cfg(test)]
mod tests;
