//! From birth to content: everything slow happens here, before anybody waits.

use std::sync::Arc;

use anyhow::Context as _;
use calve_fleet::control::{
    Boot, Command, ControlError, Files, Pages, Received, Report, Socket, Stage, Thaw, VERSION,
};
use calve_fleet::machine_state;
use calve_jail::Inside;
use calve_snapshots::State;
use calve_snapshots::state::MAX_STATE_LEN;
use calve_vmm::memory::MemoryPlan;
use calve_vmm::{Hypervisor, HypervisorError, MachineState, Shape, Shell, ThawMemory};

use crate::During;
use crate::attach::{Attached, attach};
use crate::machine::{Origin, Running, monotonic_ns};
use crate::refusal::Refused;

/// Most bytes of state and memory plan: those of a state, and 20 for each run of pages.
const MAX_DECODED: usize = MAX_STATE_LEN + 20 * calve_vmm::memory::MAX_TOUCHED;

/// A shell and when it was complete.
struct Born {
    shell: Shell,
    at_ns: u64,
}

/// Lives as the fleet says. Returns when told to, or with the reason why it cannot go on.
pub(crate) fn live(
    socket: &Arc<Socket>,
    inside: Inside,
    hypervisor: Result<Hypervisor, HypervisorError>,
) -> Result<(), Refused> {
    let born = birth(socket, inside, hypervisor)?;
    socket.send(&Report::Shell { version: VERSION }, &[]).during(Stage::Control)?;
    match content(socket, born)? {
        Some(running) => running.serve(socket),
        None => Ok(()),
    }
}

/// Makes the shell and closes the jail.
///
/// Not inlined, like what gives the shell its content: their frames are large, and what lies below a frame that stays
/// can be [given back](crate::memory::give_back).
#[inline(never)]
fn birth(
    socket: &Socket,
    inside: Inside,
    hypervisor: Result<Hypervisor, HypervisorError>,
) -> Result<Born, Refused> {
    let shape = shape(socket)?;
    let hypervisor = hypervisor.during(Stage::Shell)?;
    let threads = inside.threads();
    let shut = move |thread| threads.shut(kind(thread)).map_err(std::io::Error::other);
    let shell = Shell::confined(&hypervisor, shape, shut).during(Stage::Shell)?;
    // A machine has all that it needs of it.
    drop(hypervisor);
    // Every thread is there: nothing from here on makes one.
    inside.seal().during(Stage::Jail)?;
    Ok(Born { shell, at_ns: monotonic_ns() })
}

/// Which calls a thread of the machine needs.
fn kind(thread: calve_vmm::Thread) -> calve_jail::Thread {
    match thread {
        calve_vmm::Thread::Vcpu => calve_jail::Thread::Vcpu,
        calve_vmm::Thread::Devices => calve_jail::Thread::Devices,
    }
}

fn shape(socket: &Socket) -> Result<Shape, Refused> {
    let first = socket.receive::<Command>().during(Stage::Control)?;
    match first.message {
        Command::Shell { version: VERSION, shape } => Ok(shape),
        Command::Shell { version, .. } => {
            Err(ControlError::Version { found: version }).during(Stage::Control)
        }
        _ => Err(ControlError::OutOfTurn("not Shell first")).during(Stage::Control),
    }
}

/// Waits for the content; `None` if there will be none.
#[inline(never)]
fn content(socket: &Arc<Socket>, born: Born) -> Result<Option<Running>, Refused> {
    let Received { message, fds } = socket.receive::<Command>().during(Stage::Control)?;
    let arrived_ns = monotonic_ns();
    let files = Files::new(fds);
    let running = match message {
        Command::Boot(boot) => born.boot(socket, boot, files)?,
        Command::Thaw(thaw) => born.thaw(socket, thaw, files)?,
        Command::Discard => return Ok(None),
        _ => return Err(ControlError::OutOfTurn("content expected")).during(Stage::Control),
    };
    Ok(Some(Running { content_ns: arrived_ns, ..running }))
}

impl Born {
    fn boot(self, socket: &Arc<Socket>, boot: Boot, mut files: Files) -> Result<Running, Refused> {
        let kernel = files.file().during(Stage::Control)?;
        let initrd = boot.initrd.then(|| files.file()).transpose().during(Stage::Control)?;
        let Attached { attachments, keyboard } =
            attach(boot.attach, files, socket).during(Stage::Control)?;
        let boot = calve_vmm::Boot { kernel, initrd, cmdline: boot.cmdline };
        let machine = self.shell.boot(boot, attachments).during(Stage::Boot)?;
        Ok(Running { machine, keyboard, origin: None, shell_ns: self.at_ns, content_ns: 0 })
    }

    fn thaw(self, socket: &Arc<Socket>, thaw: Thaw, mut files: Files) -> Result<Running, Refused> {
        let decoded = files.file().during(Stage::Control)?;
        let memory = (0..thaw.layers).map(|_| files.file()).collect::<Result<Vec<_>, _>>();
        let memory = memory.during(Stage::Control)?;
        let Attached { attachments, keyboard } =
            attach(thaw.attach, files, socket).during(Stage::Control)?;
        let (state, mut plan) = read(&decoded, thaw.state_len).during(Stage::Thaw)?;
        if thaw.pages != Pages::Ready {
            // Not cleared: a clone that waits has no use for the room either.
            plan.touched = Vec::new();
        }
        let recorded = thaw.pages == Pages::Recorded;
        let content =
            ThawMemory { files: &memory, plan: &plan, recorded, huge_pages: thaw.huge_pages };
        let machine = self.shell.thaw(&state, content, attachments).during(Stage::Thaw)?;
        let origin = Some(Origin { state, memory, plan });
        Ok(Running { machine, keyboard, origin, shell_ns: self.at_ns, content_ns: 0 })
    }
}

/// Reads and decodes state and memory plan. The file's offset is shared with other workers and not
/// moved.
fn read(file: &std::fs::File, state_len: u32) -> anyhow::Result<(MachineState, MemoryPlan)> {
    use std::os::unix::fs::FileExt;
    let length = usize::try_from(file.metadata()?.len())?;
    anyhow::ensure!(length <= MAX_DECODED, "the machine's state is over {MAX_DECODED} bytes");
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, 0)?;
    let split = bytes.split_at_checked(usize::try_from(state_len)?);
    let (state, plan) = split.context("the machine's state is cut short")?;
    let state = State::try_from(state)?;
    Ok((machine_state(&state)?, postcard::from_bytes(plan)?))
}
