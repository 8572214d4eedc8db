//! What every device must be able to do.

use std::time::Instant;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use virtio_bindings::virtio_mmio as mmio;

use super::driver::{Driver, EVENT_IDX, VERSION_1};
use super::rig::{DEADLINE, Rig, wait};
use crate::virtio::state::{DeviceState, DeviceV1};
use crate::virtio::{Backend, Error, StateError};

/// Runs the whole suite for a device: `device_suite!(name, || backend)`.
macro_rules! device_suite {
    ($name:ident, $backend:expr) => {
        mod $name {
            use super::*;
            use $crate::virtio::testing::suite as every;

            #[test]
            fn starts_resets_and_starts_again() {
                every::starts_resets_and_starts_again($backend());
            }
            #[test]
            fn saves_loads_and_saves_the_same() {
                every::saves_loads_and_saves_the_same(&mut $backend);
            }
            #[test]
            fn refuses_states_that_do_not_fit() {
                every::refuses_states_that_do_not_fit(&mut $backend);
            }
            #[test]
            fn raises_a_waiting_interrupt_after_load() {
                every::raises_a_waiting_interrupt_after_load(&mut $backend);
            }
            #[test]
            fn survives_a_hostile_driver() {
                every::survives_a_hostile_driver($backend());
            }
            #[test]
            fn reports_a_broken_ring() {
                every::reports_a_broken_ring($backend());
            }
        }
    };
}
pub(crate) use device_suite;

pub(crate) fn starts_resets_and_starts_again(backend: Backend) {
    let rig = Rig::running(backend);
    let mut driver = Driver::probe(&rig, 0, 0);
    assert_eq!(driver.offered & (VERSION_1 | EVENT_IDX), VERSION_1 | EVENT_IDX);
    for _ in 0..3 {
        driver.reset();
        assert_eq!(driver.read(mmio::VIRTIO_MMIO_QUEUE_READY), 0);
        driver.set_up(&rig, EVENT_IDX);
    }
    assert_eq!(driver.status(), 0xf);
    assert!(matches!(rig.thread.run(), Err(Error::Running)));
    assert!(matches!(rig.thread.attach(vec![]), Err(Error::Running)));
    rig.thread.pause().unwrap();
    assert!(matches!(rig.thread.pause(), Err(Error::Paused)));
    rig.thread.run().unwrap();
}

/// A state on its way through a file.
fn travel(state: &DeviceState) -> DeviceState {
    postcard::from_bytes(&postcard::to_stdvec(state).unwrap()).unwrap()
}

pub(crate) fn saves_loads_and_saves_the_same(backend: &mut dyn FnMut() -> Backend) {
    let rig = Rig::running(backend());
    let _driver = Driver::probe(&rig, 0, 0);
    let kinds = [driver_kind(&rig)];
    let saved = rig.thread.pause().unwrap();
    let other = Rig::over(rig.memory.clone(), &kinds);
    assert!(matches!(other.thread.run(), Err(Error::Detached(0))));
    assert!(matches!(other.thread.load(saved.clone()), Err(Error::Detached(0))));
    other.thread.attach(vec![backend()]).unwrap();
    for _ in 0..2 {
        other.thread.load(saved.iter().map(travel).collect()).unwrap();
        assert_eq!(other.thread.save().unwrap(), saved);
        other.thread.run().unwrap();
        assert!(matches!(other.thread.save(), Err(Error::Running)));
        assert_eq!(other.thread.pause().unwrap(), saved);
    }
    let register = |rig: &Rig| {
        let mut word = [0; 4];
        rig.transport(0).read(mmio::VIRTIO_MMIO_STATUS.into(), &mut word);
        u32::from_le_bytes(word)
    };
    assert_eq!(register(&other), register(&rig));
}

/// A way to spoil a saved state.
type Change = fn(&mut DeviceV1);

pub(crate) fn refuses_states_that_do_not_fit(backend: &mut dyn FnMut() -> Backend) {
    let rig = Rig::running(backend());
    let _driver = Driver::probe(&rig, 0, 0);
    let saved = rig.thread.pause().unwrap();
    let DeviceState::V1(good) = saved[0].clone();
    let wanted = good.kind.queues();
    let changes: [(Change, StateError); 9] = [
        (|s| s.queues[0].size = 3, StateError::Queue(0)),
        (|s| s.queues[0].size = 0x8000, StateError::Queue(0)),
        (|s| s.queues[0].descriptors = !0xf, StateError::Queue(0)),
        (|s| s.queues[0].driver += 1, StateError::Queue(0)),
        (|s| s.queues[0].device = 1 << 40, StateError::Queue(0)),
        (|s| s.queues.clear(), StateError::Queues { wanted, got: 0 }),
        (|s| s.registers.status = 0xc, StateError::Status(0xc)),
        (|s| s.registers.status |= 0x100, StateError::Status(0x10f)),
        (|s| s.registers.driver_features |= 1 << 63, StateError::Features(1 << 63)),
    ];
    for (change, expected) in changes {
        let mut bad = good.clone();
        change(&mut bad);
        match rig.thread.load(vec![DeviceState::V1(bad)]) {
            Err(Error::State { slot: 0, source }) => assert_eq!(source, expected),
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(rig.thread.load(vec![]), Err(Error::Count { wanted: 1, got: 0, .. })));
    // Nothing of all that stuck: the machine goes on.
    rig.thread.run().unwrap();
    assert_eq!(rig.thread.pause().unwrap(), saved);
    // Any bytes at all: refused or loaded, never a panic.
    let bytes = postcard::to_stdvec(&saved[0]).unwrap();
    for at in 0..bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut bytes = bytes.clone();
            bytes[at] ^= flip;
            let Ok(state) = postcard::from_bytes::<DeviceState>(&bytes) else { continue };
            if rig.thread.load(vec![state]).is_ok() {
                rig.thread.run().unwrap();
                rig.thread.pause().unwrap();
            }
        }
    }
}

