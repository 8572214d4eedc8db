//! Floods: more notifications, packets and connections than anybody needs. What a device keeps of them is bounded, and who
//! runs beside it goes on.

use calve_vmm::Exit;
use calve_vmm::memory::GuestMemory;
use vm_memory::{Bytes, GuestAddress};

use crate::common::eventually;
use crate::host::{BALLOON, Cost, DEVICES, DISK, Host, VSOCK, WRITABLE_DISK};
use crate::queue::{NEEDS_RESET, Queue, Request, WRITE, mmio, prepare_last};
use crate::script::Script;

/// Most connections of a vsock (`MAX_CONNECTIONS` in its `table.rs`).
const MOST_CONNECTIONS: usize = 256;
/// Most answers that wait for a buffer (`RESETS_MAX` in its `transmit.rs`).
const MOST_ANSWERS: u16 = 128;

/// Queues of the vsock: receive and transmit.
fn vsock_queues() -> [Queue; 2] {
    [Queue::at(0, 0x28_0000), Queue::at(1, 0x28_4000)]
}

/// The guest's one packet, and one buffer to receive in, whatever comes.
const PACKET: u64 = 0x29_0000;
const BUFFER: u64 = 0x2b_0000;

/// Fields of a packet (§5.10.6).
mod packet {
    pub(crate) const SRC_PORT: u64 = 16;
    pub(crate) const DST_PORT: u64 = 20;
    pub(crate) const LEN: u64 = 24;
    pub(crate) const OP: u64 = 30;
    pub(crate) const REQUEST: u16 = 1;
    pub(crate) const RW: u16 = 5;
}

/// A packet without payload in the transmit queue's only chain, `receive` buffers in the other.
fn prepare(memory: &GuestMemory, op: u16, payload: u32, receive: u16) {
    let [rx, tx] = vsock_queues();
    // With room for answers, so that nobody has to ask for it.
    let words: [u32; 11] = [3, 0, 2, 0, 1024, 7, payload, 1 | u32::from(op) << 16, 0, 1 << 16, 0];
    for (place, word) in (0..).zip(words) {
        memory.write_obj(word, GuestAddress(PACKET + 4 * place)).unwrap();
    }
    tx.describe(memory, 0, (PACKET, 44 + payload), 0, 0);
    for number in 0..receive {
        rx.describe(memory, number, (BUFFER, 4096), WRITE, 0);
    }
    rx.offer(memory, &(0..receive).collect::<Vec<_>>());
}

/// Sends the packet once more, as the `count`th.
fn send(script: Script, count: u16) -> Script {
    let [_, tx] = vsock_queues();
    script.store(2, tx.available + 2, count.into()).notify(VSOCK, 1)
}

/// Waits for its leave to go on.
fn wait_to_go(script: Script) -> Script {
    let waiting = script.here();
    script.repeat_until(GO, waiting)
}

const GO: u64 = 0x17_0010;

#[test]
#[ignore = "needs /dev/kvm"]
fn connections_are_refused_where_there_are_enough() {
    let before = Cost::now();
    let [rx, tx] = vsock_queues();
    let mut script = Script::new().start(VSOCK, 0, &vsock_queues());
    for count in 1..=1000_u16 {
        script = script
            .write(PACKET + packet::SRC_PORT, 5000 + u32::from(count))
            .write(PACKET + packet::DST_PORT, 7 + u32::from(count) % 50);
        script = send(script, count)
            .wait_until(tx.used + 2, count)
            // One answer each, RESPONSE or RST; then its buffer is for the next.
            .wait_until(rx.used + 2, count)
            .store(2, rx.available + 2, u64::from(count) + 16);
    }
    let mut host = Host::new(&wait_to_go(script.write(DONE, 1)).reset());
    prepare(host.memory(), packet::REQUEST, 0, 16);
    host.machine.resume().unwrap();
    eventually("all have been asked for", || {
        host.memory().read_obj::<u32>(GuestAddress(DONE)).unwrap() == 1
    });
    assert_eq!(host.door.0.lock().unwrap().len(), MOST_CONNECTIONS);
    // Both ends are this process's.
    let streams = Cost { descriptors: 2 * MOST_CONNECTIONS, threads: 0, kib: 0 };
    let machine = Cost { descriptors: 60, threads: 3, kib: 16 << 10 };
    let descriptors = streams.descriptors + machine.descriptors;
    before.has_grown_by_at_most(Cost { descriptors, ..machine });
    host.can_be_frozen_and_thawed();
    host.memory().write_obj(1_u32, GuestAddress(GO)).unwrap();
    assert_eq!(host.finish(), Exit::Reset);
    drop(host);
    before.has_grown_by_at_most(Cost { descriptors: 0, threads: 0, kib: 16 << 10 });
}

const DONE: u64 = 0x17_0000;

