//! Rings and chains that no driver makes. A device answers each with the error of its kind, or gives up and says so in its
//! status (`DEVICE_NEEDS_RESET`); the guest resets it, and it works.

use calve_vmm::Exit;
use calve_vmm::layout::{HOLE_START, VIRTIO_BASE};
use calve_vmm::memory::GuestMemory;
use vm_memory::{Bytes, GuestAddress};

use crate::common::eventually;
use crate::host::{BALLOON, Cost, DISK, DISK_BYTE, Host, MEMORY_MIB, VSOCK, register};
use crate::queue::{
    INDIRECT, NEEDS_RESET, NEXT, Queue, Request, WRITE, last_data, mmio, prepare_last,
};
use crate::script::Script;

/// What a device does about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It stops, and says that it needs a reset.
    GivesUp,
    /// It answers the chain as any other.
    Answers,
}
use Verdict::{Answers, GivesUp};

/// Where the queue is that is to be spoilt, and what a sound chain in it refers to.
const QUEUE: u64 = 0x28_0000;
/// The device's other queue, where it has to have one.
const OTHER: u64 = 0x2a_0000;
const END: u64 = (MEMORY_MIB as u64) << 20;

/// A queue with one sound chain, about to be spoilt.
struct Spoilt<'a> {
    memory: &'a GuestMemory,
    queue: Queue,
}

impl Spoilt<'_> {
    /// Changes one field of a descriptor: `offset` bytes into it.
    fn patch<T: vm_memory::ByteValued>(&self, index: u64, offset: u64, value: T) {
        let at = GuestAddress(self.queue.descriptors + 16 * index + offset);
        self.memory.write_obj(value, at).unwrap();
    }

    fn place(&self, index: u64, at: u64) {
        self.patch(index, 0, at);
    }

    fn length(&self, index: u64, len: u32) {
        self.patch(index, 8, len);
    }

    fn link(&self, index: u64, flags: u16, next: u16) {
        self.patch(index, 12, flags);
        self.patch(index, 14, next);
    }
}

/// How each device is started: features, the queue under attack, the chain's descriptors.
struct Target {
    device: u64,
    features: u32,
    index: u32,
}

const TARGETS: [Target; 3] = [
    Target { device: DISK, features: 0, index: 0 },
    Target { device: VSOCK, features: 0, index: 1 },
    Target { device: BALLOON, features: 1 << 5, index: 2 },
];

impl Target {
    /// A sound chain for the device, in its queue.
    fn prepare(&self, memory: &GuestMemory) -> Queue {
        let request = Request::at(QUEUE);
        let queue = Queue { index: self.index, ..request.queue };
        match self.device {
            DISK => request.prepare(memory, 0),
            VSOCK => {
                // A packet that ends a connection which there is not: RST, and no answer to it.
                let header = request.data();
                let words: [u32; 11] = [3, 0, 2, 0, 1024, 1 << 30, 0, 0x0003_0001, 0, 0, 0];
                for (place, word) in (0..).zip(words) {
                    memory.write_obj(word, GuestAddress(header + 4 * place)).unwrap();
                }
                queue.describe(memory, 0, (header, 44), 0, 0);
                queue.offer(memory, &[0]);
            }
            _ => {
                queue.describe(memory, 0, (request.data(), 0x1000), WRITE, 0);
                queue.offer(memory, &[0]);
            }
        }
        queue
    }

    fn queues(&self, spoilt: Queue) -> Vec<Queue> {
        let others = match self.device {
            DISK => 0..0,
            VSOCK => 0..1,
            _ => 0..2,
        };
        let others = others.map(|index| Queue::at(index, OTHER + 0x4000 * u64::from(index)));
        others.chain([spoilt]).collect()
    }
}

/// What is done to a queue, and what the disk, the vsock and the balloon do about it.
type Attack = (&'static str, fn(&mut Spoilt<'_>), [Verdict; 3]);

/// What a guest reports as free, and is not there, is its own loss: the balloon passes over it.
const BUT_THE_BALLOON: [Verdict; 3] = [GivesUp, GivesUp, Answers];

