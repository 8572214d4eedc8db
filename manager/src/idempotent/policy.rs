//! What a function declares so that its unchanged work is not done again, and what may be declared.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Resources that a function may depend on.
pub const MOST_RESOURCES: usize = 64;
/// Bytes of a resource's name; with the tenant's folder it stays within Linux's `PATH_MAX` of 4,096.
pub const LONGEST_NAME: usize = 1024;
/// The shortest time that a result is kept, seconds.
pub const SHORTEST_TTL_S: u32 = 60;
/// The longest time that a result is kept, seconds: 30 days.
pub const LONGEST_TTL_S: u32 = 30 * 24 * 60 * 60;
/// How long a result is kept where nothing is said, seconds: a day.
const USUAL_TTL_S: u32 = 24 * 60 * 60;

/// A function's word that the same input, with the same resources, gives the same result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Idempotency {
    /// Names of the files in its tenant's folder that results depend on, such as `prices/today.csv`.
    pub resources: Vec<String>,
    /// How long a result is kept, seconds: 60 to 2,592,000.
    pub ttl_s: u32,
}

impl Default for Idempotency {
    /// Nothing but the input decides; results are kept for a day.
    fn default() -> Self {
        Self { resources: Vec::new(), ttl_s: USUAL_TTL_S }
    }
}

impl Idempotency {
    /// Whether it may be declared.
    ///
    /// # Errors
    ///
    /// The first thing that is out of bounds.
    pub fn check(&self) -> Result<(), PolicyError> {
        if !(SHORTEST_TTL_S..=LONGEST_TTL_S).contains(&self.ttl_s) {
            return Err(PolicyError::Ttl(self.ttl_s));
        }
        if self.resources.len() > MOST_RESOURCES {
            return Err(PolicyError::Many(self.resources.len()));
        }
        self.resources.iter().try_for_each(|name| check_name(name))
    }

    /// How long a result is kept.
    pub fn ttl(&self) -> Duration {
        Duration::from_secs(self.ttl_s.into())
    }
}

/// Whether a file may be called that: a relative path that names what it means and leads out of no folder.
///
/// # Errors
///
/// [`PolicyError::Name`] if not.
pub fn check_name(name: &str) -> Result<(), PolicyError> {
    let plain = |part: &str| !matches!(part, "" | "." | "..");
    // A leading, trailing or double slash makes an empty part.
    let fine = name.len() <= LONGEST_NAME
        && !name.chars().any(char::is_control)
        && name.split('/').all(plain);
    if fine { Ok(()) } else { Err(PolicyError::Name(name.to_owned())) }
}

/// What cannot be declared.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PolicyError {
    /// The time to keep results is out of bounds.
    #[error("results are kept for {SHORTEST_TTL_S} to {LONGEST_TTL_S} seconds, not {0}")]
    Ttl(u32),
    /// More resources than there may be.
    #[error("a function depends on {MOST_RESOURCES} resources at most, not {0}")]
    Many(usize),
    /// A resource's name is no path inside its tenant's folder.
    #[error(
        "{0:?} names no file in the tenant's folder: give a relative path without `.` and `..`"
    )]
    Name(String),
}
