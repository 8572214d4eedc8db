//! What can go wrong with machines, each with its remedy.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use calve_jail::cgroup::CgroupError;
use calve_proto::{FunctionError, SessionError};
use thiserror::Error;

use crate::control::{ControlError, End, Refusal};
use crate::worker::Death;

/// A fleet cannot be had.
#[derive(Debug, Error)]
pub enum FleetError {
    /// There is no worker program.
    #[error("cannot find calve-worker in {0}: install it beside this program or set CALVE_WORKER")]
    NoWorker(PathBuf),
    /// This program's own place is unknown.
    #[error("cannot find this program's folder: set CALVE_WORKER to the path of calve-worker")]
    NoPlace(#[source] io::Error),
    /// The thread that starts workers cannot be made.
    #[error("cannot start the fleet's thread")]
    Thread(#[source] io::Error),
    /// The cancellation event cannot be made.
    #[error("cannot make an eventfd")]
    Event(#[source] io::Error),
    /// Workers cannot have cgroups, which they were to have.
    #[error("workers cannot be limited")]
    Cgroup(#[source] CgroupError),
    /// `CALVE_ISOLATION` says nothing that is known.
    #[error("CALVE_ISOLATION cannot be understood")]
    Isolation(#[source] calve_jail::JailError),
    /// `CALVE_CORES` says nothing that is known.
    #[error("CALVE_CORES cannot be understood")]
    Cores(#[source] calve_jail::JailError),
}

/// A machine, or the process around it, failed. The machine is gone or must be dropped.
#[derive(Debug, Error)]
pub enum WorkerError {
    /// The program does not start.
    #[error("cannot start {path}")]
    Spawn {
        /// The program.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Sockets, pipes or files for it cannot be made.
    #[error("cannot {0} for a worker: raise the limit on open files (ulimit -n)")]
    Setup(&'static str, #[source] io::Error),
    /// It cannot have a cgroup.
    #[error("cannot limit a worker")]
    Cgroup(#[from] CgroupError),
    /// The host has no random numbers, and a clone without them must not run.
    #[error("cannot get random numbers from the host's kernel")]
    Random(#[source] io::Error),
    /// The process ended by itself.
    #[error("the worker died: {how}{}", tail("its last words", last_words))]
    Died {
        /// How.
        how: Death,
        /// The end of what it wrote to its standard error, made printable.
        last_words: String,
    },
    /// The process took more memory than it may.
    #[error(
        "the worker was killed for taking more than the {} MiB of memory that its cgroup allows{}",
        limit >> 20, tail("its last words", last_words)
    )]
    OutOfMemory {
        /// Bytes.
        limit: u64,
        /// The end of what it wrote to its standard error, made printable.
        last_words: String,
    },
    /// The process was killed because there was no memory left, though it had not taken all that it may: the host has none, or
    /// a cgroup above.
    #[error(
        "the worker was killed because the host, or a cgroup above the worker's, has no memory left: run fewer machines, \
         or give them less{}",
        tail("its last words", last_words)
    )]
    HostOutOfMemory {
        /// The end of what it wrote to its standard error, made printable.
        last_words: String,
    },
    /// The worker could not do as told.
    #[error("{0}")]
    Refused(Refusal),
    /// The machine ended while something was still wanted of it.
    #[error("the machine ended: {end}{}", tail("its console", console))]
    Ended {
        /// How.
        end: End,
        /// The end of its console, made printable.
        console: String,
    },
    /// The worker broke the control protocol. It was killed.
    #[error("the worker broke the control protocol")]
    Protocol(#[from] ControlError),
    /// Nothing came in time. The machine was killed.
    #[error(
        "the machine did not {wanted} within {} ms{}{}",
        after.as_millis(), held_back(*throttled), tail("its console", console)
    )]
    TimedOut {
        /// What was waited for, a verb.
        wanted: &'static str,
        /// For how long.
        after: Duration,
        /// How long its cgroup has kept its threads from running, in its whole life.
        throttled: Duration,
        /// The end of its console, made printable.
        console: String,
    },
    /// [`Canceller::cancel`](crate::Canceller::cancel) was called.
    #[error("cancelled")]
    Cancelled,
}

/// A machine did not get as far as taking calls.
#[derive(Debug, Error)]
pub enum BootError {
    /// The machine failed.
    #[error("cannot boot the machine")]
    Worker(#[from] WorkerError),
    /// The guest broke the protocol, or the settings are out of bounds.
    #[error("cannot talk to the agent in the guest")]
    Session(#[source] SessionError),
    /// The runtime or the handler did not come up: the function's own error.
    #[error("the function cannot start")]
    Init(#[source] FunctionError),
}

/// A machine could not be frozen.
#[derive(Debug, Error)]
pub enum FreezeError {
    /// A snapshot has a root image and perhaps code, both read-only.
    #[error("{disks} disks{}, where a snapshot has one or two that nobody writes to", if *writable { ", one of them writable" } else { "" })]
    Disks {
        /// Number of disks of the machine.
        disks: u8,
        /// Whether its guest may write to one.
        writable: bool,
    },
    /// The machine failed.
    #[error("cannot freeze the machine")]
    Worker(#[from] WorkerError),
    /// The guest broke the protocol.
    #[error("cannot talk to the agent in the guest")]
    Session(#[source] SessionError),
    /// A `before_snapshot` hook failed, or the agent could not prepare.
    #[error("the guest cannot be frozen")]
    Guest(#[source] FunctionError),
    /// The host's processor cannot be asked for its features.
    #[error(transparent)]
    Host(#[from] crate::HostError),
    /// What the worker gave back is no machine of this shape.
    #[error("the worker gave back a damaged machine")]
    Damaged(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The snapshot cannot be written.
    #[error(transparent)]
    Store(#[from] calve_snapshots::Error),
}

/// A snapshot cannot be thawed on this host.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The store refused it.
    #[error(transparent)]
    Store(#[from] calve_snapshots::Error),
    /// The host cannot run machines.
    #[error(transparent)]
    Host(#[from] crate::HostError),
    /// Its state is no machine, or not the one its manifest describes.
    #[error("snapshot `{name}` is damaged; rebuild it with `calve snapshot build`")]
    State {
        /// The snapshot.
        name: String,
        /// What is wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There is nothing in it to call.
    #[error(
        "`{name}` is a runtime without a function; build one on it with `calve snapshot build`"
    )]
    Runtime {
        /// The snapshot.
        name: String,
    },
    /// No memfd.
    #[error("cannot keep the state of snapshot `{name}` in memory")]
    Memory {
        /// The snapshot.
        name: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

fn held_back(throttled: Duration) -> String {
    match throttled.as_millis() {
        0 => String::new(),
        ms => format!("; its cgroup allowed it no processor for {ms} ms of its life"),
    }
}

fn tail(what: &str, text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("; {what}:\n{text}") }
}
