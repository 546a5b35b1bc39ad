//! Every route, by what it needs.

pub mod administration;
pub mod alerts;
pub(crate) mod classic;
pub mod events;
pub mod evidence;
pub mod hosts;
pub mod intelligence;
pub mod overview;
pub mod rules;
pub mod session;
pub(crate) mod stream;
pub mod users;

use std::sync::Arc;

use axum::{
    Router,
    extract::{DefaultBodyLimit, State},
    http::{HeaderValue, header},
    middleware,
    response::{IntoResponse as _, Response},
    routing::get,
};
use utoipa::{OpenApi as _, openapi::OpenApi};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    app::Shared,
    assets,
    auth::{Need, guard},
    error::{Error, Kind},
};

/// Base path of the API.
const BASE: &str = "/api/v1";
/// Largest body of most requests, in bytes.
const BODY_BYTES: usize = 1 << 20;
/// Largest body of rule imports, in bytes.
const IMPORT_BYTES: usize = 16 << 20;

#[derive(utoipa::OpenApi)]
#[openapi(info(
    title = "Yinglong",
    description = "Host intrusion detection. Sign in with POST /api/v1/session, or send `Authorization: Bearer <API token>`; see docs/api.md.",
    license(name = "Apache-2.0")
))]
struct Document;

/// Routes that anybody may use.
fn open() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(session::status))
        .routes(routes!(session::setup))
        .routes(routes!(session::session, session::sign_in))
}

/// Routes for every role.
fn look() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(session::sign_out))
        .routes(routes!(overview::overview))
        .routes(routes!(administration::books))
        .routes(routes!(hosts::list))
        .routes(routes!(hosts::one))
        .routes(routes!(hosts::inventory))
        .routes(routes!(alerts::list))
        .routes(routes!(alerts::one))
        .routes(routes!(events::search))
        .routes(routes!(events::one))
        .routes(routes!(events::histogram))
        .routes(routes!(events::suggest))
        .routes(routes!(events::statistics))
        .routes(routes!(events::inventories))
        .routes(routes!(rules::list))
        .routes(routes!(stream::stream))
}

/// Routes for analysts and administrators.
fn triage() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(alerts::set_status))
        .routes(routes!(rules::check))
        .routes(routes!(administration::config))
        .routes(routes!(intelligence::look_up))
}

/// Routes for administrators.
fn administer() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(hosts::revoke))
        .routes(routes!(rules::put))
        .routes(routes!(administration::put_config))
        .routes(routes!(administration::tokens, administration::new_token))
        .routes(routes!(administration::audit))
        .routes(routes!(users::list))
        .routes(routes!(users::put, users::remove))
        .routes(routes!(intelligence::list))
        .routes(routes!(intelligence::remove))
}

/// Administrators again, with room for whole rule sets.
fn import() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(rules::import))
}

/// Administrators again, with files that are counted as they come in.
fn upload() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(intelligence::put))
}

/// The OpenAPI document.
pub(crate) fn document() -> OpenApi {
    let all = open()
        .merge(look())
        .merge(triage())
        .merge(administer())
        .merge(import())
        .merge(upload());
    OpenApiRouter::with_openapi(Document::openapi())
        .nest(BASE, all)
        .into_openapi()
}

/// Everything that is served.
pub(crate) fn router(app: &Shared) -> Router {
    let needs = |router: OpenApiRouter<Shared>, need: Need| -> Router<Shared> {
        let layer = middleware::from_fn_with_state((Arc::clone(app), need), guard::require);
        router.route_layer(layer).split_for_parts().0
    };
    let json: Arc<str> = document().to_json().unwrap_or_default().into();
    let api = Router::new()
        .merge(open().split_for_parts().0)
        .merge(needs(look(), Need::Look))
        .merge(needs(triage(), Need::Triage))
        .merge(needs(administer(), Need::Administer))
        .route("/openapi.json", get(move || openapi(Arc::clone(&json))))
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .merge(needs(import(), Need::Administer).layer(DefaultBodyLimit::max(IMPORT_BYTES)))
        .merge(needs(upload(), Need::Administer).layer(DefaultBodyLimit::disable()))
        .fallback(unknown)
        .method_not_allowed_fallback(method_not_allowed);
    Router::new()
        .nest(BASE, api)
        .route("/metrics", get(classic::metrics))
        .route("/json/serverlist", get(classic::server_list))
        .route("/json/publickey", get(classic::public_key))
        .route("/json/download", get(classic::download))
        .route("/api", get(unknown))
        .route("/api/{*rest}", get(unknown))
        .route("/json/{*rest}", get(unknown))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(assets::serve)
        .layer(middleware::from_fn_with_state(Arc::clone(app), guard::edge))
        .with_state(Arc::clone(app))
}

async fn openapi(json: Arc<str>) -> Response {
    let kind = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, kind)], json.to_string()).into_response()
}

async fn unknown(State(_): State<Shared>) -> Error {
    Error::new(Kind::UnknownRoute, "there is no such route")
}

async fn method_not_allowed() -> Error {
    Error::new(
        Kind::MethodNotAllowed,
        "the route does not have this method",
    )
}
