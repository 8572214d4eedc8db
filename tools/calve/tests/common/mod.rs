//! What the tests of the command share. Each test binary uses a part of it.
#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests")]

pub(crate) mod frozen;
pub(crate) mod guest;
pub(crate) mod lab;
pub(crate) mod leftovers;
pub(crate) mod serve;
pub(crate) mod stub;

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

/// The command under test. Where `cargo xtask test` has built our programs side by side, the one among them: next to
/// the worker, and fast enough for an emulated host.
pub(crate) fn program() -> PathBuf {
    let beside =
        std::env::var_os("CALVE_WORKER").map(|worker| Path::new(&worker).with_file_name("calve"));
    beside.filter(|calve| calve.is_file()).unwrap_or_else(|| env!("CARGO_BIN_EXE_calve").into())
}

/// A function for tests, by the name of its folder.
pub(crate) fn function(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/functions").join(name)
}

/// A finished command.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) status: Option<i32>,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            status: output.status.code(),
        }
    }
}

impl Said {
    /// Asserts the exit status.
    #[track_caller]
    pub(crate) fn status(self, status: i32) -> Self {
        assert_eq!(self.status, Some(status), "{self:#?}");
        self
    }

    /// Asserts that stderr is exactly one line of ours with `text` in it.
    #[track_caller]
    pub(crate) fn line(self, text: &str) -> Self {
        let line = self.stderr.strip_suffix('\n').unwrap_or_else(|| panic!("no line: {self:#?}"));
        assert!(line.starts_with("calve: ") && !line.contains('\n'), "not one line: {self:#?}");
        assert!(line.contains(text), "no `{text}`: {self:#?}");
        self
    }

    /// Asserts that nothing was printed on stdout.
    #[track_caller]
    pub(crate) fn silent(self) -> Self {
        assert_eq!(self.stdout, "", "{self:#?}");
        self
    }

    /// The lines of stdout as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Vec<serde_json::Value> {
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {self:#?}"));
        self.stdout.lines().map(parse).collect()
    }
}

/// A store, a temporary folder and an otherwise empty environment for commands.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) folder: TempDir,
}

impl Place {
    /// A place on disk.
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// A place in memory, where snapshots are fast.
    pub(crate) fn in_memory() -> Self {
        Self { folder: tempfile::tempdir_in("/dev/shm").unwrap() }
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    /// Where commands make temporary files. Must be empty when none runs.
    pub(crate) fn temporary(&self) -> PathBuf {
        let path = self.folder.path().join("tmp");
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    /// The command with this place's folders.
    pub(crate) fn command(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = Command::new(program());
        command.args(args).env("CALVE_STORE", self.store()).env("TMPDIR", self.temporary());
        command.stdin(Stdio::null());
        command
    }

    /// Runs the command to its end.
    pub(crate) fn calve(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Said {
        self.command(args).output().unwrap().into()
    }

    /// Runs the command with `input` on stdin.
    pub(crate) fn feed(
        &self,
        args: impl IntoIterator<Item = impl AsRef<OsStr>>,
        input: &[u8],
    ) -> Said {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A command that has seen enough closes its end.
        let _ = child.stdin.take().unwrap().write_all(input);
        child.wait_with_output().unwrap().into()
    }

    /// Starts the command with its outputs piped.
    pub(crate) fn spawn(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Child {
        self.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }
}

/// The arguments of a one-line command.
pub(crate) fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}
