//! Reading of bodies and parameters, so that what cannot be read is answered like every error.

use axum::{
    extract::{FromRequest, FromRequestParts, Query, Request, rejection::BytesRejection},
    http::{header, request::Parts},
};
use serde::de::DeserializeOwned;

use crate::error::{Error, Kind, Result};

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
