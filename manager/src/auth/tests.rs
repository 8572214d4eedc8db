//! Keys, claims and the door, without a server.

mod door;
mod keyring;
mod ledger;
mod signer;
mod sigv4;

use std::sync::Arc;

use super::Keyring;
use crate::ledger::Ledger;
use crate::model::{AccessKey, Quota, Tenant};
use ledger::Memory;

/// The key that botocore's golden signatures were made with.
const ID: &str = "AKIAABCDEFGHIJKLMNOP";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

fn tenant(name: &str) -> Tenant {
    let account = "123456789012".to_owned();
    Tenant { name: name.to_owned(), account, quota: Quota::default(), created: 1 }
}

fn key(id: &str, tenant: &str) -> AccessKey {
    let (id, tenant) = (id.to_owned(), tenant.to_owned());
    AccessKey { id, secret: SECRET.to_owned(), tenant, root: false, created: 1 }
}

/// A keyring with [`ID`], whose tenant is `acme`.
fn keyring() -> (Arc<Memory>, Arc<Keyring>) {
    let ledger = Arc::new(Memory::default());
    ledger.put_tenant(&tenant("acme")).unwrap();
    ledger.add_key(&key(ID, "acme")).unwrap();
    let keyring = Keyring::open(Arc::clone(&ledger) as Arc<dyn Ledger>).unwrap();
    (ledger, Arc::new(keyring))
}
