//! The console: one page that shows what the host does, for people with a browser.
//!
//! The page is made of files of this program and of nothing else: its Content-Security-Policy lets the browser load
//! scripts, styles and data from this host alone, so that what a function prints cannot become part of the page even if
//! the page had a mistake. Anybody may load it; everything that it shows, it asks for with the key that is typed in.

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, HeaderName, HeaderValue, header};

/// What the page may load and do (W3C, "Content Security Policy Level 3").
///
/// Trusted Types have the browser refuse text that is made into markup, such as by `innerHTML`.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/// A file of the page.
struct Asset {
    path: &'static str,
    kind: &'static str,
    text: &'static str,
}

static ASSETS: [Asset; 4] = [
    Asset {
        path: "/",
        kind: "text/html; charset=utf-8",
        text: include_str!("console/console.html"),
    },
    Asset {
        path: "/console.css",
        kind: "text/css; charset=utf-8",
        text: include_str!("console/console.css"),
    },
    Asset {
        path: "/console.js",
        kind: "text/javascript; charset=utf-8",
        text: include_str!("console/console.js"),
    },
    Asset {
        path: "/console.svg",
        kind: "image/svg+xml",
        text: include_str!("console/console.svg"),
    },
];

/// Without a key: the page is where one is typed in.
pub(super) fn open_routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    ASSETS.iter().fold(Router::new(), |router, asset| {
        router.route(asset.path, get(|| async { asset.response() }))
    })
}

impl Asset {
    fn response(&self) -> Response {
        (headers(self.kind), self.text).into_response()
    }
}

fn headers(kind: &'static str) -> HeaderMap {
    let all: [(HeaderName, &'static str); 7] = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // For browsers that do not know `frame-ancestors`.
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        // Another version of the host has another page.
        (header::CACHE_CONTROL, "no-cache"),
    ];
    all.into_iter().map(|(name, value)| (name, HeaderValue::from_static(value))).collect()
}

#[cfg(test)]
mod tests;
