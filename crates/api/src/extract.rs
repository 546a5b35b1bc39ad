//! Reading of bodies and parameters, so that what cannot be read is answered like every error.

use axum::{
    extract::{FromRequest, FromRequestParts, Query, Request, rejection::BytesRejection},
    http::{header, request::Parts},
};
use serde::de::DeserializeOwned;

use crate::{
    auth::guard,
    error::{Error, Kind, Result},
};

/// A JSON body.
pub(crate) struct Body<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Self> {
        // Other sites cannot send this type without asking first, so it also keeps them out.
        let kind = request.headers().get(header::CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let essence = kind.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/json") {
            guard::drain(request.into_body()).await;
            return Err(Error::new(Kind::NotJson, "the body is not JSON"));
        }
        let bytes = axum::body::Bytes::from_request(request, state)
            .await
            .map_err(|error| {
                let kind = match error {
                    BytesRejection::FailedToBufferBody(_) if error.status() == 413 => {
                        Kind::TooLarge
                    }
                    _ => Kind::BadRequest,
                };
                Error::new(kind, error.body_text())
            })?;
        serde_json::from_slice(&bytes).map(Self).map_err(|error| {
            Error::new(
                Kind::BadRequest,
                format!("the body is not as expected: {error}"),
            )
        })
    }
}

/// Parameters after the question mark.
pub(crate) struct Params<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        Query::<T>::from_request_parts(parts, state)
            .await
            .map(|Query(params)| Self(params))
            .map_err(|error| Error::new(Kind::BadRequest, error.body_text()))
    }
}

/// A number of items that was asked for.
///
/// # Errors
/// It is none of 1 to `max`.
pub(crate) fn limit(asked: Option<usize>, default: usize, max: usize) -> Result<usize> {
    match asked {
        None => Ok(default),
        Some(asked) if (1..=max).contains(&asked) => Ok(asked),
        Some(asked) => Err(Error::new(
            Kind::BadRequest,
            format!("limit is 1 to {max}, not {asked}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use axum::{Router, extract::DefaultBodyLimit, http::StatusCode, routing::post};
    use tower::ServiceExt as _;

    use super::*;

    #[tokio::test]
    async fn bodies_are_json_of_a_limited_size() {
        let router = Router::new()
            .route("/", post(|Body(_): Body<String>| async {}))
            .layer(DefaultBodyLimit::max(16));
        for (kind, body, status) in [
            ("application/json", "\"short\"", StatusCode::OK),
            (
                "application/json; charset=utf-8",
                "\"short\"",
                StatusCode::OK,
            ),
            (
                "application/json",
                "\"longer than sixteen\"",
                StatusCode::PAYLOAD_TOO_LARGE,
            ),
            ("application/json", "{", StatusCode::BAD_REQUEST),
            (
                "text/plain",
                "\"short\"",
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
            ),
        ] {
            let request = Request::post("/").header(header::CONTENT_TYPE, kind);
            let answer = router
                .clone()
                .oneshot(request.body(axum::body::Body::from(body)).unwrap())
                .await
                .unwrap();
            assert_eq!(answer.status(), status, "{kind} {body}");
        }
    }
}
