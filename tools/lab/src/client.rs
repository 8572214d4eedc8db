//! A caller's side of one call: the request out, the answer in, until the command has ended.

use std::ffi::OsString;
use std::fs::File;
use std::io::{ErrorKind, Read as _, Write};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::console::Console;
use crate::wire::{AnswerReader, Call, Frame, Nonce, Request};
use crate::{Error, error};

/// How long the nested host may take to get ready: some 7 s on an idle machine, so this is for one
/// whose processors are shared.
const BOOT_LIMIT: Duration = Duration::from_secs(180);
/// Variables of the caller that the command in the lab gets too.
const ENV_NAMES: [&str; 7] = ["HOME", "USER", "LOGNAME", "PATH", "TERM", "NO_COLOR", "TZ"];
/// Beginnings of names of such variables.
const ENV_PREFIXES: [&str; 3] = ["CALVE_", "RUST_", "XDG_"];

/// A command to run in the lab.
#[derive(Debug, Clone)]
pub struct Command {
    argv: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    cwd: PathBuf,
    paths: Vec<PathBuf>,
    limit: Option<Duration>,
    keep_caches: bool,
}

impl Command {
    /// A command in the current folder, with the part of this process's environment that means
    /// something in the lab: the search path, the home folder and the settings of Calve and Rust.
    pub fn new(argv: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        let passes = |name: &str| {
            let known = ENV_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
            ENV_NAMES.contains(&name) || known && name != "XDG_RUNTIME_DIR"
        };
        let env = std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(passes));
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            env: env.collect(),
            cwd: std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
            paths: Vec::new(),
            limit: None,
            keep_caches: false,
        }
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        let name = name.into();
        self.env.retain(|(known, _)| *known != name);
        self.env.push((name, value.into()));
        self
    }

    /// Puts a folder on the search path, before all that are there.
    #[must_use]
    pub fn path(mut self, folder: impl Into<PathBuf>) -> Self {
        self.paths.insert(0, folder.into());
        self
    }

    /// Runs it in this folder, as seen in the lab.
    #[must_use]
    pub fn current_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.cwd = folder.into();
        self
    }

    /// Ends it when it takes longer.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Lets it find in the cache of a persistent lab what earlier commands have read of this
    /// machine's files, even where they have changed since. For measurements.
    #[must_use]
    pub fn keep_caches(mut self) -> Self {
        self.keep_caches = true;
        self
    }

    fn request(&self, fresh_files: bool) -> Request {
        let known = self.env.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value);
        let folders = known.map(|value| std::env::split_paths(value).collect()).unwrap_or_default();
        let all: Vec<PathBuf> = [self.paths.clone(), folders].concat();
        // Only a folder with a colon in its name cannot be joined, and it could not be searched.
        let path = std::env::join_paths(all).unwrap_or_else(|_| known.cloned().unwrap_or_default());
        let command = self.clone().env("PATH", path).env("CALVE_LAB", "1").env("LANG", "C.UTF-8");
        Request {
            argv: command.argv,
            env: command.env,
            cwd: command.cwd.into(),
            fresh_files: fresh_files && !self.keep_caches,
        }
    }
}

/// Where a command's output goes.
pub struct Output<'a> {
    /// Its standard output.
    pub stdout: &'a mut dyn Write,
    /// Its standard error.
    pub stderr: &'a mut dyn Write,
}

/// One call over a port of the lab.
pub(crate) struct Client<'a> {
    pub(crate) port: &'a UnixStream,
    pub(crate) console: &'a Console,
    /// Ends the call when it becomes readable.
    pub(crate) interrupt: Option<BorrowedFd<'a>>,
}

impl Client<'_> {
    /// Runs `command` and returns its exit status. When this returns an error, closing the port ends
    /// what is left of the command.
    pub(crate) fn call(
        &self,
        command: &Command,
        fresh_files: bool,
        output: &mut Output<'_>,
    ) -> Result<u8, Error> {
        let call = Call { nonce: nonce()?, request: command.request(fresh_files) };
        let mut port = self.port;
        port.write_all(&call.encode()?).map_err(|_| self.host_ended())?;

        let mut answer = AnswerReader::new(&call.nonce);
        let mut deadline = Some((Instant::now() + BOOT_LIMIT, BOOT_LIMIT));
        let mut buffer = vec![0; 64 << 10];
        loop {
            if !self.wait(deadline.map(|(at, _)| at))? {
                let limit = deadline.map(|(_, limit)| limit).unwrap_or_default();
                let console = self.console.tail();
                return Err(if answer.is_open() {
                    Error::TimedOut { limit, console }
                } else {
                    Error::BootTimedOut { limit, console }
                });
            }
            let count = match port.read(&mut buffer) {
                Ok(0) => return Err(self.host_ended()),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return Err(self.host_ended()),
            };
            let was_open = answer.is_open();
            answer.push(&buffer[..count]);
            if answer.is_open() && !was_open {
                deadline = command.limit.map(|limit| (Instant::now() + limit, limit));
            }
            let mut status = None;
            answer.frames(|frame| match frame {
                Frame::Stdout(bytes) => put(output.stdout, "standard output", bytes),
                Frame::Stderr(bytes) => put(output.stderr, "standard error", bytes),
                Frame::Exit(code) => {
                    status = Some(code);
                    Ok(())
                }
                Frame::Refused(reason) => {
                    let reason = String::from_utf8_lossy(reason).into_owned();
                    Err(Error::Refused { reason })
                }
            })?;
            if let Some(status) = status {
                return Ok(status);
            }
        }
    }

    /// Waits until the port can be read; false when `deadline` has passed.
    fn wait(&self, deadline: Option<Instant>) -> Result<bool, Error> {
        loop {
            let timeout = match deadline {
                None => PollTimeout::NONE,
                // Rounded up, or the last millisecond would be spent in a busy loop.
                Some(at) => at
                    .checked_duration_since(Instant::now())
                    .map(|left| left + Duration::from_millis(1))
                    .map_or(PollTimeout::ZERO, |left| left.try_into().unwrap_or(PollTimeout::MAX)),
            };
            let mut fds = vec![PollFd::new(self.port.as_fd(), PollFlags::POLLIN)];
            fds.extend(self.interrupt.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
            match poll(&mut fds, timeout) {
                Ok(0) if deadline.is_some_and(|at| at <= Instant::now()) => return Ok(false),
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) if fds.get(1).is_some_and(|fd| fd.any() == Some(true)) => {
                    return Err(Error::Interrupted { console: self.console.tail() });
                }
                Ok(_) => return Ok(true),
                Err(errno) => return Err(Error::system("wait for the lab")(errno)),
            }
        }
    }

    fn host_ended(&self) -> Error {
        Error::HostEnded { console: self.console.tail() }
    }
}

fn put(to: &mut dyn Write, name: &'static str, bytes: &[u8]) -> Result<(), Error> {
    to.write_all(bytes).and_then(|()| to.flush()).map_err(error::Error::file("write to", name))
}

fn nonce() -> Result<Nonce, Error> {
    let path = Path::new("/dev/urandom");
    let mut nonce = Nonce::default();
    let read = File::open(path).and_then(|mut random| random.read_exact(&mut nonce));
    read.map(|()| nonce).map_err(Error::file("read", path))
}
