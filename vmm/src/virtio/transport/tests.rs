use std::sync::mpsc::channel;
use std::thread::spawn;

use virtio_bindings::virtio_mmio as mmio;

use super::super::testing::{DEADLINE, Driver, Rig, wait};
use super::super::{Backend, Kind, NoPorts, VsockHost};

fn vsock() -> Backend {
    Backend::Vsock(VsockHost {
        cid: 3,
        listener: None,
        streams: Vec::new(),
        host_ports: Box::new(NoPorts),
    })
}

#[test]
fn accesses_of_odd_width_or_place_are_void() {
    let rig = Rig::running(vsock());
    let driver = Driver::probe(&rig, 0, 0);
    let transport = rig.transport(0);
    for width in [0, 1, 2, 3, 5, 8] {
        let mut data = [0xaa; 8];
        transport.read(0, &mut data[..width]);
        assert!(data[..width].iter().all(|&byte| byte == 0), "{width}");
        transport.write(mmio::VIRTIO_MMIO_STATUS.into(), &[0; 8][..width]);
    }
    for offset in [1, 2, 3, 0x71, 0x72, 0x1000, u64::MAX] {
        let mut data = [0xaa; 4];
        transport.read(offset, &mut data);
        assert_eq!(data, [0; 4], "{offset:#x}");
        transport.write(offset, &[0; 4]);
    }
    assert_eq!(driver.status(), 0xf);
}

#[test]
fn impossible_rings_need_a_reset() {
    let registers = [
        (mmio::VIRTIO_MMIO_QUEUE_DESC_LOW, 0x1008),
        (mmio::VIRTIO_MMIO_QUEUE_AVAIL_LOW, 0x1001),
        (mmio::VIRTIO_MMIO_QUEUE_USED_LOW, 0x1002),
        (mmio::VIRTIO_MMIO_QUEUE_DESC_HIGH, 1),
        (mmio::VIRTIO_MMIO_QUEUE_USED_LOW, 0xffff_fffc),
        (mmio::VIRTIO_MMIO_QUEUE_NUM, 0),
        (mmio::VIRTIO_MMIO_QUEUE_NUM, 3),
        (mmio::VIRTIO_MMIO_QUEUE_NUM, 256),
    ];
    let rig = Rig::running(vsock());
    let mut driver = Driver::probe(&rig, 0, 0);
    for (register, value) in registers {
        driver.reset();
        for step in [1, 3] {
            driver.write(mmio::VIRTIO_MMIO_STATUS, step);
        }
        driver.write(mmio::VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
        driver.write(mmio::VIRTIO_MMIO_DRIVER_FEATURES, 1);
        driver.write(mmio::VIRTIO_MMIO_STATUS, 0xb);
        driver.write(mmio::VIRTIO_MMIO_QUEUE_SEL, 1);
        driver.write(register, value);
        driver.write(mmio::VIRTIO_MMIO_QUEUE_READY, 1);
        driver.write(mmio::VIRTIO_MMIO_STATUS, 0xf);
        wait("NEEDS_RESET", || driver.status() & 0x40 != 0);
    }
    driver.set_up(&rig, 0);
    assert_eq!(driver.status(), 0xf);
}

#[test]
fn a_reset_while_parked_does_not_wait_and_is_done_later() {
    let rig = Rig::running(vsock());
    let mut driver = Driver::probe(&rig, 0, 0);
    rig.thread.pause().unwrap();
    driver.reset();
    driver.set_up(&rig, 0);
    rig.thread.run().unwrap();
    assert_eq!(driver.status(), 0xf);
    driver.reset();
}

/// vCPUs that reset and set up the device all at once, while the machine pauses and runs: nobody
/// waits for ever, and the device still works.
#[test]
fn many_vcpus_and_pauses_do_not_deadlock() {
    let rig = Rig::running(vsock());
    let (done, finished) = channel();
    for seed in 0..3u32 {
        let transport = rig.transport(0);
        let done = done.clone();
        spawn(move || {
            let registers = [0x70, 0x70, 0x70, 0x24, 0x20, 0x44, 0x38, 0x50, 0x64];
            let values = [0, 1, 3, 0xb, 0xf, 0x8f, 1, 16];
            for i in 0..4000 {
                let pick = (i * 7919 + seed * 31) as usize;
                let register = registers[pick / 8 % registers.len()];
                transport.write(register, &u32::to_le_bytes(values[pick % values.len()]));
                transport.read(0x70, &mut [0; 4]);
            }
            done.send(()).unwrap();
        });
    }
    let mut running = 3;
    while running > 0 {
        rig.thread.pause().unwrap();
        rig.thread.run().unwrap();
        running -= finished.try_iter().count();
    }
    let driver = Driver::probe(&rig, 0, 0);
    assert_eq!(driver.status(), 0xf);
}

/// The devices end while a vCPU waits for its reset: it goes on.
#[test]
fn nobody_waits_for_a_thread_that_is_gone() {
    for _ in 0..50 {
        let rig = Rig::shell(&[Kind::Vsock]);
        rig.thread.attach(vec![vsock()]).unwrap();
        rig.thread.run().unwrap();
        let _driver = Driver::probe(&rig, 0, 0);
        let transport = rig.transport(0);
        let (done, finished) = channel();
        let vcpu = spawn(move || {
            transport.write(0x70, &[0; 4]);
            done.send(()).unwrap();
        });
        drop(rig);
        finished.recv_timeout(DEADLINE).unwrap();
        vcpu.join().unwrap();
    }
}
