//! The console of the nested host and the messages of QEMU: one file, read only when something fails.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::Error;

/// How much of the file's end is looked at, in bytes.
const TAIL_BYTES: u64 = 16 << 10;
/// How much of it is shown, in lines.
const TAIL_LINES: usize = 30;
/// Begins the reason why a kernel gave up; a trace of any length follows it.
const REASON: &str = "Kernel panic - not syncing";
/// What QEMU says at every start about features of the EPYC model that TCG lacks.
const NOISE: &str = "TCG doesn't support requested feature";

/// Where the nested host's console goes.
#[derive(Debug)]
pub(crate) struct Console {
    file: File,
}

impl Console {
    /// A console in a file that has no name and vanishes with its last user.
    pub(crate) fn anonymous() -> Result<Self, Error> {
        let file = tempfile::tempfile().map_err(Error::system("create a temporary file"))?;
        Ok(Self { file })
    }

    /// A console in a new file at `path`.
    pub(crate) fn at(path: &Path) -> Result<Self, Error> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(true).open(path);
        Ok(Self { file: file.map_err(Error::file("create", path))? })
    }

    /// The console at `path`, to be read.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        Ok(Self { file: File::open(path).map_err(Error::file("open", path))? })
    }

    /// A handle that appends, so that QEMU's messages and the guest's do not overwrite each other.
    pub(crate) fn appender(&self) -> Result<File, Error> {
        let path = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        OpenOptions::new().append(true).open(&path).map_err(Error::file("open", path))
    }

    /// The last lines, with those left out that say nothing.
    pub(crate) fn tail(&self) -> String {
        let length = self.file.metadata().map_or(0, |metadata| metadata.len());
        let mut bytes = vec![0; usize::try_from(length.min(TAIL_BYTES)).unwrap_or_default()];
        let read = self.file.read_at(&mut bytes, length.saturating_sub(TAIL_BYTES)).unwrap_or(0);
        tail(&String::from_utf8_lossy(&bytes[..read]))
    }
}

fn tail(text: &str) -> String {
    let lines =
        text.lines().map(str::trim_end).filter(|line| !line.is_empty() && !line.contains(NOISE));
    let lines: Vec<_> = lines.collect();
    if lines.is_empty() {
        return "(it is empty)".to_owned();
    }
    let from = lines.len().saturating_sub(TAIL_LINES);
    let reason = lines.iter().rposition(|line| line.contains(REASON));
    lines[reason.map_or(from, |reason| reason.min(from))..].join("\n")
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn the_tail_is_short_and_without_noise() {
        let console = Console::anonymous().unwrap();
        assert_eq!(console.tail(), "(it is empty)");
        let mut appender = console.appender().unwrap();
        for line in 0..10_000 {
            writeln!(appender, "line {line}\r\n\nqemu: warning: {NOISE}: CPUID").unwrap();
        }
        let tail = console.tail();
        assert_eq!(tail.lines().count(), TAIL_LINES);
        assert!(tail.starts_with("line 9970\n") && tail.ends_with("\nline 9999"), "{tail}");
    }

    #[test]
    fn the_reason_of_a_panic_is_shown_however_long_its_trace() {
        let trace = "\n ? frame".repeat(2 * TAIL_LINES);
        let text = format!("before\n[ 1.0] {REASON}: sysrq triggered crash{trace}\nend");
        let tail = tail(&text);
        assert!(tail.starts_with("[ 1.0] Kernel panic - not syncing: sysrq"), "{tail}");
        assert!(tail.ends_with("\nend"));
    }
}
