//! Routes outside `/api/v1`: metrics, and what agents of the classic system ask for.

use std::net::IpAddr;

use axum::{
    Json,
    extract::{Request, State},
    http::{HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use yinglong_server::metrics;

use crate::{
    app::{App, Shared},
    auth::guard::{self, Peer},
    error::{Error, Kind, Result},
};

/// Prometheus text; from this machine without sign-in.
pub(crate) async fn metrics(State(app): State<Shared>, request: Request) -> Result<Response> {
    let local = request
        .extensions()
        .get::<Peer>()
        .is_some_and(|Peer(peer)| peer.ip().to_canonical().is_loopback());
    // Behind a proxy on this machine everybody seems to be here.
    let forwarded = ["forwarded", "x-forwarded-for", "via"]
        .iter()
        .any(|name| request.headers().contains_key(*name));
    if !local || forwarded {
        guard::caller(&app, &request)?;
    }
    let text = app.run(|app| Ok(metrics::render(&app.server)?)).await?;
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

/// Addresses agents connect to.
pub(crate) async fn server_list(State(app): State<Shared>) -> Json<Vec<String>> {
    Json(agent_addresses(&app))
}

/// Certificate of the authority that agents believe.
pub(crate) async fn public_key(State(app): State<Shared>) -> Response {
    let kind = HeaderValue::from_static("application/x-pem-file");
    (
        [(header::CONTENT_TYPE, kind)],
        app.server.authority().certificate_pem(),
    )
        .into_response()
}

/// Packages come with the response actions; there are none yet.
pub(crate) async fn download() -> Error {
    Error::new(Kind::PackageNotFound, "there is no such package")
}

/// Where agents connect, by the names this server was given.
pub(crate) fn agent_addresses(app: &App) -> Vec<String> {
    let listening = app.server.address();
    let port = listening.port();
    if app.names.is_empty() {
        return vec![listening.to_string()];
    }
    app.names
        .iter()
        .map(|name| match name.parse::<IpAddr>() {
            Ok(address) => std::net::SocketAddr::new(address, port).to_string(),
            Err(_) => format!("{name}:{port}"),
        })
        .collect()
}
