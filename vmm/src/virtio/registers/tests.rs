#![allow(clippy::cast_possible_truncation)] // numbers of a test are small

use super::*;

const NUM: u32 = mmio::VIRTIO_MMIO_QUEUE_NUM;
const READY: u32 = mmio::VIRTIO_MMIO_QUEUE_READY;
const DESC: u32 = mmio::VIRTIO_MMIO_QUEUE_DESC_LOW;
const STATUS: u32 = mmio::VIRTIO_MMIO_STATUS;

fn registers() -> Registers {
    Registers::new(Kind::Vsock, Offer { features: 0b1010, config: &[1, 2, 3] })
}

fn accept(registers: &mut Registers, features: u64) {
    for (select, value) in [(0, features as u32), (1, (features >> 32) as u32)] {
        registers.write(mmio::VIRTIO_MMIO_DRIVER_FEATURES_SEL, select);
        registers.write(mmio::VIRTIO_MMIO_DRIVER_FEATURES, value);
    }
}

/// Up to FEATURES_OK.
fn negotiated() -> Registers {
    let mut it = registers();
    it.write(STATUS, 1);
    it.write(STATUS, 3);
    accept(&mut it, VERSION_1 | 0b10);
    it.write(STATUS, 0xb);
    assert_eq!(it.read(STATUS), 0xb);
    it
}

#[test]
fn features_are_read_in_halves() {
    let mut it = registers();
    assert_eq!(it.read(mmio::VIRTIO_MMIO_DEVICE_FEATURES), 0b1010 | 1 << 29);
    it.write(mmio::VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
    assert_eq!(it.read(mmio::VIRTIO_MMIO_DEVICE_FEATURES), 1);
    it.write(mmio::VIRTIO_MMIO_DEVICE_FEATURES_SEL, 2);
    assert_eq!(it.read(mmio::VIRTIO_MMIO_DEVICE_FEATURES), 0);
}

#[test]
fn status_goes_step_by_step() {
    let mut it = registers();
    for early in [2, 8, 4, 0xe] {
        it.write(STATUS, early);
        assert_eq!(it.read(STATUS), 0, "{early:#x}");
    }
    it.write(STATUS, 1);
    it.write(STATUS, 0x1_0000_u32 | 3);
    assert_eq!(it.read(STATUS), 3);
    it.write(STATUS, 1);
    assert_eq!(it.read(STATUS), 3, "a bit was taken back");
    it.write(STATUS, 0x43);
    assert_eq!(it.read(STATUS), 3, "NEEDS_RESET is not the driver's to set");
    assert_eq!(it.write(STATUS, 0xf), Command::None);
    assert_eq!(it.read(STATUS), 3, "features without VERSION_1");
    assert_eq!(negotiated().write(STATUS, 0xf), Command::Start);
}

#[test]
fn features_that_were_not_offered_are_refused() {
    for features in [VERSION_1 | 0b100, 0b10, VERSION_1 | 1 << 63] {
        let mut it = registers();
        it.write(STATUS, 3);
        accept(&mut it, features);
        it.write(STATUS, 0xb);
        assert_eq!(it.read(STATUS), 3, "{features:#x}");
    }
    // And what was agreed on stays.
    let mut it = negotiated();
    accept(&mut it, u64::MAX);
    assert_eq!(it.driver_features(), VERSION_1 | 0b10);
}

#[test]
fn queues_are_set_up_between_features_and_driver_ok() {
    let mut early = registers();
    early.write(NUM, 8);
    assert_eq!(early.queues()[0].size, 128);
    let mut it = negotiated();
    it.write(NUM, 8);
    it.write(DESC, 0x1000);
    it.write(DESC + 4, 2);
    assert_eq!((it.queues()[0].size, it.queues()[0].descriptors), (8, 0x2_0000_1000));
    it.write(READY, 1);
    it.write(DESC, 0x5000);
    assert_eq!(it.queues()[0].descriptors, 0x2_0000_1000, "ready closes a queue's set-up");
    it.write(READY, 0);
    it.write(NUM, 0x1_0000);
    assert_eq!(it.queues()[0].size, 0, "does not fit");
    it.write(NUM, 16);
    it.write(STATUS, 0xf);
    it.write(NUM, 4);
    it.write(READY, 1);
    assert_eq!((it.queues()[0].size, it.queues()[0].ready), (16, false));
}

#[test]
fn queues_that_do_not_exist_read_as_zero() {
    let mut it = negotiated();
    for queue in [3, 4, 0x8000_0000, u32::MAX] {
        it.write(mmio::VIRTIO_MMIO_QUEUE_SEL, queue);
        assert_eq!(it.read(mmio::VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
        it.write(READY, 1);
        assert_eq!(it.read(READY), 0);
        assert_eq!(it.write(mmio::VIRTIO_MMIO_QUEUE_NOTIFY, queue), Command::None);
    }
    assert_eq!(it.write(mmio::VIRTIO_MMIO_QUEUE_NOTIFY, 2), Command::Notify(2));
}

#[test]
fn a_driver_that_failed_only_resets() {
    let mut it = negotiated();
    assert_eq!(it.write(STATUS, 0x8b), Command::Halt);
    assert_eq!(it.write(STATUS, 0xf), Command::None);
    assert_eq!(it.read(STATUS), 0x8b);
    assert!(!it.running());
    assert_eq!(it.write(STATUS, 0), Command::Reset);
    it.reset();
    assert_eq!(it.read(STATUS), 0);
    assert_eq!(it.driver_features(), 0);
}

#[test]
fn a_device_that_needs_a_reset_does_not_start() {
    let mut it = negotiated();
    assert!(!it.set_needs_reset(), "before DRIVER_OK nobody is told");
    assert_eq!(it.write(STATUS, 0xf), Command::None);
    let mut it = negotiated();
    it.write(STATUS, 0xf);
    assert!(it.running());
    assert!(it.set_needs_reset());
    assert!(!it.running());
}

#[test]
fn config_reads_take_any_width_and_place() {
    let it = registers();
    let read = |offset, len| {
        let mut data = vec![0xaa; len];
        it.read_config(offset, &mut data);
        data
    };
    assert_eq!(read(0, 8), [1, 2, 3, 0, 0, 0, 0, 0]);
    assert_eq!(read(1, 1), [2]);
    assert_eq!(read(2, 2), [3, 0]);
    assert_eq!(read(3, 4), [0; 4]);
    assert_eq!(read(usize::MAX, 4), [0; 4]);
    assert_eq!(read(0, 0), []);
}