const ATTACKS: [Attack; 27] = [
    ("nothing at all", |_| {}, [Answers; 3]),
    ("descriptors beyond memory", |it| it.queue.descriptors = END, [GivesUp; 3]),
    ("descriptors that reach beyond memory", |it| it.queue.descriptors = END - 16, [GivesUp; 3]),
    ("descriptors in a device", |it| it.queue.descriptors = VIRTIO_BASE, [GivesUp; 3]),
    ("descriptors at the end of addresses", |it| it.queue.descriptors = !0xf, [GivesUp; 3]),
    ("misaligned descriptors", |it| it.queue.descriptors += 1, [GivesUp; 3]),
    ("an available ring beyond memory", |it| it.queue.available = END, [GivesUp; 3]),
    ("an available ring at the end of addresses", |it| it.queue.available = !1, [GivesUp; 3]),
    ("a misaligned available ring", |it| it.queue.available += 1, [GivesUp; 3]),
    ("a used ring in the hole", |it| it.queue.used = HOLE_START, [GivesUp; 3]),
    ("a used ring that reaches beyond memory", |it| it.queue.used = END - 4, [GivesUp; 3]),
    ("a misaligned used ring", |it| it.queue.used += 2, [GivesUp; 3]),
    ("no size", |it| it.queue.size = 0, [GivesUp; 3]),
    ("a size that is no power of two", |it| it.queue.size = 12, [GivesUp; 3]),
    ("the largest size", |it| it.queue.size = u32::MAX, [GivesUp; 3]),
    ("an index that jumps", |it| it.queue.publish(it.memory, 1000), [GivesUp; 3]),
    ("an index that goes back", |it| it.queue.publish(it.memory, u16::MAX), [GivesUp; 3]),
    ("a head beyond the table", |it| it.queue.offer(it.memory, &[16]), [GivesUp; 3]),
    ("the last head there can be", |it| it.queue.offer(it.memory, &[u16::MAX]), [GivesUp; 3]),
    ("a chain that leads to itself", |it| it.link(0, NEXT, 0), [GivesUp; 3]),
    ("a chain that leads beyond the table", |it| it.link(0, NEXT, 999), [GivesUp; 3]),
    ("an indirect table, which was not agreed on", |it| it.link(0, INDIRECT, 0), BUT_THE_BALLOON),
    ("a buffer beyond memory", |it| it.place(0, END), BUT_THE_BALLOON),
    ("a buffer that reaches beyond memory", |it| it.place(0, END - 8), BUT_THE_BALLOON),
    ("a buffer that wraps around", |it| it.place(0, !7), BUT_THE_BALLOON),
    ("four gigabytes at once", |it| it.length(0, u32::MAX), BUT_THE_BALLOON),
    ("an empty buffer", |it| it.length(0, 0), BUT_THE_BALLOON),
];

/// Where a guest keeps its device's status, and its leave to go on.
const STATUS: u64 = 0x17_0000;
const GO: u64 = 0x17_0010;

fn verdict(target: &Target, spoil: fn(&mut Spoilt<'_>)) -> Verdict {
    // The script depends on the queue, and the queue is written to the machine that runs the script: the spoilt addresses
    // do not depend on memory, so a first machine is only there to find them.
    let queue = {
        let scratch = Host::new(&Script::new());
        let queue = target.prepare(scratch.memory());
        let mut spoilt = Spoilt { memory: scratch.memory(), queue };
        spoil(&mut spoilt);
        spoilt.queue
    };
    let status = register(target.device, mmio::STATUS);
    let script = Script::new().start(target.device, target.features, &target.queues(queue));
    let script = script.notify(target.device, target.index);
    let polling = script.here();
    let script = script.load(4, status, STATUS).repeat_until(GO, polling);
    let script = script.set(target.device, mmio::STATUS, 0).load(4, status, STATUS);
    let mut host = Host::new(&script.read_and_reset());
    prepare_last(host.memory());
    let sound = target.prepare(host.memory());
    spoil(&mut Spoilt { memory: host.memory(), queue: sound });
    host.machine.resume().unwrap();
    let word = |host: &Host, at| host.memory().read_obj::<u32>(GuestAddress(at)).unwrap();
    let (mut gave_up, mut answered) = (false, false);
    eventually("the device has an answer", || {
        gave_up = word(&host, STATUS) & NEEDS_RESET != 0;
        answered = sound.used(host.memory()) > 0;
        gave_up || answered
    });
    host.memory().write_obj(1_u32, GuestAddress(GO)).unwrap();
    assert_eq!(host.end(), Exit::Reset);
    assert_eq!(word(&host, STATUS), 0, "the device is as new");
    assert_eq!(last_data(host.memory()), [DISK_BYTE; 512], "the disk works");
    assert_eq!(host.disks_are_untouched(), [true; 2]);
    if gave_up { GivesUp } else { Answers }
}

#[test]
#[ignore = "needs /dev/kvm"]
fn spoilt_queues_are_given_up_or_answered_and_can_be_set_up_anew() {
    let before = Cost::now();
    let mut wrong = Vec::new();
    for (name, spoil, expected) in ATTACKS {
        let found: Vec<_> = TARGETS.iter().map(|target| verdict(target, spoil)).collect();
        if found != expected {
            wrong.push(format!("{name}: {found:?}, not {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    before.has_grown_by_at_most(Cost { descriptors: 0, threads: 0, kib: 16 << 10 });
}
