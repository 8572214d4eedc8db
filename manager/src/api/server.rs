//! The HTTP server: connections, their bounds, and how it ends.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::{ApiError, console, invoke, lambda, openapi, own, watch};
use crate::auth::authenticate;
use crate::host::Host;

/// Connections at the same time; further ones wait to be accepted.
const CONNECTIONS: usize = 4096;
/// How long a client may take to send the head of a request.
const HEAD: Duration = Duration::from_secs(10);
/// How long to wait after a connection could not be accepted.
const PAUSE: Duration = Duration::from_millis(100);

/// Every route of a host.
pub fn router(host: &Arc<Host>) -> Router {
    let keyring = host.keyring().clone();
    let of_host = invoke::routes().merge(own::routes()).merge(watch::routes());
    let closed = of_host
        .with_state(host.clone())
        .merge(lambda::routes().with_state(host.control().clone()))
        .merge(crate::events::routes().with_state(host.events.clone()))
        .fallback(|| async { ApiError::not_found("there is no such route") })
        // The door has read the body, within its own bounds.
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn_with_state(keyring, authenticate));
    let open = watch::open_routes().with_state(host.clone());
    let open = open.merge(console::open_routes()).merge(openapi::open_routes());
    open.merge(closed).layer(from_fn_with_state(host.clone(), count))
}

/// Counts answers by status.
async fn count(State(host): State<Arc<Host>>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    host.metrics.record_http(response.status());
    response
}

/// Serves connections until `stop` resolves; then those that there are get `most` to finish.
///
/// # Errors
///
/// None that ends it: a connection that cannot be accepted is told to the log.
pub async fn serve(
    host: &Arc<Host>,
    listener: TcpListener,
    stop: impl Future<Output = ()>,
    most: Duration,
) -> io::Result<()> {
    let service = TowerToHyperService::new(router(host));
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD);
    let (connections, graceful) = (Arc::new(Semaphore::new(CONNECTIONS)), GracefulShutdown::new());
    tokio::pin!(stop);
    loop {
        let Ok(permit) = connections.clone().acquire_owned().await else { break };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(PAUSE).await;
                continue;
            }
        };
        // An answer goes out at once.
        let _ = stream.set_nodelay(true);
        let connection = http.serve_connection(TokioIo::new(stream), service.clone());
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            let _permit = permit;
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended");
            }
        });
    }
    drop(listener);
    let (calls, _) = tokio::join!(host.drain(most), timeout(most, graceful.shutdown()));
    if !calls {
        tracing::warn!("calls were still under way after {} s", most.as_secs());
    }
    Ok(())
}
