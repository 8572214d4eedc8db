//! The HTTP server: connections, their bounds, and how it ends.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::shape::shape;
use super::url::{self, Peer};
use super::{ApiError, console, invoke, lambda, openapi, own, watch};
use crate::auth::{Door, authenticate};
use crate::host::Host;

/// Connections at the same time; further ones wait to be accepted.
const CONNECTIONS: usize = 4096;
/// How long a client may take to send the head of a request.
const HEAD: Duration = Duration::from_secs(10);
/// Bytes of a connection that are read before anybody has asked for them; no head is larger.
const BUFFER: usize = 64 << 10;
/// How long to wait after a connection could not be accepted.
const PAUSE: Duration = Duration::from_millis(100);

/// Connections that may wait to be accepted: as many as may be open, since clients come in bursts.
const BACKLOG: u32 = 4096;

/// Listens at an address, in the async runtime that this is called in.
///
/// # Errors
///
/// When it is taken, or not ours.
pub fn listen(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = if at.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A host that starts anew does not wait for the connections of the one before to be forgotten.
    socket.set_reuseaddr(true)?;
    socket.bind(at)?;
    socket.listen(BACKLOG)
}

/// Every route of a host.
pub fn router(host: &Arc<Host>) -> Router {
    let door = Door::new(host.keyring().clone(), host.settings.bodies_mib);
    let of_host = invoke::routes().merge(own::routes()).merge(watch::routes());
    let closed = of_host
        .with_state(host.clone())
        .merge(lambda::routes().with_state(host.control().clone()))
        .merge(crate::events::routes().with_state(host.events.clone()))
        .fallback(|| async { ApiError::not_found("there is no such route") })
        // The door has read the body, within its own bounds.
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn_with_state(door.clone(), authenticate));
    let open = watch::open_routes().with_state(host.clone());
    let open = open.merge(console::open_routes()).merge(openapi::open_routes());
    open.merge(closed)
        .layer(from_fn(shape))
        // What comes to the host name of a function's address is the function's, whatever its path.
        .layer(from_fn_with_state((host.clone(), door), url::divert))
        .layer(from_fn_with_state(host.clone(), count))
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
    http.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(BUFFER);
    let (connections, graceful) = (Arc::new(Semaphore::new(CONNECTIONS)), GracefulShutdown::new());
    tokio::pin!(stop);
    loop {
        // However many there are, it can be told to stop.
        let accepted = async {
            let permit = connections.clone().acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            accepted = accepted => accepted,
            () = &mut stop => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(PAUSE).await;
                continue;
            }
        };
        // An answer goes out at once.
        let _ = stream.set_nodelay(true);
        let service = service.clone();
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(Peer(peer));
            service.call(request)
        });
        let connection = http.serve_connection(TokioIo::new(stream), service);
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
