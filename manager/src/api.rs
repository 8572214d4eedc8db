//! The HTTP doors.

mod error;
mod invoke;
mod lambda;
mod own;
mod server;
mod shape;
mod time;
mod watch;

pub use error::ApiError;
pub use lambda::BODY_MOST;
pub use server::{router, serve};
pub(crate) use time::timestamp;
