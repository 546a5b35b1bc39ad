//! Sign-in, sign-out and the first administrator.

use axum::{
    Json,
    extract::{Extension, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use yinglong_server::settings::Actor;

use crate::{
    app::{Shared, now},
    auth::{
        Caller, Role,
        guard::{self, COOKIE, Peer},
        users,
    },
    error::{Error, ErrorBody, Kind, Result},
    extract::Body,
};

/// Account name under which wrong setup codes are counted; no user can have it.
const SETUP_ACCOUNT: &str = "(setup)";

/// What anybody may know.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// Version of the server.
    pub version: String,
    /// Whether the first administrator is still to be made.
    pub setup_required: bool,
    /// Whether the server only observes.
    pub learn: bool,
}

/// What is needed to make the first administrator.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetupRequest {
    /// Code from the file `setup.code` of the server's data folder.
    pub setup_code: String,
    /// Name; 1 to 64 letters, digits, dots, `_`, `@` and `-`.
    pub username: String,
    /// Password; 10 to 256 characters.
    pub password: String,
}

/// Who wants to sign in.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignIn {
    /// Name.
    pub username: String,
    /// Password.
    pub password: String,
}

/// Who is signed in.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Session {
    /// Name.
    pub username: String,
    /// What they may do.
    pub role: Role,
    /// To be repeated in the header `X-CSRF-Token`; empty for API tokens, which need none.
    pub csrf_token: String,
}

/// What anybody may know.
#[utoipa::path(get, path = "/status", tag = "session", responses((status = 200, body = Status)))]
pub(crate) async fn status(State(app): State<Shared>) -> Json<Status> {
    Json(Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        setup_required: app.setup.code().is_some(),
        learn: app.server.settings().current().config.server.learn,
    })
}

/// Makes the first administrator.
#[utoipa::path(post, path = "/setup", tag = "session", request_body = SetupRequest,
    responses((status = 204), (status = "default", body = ErrorBody)))]
pub(crate) async fn setup(
    State(app): State<Shared>,
    Extension(Peer(peer)): Extension<Peer>,
    Body(request): Body<SetupRequest>,
) -> Result<StatusCode> {
    let address = peer.ip().to_canonical();
    app.attempts
        .begin(SETUP_ACCOUNT, address, now())
        .map_err(locked)?;
    let _permit = app.hashes.acquire().await.map_err(|_| stopping())?;
    app.run(move |app| {
        let SetupRequest {
            setup_code,
            username,
            password,
        } = request;
        let state = app.server.state().as_ref();
        let made = app
            .setup
            .complete(state, &setup_code, &username, &password, now());
        if !matches!(&made, Err(error) if error.kind() == Kind::SetupCode) {
            app.attempts.succeeded(SETUP_ACCOUNT, address);
        }
        made?;
        let actor = Actor {
            name: username.clone(),
            address: address.to_string(),
        };
        app.audit(
            &actor,
            "user.create",
            &username,
            serde_json::json!({ "after": { "role": "admin" } }),
        )
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Signs in.
#[utoipa::path(post, path = "/session", tag = "session", request_body = SignIn,
    responses((status = 200, body = Session), (status = "default", body = ErrorBody)))]
pub(crate) async fn sign_in(
    State(app): State<Shared>,
    Extension(Peer(peer)): Extension<Peer>,
    Body(SignIn { username, password }): Body<SignIn>,
) -> Result<Response> {
    let address = peer.ip().to_canonical();
    app.attempts
        .begin(&username, address, now())
        .map_err(locked)?;
    let _permit = app.hashes.acquire().await.map_err(|_| stopping())?;
    let name = username.clone();
    let role = app
        .run(move |app| {
            let role = users::verify(app.server.state().as_ref(), &name, &password)?;
            if role.is_some() {
                let actor = Actor {
                    name: name.clone(),
                    address: address.to_string(),
                };
                app.audit(&actor, "session.create", &name, serde_json::Value::Null)?;
            }
            Ok(role)
        })
        .await?;
    let Some(role) = role else {
        tracing::warn!(%address, "somebody was not let in");
        return Err(Error::new(
            Kind::WrongCredentials,
            "user name or password is wrong",
        ));
    };
    app.attempts.succeeded(&username, address);
    let (cookie, session) = app.sessions.open(&username, role, now());
    let body = Session {
        username,
        role,
        csrf_token: session.csrf_token,
    };
    // Without an age the cookie ends with the browser; the server ends the session in any case.
    let cookie = format!("{COOKIE}={cookie}; HttpOnly; Secure; SameSite=Strict; Path=/");
    Ok(with_cookie(Json(body).into_response(), &cookie))
}

/// Who is signed in.
#[utoipa::path(get, path = "/session", tag = "session",
    responses((status = 200, body = Session), (status = "default", body = ErrorBody)))]
pub(crate) async fn session(State(app): State<Shared>, request: Request) -> Result<Json<Session>> {
    let caller = guard::caller(&app, &request)?;
    Ok(Json(Session {
        username: caller.name,
        role: caller.role,
        csrf_token: caller.csrf_token.unwrap_or_default(),
    }))
}

/// Signs out.
#[utoipa::path(delete, path = "/session", tag = "session",
    responses((status = 204), (status = "default", body = ErrorBody)))]
pub(crate) async fn sign_out(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<Response> {
    if let Some(cookie) = guard::cookie(&headers) {
        app.sessions.close(cookie);
    }
    let actor = caller.actor();
    let name = caller.name;
    app.run(move |app| app.audit(&actor, "session.delete", &name, serde_json::Value::Null))
        .await?;
    let gone = format!("{COOKIE}=; HttpOnly; Secure; SameSite=Strict; Path=/; Max-Age=0");
    Ok(with_cookie(StatusCode::NO_CONTENT.into_response(), &gone))
}

fn with_cookie(mut response: Response, cookie: &str) -> Response {
    if let Ok(value) = HeaderValue::from_str(cookie) {
        response.headers_mut().insert(header::SET_COOKIE, value);
    }
    response
}

fn locked(pause: std::time::Duration) -> Error {
    let secs = pause.as_secs().max(1);
    Error::new(Kind::Locked, "too many wrong passwords")
        .remedy(format!(
            "wait {} minutes, then try again",
            secs.div_ceil(60)
        ))
        .retry_after(secs)
}

fn stopping() -> Error {
    Error::new(Kind::Unavailable, "the server is stopping")
}
