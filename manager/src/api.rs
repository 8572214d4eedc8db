//! The HTTP doors.

mod error;
mod lambda;

pub use error::ApiError;
pub use lambda::{BODY_MOST, routes as lambda_routes};
