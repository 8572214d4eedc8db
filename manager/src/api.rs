//! The HTTP doors.

mod error;

pub use error::ApiError;
