//! From content to the end: the main loop of a worker with a machine.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use calve_fleet::control::{
    Attach, Command, ControlError, End, Files, Received, Report, Socket, Stage, Stats,
};
use calve_snapshots::{Architecture, State};
use calve_vmm::memory::{Branch, MemoryPlan, Written};
use calve_vmm::{Exit, Machine, MachineState, ThawMemory};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::time::{ClockId, clock_gettime};

use crate::During;
use crate::attach::{Attached, attach};
use crate::keyboard::Keyboard;
use crate::memory;
use crate::refusal::Refused;

/// How soon to offer typed characters again that the guest had no room for, milliseconds: the time
/// of a few characters at 9,600 baud.
const RETYPE_MS: u8 = 5;

/// A machine with content, and when what happened to it (CLOCK_MONOTONIC).
pub(crate) struct Running {
    pub(crate) machine: Machine,
    pub(crate) keyboard: Option<Keyboard>,
    /// What a clone was thawed from.
    pub(crate) origin: Option<Origin>,
    pub(crate) shell_ns: u64,
    pub(crate) content_ns: u64,
}

/// What a clone can be reset to.
pub(crate) struct Origin {
    pub(crate) state: MachineState,
    pub(crate) memory: Vec<File>,
    pub(crate) plan: MemoryPlan,
}

/// What the loop woke up for.
#[derive(Default)]
struct Ready {
    command: bool,
    end: bool,
    typed: bool,
}

impl Running {
    /// Runs the machine and does as the fleet says, until told to end.
    pub(crate) fn serve(mut self, socket: &Arc<Socket>) -> Result<(), Refused> {
        self.machine.resume().during(Stage::Boot)?;
        socket.send(&Report::Running, &[]).during(Stage::Control)?;
        // While the guest runs: what decoding its state took is not needed again.
        memory::give_back();
        let mut ended = false;
        loop {
            let ready = self.wait(socket, ended).during(Stage::Control)?;
            if let Some(keyboard) = &mut self.keyboard {
                if ready.typed {
                    keyboard.read();
                }
                keyboard.deliver(&self.machine);
            }
            if ready.command && !self.obey(socket)? {
                return Ok(());
            }
            if ready.end
                && let Some(exit) = self.machine.exit()
            {
                ended = true;
                socket.send(&Report::Ended(end(&exit)), &[]).during(Stage::Control)?;
            }
        }
    }

    fn wait(&self, socket: &Socket, ended: bool) -> nix::Result<Ready> {
        let input = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut fds = vec![input(socket.as_fd())];
        let at_end = fds.len();
        if !ended {
            fds.push(input(self.machine.exit_fd()));
        }
        let at_keyboard = fds.len();
        fds.extend(self.keyboard.as_ref().and_then(Keyboard::fd).map(input));
        let pending = self.keyboard.as_ref().is_some_and(Keyboard::is_pending) && !ended;
        let timeout = if pending { PollTimeout::from(RETYPE_MS) } else { PollTimeout::NONE };
        match poll(&mut fds, timeout) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(Ready::default()),
            Err(e) => return Err(e),
        }
        let is = |n: usize| fds.get(n).and_then(PollFd::any).unwrap_or(false);
        Ok(Ready { command: is(0), end: !ended && is(at_end), typed: is(at_keyboard) })
    }

    /// Does what the fleet says; false at the end.
    fn obey(&mut self, socket: &Arc<Socket>) -> Result<bool, Refused> {
        let Received { message, fds } = socket.receive::<Command>().during(Stage::Control)?;
        let report = match message {
            Command::Reset(connections) => {
                self.content_ns = monotonic_ns();
                self.reset(connections, Files::new(fds), socket)?;
                // Before it runs: what it says from here on is of its next life.
                socket.send(&Report::Running, &[]).during(Stage::Control)?;
                self.machine.resume().during(Stage::Thaw)?;
                return Ok(true);
            }
            Command::Fork(connections) => {
                self.fork(connections, Files::new(fds), socket)?;
                return Ok(true);
            }
            Command::Pause => {
                self.machine.pause().during(Stage::Save)?;
                Report::Paused
            }
            Command::Resume => {
                self.machine.resume().during(Stage::Save)?;
                Report::Running
            }
            Command::Stats => Report::Stats(self.stats()),
            Command::Save => {
                let (state, memory) = self.machine.branch().during(Stage::Save)?;
                give(&state, memory, Duration::ZERO, socket)?;
                return Ok(true);
            }
            Command::Discard => return Ok(false),
            Command::Shell { .. } | Command::Boot(_) | Command::Thaw(_) => {
                let error = ControlError::OutOfTurn("the machine has its content");
                return Err(error).during(Stage::Control);
            }
        };
        socket.send(&report, &[]).during(Stage::Control)?;
        Ok(true)
    }

    fn reset(
        &mut self,
        connections: Attach,
        files: Files,
        socket: &Arc<Socket>,
    ) -> Result<(), Refused> {
        let Some(Origin { state, memory, plan }) = &self.origin else {
            let error = ControlError::OutOfTurn("a booted machine has nothing to be reset to");
            return Err(error).during(Stage::Control);
        };
        let Attached { attachments, keyboard } =
            attach(connections, files, socket).during(Stage::Control)?;
        let content = ThawMemory { files: memory, plan, recorded: false, huge_pages: false };
        self.machine.reset(state, content, attachments).during(Stage::Thaw)?;
        self.keyboard = keyboard;
        Ok(())
    }

    /// Keeps the machine for others and lets it go on, before its memory is copied.
    fn fork(
        &mut self,
        connections: Attach,
        files: Files,
        socket: &Arc<Socket>,
    ) -> Result<(), Refused> {
        let Attached { attachments, keyboard } =
            attach(connections, files, socket).during(Stage::Control)?;
        let since = Instant::now();
        self.machine.pause().during(Stage::Save)?;
        let (state, memory) = self.machine.branch().during(Stage::Save)?;
        self.machine.reconnect(attachments).during(Stage::Save)?;
        self.keyboard = keyboard;
        // Before it runs: what it says from here on is of what comes after the fork.
        socket.send(&Report::Running, &[]).during(Stage::Control)?;
        self.machine.resume().during(Stage::Save)?;
        give(&state, memory, since.elapsed(), socket)
    }

    fn stats(&self) -> Stats {
        Stats {
            shell_ns: self.shell_ns,
            content_ns: Some(self.content_ns),
            entered_ns: self.machine.entered_ns(),
            file_kib: self.machine.memory_file().and_then(allocated_kib).unwrap_or(0),
        }
    }
}

