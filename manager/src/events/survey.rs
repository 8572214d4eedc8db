//! Which files are being written: those that a process has open for it. Needed for files that were there before
//! anybody watched; the others tell when they are closed.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::inbox::Stamp;
use crate::model::Millis;

/// Seconds without a change after which a file is taken that nobody can have open for writing. Time stamps may be of
/// whole seconds.
const SETTLED: i64 = 1;

/// The same where not every process could be looked into.
const LONG_SETTLED: i64 = 30;

/// What is open for writing, as `/proc` shows it (proc_pid_fd(5), proc_pid_fdinfo(5)).
pub(super) struct Survey {
    open: HashSet<(u64, u64)>,
    /// Whether all processes could be looked into: the host's user is the one who may.
    whole: bool,
}

impl Survey {
    /// Looks into every process that there is.
    pub(super) fn take() -> Self {
        let whole = nix::unistd::geteuid().is_root();
        let mut survey = Self { open: HashSet::new(), whole };
        for process in list(Path::new("/proc")) {
            if process.bytes().all(|byte| byte.is_ascii_digit()) {
                survey.look_into(&Path::new("/proc").join(&process));
            }
        }
        survey
    }

    fn look_into(&mut self, process: &Path) {
        for number in list(&process.join("fd")) {
            let info = std::fs::read_to_string(process.join("fdinfo").join(&number));
            if !info.is_ok_and(|info| is_for_writing(&info)) {
                continue;
            }
            if let Ok(file) = process.join("fd").join(&number).metadata() {
                self.open.insert((file.dev(), file.ino()));
            }
        }
    }

    /// Whether a file can be taken for finished.
    pub(super) fn is_settled(&self, stamp: &Stamp, now: Millis) -> bool {
        let settled = if self.whole { SETTLED } else { LONG_SETTLED };
        let now = i64::try_from(now / 1000).unwrap_or(i64::MAX);
        !self.open.contains(&stamp.file) && now.saturating_sub(stamp.touched) > settled
    }
}

fn list(folder: &Path) -> Vec<String> {
    // A process may end at any time.
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// The access mode is in the last two bits of the flags, which are octal: 0 is to read (open(2)).
fn is_for_writing(info: &str) -> bool {
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| u64::from_str_radix(flags.trim(), 8).ok());
    flags.is_some_and(|flags| flags & 3 != 0)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn sees_what_is_open_for_writing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let file = |path: &Path| {
            let meta = path.metadata().unwrap();
            (meta.dev(), meta.ino())
        };
        let writer = File::create(&path).unwrap();
        let reader = File::open(&path).unwrap();
        assert!(Survey::take().open.contains(&file(&path)));
        drop(writer);
        assert!(!Survey::take().open.contains(&file(&path)));
        drop(reader);
    }
}
