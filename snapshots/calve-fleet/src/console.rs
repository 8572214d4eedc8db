//! The last of what a guest wrote to its console, or a worker to its standard error.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::unistd::pipe2;

use crate::control::{MAX_TEXT, printable};

/// Bytes taken from the pipe in one go: what a pipe holds at most (pipe(7)), so that a writer that
/// never stops cannot keep the reader.
const DRAIN: usize = 64 << 10;

/// How long a pipe that was just drained is left alone, so that a guest that floods its console
/// costs its host little: a full pipe loses bytes, and only the last count.
const REST: Duration = Duration::from_millis(10);

/// The reading end of a pipe, and the last [`MAX_TEXT`] bytes that came through it.
#[derive(Debug)]
pub(crate) struct Tail {
    pipe: File,
    last: VecDeque<u8>,
    open: bool,
    drained: Option<Instant>,
}

impl Tail {
    /// A tail and the descriptor to write to. Neither end blocks: a writer that is faster than
    /// its reader loses bytes.
    pub(crate) fn new() -> nix::Result<(Self, OwnedFd)> {
        let (read, write) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        Ok((Self { pipe: read.into(), last: VecDeque::new(), open: true, drained: None }, write))
    }

    /// The pipe, while there is a writer and it does not rest.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        (self.open && self.rest().is_none()).then(|| self.pipe.as_fd())
    }

    /// How much longer the pipe rests, if it does.
    pub(crate) fn rest(&self) -> Option<Duration> {
        let left = REST.checked_sub(self.drained?.elapsed())?;
        (self.open && !left.is_zero()).then_some(left)
    }

    /// Takes what is in the pipe.
    pub(crate) fn drain(&mut self) {
        let mut chunk = [0; 4 << 10];
        let mut taken = 0;
        self.drained = Some(Instant::now());
        while self.open && taken < DRAIN {
            match self.pipe.read(&mut chunk) {
                Ok(0) => self.open = false,
                Ok(n) => {
                    taken += n;
                    self.last.extend(&chunk[..n]);
                    let excess = self.last.len().saturating_sub(MAX_TEXT);
                    self.last.drain(..excess);
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    /// What came last, made printable.
    pub(crate) fn text(&mut self) -> String {
        self.drain();
        printable(self.last.make_contiguous())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn the_last_bytes_are_kept() {
        let (mut tail, pipe) = Tail::new().unwrap();
        let mut pipe = File::from(pipe);
        for n in 0..2_000 {
            pipe.write_all(format!("line {n}\n").as_bytes()).unwrap();
        }
        let text = tail.text();
        assert!(text.ends_with("line 1999") && text.len() <= MAX_TEXT);
        drop(pipe);
        tail.drain();
        assert!(tail.fd().is_none() && tail.rest().is_none());
    }

    #[test]
    fn a_drained_pipe_rests() {
        let (mut tail, _pipe) = Tail::new().unwrap();
        assert!(tail.fd().is_some());
        tail.drain();
        assert!(tail.fd().is_some() == tail.rest().is_none());
        std::thread::sleep(REST);
        assert!(tail.fd().is_some());
    }

    #[test]
    fn a_writer_without_a_reader_does_not_block() {
        let (_tail, pipe) = Tail::new().unwrap();
        let mut pipe = File::from(pipe);
        let full = (0..10_000).find_map(|_| pipe.write_all(&[b'x'; 4096]).err());
        assert_eq!(full.unwrap().kind(), std::io::ErrorKind::WouldBlock);
    }
}
