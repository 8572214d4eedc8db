//! The HTTP doors.

mod action;
mod console;
mod error;
mod invoke;
mod lambda;
mod openapi;
mod own;
mod server;
mod shape;
mod time;
mod url;
mod watch;

pub(crate) use action::{asked, blocking};
pub use error::{ApiError, ThrottleReason};
pub use lambda::BODY_MOST;
pub use server::{listen, router, serve};
pub(crate) use time::timestamp;
