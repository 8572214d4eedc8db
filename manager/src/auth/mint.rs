//! New keys and accounts, from the kernel's random numbers.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::clock::now;
use crate::model::AccessKey;

/// Letters and digits of ids: base 32, RFC 4648, §6.
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// A new key of a tenant, made now.
pub(super) fn key(tenant: &str, root: bool) -> Result<AccessKey, getrandom::Error> {
    let (id, secret) = (id()?, secret()?);
    Ok(AccessKey { id, secret, tenant: tenant.to_owned(), root, created: now() })
}

/// A key's id: `AKIA` and 80 random bits as 16 letters and digits.
pub(super) fn id() -> Result<String, getrandom::Error> {
    Ok(format!("AKIA{}", letters::<16>()?))
}

/// So many letters and digits, each five random bits.
pub(crate) fn letters<const COUNT: usize>() -> Result<String, getrandom::Error> {
    let mut random = [0; COUNT];
    getrandom::fill(&mut random)?;
    // 256 is a multiple of 32: no letter is likelier than another.
    Ok(random.iter().map(|byte| char::from(BASE32[usize::from(byte % 32)])).collect())
}

/// Whether these could be such letters and digits.
pub(crate) fn are_letters(text: &str, count: usize) -> bool {
    text.len() == count && text.bytes().all(|byte| BASE32.contains(&byte))
}

/// Whether `id` looks as if it were made here.
pub(super) fn is_id(id: &str) -> bool {
    id.strip_prefix("AKIA").is_some_and(|rest| are_letters(rest, 16))
}

/// A key's secret: 240 random bits as 40 characters, like those of AWS.
pub(super) fn secret() -> Result<String, getrandom::Error> {
    let mut random = [0; 30];
    getrandom::fill(&mut random)?;
    Ok(STANDARD.encode(random))
}

/// Twelve digits, the first of them not 0: some tools read accounts as numbers.
pub(super) fn account() -> Result<String, getrandom::Error> {
    let mut random = [0; 8];
    getrandom::fill(&mut random)?;
    Ok((100_000_000_000 + u64::from_le_bytes(random) % 900_000_000_000).to_string())
}
