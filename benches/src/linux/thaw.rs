//! From a frozen function to its first answer.

use calve_fleet::Frozen;

use super::{Bench, WARM_UP, as_sample, called, first_output};
use crate::functions::Case;
use crate::peer::{Firecracker, Peer};
use crate::samples::{Measured, Unit, micros};
use anyhow::Context as _;

impl Bench<'_> {
    /// Thaws of a snapshot in one layer, beside which those of two are to be seen.
    pub(super) fn thaw_flat(&self, case: &Case, frozen: &Frozen) -> anyhow::Result<Measured> {
        let (name, us) = (format!("{}, flat", case.name), Unit::Microseconds);
        let method = "a shell waits, page cache warm; decision → first byte of the answer";
        let mut thaw = Measured::new("thaw_to_first_output", &name, "calve", method, us);
        for n in 0..self.options.samples + WARM_UP {
            self.fleet.prepare(frozen.shape(), 1)?;
            let clone = self.fleet.thaw(frozen).map_err(anyhow::Error::from);
            let outcome = clone.and_then(|clone| called(clone, case));
            if n >= WARM_UP {
                thaw.take(outcome.map(|(_, outcome)| first_output(&outcome)));
            }
        }
        Ok(thaw)
    }

    /// Thaws, turn by turn with the peer, and resets.
    pub(super) fn thaw_and_reset(
        &self,
        case: &Case,
        frozen: &Frozen,
    ) -> anyhow::Result<Vec<Measured>> {
        let method = "a shell waits, page cache warm; decision → first byte of the answer";
        let of = |operation, subject, method, unit| {
            Measured::new(operation, case.name, subject, method, unit)
        };
        let (us, kib) = (Unit::Microseconds, Unit::KiB);
        let mut thaw = of("thaw_to_first_output", "calve", method, us);
        let mut load =
            of("thaw_to_guest", "calve", "content in the worker's hands → guest entered", us);
        let mut private = of("private_memory_after_call", "calve", "worker and guest", kib);
        let reset_method = "decision to reset a clone that was called → first byte of the answer";
        let mut reset = of("reset_and_call", "calve", reset_method, us);
        let peer_method = "process started, snapshot loaded and resumed, vsock connected → first \
             byte of the answer; same kernel, root image, agent and function";
        let mut theirs = of("thaw_to_first_output", "firecracker", peer_method, us);
        let peer = match &self.options.peer {
            Some(Peer::Firecracker(program)) => {
                Some(Firecracker::freeze(program, case, &self.images).context("the peer")?)
            }
            None => None,
        };
        for n in 0..self.options.samples + WARM_UP {
            self.fleet.prepare(frozen.shape(), 1)?;
            let outcome = self.fleet.thaw(frozen).map_err(anyhow::Error::from).and_then(|clone| {
                let (clone, outcome) = called(clone, case)?;
                let again = clone.reset().map_err(anyhow::Error::from);
                Ok((outcome, again.and_then(|clone| called(clone, case))))
            });
            let their_turn = peer.as_ref().map(|peer| peer.thaw_and_call(case).map(micros));
            if n < WARM_UP {
                continue;
            }
            if let Some(their_turn) = their_turn {
                theirs.take(their_turn);
            }
            match outcome {
                Ok((outcome, again)) => {
                    load.samples.extend(outcome.timings.load_us.map(as_sample));
                    private.samples.extend(outcome.private_kib.map(as_sample));
                    thaw.take(Ok::<_, anyhow::Error>(first_output(&outcome)));
                    reset.take(again.map(|(_, outcome)| first_output(&outcome)));
                }
                Err(error) => thaw.take(Err(error)),
            }
        }
        let mut results = vec![thaw, load, private, reset];
        results.extend(peer.map(|_| theirs));
        Ok(results)
    }

    /// Many thaws one after the other, for their tail.
    pub(super) fn thaws_in_a_row(&self, case: &Case, frozen: &Frozen) -> anyhow::Result<Measured> {
        let method = "a shell waits, page cache warm; decision → first byte of the answer; each clone \
             is called once and discarded";
        let operation = "thaw_to_first_output_tail";
        let mut thaw = Measured::new(operation, case.name, "calve", method, Unit::Microseconds);
        for n in 0..self.options.thaws + WARM_UP {
            self.fleet.prepare(frozen.shape(), 1)?;
            let clone = self.fleet.thaw(frozen).map_err(anyhow::Error::from);
            let outcome = clone.and_then(|clone| called(clone, case));
            if n >= WARM_UP {
                thaw.take(outcome.map(|(_, outcome)| first_output(&outcome)));
            }
        }
        Ok(thaw)
    }
}
