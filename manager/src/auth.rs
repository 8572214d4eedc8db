//! Who is asking: keys, signatures, and the door that lets nobody through without one.
//!
//! | module | what it is |
//! | --- | --- |
//! | `keyring` | tenants and their keys, in memory, in front of the ledger |
//! | `claim` | what an `Authorization` header claims |
//! | `verify` | whether that is true |
//! | `sigv4` | AWS Signature Version 4 |
//! | `bodies` | bodies on their way in, and the memory that they may take |
//! | `door` | the same as a layer of the HTTP server |
//!
//! A request names its key and proves that it has the secret: by a signature over method, path, query, headers and
//! body, as every AWS client makes it, or by the secret itself (`Authorization: Bearer <id>:<secret>`), which belongs
//! inside TLS or on one's own machine.

mod bodies;
mod claim;
mod door;
mod keyring;
mod mint;
mod sigv4;
#[cfg(test)]
mod tests;
mod verify;

pub use door::{Door, MOST_BODY, authenticate};
pub(crate) use door::{LARGE, beside};
pub use keyring::{Keyring, KeyringError};
pub(crate) use mint::{are_letters, letters};
pub use verify::verify;

/// Whoever signed a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Whose key it was.
    pub tenant: String,
    /// The tenant's twelve digits.
    pub account: String,
    /// The key's id.
    pub key: String,
    /// Whether it may act on all tenants.
    pub root: bool,
}
