//! What the host adds to a call.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context as _;

use super::load::{Outcome, Plan, Shot};
use super::request::{self, Proof};
use super::{Options, bare, child, documents, micros, serve, threads};
use crate::samples::{Measured, Unit};

/// Requests before the first that counts: a second's worth in all turns of a case.
const WARM_UP: u32 = 2;
/// Turns that the host and the floor take in each case.
const TURNS: u32 = 2;

/// Measures every case, turn by turn with the floor.
pub(super) fn measure(
    data: &Path,
    secret: &str,
    options: &Options,
) -> anyhow::Result<Vec<Measured>> {
    let runtime = threads()?;
    let host = runtime.block_on(serve(data))?;
    let mut results = Vec::new();
    for (proof, how) in [(Proof::Bearer, "bearer"), (Proof::SigV4, "SigV4")] {
        for (function, policy) in [(documents::FRESH, "fresh"), (documents::KEEP, "keep")] {
            let case = format!("{how}, {policy}, {}/s", options.rate);
            let request = request::invoke(host, function, secret, proof);
            let floor = bare::serve(request.len())?;
            let mut ours = Figures::new(&case, "calve");
            let mut floors = Figures::new(&case, "floor");
            for _ in 0..TURNS {
                ours.take(turn(host, &request, options)?, options);
                floors.take(turn(floor, &request, options)?, options);
            }
            results.extend(ours.done().into_iter().chain(floors.done()));
        }
    }
    runtime.shutdown_background();
    Ok(results)
}

fn turn(address: SocketAddr, request: &str, options: &Options) -> anyhow::Result<Outcome> {
    let rate = options.rate.max(1);
    let plan = Plan {
        address,
        request: request.into(),
        pause: 1_000_000_000 / u64::from(rate),
        requests: u64::from(rate * options.seconds / TURNS + rate / WARM_UP),
        connections: options.connections,
    };
    child(&["load"], &serde_json::to_vec(&plan)?).context("requests")
}

/// What is measured of each case.
struct Figures {
    whole: Measured,
    sent: Measured,
    called: Measured,
    returned: Measured,
    late: Measured,
    rate: Measured,
}

impl Figures {
    fn new(case: &str, subject: &str) -> Self {
        let of =
            |operation, method| Measured::new(operation, case, subject, method, Unit::Microseconds);
        Self {
            whole: of(
                "host_overhead",
                "request due → answer read, without the function's own time",
            ),
            sent: of(
                "host_overhead_sent",
                "the same from when it was sent, if a connection was free when it was due",
            ),
            called: of("host_overhead_before", "request due → function called"),
            returned: of("host_overhead_after", "function returned → answer read"),
            late: of(
                "host_load_late",
                "request due → sent, where a connection was free: the load generator's own, and part of the others",
            ),
            rate: Measured::new(
                "host_rate",
                case,
                subject,
                "answers by the time from the first request that counts to the last answer",
                Unit::PerSecond,
            ),
        }
    }

    fn take(&mut self, outcome: Outcome, options: &Options) {
        let first = u64::from(options.rate / WARM_UP);
        let counted: Vec<Shot> =
            outcome.shots.into_iter().filter(|shot| shot.number >= first).collect();
        self.whole.failures += outcome.failures;
        if let Some(failure) = outcome.failure {
            eprintln!("{} {}: {failure}", self.whole.subject, self.whole.case);
        }
        for shot in &counted {
            let Shot { due, sent, called, returned, read, .. } = *shot;
            self.whole.samples.push(micros(due, read) - micros(called, returned));
            let began = if shot.awaited { sent } else { due };
            self.sent.samples.push(micros(began, read) - micros(called, returned));
            self.called.samples.push(micros(due, called));
            self.returned.samples.push(micros(returned, read));
            if shot.awaited {
                self.late.samples.push(micros(due, sent));
            }
        }
        let from = counted.iter().map(|shot| shot.due).min();
        let to = counted.iter().map(|shot| shot.read).max();
        if let (Some(from), Some(to)) = (from, to) {
            #[expect(clippy::cast_precision_loss, reason = "a number of requests")]
            self.rate.samples.push(counted.len() as f64 / (micros(from, to) / 1e6));
        }
    }

    fn done(self) -> [Measured; 6] {
        [self.whole, self.sent, self.called, self.returned, self.late, self.rate]
    }
}
