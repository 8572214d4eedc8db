//! Addresses of functions: any HTTP request becomes a call, and what the function says an HTTP response.
//!
//! ```text
//! http://<id>.<domain>[:port]/any/path?query ──► event (payload format 2.0) ──► function
//! ```
//!
//! | module | what it is |
//! | --- | --- |
//! | `event` | the request as the function sees it |
//! | `answer` | the function's result as the client sees it |
//! | `streamed` | the same while the function is still at it |
//! | `cors` | what pages of other origins may do |
//! | `refusal` | what the client gets instead |
//!
//! Recognised by the host's name alone, before any route. An address whose `AuthType` is `NONE` is open to everybody: its
//! function's owner has said so. To strangers, one that does not exist and one that needs a key are the same.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use calve_proto::limits::MAX_BODY;
use http::{Method, header};
use uuid::Uuid;

use super::ApiError;
use super::invoke::{REQUEST_ID, TRACE_ID, insert, trace};
use crate::auth::{Caller, Door, LARGE, beside};
use crate::clock::now;
use crate::control::is_url_id;
use crate::host::Host;
use crate::invoke::Invocation;
use crate::model::{Function, FunctionUrl, LATEST, UrlAuth, UrlMode};

mod answer;
mod cors;
mod event;
mod refusal;
mod streamed;

use event::Asked;
use refusal::Refusal;

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

/// Takes the requests that come to functions' addresses; others go on.
pub(super) async fn divert(
    State((host, door)): State<(Arc<Host>, Door)>,
    request: Request,
    next: Next,
) -> Response {
    let Some(id) = id(&request, host.control.url_domain()) else { return next.run(request).await };
    let call = Uuid::new_v4().to_string();
    let trace = trace(request.headers(), &call);
    let mut response = match find(&host, &id) {
        Some(address) => address.answer((host, door), request, &call, &trace).await,
        None => Refusal::forbidden().into_response(),
    };
    insert(response.headers_mut(), REQUEST_ID, &call);
    insert(response.headers_mut(), TRACE_ID, &trace);
    response
}

/// Does what takes long where much is to be read, beside the runtime's threads then.
async fn apart<T: Send + 'static>(
    large: bool,
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    if !large {
        return work();
    }
    beside(work).await.map_err(Refusal::of_request)?
}

/// The id of the address that a request came to.
fn id(request: &Request, domain: &str) -> Option<String> {
    let name = host_name(request)?.to_ascii_lowercase();
    let id = name.strip_suffix(domain)?.strip_suffix('.')?;
    Some(id.to_owned())
}

/// The name of the host that a request is for, without its port (RFC 9112, section 3.2.2: the target's counts).
fn host_name(request: &Request) -> Option<&str> {
    if let Some(authority) = request.uri().authority() {
        return Some(authority.host());
    }
    let given = request.headers().get(header::HOST)?.to_str().ok()?;
    let (name, port) = given.rsplit_once(':').unwrap_or((given, ""));
    Some(if port.bytes().all(|byte| byte.is_ascii_digit()) { name } else { given })
}

/// An address, and what it is of.
struct Address {
    function: Arc<Function>,
    /// An alias, or [`LATEST`].
    qualifier: String,
    url: FunctionUrl,
}

fn find(host: &Host, id: &str) -> Option<Address> {
    let (function, qualifier) =
        Some(id).filter(|id| is_url_id(id)).and_then(|id| host.control.catalog().by_url(id))?;
    let url = function.urls.get(&qualifier)?.clone();
    Some(Address { function, qualifier, url })
}

impl Address {
    /// The response to a request, whatever becomes of it; with what a browser needs to show it to a page.
    async fn answer(
        self,
        at: (Arc<Host>, Door),
        request: Request,
        call: &str,
        trace: &str,
    ) -> Response {
        let origin = request.headers().get(header::ORIGIN).cloned();
        let cors = self.url.cors.clone();
        if let (Some(cors), Some(origin)) = (&cors, &origin)
            && request.method() == Method::OPTIONS
            && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
        {
            return cors::preflight(cors, origin);
        }
        let made = self.call(at, request, call, trace).await;
        let mut response = made.unwrap_or_else(IntoResponse::into_response);
        if let (Some(cors), Some(origin)) = (&cors, &origin) {
            cors::allow(cors, origin, response.headers_mut());
        }
        response
    }

    /// Makes the call.
    async fn call(
        self,
        (host, door): (Arc<Host>, Door),
        request: Request,
        call: &str,
        trace: &str,
    ) -> Result<Response, Refusal> {
        let peer = request.extensions().get::<Peer>().map(|Peer(peer)| peer.ip());
        let name = host_name(&request).unwrap_or_default().to_owned();
        let (caller, parts, body) = self.admit(&door, request).await?;
        let (method, large) = (parts.method.clone(), body.len() > LARGE);
        let (id, call_id) = (self.url.id.clone(), call.to_owned());
        // The body goes with this: from here on there is the event alone.
        let event = apart(large, move || {
            event::of(&Asked {
                parts: &parts,
                body: &body,
                caller: caller.as_ref(),
                id: &id,
                host: &name,
                peer,
                call: &call_id,
                now: now(),
            })
        });
        let event = event.await?;
        let invocation = Invocation {
            tenant: self.function.tenant.clone(),
            name: self.function.name.clone(),
            qualifier: Some(self.qualifier).filter(|qualifier| qualifier != LATEST),
            event,
            request: call.to_owned(),
            trace: trace.to_owned(),
            route: None,
            key: None,
            results: None,
        };
        match self.url.mode {
            UrlMode::Buffered => answer::of(host.invoke(invocation).await?).await,
            UrlMode::ResponseStream => {
                streamed::answer(host.invoke_streamed(invocation), &method).await
            }
        }
    }

    /// Whoever may call it, and the request in memory.
    async fn admit(
        &self,
        door: &Door,
        request: Request,
    ) -> Result<(Option<Caller>, http::request::Parts, Bytes), Refusal> {
        if self.url.auth == UrlAuth::None {
            let (parts, body) = request.into_parts();
            let body = door.take(&self.function.tenant, body, MAX_BODY).await;
            let body = body.map_err(Refusal::of_request)?;
            return Ok((None, parts, body));
        }
        let admitted = door.admit(request, MAX_BODY).await;
        let (mut parts, body) = admitted.map_err(Refusal::of_request)?.into_parts();
        let caller = parts.extensions.remove::<Caller>();
        // Another tenant's key is as good as none.
        let caller = caller.filter(|caller| caller.tenant == self.function.tenant);
        let caller = caller.ok_or_else(Refusal::forbidden)?;
        // It may be the secret itself, and is none of the function's business.
        parts.headers.remove(header::AUTHORIZATION);
        // It is in memory already.
        let body = axum::body::to_bytes(body, MAX_BODY).await;
        let body = body.map_err(|_| Refusal::of_request(ApiError::internal()))?;
        Ok((Some(caller), parts, body))
    }
}
