//! What every request passes: its host name, its origin, its time limit; then who sent it.

use std::{net::SocketAddr, time::Duration};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use super::{Caller, Need, secret};
use crate::{
    app::{Shared, now},
    error::{Error, Kind, Result},
};

/// Name of the session's cookie.
pub(crate) const COOKIE: &str = "yinglong_session";
/// Header that repeats the session's token.
pub(crate) const CSRF_HEADER: &str = "x-csrf-token";
/// Longest time until an answer begins; streams go on longer.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// Longest time and largest body that is read only to keep a connection open.
const DRAIN_LIMIT: Duration = Duration::from_secs(1);
const DRAIN_BYTES: usize = 64 << 10;

/// Where a request comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) SocketAddr);

const HEADERS: [(HeaderName, &str); 7] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
         connect-src 'self'; font-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    ),
    (header::STRICT_TRANSPORT_SECURITY, "max-age=31536000"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
];

/// Outermost: every answer carries the security headers, and none but assets may be kept.
pub(crate) async fn edge(State(app): State<Shared>, request: Request, next: Next) -> Response {
    let mut response = match admit(&app, &request) {
        Ok(()) => match tokio::time::timeout(TIME_LIMIT, next.run(request)).await {
            Ok(response) => response,
            Err(_) => Error::new(Kind::Timeout, "the answer took too long").into_response(),
        },
        Err(error) => {
            drain(request.into_body()).await;
            error.into_response()
        }
    };
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

fn admit(app: &Shared, request: &Request) -> Result<()> {
    // A page whose name was made to point here must not be able to talk to this server.
    let authority = authority(request.uri(), request.headers());
    let Some(authority) = authority.filter(|authority| app.knows_host(authority.host())) else {
        return Err(Error::new(
            Kind::WrongHost,
            "this server is not known by that name",
        ));
    };
    if is_safe(request.method()) {
        return Ok(());
    }
    if let Some(origin) = request.headers().get(header::ORIGIN) {
        let expected = format!("https://{authority}");
        let same = origin
            .to_str()
            .is_ok_and(|origin| origin.eq_ignore_ascii_case(&expected));
        if !same {
            return Err(Error::new(
                Kind::ForeignOrigin,
                "a page of another site sent this",
            ));
        }
    }
    Ok(())
}

/// HTTP/2 names the host in the address, HTTP/1.1 in a header.
fn authority(uri: &Uri, headers: &HeaderMap) -> Option<Authority> {
    let header = || headers.get(header::HOST)?.to_str().ok()?.parse().ok();
    uri.authority().cloned().or_else(header)
}

/// Lets callers through whose role suffices.
pub(crate) async fn require(
    State((app, need)): State<(Shared, Need)>,
    mut request: Request,
    next: Next,
) -> Result<Response> {
    match entitled(&app, need, &request) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            Ok(next.run(request).await)
        }
        Err(error) => {
            drain(request.into_body()).await;
            Err(error)
        }
    }
}

fn entitled(app: &Shared, need: Need, request: &Request) -> Result<Caller> {
    let caller = caller(app, request)?;
    if !caller.role.may(need) {
        return Err(Error::new(Kind::Forbidden, "your role does not allow this"));
    }
    if !is_safe(request.method())
        && let Some(expected) = &caller.csrf_token
    {
        let sent = request
            .headers()
            .get(CSRF_HEADER)
            .and_then(|value| value.to_str().ok());
        if !sent.is_some_and(|sent| secret::same(sent, expected)) {
            return Err(Error::new(
                Kind::CsrfToken,
                "the CSRF token is missing or wrong",
            ));
        }
    }
    Ok(caller)
}

/// Reads a body nobody wants. An HTTP/1.1 connection with an unread body is closed after the
/// answer, and a client that sends its next request at that moment would get none.
pub(crate) async fn drain(body: Body) {
    let _ = tokio::time::timeout(DRAIN_LIMIT, axum::body::to_bytes(body, DRAIN_BYTES)).await;
}

/// Who sent a request.
pub(crate) fn caller(app: &Shared, request: &Request) -> Result<Caller> {
    let refused = || Error::new(Kind::SignInRequired, "nobody is signed in");
    let Peer(peer) = *request.extensions().get::<Peer>().ok_or_else(refused)?;
    let address = peer.ip().to_canonical();
    if let Some(value) = request.headers().get(header::AUTHORIZATION) {
        let value = value.to_str().unwrap_or_default();
        let token = value
            .strip_prefix("Bearer ")
            .or_else(|| value.strip_prefix("bearer "));
        let (name, role) = token
            .and_then(|token| app.tokens.find(token.trim()))
            .ok_or_else(|| Error::new(Kind::SignInRequired, "the API token is not valid"))?;
        return Ok(Caller {
            name: name.to_owned(),
            role,
            address,
            csrf_token: None,
        });
    }
    let cookie = cookie(request.headers()).ok_or_else(refused)?;
    let session = app.sessions.used(cookie, now()).ok_or_else(refused)?;
    Ok(Caller {
        name: session.username,
        role: session.role,
        address,
        csrf_token: Some(session.csrf_token),
    })
}

/// Value of the session's cookie.
pub(crate) fn cookie(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == COOKIE)
        .map(|(_, value)| value)
}

fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.append(
            header::COOKIE,
            HeaderValue::from_static("a=1; xyinglong_session=no"),
        );
        assert_eq!(cookie(&headers), None);
        headers.append(
            header::COOKIE,
            HeaderValue::from_static("b=2; yinglong_session=yes; c=3"),
        );
        assert_eq!(cookie(&headers), Some("yes"));
    }
}
