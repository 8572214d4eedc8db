//! A fleet of worker processes, one per machine: boots, freezes, thaws and calls them.
//!
//! A synchronous library without a daemon. Every machine lives in a `calve-worker` process of its
//! own; this crate starts the processes, hands them open files, talks to them and to the agents in
//! their guests, and kills them. It trusts neither.
//!
//! # A call in a fresh clone
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use calve_fleet::{CallOptions, Fleet, Options};
//! use calve_snapshots::Store;
//!
//! let fleet = Fleet::new(Options::default())?;
//! let store = Store::open("/var/lib/calve")?;
//! let frozen = fleet.open(&store, "resize")?; // verified once, shared by all clones
//! let mut clone = fleet.thaw(&frozen)?;
//! let outcome = clone.call(br#"{"width":64}"#, CallOptions::default())?;
//! match outcome.result {
//!     Ok(json) => println!("{}", String::from_utf8_lossy(&json)),
//!     Err(error) => eprintln!("the function failed: {error}"),
//! }
//! println!("{} µs to the first output", outcome.timings.first_output_us);
//! # Ok(()) } // dropping a clone kills and reaps its worker
//! ```
//!
//! # Where to start reading
//!
//! | module | what it is |
//! | --- | --- |
//! | [`Fleet`] | births of workers, thaw, boot |
//! | [`Frozen`], [`Clone`](struct@Clone) | a verified snapshot, a machine thawed from it |
//! | [`LiveMachine`], [`Machine`] | a booted machine with an agent, one without |
//! | [`Clone::fork`], [`Moment`] | a live machine becomes several, through memory alone |
//! | [`build_snapshot`] | boot, or thaw of a runtime; start, warm, freeze, store |
//! | [`build_runtime`] | a language without a function, for functions to be built on |
//! | [`control`] | the protocol between fleet and worker |
//! | [`host`] | what this host offers, for `calve doctor` |
//!
//! # Processes
//!
//! ```text
//!  embedder (this crate) ── control socket: commands, reports, descriptors ── calve-worker × N
//!          │                                                                    │ guest
//!          └───────────────── vsock stream: calve-proto ────────────────────────┘
//! ```
//!
//! A worker ends when its control socket closes, when the thread that gave birth to it ends, or when
//! its handle is dropped: whatever way the embedder goes, no process stays.

mod boot;
mod build;
mod call;
mod callee;
mod cancel;
mod clone;
mod console;
mod content;
pub mod control;
mod cpu;
mod door;
mod error;
mod fleet;
mod fork;
mod freeze;
mod frozen;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod host;
mod identity;
mod layers;
mod limits;
mod line;
mod live;
mod machine;
mod process;
mod record;
mod saved;
mod shells;
mod trial;
mod wiring;
mod worker;

pub use boot::{BootSpec, ConsoleTo, Function, Ports};
pub use build::{
    BuildError, BuildSpec, RuntimeSpec, Step, build_runtime, build_snapshot, build_snapshot_with,
};
pub use call::{CallError, CallOptions, Outcome, Timings};
pub use cancel::Canceller;
pub use clone::Clone;
pub use cpu::{host_cpu, required_cpu};
pub use error::{BootError, FleetError, FreezeError, OpenError, WorkerError};
pub use fleet::{Fleet, Options, ThawOptions};
pub use fork::{ForkError, Moment};
pub use freeze::freeze;
pub use frozen::{Frozen, machine_state};
pub use host::HostError;
pub use limits::{Limiting, Limits};
pub use live::LiveMachine;
pub use machine::Machine;
pub use process::Process;
pub use shells::{Budget, Keep};
pub use worker::Death;

/// Machines move between threads, fleets and snapshots are shared by them.
const _: () = {
    const fn moves<T: Send>() {}
    const fn is_shared<T: Send + Sync>() {}
    moves::<Clone>();
    moves::<LiveMachine>();
    moves::<Machine>();
    is_shared::<Fleet>();
    is_shared::<Frozen>();
    is_shared::<Moment>();
    is_shared::<Canceller>();
    is_shared::<Process>();
};

pub use calve_jail::cgroup::CgroupError;
pub use calve_jail::{Cores, Isolation};
pub use calve_proto::{ErrorKind, FunctionError, LogSink, LogStream, ResultSink};
pub use calve_vmm::{Access, Shape};
pub use control::End;
