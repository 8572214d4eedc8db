//! What can go wrong between the machine and its devices, seen from the host.

use std::io;

use super::device::Kind;

/// A device or the device thread could not do what the machine asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host refused a thread, an epoll instance or an eventfd.
    #[error("cannot set up the device thread; raise the limit on threads or open files")]
    Setup(#[source] io::Error),
    /// A slot came with another number of kick eventfds than its kind has queues.
    #[error("{kind:?} slot {slot} needs {wanted} kick eventfds, got {got}")]
    Kicks {
        /// Position of the slot.
        slot: usize,
        /// Its kind.
        kind: Kind,
        /// Queues of that kind.
        wanted: usize,
        /// Eventfds that came.
        got: usize,
    },
    /// Another number of backends or states than there are slots.
    #[error("{got} {what} for {wanted} device slots; pass one per slot, in order")]
    Count {
        /// "backends" or "states".
        what: &'static str,
        /// Slots.
        wanted: usize,
        /// Items that came.
        got: usize,
    },
    /// A backend of the wrong kind for its slot.
    #[error("slot {slot} is a {wanted:?} device, but its backend is {got:?}")]
    Kind {
        /// Position of the slot.
        slot: usize,
        /// The slot's kind.
        wanted: Kind,
        /// The backend's.
        got: Kind,
    },
    /// A device that must run or be loaded has no backend.
    #[error("device slot {0} has no backend; attach one first")]
    Detached(usize),
    /// The disk's size could not be found.
    #[error("cannot find the size of disk `{id}`; pass a regular file or a block device")]
    DiskSize {
        /// The disk's id.
        id: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The disk ends inside a sector.
    #[error("disk `{id}` is {bytes} bytes long, not whole 512-byte sectors; pad it")]
    DiskTail {
        /// The disk's id.
        id: String,
        /// Its length.
        bytes: u64,
    },
    /// A CID that the specification reserves.
    #[error("guest CID {0} is reserved; use 3 or above")]
    ReservedCid(u32),
    /// More streams handed over than a device can carry.
    #[error("{got} streams handed over, at most {max} fit one vsock device")]
    Streams {
        /// The bound.
        max: usize,
        /// Streams that came.
        got: usize,
    },
    /// A host socket could not be watched.
    #[error("cannot watch a host socket of the vsock device")]
    Watch(#[source] io::Error),
    /// A saved state does not fit this machine.
    #[error("cannot load the saved state of device {slot}")]
    State {
        /// Position of the slot.
        slot: usize,
        /// Why.
        #[source]
        source: StateError,
    },
    /// An operation that needs paused devices came while they run.
    #[error("the devices are running; pause them first")]
    Running,
    /// An operation that needs running devices came while they are paused.
    #[error("the devices are paused; run them first")]
    Paused,
    /// The device thread is gone.
    #[error("the device thread has ended; discard this machine")]
    ThreadGone,
}

/// Why a saved device state was refused. The state is untrusted: nothing of it is used after this.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// The state is another device's.
    #[error("it is of a {got:?} device, this is a {wanted:?} device")]
    Kind {
        /// This device.
        wanted: Kind,
        /// The state's.
        got: Kind,
    },
    /// Features that this device does not offer with its present backend.
    #[error(
        "it has features {0:#x} that this device does not offer; attach the backend it was saved with"
    )]
    Features(u64),
    /// A status that the status machine cannot reach.
    #[error("status {0:#x} is not one a driver can reach")]
    Status(u32),
    /// The number of queues differs.
    #[error("it has {got} queues, this device has {wanted}")]
    Queues {
        /// Queues of this device.
        wanted: usize,
        /// Of the state.
        got: usize,
    },
    /// A queue's size or a ring's address or alignment is impossible.
    #[error("queue {0} has an impossible size or ring address")]
    Queue(usize),
    /// The disk has changed.
    #[error(
        "the disk had {saved} sectors, the attached one has {attached}; attach the disk it was saved with"
    )]
    Capacity {
        /// Sectors at save.
        saved: u64,
        /// Sectors of the attached disk.
        attached: u64,
    },
    /// The guest knows itself under another CID.
    #[error("the guest's CID was {saved}, the attached backend says {attached}")]
    Cid {
        /// CID at save.
        saved: u32,
        /// CID of the backend.
        attached: u32,
    },
    /// More connections than a device ever has.
    #[error("it lists {0} connections, more than a device can have")]
    Connections(usize),
}
