//! Tiny guests, in this process: what the machine itself costs, without a worker around it.

use std::fs::File;
use std::io::{self, Write};
use std::slice;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use calve_vmm::memory::{Branch, MemoryPlan};
use calve_vmm::{
    Attachments, Boot, Hypervisor, Machine, MachineState, Shape, Shell, ThawMemory, VsockHost,
};
use kvm_ioctls::Kvm;
use vm_memory::{Bytes, GuestAddress};

use crate::facts::Facts;
use crate::floor::{self, Floor};
use crate::neighbour;
use crate::samples::{Measured, Run, Unit, micros};

/// Guest memory.
const MIB: u32 = 128;
/// Pages that are written between two resets.
const DIRTY: usize = 256;
/// How long a guest may take to say something.
const PATIENCE: Duration = Duration::from_secs(10);
/// Forks of one kind: each copies up to 64 MiB.
const MOST_FORKS: usize = 30;
/// Runs before the first that counts.
pub(crate) const WARM_UP: usize = 5;

/// Says `X` on the serial port and halts, again and again.
const GUEST: &[u8] = &[
    0x66, 0xba, 0xf8, 0x03, // mov dx, 0x3f8
    0xb0, b'X', // mov al, 'X'
    0xee, // out dx, al
    0xf4, // hlt
    0xeb, 0xfa, // jmp to the second line
];

/// Measures everything that tiny guests can show.
pub(crate) fn measure(samples: usize, floor: bool) -> anyhow::Result<Run> {
    let mut results = thaw_and_reset(samples, floor)?;
    results.extend(neighbour::measure(samples)?);
    results.extend(births(samples)?);
    results.extend(forks(samples)?);
    Ok(Run { facts: Facts::here(), results })
}

/// A console that notes when it was spoken to.
struct Ear(Sender<Instant>);

impl Write for Ear {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Nobody may be listening any more.
        let _ = self.0.send(Instant::now());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(crate) fn attachments() -> (Attachments, Receiver<Instant>) {
    let (sender, heard) = channel();
    let console = Some(Box::new(Ear(sender)) as _);
    (Attachments { disks: Vec::new(), vsock: VsockHost::unconnected(3), console }, heard)
}

/// A machine that was frozen before its first instruction.
pub(crate) struct Frozen {
    hypervisor: Hypervisor,
    state: MachineState,
    memory: File,
    plan: MemoryPlan,
}

impl Frozen {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let hypervisor = Hypervisor::open()?;
        let shell = Shell::new(&hypervisor, Shape::new(MIB, 1, 0)?)?;
        let mut kernel = tempfile::tempfile()?;
        kernel.write_all(&elf(GUEST))?;
        let boot = Boot { kernel, initrd: None, cmdline: String::new() };
        let machine = shell.boot(boot, attachments().0)?;
        // Half of it in use, as the floor's is.
        for n in 16..u64::from(MIB) / 2 {
            machine.memory().write_slice(&vec![1; 1 << 20], GuestAddress(n << 20))?;
        }
        let state = machine.save()?;
        let memory = machine.memory_file().context("a booted machine has a file")?.try_clone()?;
        let plan = MemoryPlan::whole(u64::from(MIB) << 20);
        Ok(Self { hypervisor, state, memory, plan })
    }

    fn content(&self) -> ThawMemory<'_> {
        ThawMemory {
            files: slice::from_ref(&self.memory),
            plan: &self.plan,
            recorded: false,
            huge_pages: false,
        }
    }

    pub(crate) fn shell(&self) -> anyhow::Result<Shell> {
        Ok(Shell::new(&self.hypervisor, self.state.shape())?)
    }
}

