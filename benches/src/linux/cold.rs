//! Boots: what a thaw saves.

use std::fs::File;

use calve_fleet::{Access, BootSpec, CallOptions, Frozen, Outcome, Shape};

use super::{Bench, FEW, first_output};
use crate::functions::Case;
use crate::peer::{Firecracker, Peer};
use crate::samples::{Measured, Unit, micros};

impl Bench<'_> {
    /// Boots up to the first answer.
    pub(super) fn cold_boots(&self, case: &Case, frozen: &Frozen) -> Measured {
        let method = "decision → first byte of the answer; worker, kernel, runtime, function";
        let operation = "cold_boot_to_first_output";
        let mut cold = Measured::new(operation, case.name, "calve", method, Unit::Microseconds);
        for _ in 0..FEW {
            cold.take(self.boot(case, frozen).map(|outcome| first_output(&outcome)));
        }
        cold
    }

    /// Boots up to where the agent, PID 1 of the guest, says that it is up, turn by turn with the peer.
    pub(super) fn boots(&self, case: &Case) -> anyhow::Result<Vec<Measured>> {
        let method =
            "decision, or process started → the guest's PID 1 says over vsock that it is up";
        let of = |subject| {
            Measured::new("boot_to_pid_1", case.name, subject, method, Unit::Microseconds)
        };
        let (mut ours, mut theirs) = (of("calve"), of("firecracker"));
        for _ in 0..FEW {
            let cmdline = calve_image::BASE_CMDLINE;
            let shape = Shape::new(case.memory_mib, 1, 2)?;
            let mut spec = BootSpec::new(shape, File::open(&self.images.kernel)?, cmdline);
            for disk in [&self.images.root, &case.code] {
                spec.disks.push((File::open(disk)?, Access::ReadOnly));
            }
            spec.up_timeout = case.function().timeout;
            let booted = self.fleet.boot(spec, &case.function());
            ours.take(booted.map(|machine| micros(machine.boot_time())));
            if let Some(Peer::Firecracker(program)) = &self.options.peer {
                theirs.take(Firecracker::boot(program, case, &self.images).map(micros));
            }
        }
        let peer = self.options.peer.is_some().then_some(theirs);
        Ok([ours].into_iter().chain(peer).collect())
    }

    fn boot(&self, case: &Case, frozen: &Frozen) -> anyhow::Result<Outcome> {
        let snapshot = frozen.snapshot();
        let open = |file: &File| file.try_clone();
        let cmdline = calve_image::BASE_CMDLINE;
        let mut spec = BootSpec::new(frozen.shape(), File::open(&self.images.kernel)?, cmdline);
        for disk in [snapshot.root()].into_iter().chain(snapshot.code()) {
            spec.disks.push((open(disk)?, Access::ReadOnly));
        }
        spec.up_timeout = case.function().timeout;
        let mut machine = self.fleet.boot(spec, &case.function())?;
        Ok(machine.call(case.event.as_bytes(), CallOptions::default())?)
    }
}
