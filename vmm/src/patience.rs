//! Waiting for a thread that is about to answer.
//!
//! A vCPU that was kicked and devices that were poked answer within microseconds. Falling asleep and being
//! woken takes longer than that, so who waits lets others have its processor a few times first, and
//! sleeps only when that has brought nothing.

use std::sync::mpsc::{Receiver, RecvError, TryRecvError};
use std::thread;

/// Turns given away before sleeping: some tens of microseconds where nobody else wants the processor.
const TURNS: u32 = 64;

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
