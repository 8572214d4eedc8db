//! Waiting for a thread that is about to answer.
//!
//! A vCPU that was kicked and devices that were poked answer within microseconds. Falling asleep and being
//! woken takes longer than that, so who waits lets others have its processor a few times first, and
//! sleeps only when that has brought nothing. Where both have a processor of their own, who waits keeps it: it
//! might not get it back soon from a stranger who wants it, too.

use std::hint;
use std::sync::mpsc::{Receiver, RecvError, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

/// Turns given away before sleeping: some tens of microseconds where nobody else wants the processor.
const TURNS: u32 = 64;

/// How long to keep a processor for what comes soon: about twice what the rest of a thaw takes.
const SOON: Duration = Duration::from_micros(100);

/// Receives what comes next.
pub(crate) fn receive<T>(inbox: &Receiver<T>) -> Result<T, RecvError> {
    for _ in 0..TURNS {
        match inbox.try_recv() {
            Ok(answer) => return Ok(answer),
            Err(TryRecvError::Disconnected) => return Err(RecvError),
            Err(TryRecvError::Empty) => thread::yield_now(),
        }
    }
    inbox.recv()
}

/// Receives what comes next from a thread that runs on another processor.
pub(crate) fn receive_soon<T>(inbox: &Receiver<T>) -> Result<T, RecvError> {
    let since = Instant::now();
    while since.elapsed() < SOON {
        match inbox.try_recv() {
            Ok(answer) => return Ok(answer),
            Err(TryRecvError::Disconnected) => return Err(RecvError),
            Err(TryRecvError::Empty) => hint::spin_loop(),
        }
    }
    inbox.recv()
}
