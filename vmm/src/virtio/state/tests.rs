//! Pins the saved form: snapshots of this version must load for as long as the version is known.

use super::*;

fn state(kind: Kind, part: PartState) -> DeviceState {
    let registers = RegistersV1 {
        device_features_sel: 1,
        driver_features_sel: 0,
        driver_features: 1 << 32 | 1 << 29,
        queue_sel: 2,
        status: 0xf,
        generation: 0,
        interrupt_status: 1,
    };
    let queue = QueueV1 {
        size: 128,
        ready: true,
        descriptors: 0x1000,
        driver: 0x2000,
        device: 0x3000,
        next_avail: 7,
        next_used: 6,
        armed: true,
    };
    DeviceState::V1(DeviceV1 { kind, registers, queues: vec![queue; kind.queues()], part })
}

fn assert_pinned(state: &DeviceState, golden: &str) {
    let bytes = postcard::to_stdvec(state).unwrap();
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(text, golden);
    assert_eq!(postcard::from_bytes::<DeviceState>(&bytes).unwrap(), *state);
}

#[test]
fn the_form_of_a_disk_is_pinned() {
    let state = state(Kind::Block, PartState::Block { sectors: 16384 });
    assert_pinned(&state, "000001008080808012020f00010180010180208040806007060100808001");
}

#[test]
fn the_form_of_a_vsock_is_pinned() {
    let part = PartState::Vsock { cid: 3, next_port: 1 << 30, open: vec![(1 << 30, 1024)] };
    let golden = concat!(
        "000101008080808012020f0001",
        "03",
        "800101802080408060070601",
        "800101802080408060070601",
        "800101802080408060070601",
        "010380808080040180808080048008",
    );
    assert_pinned(&state(Kind::Vsock, part), golden);
}
