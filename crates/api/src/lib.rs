//! The HTTP API and the console, served over TLS.
//!
//! - **Guarantees**: every route but those listed as open in [`routes`] needs somebody who is
//!   signed in, with a role that suffices; every change is in the audit log; no answer contains a
//!   secret twice, or a private key at all. Answers that are not a success have one body.
//! - **Invariants**: routes are grouped by what they need, and a route exists only in a group.
//!   Stores are read and written outside the runtime's threads. Every list, body and wait is
//!   bounded.
//! - **Formats**: `docs/api.md`; `docs/openapi.json` is generated from the routes.
//! - **Not here**: detection, storage, the fleet (`yinglong-server`).

#![forbid(unsafe_code)]

mod app;
mod assets;
pub mod auth;
pub mod error;
mod extract;
pub mod routes;
mod serve;
pub mod views;

pub use auth::Role;
pub use serve::{Error, Options, Running, serve};

/// The OpenAPI document, as indented JSON.
pub fn openapi_json() -> String {
    let mut json = routes::document().to_pretty_json().unwrap_or_default();
    json.push('\n');
    json
}