#[test]
#[ignore = "needs /dev/kvm"]
fn answers_that_nobody_takes_stop_the_questions() {
    let before = Cost::now();
    let [_, tx] = vsock_queues();
    let mut script = Script::new().start(VSOCK, 0, &vsock_queues());
    for count in 1..=MOST_ANSWERS + 16 {
        script = send(script, count);
        if count <= MOST_ANSWERS {
            script = script.wait_until(tx.used + 2, count);
        }
    }
    let mut host = Host::new(&wait_to_go(script.write(DONE, 1)).reset());
    // To ports that nobody has.
    prepare(host.memory(), packet::RW, 0, 0);
    host.machine.resume().unwrap();
    eventually("the last ones are on their way", || {
        host.memory().read_obj::<u32>(GuestAddress(DONE)).unwrap() == 1
    });
    host.can_be_frozen_and_thawed();
    // Paused: whatever the device was to take, it has taken.
    assert_eq!(tx.used(host.memory()), MOST_ANSWERS);
    host.memory().write_obj(1_u32, GuestAddress(GO)).unwrap();
    assert_eq!(host.finish(), Exit::Reset);
    drop(host);
    before.has_grown_by_at_most(Cost { descriptors: 0, threads: 0, kib: 8 << 10 });
}

#[test]
#[ignore = "needs /dev/kvm"]
fn bytes_over_the_credit_are_not_kept() {
    const PAYLOAD: u32 = 60_000;
    let before = Cost::now();
    let [rx, tx] = vsock_queues();
    let script = Script::new().start(VSOCK, 0, &vsock_queues());
    let mut script = send(script, 1).wait_until(rx.used + 2, 1);
    script = script
        .store(2, PACKET + packet::OP, packet::RW.into())
        .write(PACKET + packet::LEN, PAYLOAD);
    // Six megabytes to a program that reads none of them.
    for count in 2..=100 {
        script = send(script, count).wait_until(tx.used + 2, count);
    }
    let mut host = Host::new(&script.reset());
    prepare(host.memory(), packet::REQUEST, 0, 16);
    tx.describe(host.memory(), 0, (PACKET, 44 + PAYLOAD), 0, 0);
    assert_eq!(host.finish(), Exit::Reset);
    let machine = Cost { descriptors: 62, threads: 3, kib: 4 << 10 };
    before.has_grown_by_at_most(machine);
    assert_eq!(host.door.0.lock().unwrap().len(), 1);
}

/// A guest that reads a sector, time after time, as a driver should.
fn neighbour() -> Host {
    let request = Request::at(0x28_0000);
    let mut script = Script::new().start(DISK, 0, &[request.queue]);
    for count in 1..=200 {
        script = script
            .store(2, request.queue.available + 2, count)
            .notify(DISK, 0)
            .wait_until(request.queue.used + 2, u16::try_from(count).unwrap());
    }
    let host = Host::new(&script.reset());
    request.prepare(host.memory(), 0);
    request.queue.publish(host.memory(), 0);
    host
}

#[test]
#[ignore = "needs /dev/kvm"]
fn a_storm_of_notifications_can_be_stopped_and_leaves_the_neighbour_alone() {
    let before = Cost::now();
    let queues = |device: u64| {
        let at = |index: u32| {
            Queue::at(index, 0x20_0000 + device * 0x4_0000 + u64::from(index) * 0x4000)
        };
        let count = match device {
            DISK | WRITABLE_DISK => 1,
            VSOCK => 2,
            _ => 3,
        };
        (0..count).map(at).collect::<Vec<_>>()
    };
    let mut script = Script::new();
    for device in DEVICES {
        let features = if device == BALLOON { 1 << 5 } else { 0 };
        script = script.start(device, features, &queues(device));
    }
    let storm = script.here();
    // Queues that there are and queues that there are not.
    for (device, queue) in
        DEVICES.into_iter().flat_map(|device| [(device, 0), (device, 1), (device, 9)])
    {
        script = script.notify(device, queue);
    }
    script = script.add(DONE, 1);
    let mut host = Host::new(&script.repeat_from(storm));
    host.machine.resume().unwrap();
    let rounds = |host: &Host| host.memory().read_obj::<u32>(GuestAddress(DONE)).unwrap();
    eventually("it storms", || rounds(&host) > 100);
    let start = rounds(&host);
    let mut neighbour = neighbour();
    assert_eq!(neighbour.finish(), Exit::Reset);
    eventually("it has stormed all the while", || rounds(&host) > start);
    assert_eq!(host.machine.exit(), None);
    host.can_be_frozen_and_thawed();
    drop((host, neighbour));
    before.has_grown_by_at_most(Cost { descriptors: 0, threads: 0, kib: 8 << 10 });
}

#[test]
#[ignore = "needs /dev/kvm"]
fn a_device_that_has_given_up_stays_silent_under_a_storm() {
    let request = Request::at(0x28_0000);
    let status = crate::host::register(WRITABLE_DISK, mmio::STATUS);
    let script = Script::new().start(WRITABLE_DISK, 0, &[request.queue]).notify(WRITABLE_DISK, 0);
    let mut script = script.wait_for(status, NEEDS_RESET);
    for _ in 0..1000 {
        script = script.notify(WRITABLE_DISK, 0).set(WRITABLE_DISK, mmio::STATUS, 0xf);
    }
    let mut host = Host::new(&script.read_and_reset());
    prepare_last(host.memory());
    // A write, so that it would show; behind it an index that jumps.
    request.prepare(host.memory(), 1);
    request.queue.publish(host.memory(), 999);
    assert_eq!(host.finish(), Exit::Reset);
    assert_eq!(request.queue.used(host.memory()), 0);
    assert_eq!(host.disks_are_untouched(), [true; 2]);
}
