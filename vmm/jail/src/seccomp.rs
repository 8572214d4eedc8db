//! The filters: for each kind of thread an allow-list with checked arguments; everything else kills the process.

pub mod table;

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use crate::{JailError, Thread};
use table::{Check, Entry};

/// Compiles what a thread may call and installs it on the calling one.
pub(crate) fn install(thread: Thread) -> Result<(), JailError> {
    let program = compile(&table::allowed(thread))?;
    seccompiler::apply_filter(&program).map_err(JailError::Install)
}

pub(crate) fn compile(entries: &[Entry]) -> Result<BpfProgram, JailError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for entry in entries {
        let alternatives = rules.entry(entry.call).or_default();
        if !entry.checks.is_empty() {
            let conditions = entry.checks.iter().map(condition).collect::<Result<_, _>>();
            let rule = conditions.and_then(SeccompRule::new).map_err(JailError::Compile)?;
            alternatives.push(rule);
        }
    }
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::KillProcess,
        SeccompAction::Allow,
        TargetArch::x86_64,
    );
    filter.and_then(TryInto::try_into).map_err(JailError::Compile)
}

fn condition(check: &Check) -> Result<SeccompCondition, seccompiler::BackendError> {
    let (argument, operator, value) = match *check {
        Check::Is(argument, value) => (argument, SeccompCmpOp::Eq, value),
        Check::IsSelf(argument) => (argument, SeccompCmpOp::Eq, u64::from(std::process::id())),
        Check::Has(argument, bits) => (argument, SeccompCmpOp::MaskedEq(bits), bits),
        Check::Lacks(argument, bits) => (argument, SeccompCmpOp::MaskedEq(bits), 0),
    };
    // The kernel reads these arguments as 32-bit values: the upper half is whatever the caller
    // left in the register.
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)
}