pub(crate) fn raises_a_waiting_interrupt_after_load(backend: &mut dyn FnMut() -> Backend) {
    let rig = Rig::running(backend());
    let mut driver = Driver::probe(&rig, 0, 0);
    let DeviceState::V1(mut state) = rig.thread.pause().unwrap().remove(0);
    state.registers.interrupt_status = 1;
    let other = Rig::over(rig.memory.clone(), &[driver_kind(&rig)]);
    other.thread.attach(vec![backend()]).unwrap();
    other.thread.load(vec![DeviceState::V1(state)]).unwrap();
    other.thread.run().unwrap();
    driver.move_to(&other);
    assert_eq!(driver.interrupt(&other, Instant::now() + DEADLINE), Some(1));
    assert_eq!(driver.read(mmio::VIRTIO_MMIO_INTERRUPT_STATUS), 0);
}

/// Registers that exist, some that do not, and the edges of the window.
fn offsets() -> impl Strategy<Value = u64> {
    prop_oneof![
        (0u64..0x110).prop_map(|offset| offset & !3),
        prop::sample::select(vec![0x70u64, 0x70, 0x44, 0x30, 0x38, 0x50, 0x80, 0x90, 0xa0]),
        prop::sample::select(vec![0u64, 0xffc, 0xfff, 0x1000, u64::MAX]),
        0u64..0x1000,
    ]
}

fn values() -> impl Strategy<Value = u32> {
    prop_oneof![
        0u32..16,
        prop::sample::select(vec![0, 1, 3, 0xb, 0xf, 0x80, 0x40, 0x8f, u32::MAX, 0x1_0000]),
        any::<u32>(),
    ]
}

pub(crate) fn survives_a_hostile_driver(backend: Backend) {
    let rig = Rig::running(backend);
    let transport = rig.transport(0);
    let write = (offsets(), values(), 0usize..=8);
    let strategy = (prop::collection::vec(write, 1..60), any::<[u8; 32]>());
    let mut runner =
        TestRunner::new(Config { cases: 200, failure_persistence: None, ..Config::default() });
    runner
        .run(&strategy, |(writes, noise)| {
            // Rings full of noise, wherever the driver says they are.
            vm_memory::Bytes::write_slice(
                &rig.memory,
                &noise.repeat(64),
                vm_memory::GuestAddress(0),
            )
            .unwrap();
            for (offset, value, width) in writes {
                let bytes = u64::from(value).to_le_bytes();
                transport.write(offset, &bytes[..width]);
                transport.read(offset, &mut [0; 8][..width]);
            }
            rig.wires[0].kicks[0].write(1).unwrap();
            let states = rig.thread.pause().unwrap();
            rig.thread.load(states).unwrap();
            rig.thread.run().unwrap();
            Ok(())
        })
        .unwrap();
    // Whatever it did, a reset brings the device back.
    let driver = Driver::probe(&rig, 0, 0);
    assert_eq!(driver.status(), 0xf);
}

pub(crate) fn reports_a_broken_ring(backend: Backend) {
    let rig = Rig::running(backend);
    let mut driver = Driver::probe(&rig, 0, 0);
    let needs_reset = 0x40;
    // More buffers available than the ring has places, on every queue that is looked at.
    for queue in 0..driver.rings.len() {
        let ring = &driver.rings[queue];
        ring.set_available_index(ring.size + 1);
        rig.wires[0].kicks[queue].write(1).unwrap();
    }
    wait("NEEDS_RESET", || driver.status() & needs_reset != 0);
    let status = driver.interrupt(&rig, Instant::now() + DEADLINE);
    assert_eq!(status, Some(mmio::VIRTIO_MMIO_INT_CONFIG));
    // It is saved as broken, and stays so.
    let states = rig.thread.pause().unwrap();
    rig.thread.load(states).unwrap();
    rig.thread.run().unwrap();
    assert!(driver.status() & needs_reset != 0);
    driver.set_up(&rig, 0);
    assert_eq!(driver.status(), 0xf);
}

fn driver_kind(rig: &Rig) -> crate::virtio::Kind {
    rig.transport(0).kind()
}
