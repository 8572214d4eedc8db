//! Tests of the catalogue.

use super::*;
use crate::control::testing::{Bench, MemoryLedger};

/// A function of that name, and a catalogue without any.
fn fresh() -> (Function, Arc<MemoryLedger>, Catalog) {
    let function = Function::clone(&Bench::new().create("f").function);
    let ledger = Arc::new(MemoryLedger::default());
    let catalog = Catalog::open(Arc::clone(&ledger) as Arc<dyn Ledger>).unwrap();
    (function, ledger, catalog)
}

#[test]
fn what_is_seen_is_in_the_ledger() {
    let (function, ledger, catalog) = fresh();
    catalog.insert(function.clone(), 1).unwrap();
    assert_eq!(ledger.functions().unwrap(), std::slice::from_ref(&function));

    let changed = catalog.update("one", "f", |function| {
        function.reserved = Some(7);
        Ok("value")
    });
    assert_eq!(changed.unwrap().1, "value");
    assert_eq!(ledger.functions().unwrap()[0].reserved, Some(7));
    let reopened = Catalog::open(Arc::clone(&ledger) as Arc<dyn Ledger>).unwrap();
    assert_eq!(reopened.get("one", "f").unwrap().reserved, Some(7));
    assert!(reopened.get("two", "f").is_none());

    assert!(catalog.remove("one", "f").unwrap().is_some());
    assert!(catalog.remove("one", "f").unwrap().is_none());
    assert!(ledger.functions().unwrap().is_empty());
}

#[test]
fn a_change_that_fails_changes_nothing() {
    let (function, ledger, catalog) = fresh();
    catalog.insert(function.clone(), 1).unwrap();
    let changes = catalog.changes();
    let failed = catalog.update("one", "f", |function| {
        function.reserved = Some(7);
        Err::<(), _>(ApiError::internal())
    });
    assert!(failed.is_err());
    assert_eq!(*catalog.get("one", "f").unwrap(), function);
    assert_eq!(ledger.functions().unwrap(), [function]);
    assert!(!changes.has_changed().unwrap());
}

#[test]
fn names_are_unique_within_a_tenant_and_quotas_hold() {
    let (function, _, catalog) = fresh();
    catalog.insert(function.clone(), 1).unwrap();
    let name = |result: Result<Arc<Function>, ApiError>| result.unwrap_err().name;
    assert_eq!(name(catalog.insert(function.clone(), 9)), "ResourceConflictException");
    let other = Function { name: "g".into(), ..function.clone() };
    assert_eq!(name(catalog.insert(other, 1)), "ServiceQuotaExceededException");
    catalog.insert(Function { tenant: "two".into(), ..function }, 1).unwrap();
    assert_eq!((catalog.count("one"), catalog.list("two").len(), catalog.all().len()), (1, 1, 2));
}