/// Gives the fleet a machine's state and memory, as soon as that is copied.
fn give(
    state: &MachineState,
    memory: Branch,
    paused: Duration,
    socket: &Socket,
) -> Result<(), Refused> {
    let paused_ns = u64::try_from(paused.as_nanos()).unwrap_or(u64::MAX);
    let state = encoded(state).and_then(|bytes| in_memory("calve-state", &bytes));
    let state = state.during(Stage::Save)?;
    match memory {
        Branch::Whole(memory) => {
            let report = Report::Saved { whole: true, paused_ns };
            socket.send(&report, &[state.as_fd(), memory.as_fd()]).during(Stage::Control)
        }
        Branch::Written(copying) => {
            let Written { file, runs } = copying.wait().during(Stage::Save)?;
            let runs = postcard::to_extend(&runs, Vec::new()).map_err(anyhow::Error::from);
            let runs =
                runs.and_then(|bytes| in_memory("calve-runs", &bytes)).during(Stage::Save)?;
            let report = Report::Saved { whole: false, paused_ns };
            let fds = [state.as_fd(), file.as_fd(), runs.as_fd()];
            socket.send(&report, &fds).during(Stage::Control)
        }
    }
}

/// The bytes of a snapshot's `state` file.
fn encoded(state: &MachineState) -> anyhow::Result<Vec<u8>> {
    let sections = state.to_sections()?.into_iter().map(|s| calve_snapshots::Section {
        name: s.name,
        version: s.version,
        bytes: s.bytes,
    });
    Ok(State::new(Architecture::NATIVE, sections.collect())?.encode())
}

fn in_memory(name: &str, bytes: &[u8]) -> anyhow::Result<File> {
    let mut file = File::from(memfd_create(name, MFdFlags::MFD_CLOEXEC)?);
    file.write_all(bytes)?;
    Ok(file)
}

/// What of a sparse file exists (stat(2): in blocks of 512 bytes), KiB.
fn allocated_kib(file: &File) -> Option<u64> {
    Some(file.metadata().ok()?.blocks() / 2)
}

fn end(exit: &Exit) -> End {
    match exit {
        Exit::PowerOff => End::PowerOff,
        Exit::Reset => End::Reset,
        Exit::Failed(fault) => End::Fault(fault.to_string()),
    }
}

/// CLOCK_MONOTONIC in nanoseconds.
pub(crate) fn monotonic_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |t| {
        let seconds = u64::try_from(t.tv_sec()).unwrap_or(0);
        seconds.saturating_mul(1_000_000_000) + u64::try_from(t.tv_nsec()).unwrap_or(0)
    })
}
