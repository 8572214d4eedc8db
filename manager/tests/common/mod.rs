//! A whole host over HTTP on localhost, with machines that are make-believe and do as the test says.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "in the functions that the tests are made of"
)]
#![allow(dead_code, unused_imports, reason = "each test file uses a part of this")]

mod engine;
mod host;
mod http;

use std::time::Duration;

pub(crate) use engine::{FakeEngine, World};
pub(crate) use host::{TestHost, folder, settings, zip_of};
pub(crate) use http::{Client, Reply, invocations, read_until, zip_file};

/// Longer than anything takes on a busy machine: whatever has not come about by then will not.
pub(crate) const LONG: Duration = Duration::from_secs(30);
