//! Who is asking.

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
