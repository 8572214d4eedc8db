//! AWS Lambda's REST API, version 2015-03-31 and the dated paths that came later, as botocore's `service-2.json` has it.
//!
//! Handlers read a request, have [`Control`] do it off the async threads, and show the outcome (`view`). Whoever nests
//! these routes sees to it that each request carries the [`Caller`](crate::auth::Caller) as an extension.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post, put};

use crate::control::Control;

mod aliases;
mod concurrency;
mod context;
mod events;
mod functions;
mod layers;
mod tags;
#[cfg(test)]
mod tests;
mod urls;
mod versions;
mod view;

/// Bytes of a request with a package: 50 MiB as base64, and room for the rest.
pub const BODY_MOST: usize = (50 << 20) / 3 * 4 + (1 << 20);

/// The routes of the control plane.
pub(super) fn routes() -> Router<Arc<Control>> {
    Router::new()
        .merge(function_routes())
        .merge(version_routes())
        .merge(layer_routes())
        .merge(setting_routes())
        .layer(DefaultBodyLimit::max(BODY_MOST))
}

fn function_routes() -> Router<Arc<Control>> {
    let all = || get(functions::list).post(functions::create);
    Router::new()
        // botocore has the one, older clients the other.
        .route("/2015-03-31/functions", all())
        .route("/2015-03-31/functions/", all())
        .route("/2015-03-31/functions/{name}", get(functions::get).delete(functions::delete))
        .route("/2015-03-31/functions/{name}/code", put(functions::update_code))
        .route(
            "/2015-03-31/functions/{name}/configuration",
            get(functions::get_configuration).put(functions::update_configuration),
        )
        .route("/calve/v1/functions/{name}/code", get(functions::package))
}

fn version_routes() -> Router<Arc<Control>> {
    Router::new()
        .route("/2015-03-31/functions/{name}/versions", post(versions::publish).get(versions::list))
        .route("/2015-03-31/functions/{name}/aliases", post(aliases::create).get(aliases::list))
        .route(
            "/2015-03-31/functions/{name}/aliases/{alias}",
            get(aliases::get).put(aliases::update).delete(aliases::delete),
        )
}

fn layer_routes() -> Router<Arc<Control>> {
    Router::new()
        .route("/2018-10-31/layers", get(layers::list_or_find))
        .route(
            "/2018-10-31/layers/{name}/versions",
            post(layers::publish).get(layers::list_versions),
        )
        .route(
            "/2018-10-31/layers/{name}/versions/{number}",
            get(layers::get).delete(layers::delete),
        )
        .route("/calve/v1/layers/{name}/versions/{number}/content", get(layers::package))
}

fn setting_routes() -> Router<Arc<Control>> {
    let event_invoke =
        post(events::update).put(events::put).get(events::get).delete(events::delete);
    Router::new()
        .route(
            "/2017-10-31/functions/{name}/concurrency",
            put(concurrency::put).delete(concurrency::delete),
        )
        .route("/2019-09-30/functions/{name}/concurrency", get(concurrency::get))
        .route(
            "/2019-09-30/functions/{name}/provisioned-concurrency",
            put(concurrency::put_provisioned)
                .get(concurrency::get_provisioned)
                .delete(concurrency::delete_provisioned),
        )
        .route("/2019-09-25/functions/{name}/event-invoke-config", event_invoke)
        .route("/2019-09-25/functions/{name}/event-invoke-config/list", get(events::list))
        .route(
            "/2021-10-31/functions/{name}/url",
            post(urls::create).get(urls::get).put(urls::update).delete(urls::delete),
        )
        .route("/2021-10-31/functions/{name}/urls", get(urls::list))
        .route("/2017-03-31/tags/{resource}", post(tags::tag).get(tags::list).delete(tags::untag))
        .route("/2016-08-19/account-settings", get(tags::account_settings))
}
