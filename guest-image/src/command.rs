//! Runs the external programs that the recipes are made of.
//!
//! A program that is missing is reported with the Debian package that has it; one that fails, with the line of its
//! error output that says why. A build stays interruptible while a program runs.

mod error;

pub use error::CommandError;

use crate::progress::Progress;
use error::missing;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::Duration;

/// How often a running program's builder is asked whether to give up.
const POLL: Duration = Duration::from_millis(100);

/// Lines of error output kept for a failure report.
const TAIL_LINES: usize = 30;

/// Longest line of output looked at, in bytes; the rest of a longer one counts as further lines.
const MAX_LINE: u64 = 4096;

/// Fails with the name of the package when one of `programs` is not on PATH. For programs that others start: a
/// missing `flex` would otherwise surface as a strange failure of `make`.
pub(crate) fn require(programs: &[&str]) -> Result<(), CommandError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    for &program in programs {
        if !std::env::split_paths(&path).any(|dir| dir.join(program).is_file()) {
            return Err(missing(program));
        }
    }
    Ok(())
}

fn name(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

fn not_started(program: &str) -> impl FnOnce(io::Error) -> CommandError {
    move |source| match source.kind() {
        io::ErrorKind::NotFound => missing(program),
        _ => CommandError::Run { program: program.to_owned(), source },
    }
}

/// Runs a program to its end; each line of its output goes to `on_line`.
pub(crate) fn run(
    command: &mut Command,
    progress: &mut dyn Progress,
    on_line: &mut dyn FnMut(&str, &mut dyn Progress),
) -> Result<(), CommandError> {
    run_on(command, Stdio::null(), progress, on_line)
}

fn run_on(
    command: &mut Command,
    stdin: Stdio,
    progress: &mut dyn Progress,
    on_line: &mut dyn FnMut(&str, &mut dyn Progress),
) -> Result<(), CommandError> {
    let program = name(command);
    let failed = |source| CommandError::Run { program: program.clone(), source };
    let mut child = command
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(not_started(&program))?;
    // `command` would keep the reading end of a pipe open, and the writer would never learn that nobody reads.
    command.stdin(Stdio::null());

    let (sender, lines) = mpsc::sync_channel(256);
    read_lines(child.stdout.take(), Line::Out, sender.clone());
    read_lines(child.stderr.take(), Line::Err, sender);
    let mut stderr = VecDeque::new();
    loop {
        match lines.recv_timeout(POLL) {
            Ok(Line::Out(line)) => on_line(&line, progress),
            Ok(Line::Err(line)) => {
                if stderr.len() == TAIL_LINES {
                    stderr.pop_front();
                }
                stderr.push_back(line);
            }
            Err(RecvTimeoutError::Timeout) => {}
            // Both outputs are closed: the program has ended or is about to.
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if progress.cancelled() {
            drop(lines);
            end(&mut child).map_err(failed)?;
            return Err(CommandError::Interrupted);
        }
    }
    let status = child.wait().map_err(failed)?;
    // On a terminal Ctrl-C reaches the program before this process gets to end it.
    if progress.cancelled() {
        return Err(CommandError::Interrupted);
    }
    if !status.success() {
        return Err(CommandError::Failed { program, status, stderr: stderr.into() });
    }
    Ok(())
}

/// Runs a program whose output is small and returns it, line by line.
pub(crate) fn output(
    command: &mut Command,
    progress: &mut dyn Progress,
) -> Result<Vec<String>, CommandError> {
    let mut lines = Vec::new();
    run(command, progress, &mut |line, _| lines.push(line.to_owned()))?;
    Ok(lines)
}

/// Runs a program whose output does not matter.
pub(crate) fn quietly(
    command: &mut Command,
    progress: &mut dyn Progress,
) -> Result<(), CommandError> {
    run(command, progress, &mut |_, _| {})
}

/// Runs `first | second`; what either prints does not matter.
pub(crate) fn pipe(
    first: &mut Command,
    second: &mut Command,
    progress: &mut dyn Progress,
) -> Result<(), CommandError> {
    let program = name(first);
    let mut child = first
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(not_started(&program))?;
    let stdin = child.stdout.take().map_or(Stdio::null(), Stdio::from);
    let ran = run_on(second, stdin, progress, &mut |_, _| {});
    // `second` has ended and with it the pipe's reader, so `first` has nothing left to do but end.
    let output = child
        .wait_with_output()
        .map_err(|source| CommandError::Run { program: program.clone(), source })?;
    ran?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let stderr = text.lines().rev().take(TAIL_LINES).map(str::to_owned).collect::<Vec<_>>();
        let stderr = stderr.into_iter().rev().collect();
        return Err(CommandError::Failed { program, status: output.status, stderr });
    }
    Ok(())
}

enum Line {
    Out(String),
    Err(String),
}

/// Starts a thread that reads a program's output until it ends or nobody listens any more.
fn read_lines(
    stream: Option<impl Read + Send + 'static>,
    wrap: fn(String) -> Line,
    sender: SyncSender<Line>,
) {
    let Some(stream) = stream else { return };
    thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut bytes = Vec::new();
        while let Ok(1..) = reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut bytes) {
            let line = String::from_utf8_lossy(&bytes).trim_end_matches('\n').to_owned();
            bytes.clear();
            if sender.send(wrap(line)).is_err() {
                return;
            }
        }
    });
}

/// Asks a program to end and waits for it. SIGTERM, not SIGKILL: make and apt-get end their own children with it.
fn end(child: &mut Child) -> io::Result<()> {
    let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
    kill(Pid::from_raw(pid), Signal::SIGTERM)?;
    child.wait().map(drop)
}

#[cfg(test)]
mod tests;
