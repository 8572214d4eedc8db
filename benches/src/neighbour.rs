//! What a guest that means harm costs the one beside it: thaws and resets of a tiny guest, turn by turn with nobody else
//! there, and with a guest that does nothing but leave itself and wake its devices, without end.

use std::io::Write;

use anyhow::Context as _;
use calve_vmm::{Boot, Hypervisor, Machine, Shape, Shell, VsockHost};

use crate::native::{Frozen, WARM_UP, attachments, elf, our_turn, take};
use crate::samples::{Measured, Unit};

/// Notifies the queues of two devices, and writes to a port that nobody has.
const STORM: &[u8] = &[
    0xc7, 0x05, 0x50, 0x00, 0x00, 0xd0, 0x00, 0x00, 0x00,
    0x00, // again: mov dword [0xd0000050], 0
    0xc7, 0x05, 0x50, 0x00, 0x00, 0xd0, 0x01, 0x00, 0x00, 0x00, // mov dword [0xd0000050], 1
    0xc7, 0x05, 0x50, 0x10, 0x00, 0xd0, 0x00, 0x00, 0x00, 0x00, // mov dword [0xd0001050], 0
    0xe6, 0x80, // out 0x80, al
    0xeb, 0xde, // jmp again
];

/// Measures thaw and reset, alone and beside a storm.
pub(crate) fn measure(samples: usize) -> anyhow::Result<Vec<Measured>> {
    let frozen = Frozen::new()?;
    let mut storm = storm().context("the guest that storms")?;
    let of = |operation, case| {
        let method = "turn by turn, the other guest paused or not; decision → first exit handled";
        Measured::new(operation, case, "calve", method, Unit::Microseconds)
    };
    let operations = ["neighbour_thaw", "neighbour_reset", "neighbour_stop_and_reset"];
    let mut alone = operations.map(|operation| of(operation, "alone"));
    let mut beside = operations.map(|operation| of(operation, "beside a storm"));
    for n in 0..samples + WARM_UP {
        for (storms, results) in [(false, &mut alone), (true, &mut beside)] {
            if storms {
                storm.resume()?;
            } else {
                storm.pause()?;
            }
            let turn = our_turn(&frozen, frozen.shell()?);
            if n >= WARM_UP {
                take(results, turn);
            }
        }
    }
    anyhow::ensure!(storm.exit().is_none(), "the storm has ended: {:?}", storm.exit());
    Ok(alone.into_iter().chain(beside).collect())
}

fn storm() -> anyhow::Result<Machine> {
    let hypervisor = Hypervisor::open()?;
    let shell = Shell::new(&hypervisor, Shape::new(4, 1, 0)?)?;
    let mut kernel = tempfile::tempfile()?;
    kernel.write_all(&elf(STORM))?;
    let boot = Boot { kernel, initrd: None, cmdline: String::new() };
    let devices = calve_vmm::Attachments { vsock: VsockHost::unconnected(4), ..attachments().0 };
    Ok(shell.boot(boot, devices)?)
}
