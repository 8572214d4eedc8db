//! What the test of the console is made of: a host without machines, a browser, and HTTP to both.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests")]

pub(crate) mod browser;
pub(crate) mod host;
mod http;
