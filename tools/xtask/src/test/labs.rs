//! Tests in the lab: a few labs side by side, and a queue of test binaries that they work off.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, bail};

use super::Surroundings;
use super::targets::Target;
use crate::process::{command, step};
use crate::workspace::Workspace;

/// A lab emulates on one thread, so more than one is needed to use more than one processor; and what
/// runs beside this should not starve.
const MOST_LABS: usize = 4;
/// Memory of one lab in MiB. Tests keep machines and snapshots in it.
const LAB_MIB: u64 = 6144;
/// `calve-lab`'s exit status when the lab itself failed.
const LAB_FAILED: i32 = 125;

/// A lab that ends with us: we hold its standard input, and it ends with that.
struct Lab {
    name: String,
    holder: Child,
}

/// Runs the binaries and returns the names of those that failed.
pub(super) fn run(
    workspace: &Workspace,
    surroundings: &Surroundings,
    targets: &[&Target],
) -> anyhow::Result<Vec<String>> {
    if targets.is_empty() {
        return Ok(Vec::new());
    }
    let labs = count(targets.len());
    step(&format!("running {} test binaries in {labs} labs", targets.len()));
    let labs = (0..labs).map(|_| Lab::hold(workspace)).collect::<Result<Vec<_>, _>>()?;
    let queue = Mutex::new(targets.iter().copied().collect::<VecDeque<_>>());
    let failures = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for mut lab in labs {
            let (queue, failures) = (&queue, &failures);
            scope.spawn(move || {
                // Not in the condition itself: the lock would be held for as long as the test runs.
                let next = || lock(queue).pop_front();
                while let Some(target) = next() {
                    let started = Instant::now();
                    let verdict = match lab.test_again(workspace, surroundings, target) {
                        Ok(()) => "passed".to_owned(),
                        Err(error) => {
                            lock(failures).push(target.to_string());
                            format!("FAILED: {error:#}")
                        }
                    };
                    step(&format!("{target} {verdict} ({} s)", started.elapsed().as_secs()));
                }
            });
        }
    });
    Ok(failures.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
}

/// A thread that panicked has left the list as it was.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// As many labs as there are processors, tests and room for.
fn count(tests: usize) -> usize {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let available = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| available(&text));
    let room = available.map_or(1, |mib| usize::try_from(mib / LAB_MIB).unwrap_or(usize::MAX));
    processors.min(tests).min(room).clamp(1, MOST_LABS)
}

/// `MemAvailable` of /proc/meminfo, in MiB.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024)
}

impl Lab {
    fn hold(workspace: &Workspace) -> anyhow::Result<Self> {
        // A lab that failed may not be gone yet when the next one takes its place.
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let started = STARTED.fetch_add(1, Ordering::Relaxed);
        let name = format!("test-{}-{started}", std::process::id());
        let mut holder = calve_lab(workspace);
        holder.args(["up", "--hold", "--name", &name, "--mem", &LAB_MIB.to_string()]);
        holder.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut lab = Self { holder: holder.spawn().context("cannot start calve-lab")?, name };
        let stdout = lab.holder.stdout.take().context("calve-lab has no output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).context("cannot read from calve-lab")?;
        if line.trim() != "ready" {
            bail!("the lab did not start");
        }
        Ok(lab)
    }

    /// Runs a test binary, once more in a fresh lab if the lab failed and not the test: the nested
    /// host's kernel dies now and then under emulation, and that is no finding about us.
    fn test_again(
        &mut self,
        workspace: &Workspace,
        surroundings: &Surroundings,
        target: &Target,
    ) -> anyhow::Result<()> {
        let mut status = self.test(workspace, surroundings, target)?;
        if status.code() == Some(LAB_FAILED) {
            step(&format!("{target}: the lab has failed; once more, in a fresh one"));
            *self = Self::hold(workspace)?;
            status = self.test(workspace, surroundings, target)?;
        }
        if !status.success() {
            bail!("{status}");
        }
        Ok(())
    }

    /// Runs a test binary; each line it prints comes out with its name.
    fn test(
        &self,
        workspace: &Workspace,
        surroundings: &Surroundings,
        target: &Target,
    ) -> anyhow::Result<ExitStatus> {
        let (reader, writer) = std::io::pipe().context("cannot make a pipe")?;
        let mut exec = calve_lab(workspace);
        exec.args([
            "exec",
            "--name",
            &self.name,
            "--timeout",
            &surroundings.limit().to_string(),
            "--cwd",
        ]);
        exec.arg(&target.folder).arg("--path").arg(workspace.release()).arg("--");
        exec.arg(&target.program).args(["--ignored", "--test-threads=1"]);
        exec.stderr(writer.try_clone().context("cannot share a pipe")?).stdout(writer);
        let mut child = surroundings.of(&mut exec).spawn().context("cannot start calve-lab")?;
        // Our ends of the pipe go with the command; with the child's, the lines end.
        drop(exec);
        for line in BufReader::new(reader).split(b'\n') {
            let line = line.context("cannot read from calve-lab")?;
            eprintln!("{target} | {}", String::from_utf8_lossy(&line));
        }
        child.wait().context("cannot wait for calve-lab")
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        // It has nothing left to do but to end.
        let _ = self.holder.wait();
    }
}

fn calve_lab(workspace: &Workspace) -> Command {
    command(workspace.release().join("calve-lab"), &workspace.root())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_memory_is_read_in_mib() {
        let text = "MemTotal:       24684084 kB\nMemFree:  1 kB\nMemAvailable:   20480000 kB\n";
        assert_eq!(available(text), Some(20_000));
        assert_eq!(available("MemAvailable: many kB"), None);
    }
}
