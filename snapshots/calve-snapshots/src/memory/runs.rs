//! Runs of pages that are not all zero: finding, hashing and writing them.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::{MemorySource, PAGE, RECORD_HEADER, WINDOW};
use crate::{Digest, Progress};

static ZERO_PAGE: [u8; PAGE] = [0; PAGE];

/// What the runs of one memory file add up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// SHA-256 over the records of the runs.
    pub digest: Digest,
    /// Pages that are not all zero.
    pub pages: u64,
    /// Runs they form.
    pub runs: u64,
}

impl Summary {
    /// Bytes of the records: what the memory takes in its travelling form.
    pub fn packed_len(&self) -> u64 {
        self.pages * PAGE as u64 + self.runs * RECORD_HEADER as u64
    }
}

/// Why writing stopped: the side that is at fault decides what the user is told.
#[derive(Debug)]
pub(crate) enum Fault {
    Read(io::Error),
    Write(io::Error),
}

/// Writes the runs of `source` to the empty file `file` and digests them on the way.
pub(crate) fn write(
    file: &File,
    source: &(impl MemorySource + ?Sized),
    progress: Progress<'_>,
) -> Result<Summary, Fault> {
    let total = source.layout().size();
    file.set_len(total).map_err(Fault::Write)?;
    let mut runs = Runs::new(source);
    let mut tally = Tally::default();
    while let Some(run) = runs.next().map_err(Fault::Read)? {
        file.write_all_at(run.bytes, run.offset).map_err(Fault::Write)?;
        tally.add(&run);
        progress(runs.position(), total);
    }
    progress(total, total);
    Ok(tally.finish())
}

/// Digests the runs of `source`, telling `each` the bytes of every one.
pub(crate) fn summarise(
    source: &(impl MemorySource + ?Sized),
    mut each: impl FnMut(usize),
) -> io::Result<Summary> {
    let mut runs = Runs::new(source);
    let mut tally = Tally::default();
    while let Some(run) = runs.next()? {
        tally.add(&run);
        each(run.bytes.len());
    }
    Ok(tally.finish())
}

/// A run of pages, none of which is all zero, within one window.
pub(super) struct Run<'a> {
    pub(super) offset: u64,
    pub(super) bytes: &'a [u8],
}

impl Run<'_> {
    /// The record's header; the run's bytes follow it.
    pub(super) fn header(&self) -> [u8; RECORD_HEADER] {
        let mut header = [0; RECORD_HEADER];
        header[..8].copy_from_slice(&self.offset.to_le_bytes());
        header[8..].copy_from_slice(&(self.bytes.len() as u64).to_le_bytes());
        header
    }
}

/// Walks a source window by window. Not an `Iterator`: a run borrows the window's buffer.
pub(super) struct Runs<'a, S: ?Sized> {
    source: &'a S,
    window: Box<[u8]>,
    /// RAM offset of the window in the buffer.
    start: u64,
    /// Bytes of it that are valid, and how many of those have been looked at.
    filled: usize,
    seen: usize,
}

impl<'a, S: MemorySource + ?Sized> Runs<'a, S> {
    pub(super) fn new(source: &'a S) -> Self {
        Self { source, window: vec![0; WINDOW].into(), start: 0, filled: 0, seen: 0 }
    }

    /// RAM offset up to which everything has been returned.
    pub(super) fn position(&self) -> u64 {
        self.start + self.seen as u64
    }

    pub(super) fn next(&mut self) -> io::Result<Option<Run<'_>>> {
        loop {
            if let Some(run) = next_run(&self.window[..self.filled], self.seen) {
                self.seen = run.end;
                let offset = self.start + run.start as u64;
                return Ok(Some(Run { offset, bytes: &self.window[run] }));
            }
            if !self.fill()? {
                return Ok(None);
            }
        }
    }

    /// Reads the next window that may hold data; false at the end of RAM.
    fn fill(&mut self) -> io::Result<bool> {
        let size = self.source.layout().size();
        let from = self.start + self.filled as u64;
        (self.filled, self.seen, self.start) = (0, 0, from);
        if from >= size {
            return Ok(false);
        }
        // A source that answers with an offset behind us must not send us round in circles.
        let Some(data) = self.source.next_data(from)?.map(|d| d.max(from)).filter(|d| *d < size)
        else {
            return Ok(false);
        };
        // `from` is a multiple of WINDOW (only the last window is short), so rounding down stays ahead of it.
        let start = data - data % WINDOW as u64;
        let filled = usize::try_from(size - start).map_or(WINDOW, |left| left.min(WINDOW));
        self.source.read_at(start, &mut self.window[..filled])?;
        (self.start, self.filled) = (start, filled);
        Ok(true)
    }
}

/// The first run of non-zero pages in `window` at or after `from`, a multiple of the page size.
fn next_run(window: &[u8], from: usize) -> Option<Range<usize>> {
    let is_zero = |page: &[u8]| page == ZERO_PAGE; // memcmp: vectorised even in debug builds
    let mut pages = window.get(from..)?.chunks_exact(PAGE);
    let start = from + pages.position(|page| !is_zero(page))? * PAGE;
    let more = pages.position(is_zero);
    let end = more.map_or(window.len(), |n| start + (n + 1) * PAGE);
    Some(start..end)
}

#[derive(Default)]
struct Tally {
    hasher: Sha256,
    pages: u64,
    runs: u64,
}

impl Tally {
    fn add(&mut self, run: &Run<'_>) {
        self.hasher.update(run.header());
        self.hasher.update(run.bytes);
        self.pages += (run.bytes.len() / PAGE) as u64;
        self.runs += 1;
    }

    fn finish(self) -> Summary {
        Summary { digest: self.hasher.into(), pages: self.pages, runs: self.runs }
    }
}
