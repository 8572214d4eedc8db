//! From a version to what the scheduler knows it by.

use std::sync::Arc;

use crate::model::{Function, Snapshot};
use crate::schedule::Code;

/// The code of a snapshot of a function.
pub fn code_of(function: &Function, snapshot: &Snapshot) -> Arc<Code> {
    Arc::new(Code {
        tenant: function.tenant.as_str().into(),
        function: function.name.as_str().into(),
        snapshot: snapshot.name.as_str().into(),
        memory_mib: snapshot.memory_mib,
        reuse: function.policy.reuse,
    })
}