/// A guest of the least ELF file with a PVH entry (a note of name `Xen`, type 18).
pub(crate) fn elf(code: &[u8]) -> Vec<u8> {
    const ENTRY: u32 = 0x10_0000;
    let mut elf = Vec::new();
    elf.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    elf.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    elf.extend(u64::from(ENTRY).to_le_bytes());
    elf.extend(64_u64.to_le_bytes());
    elf.extend([0; 12]);
    elf.extend([64, 0, 56, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    for (kind, offset, size) in [(4_u32, 176_u64, 20_u64), (1, 196, code.len() as u64)] {
        elf.extend(kind.to_le_bytes());
        elf.extend([7, 0, 0, 0]);
        for field in [offset, ENTRY.into(), ENTRY.into(), size, size, 4] {
            elf.extend(field.to_le_bytes());
        }
    }
    elf.extend([4, 0, 0, 0, 4, 0, 0, 0, 18, 0, 0, 0]);
    elf.extend(b"Xen\0");
    elf.extend(ENTRY.to_le_bytes());
    elf.extend(code);
    elf
}

/// Thaw to the first exit and reset to the first exit, turn by turn with the floor if it is wanted.
fn thaw_and_reset(samples: usize, floor: bool) -> anyhow::Result<Vec<Measured>> {
    let frozen = Frozen::new()?;
    let kvm = Kvm::new().context("/dev/kvm")?;
    let content = floor::content(MIB as usize)?;
    let case = format!("tiny guest, {MIB} MiB");
    let of = |operation, subject, method| {
        Measured::new(operation, &case, subject, method, Unit::Microseconds)
    };
    let thaw = "shell and snapshot at hand → first exit handled, in one process";
    let reset = "256 pages written, the machine stands still; decision → first exit handled";
    let running = "the same of a machine that runs and is stopped first";
    let mut ours = [
        of("thaw_to_first_instruction", "calve", thaw),
        of("reset_256_pages", "calve", reset),
        of("stop_and_reset_256_pages", "calve", running),
    ];
    let mut floors =
        [of("thaw_to_first_instruction", "floor", thaw), of("reset_256_pages", "floor", reset)];
    for n in 0..samples + WARM_UP {
        // Both are there before either is timed, and each is made and goes first every other time.
        let make_floor = || floor.then(|| Floor::new(&kvm, &content)).transpose();
        let (turn, floor_turn) = if n % 2 == 0 {
            let (shell, floor) = (frozen.shell()?, make_floor()?);
            let turn = our_turn(&frozen, shell);
            (turn, floor.map(floor_turn))
        } else {
            let (floor, shell) = (make_floor()?, frozen.shell()?);
            let floor_turn = floor.map(floor_turn);
            (our_turn(&frozen, shell), floor_turn)
        };
        if n >= WARM_UP {
            take(&mut ours, turn);
            floor_turn.into_iter().for_each(|turn| take(&mut floors, turn));
        }
    }
    Ok(ours.into_iter().chain(floors.into_iter().filter(|_| floor)).collect())
}

/// Takes a sample of each operation of a turn, or counts its failure as one of the first.
pub(crate) fn take<const N: usize>(all: &mut [Measured; N], turn: anyhow::Result<[f64; N]>) {
    match turn {
        Ok(samples) => all.iter_mut().zip(samples).for_each(|(m, sample)| m.samples.push(sample)),
        Err(error) => all[0].take(Err(error)),
    }
}

pub(crate) fn our_turn(frozen: &Frozen, shell: Shell) -> anyhow::Result<[f64; 3]> {
    let (thaw, mut machine) = thaw_one(frozen, shell)?;
    let (running, still) = reset_one(frozen, &mut machine)?;
    Ok([thaw, still, running])
}

fn floor_turn(mut floor: Floor) -> anyhow::Result<[f64; 2]> {
    let thaw = micros(floor.thaw()?);
    floor.dirty(DIRTY);
    Ok([thaw, micros(floor.reset()?)])
}

fn thaw_one(frozen: &Frozen, shell: Shell) -> anyhow::Result<(f64, Machine)> {
    let (attachments, heard) = attachments();
    let started = Instant::now();
    let mut machine = shell.thaw(&frozen.state, frozen.content(), attachments)?;
    machine.resume()?;
    let spoken = heard.recv_timeout(PATIENCE)?;
    Ok((micros(spoken - started), machine))
}

/// From the decision, in which the machine runs, to the first exit; and what of that is left when it stands still
/// already, as the floor's vCPU does.
fn reset_one(frozen: &Frozen, machine: &mut Machine) -> anyhow::Result<(f64, f64)> {
    for n in 0..DIRTY as u64 {
        machine.memory().write_obj(2_u8, GuestAddress((2 << 20) + n * 4096))?;
    }
    let (attachments, heard) = attachments();
    let started = Instant::now();
    machine.pause()?;
    let stopped = Instant::now();
    machine.reset(&frozen.state, frozen.content(), attachments)?;
    machine.resume()?;
    let spoken = heard.recv_timeout(PATIENCE)?;
    Ok((micros(spoken - started), micros(spoken - stopped)))
}

/// How long a machine stands still to be forked, by its memory and what of it was written.
fn forks(samples: usize) -> anyhow::Result<Vec<Measured>> {
    let frozen = Frozen::new()?;
    let mut results = Vec::new();
    for pages in [256_u64, 4096, 16_384] {
        let case = format!("{MIB} MiB, {pages} written");
        let method = "paused → kept → resumed; its copy is made while it runs on";
        let mut pause = Measured::new("fork_pause", &case, "calve", method, Unit::Microseconds);
        let method = "the same, and until what was written is copied and children can be thawed";
        let mut copied = Measured::new("fork_copied", &case, "calve", method, Unit::Microseconds);
        for n in 0..samples.min(MOST_FORKS) + WARM_UP {
            let forked = fork_one(&frozen, pages);
            if n >= WARM_UP {
                match forked {
                    Ok((stood, all)) => {
                        pause.samples.push(stood);
                        copied.samples.push(all);
                    }
                    Err(error) => pause.take(Err(error)),
                }
            }
        }
        results.extend([pause, copied]);
    }
    Ok(results)
}

fn fork_one(frozen: &Frozen, pages: u64) -> anyhow::Result<(f64, f64)> {
    let (attachments, heard) = attachments();
    let mut machine = frozen.shell()?.thaw(&frozen.state, frozen.content(), attachments)?;
    machine.resume()?;
    heard.recv_timeout(PATIENCE)?;
    for n in 0..pages {
        machine.memory().write_obj(2_u8, GuestAddress((2 << 20) + n * 4096))?;
    }
    let started = Instant::now();
    machine.pause()?;
    let (_, memory) = machine.branch()?;
    machine.resume()?;
    let stood = micros(started.elapsed());
    let Branch::Written(copying) = memory else { anyhow::bail!("a clone has no file to leave") };
    copying.wait()?;
    Ok((stood, micros(started.elapsed())))
}

/// What making a shell costs, which no request waits for.
fn births(samples: usize) -> anyhow::Result<Vec<Measured>> {
    let hypervisor = Hypervisor::open()?;
    let (case, method) =
        (format!("{MIB} MiB, 1 vCPU"), "decision → shell complete, in one process");
    let mut birth = Measured::new("shell_birth", &case, "calve", method, Unit::Microseconds);
    for n in 0..samples + WARM_UP {
        let started = Instant::now();
        let shell = Shell::new(&hypervisor, Shape::new(MIB, 1, 0)?);
        let took = micros(started.elapsed());
        if n >= WARM_UP {
            birth.take(shell.map(|_| took));
        }
    }
    Ok(vec![birth])
}
