//! The messages. Their encoding is postcard's: the order of fields and variants is the protocol.

use std::fmt;

use calve_vmm::{Access, Shape};
use serde::{Deserialize, Serialize};

use super::text::printable;

/// What the fleet tells a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Become a shell. First command of every worker.
    Shell {
        /// [`VERSION`](super::VERSION).
        version: u16,
        /// Shape of the machine to be.
        shape: Shape,
    },
    /// Boot a kernel and run it. Descriptors: kernel, initrd if there is one, then [`Attach`]'s.
    Boot(Boot),
    /// Take a frozen machine's content and run it. Descriptors: what the fleet has decoded of it (state,
    /// then memory plan), memory in layers, then [`Attach`]'s.
    Thaw(Thaw),
    /// Keep the machine as it is for others, connect its devices anew, and run it. Descriptors: [`Attach`]'s.
    /// Answer: `Running`, and when its memory is copied, `Saved`.
    Fork(Attach),
    /// Put a clone back as it was thawed, its devices connected anew, and run it. Descriptors: [`Attach`]'s.
    Reset(Attach),
    /// Stop the machine between two instructions.
    Pause,
    /// Let a paused machine run.
    Resume,
    /// Give back the state and the memory of a paused machine.
    Save,
    /// Say what happened when.
    Stats,
    /// Exit.
    Discard,
}

/// A machine to boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boot {
    /// Kernel command line.
    pub cmdline: String,
    /// Whether an initrd comes along.
    pub initrd: bool,
    /// What its devices are connected to.
    pub attach: Attach,
}

/// A machine to thaw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thaw {
    /// Bytes of the state, at the beginning of its file. The rest is a
    /// [`MemoryPlan`](calve_vmm::memory::MemoryPlan) in postcard's encoding.
    pub state_len: u32,
    /// Number of memory files.
    pub layers: u8,
    /// Which pages are made ready before it runs.
    pub pages: Pages,
    /// Whether the kernel may use huge pages under it.
    pub huge_pages: bool,
    /// What its devices are connected to.
    pub attach: Attach,
}

/// What a clone does about the pages that it is known to touch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pages {
    /// Make them ready.
    #[default]
    Ready,
    /// Nothing: each is made ready when it is touched.
    Lazy,
    /// Nothing, and run so that what it touches can be read from its page tables.
    Recorded,
}

/// What a machine's devices are connected to. The descriptors follow in the order of the fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attach {
    /// One descriptor for each disk.
    pub disks: Vec<DiskSpec>,
    /// Context id of the guest.
    pub cid: u32,
    /// Whether a Unix listener comes along, over which programs ask for guest ports.
    pub listener: bool,
    /// Guest ports of the streams that come along, which are connected as soon as the machine runs.
    pub streams: Vec<u32>,
    /// Ports of the host that the guest may connect to; each connection is a [`Report::Port`].
    pub host_ports: Vec<u32>,
    /// Whether a descriptor for the console's output comes along.
    pub console: bool,
    /// Whether a descriptor for the console's input comes along.
    pub keyboard: bool,
}

/// A disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskSpec {
    /// Whether the guest may write to it.
    pub writable: bool,
    /// Serial number shown to the guest.
    pub id: String,
    /// Bytes that the guest sees at least, whatever its file has.
    pub room: u64,
}

impl DiskSpec {
    /// What the machine's API calls it.
    pub fn access(&self) -> Access {
        if self.writable { Access::ReadWrite } else { Access::ReadOnly }
    }
}

/// What a worker tells the fleet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// The shell is there and waits for content.
    Shell {
        /// [`VERSION`](super::VERSION).
        version: u16,
    },
    /// The machine has its content and is let run. Its first vCPU enters a moment later; see
    /// [`Stats::entered_ns`]. Everything that a reset machine says of its earlier life comes before.
    Running,
    /// The machine is paused.
    Paused,
    /// Descriptors: the machine's state (the `state` file of a snapshot), its memory, and unless that is
    /// `whole`, which runs of it were written since it was thawed or first forked: a sequence of
    /// [`Stretch`](calve_vmm::memory::Stretch) in postcard's encoding.
    Saved {
        /// Whether all of memory came.
        whole: bool,
        /// How long the machine stood still for it, nanoseconds; 0 if it does so still.
        paused_ns: u64,
    },
    /// What happened when.
    Stats(Stats),
    /// The guest connected to a port of the host. One descriptor: the host's end of the stream.
    Port {
        /// The port.
        port: u32,
    },
    /// The machine is over.
    Ended(End),
    /// A command could not be carried out. The worker is of no further use.
    Refused(Refusal),
}

impl Report {
    /// Its name, for messages about it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Shell { .. } => "Shell",
            Self::Running => "Running",
            Self::Paused => "Paused",
            Self::Saved { .. } => "Saved",
            Self::Stats(_) => "Stats",
            Self::Port { .. } => "Port",
            Self::Ended(_) => "Ended",
            Self::Refused(_) => "Refused",
        }
    }

    /// Number of descriptors that come with it.
    pub fn descriptors(&self) -> usize {
        match self {
            Self::Saved { whole: true, .. } => 2,
            Self::Saved { whole: false, .. } => 3,
            Self::Port { .. } => 1,
            _ => 0,
        }
    }
}

/// When things happened in a worker, nanoseconds of CLOCK_MONOTONIC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// The shell was complete.
    pub shell_ns: u64,
    /// The command with the content was in the worker's hands.
    pub content_ns: Option<u64>,
    /// The first vCPU last entered the guest.
    pub entered_ns: Option<u64>,
    /// Guest memory that exists outside of the worker's own pages: what a booted machine's memory
    /// file holds, KiB. A clone has none.
    pub file_kib: u64,
}

/// How a machine ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// The guest turned itself off.
    PowerOff,
    /// The guest reset itself, which is also how it dies of a panic or a triple fault.
    Reset,
    /// A vCPU could not go on; why, in words.
    Fault(String),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PowerOff => f.write_str("the guest turned itself off"),
            Self::Reset => f.write_str("the guest reset itself (or died of a triple fault)"),
            Self::Fault(why) => f.write_str(&printable(why.as_bytes())),
        }
    }
}

/// Why a worker could not do as told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What it was doing.
    pub stage: Stage,
    /// Why it failed: the error and its causes.
    pub reason: String,
}

/// What a worker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// Shutting itself in.
    Jail,
    /// Making the shell.
    Shell,
    /// Booting.
    Boot,
    /// Thawing.
    Thaw,
    /// Pausing, resuming, saving.
    Save,
    /// Reading commands.
    Control,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match self.stage {
            Stage::Jail => "enter its jail",
            Stage::Shell => "make a machine",
            Stage::Boot => "boot the machine",
            Stage::Thaw => "thaw the machine",
            Stage::Save => "pause or save the machine",
            Stage::Control => "follow its commands",
        };
        write!(f, "the worker cannot {stage}: {}", printable(self.reason.as_bytes()))
    }
}
