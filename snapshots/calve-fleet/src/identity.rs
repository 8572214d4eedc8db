//! What makes a clone itself: its id, its seed, its clock.

use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use calve_proto::wire;

/// Bytes of an id: 128 random bits, so that no two machines ever share one.
const ID_BYTES: usize = 16;

/// Bytes of a seed: the key of the kernel's ChaCha20 generator, twice.
const SEED_BYTES: usize = 64;

/// A random id with a prefix that says what it is of.
pub(crate) fn fresh(prefix: &str) -> io::Result<String> {
    let mut id = format!("{prefix}-");
    for byte in random::<ID_BYTES>()? {
        id.push(char::from(HEX[usize::from(byte >> 4)]));
        id.push(char::from(HEX[usize::from(byte & 0xf)]));
    }
    Ok(id)
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Facts for a new clone; the clock is set when they are sent.
pub(crate) fn thaw_facts(machine_id: &str) -> io::Result<wire::ThawFacts> {
    Ok(wire::ThawFacts {
        seed: random::<SEED_BYTES>()?.to_vec(),
        wall_clock_ns: 0,
        machine_id: machine_id.to_owned(),
        ..wire::ThawFacts::default()
    })
}

/// CLOCK_REALTIME, nanoseconds since 1970.
pub(crate) fn wall_clock_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes)
}
