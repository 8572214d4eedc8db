//! The scheduler as a whole: what it does in plain cases, and what it never does in millions of random steps.

mod cases;
mod random;

use super::*;

/// A tenant's code: `t1/f/s1`, of 128 MiB.
fn code(tenant: &str, function: &str, snapshot: &str, reuse: Reuse) -> Arc<Code> {
    let snapshot = format!("{tenant}.{function}.{snapshot}");
    Arc::new(Code {
        tenant: tenant.into(),
        function: function.into(),
        snapshot: snapshot.into(),
        memory_mib: 128,
        reuse,
    })
}

fn allowance() -> Allowance {
    Allowance { concurrency: 100, share: Share::Common(100), rate: 1000, memory_mib: 100_000 }
}

fn request(id: RequestId, code: &Arc<Code>) -> Request {
    Request { id, code: code.clone(), route: None, allowance: allowance(), patience: 1000 }
}

fn routed(id: RequestId, code: &Arc<Code>, value: &str, routing: Routing) -> Request {
    Request { route: Some((value.into(), routing)), ..request(id, code) }
}

fn small(machines: usize) -> Scheduler {
    Scheduler::new(Settings { machines, waiting_for_route: 2, ..Settings::default() })
}
