//! What every handler that reads or changes something has in common.

use axum::extract::Query;
use http::request::Parts;
use tokio::task::spawn_blocking;

use super::ApiError;
use crate::auth::Caller;

/// Whoever made a request, as the door has found out, and the parameters of its query.
pub(crate) fn asked(parts: &Parts) -> Result<(Caller, Vec<(String, String)>), ApiError> {
    let Some(caller) = parts.extensions.get::<Caller>().cloned() else {
        tracing::error!("a request got here that nobody has authenticated");
        return Err(ApiError::internal());
    };
    let Query(query) = Query::try_from_uri(&parts.uri)
        .map_err(|error| ApiError::invalid(format!("the query cannot be read: {error}")))?;
    Ok((caller, query))
}

/// Does something that blocks, on a thread where it may.
pub(crate) async fn blocking<T: Send + 'static>(
    action: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    spawn_blocking(action).await.unwrap_or_else(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, "an action panicked");
        Err(ApiError::internal())
    })
}
