//! The API as people and scripts meet it: a real server, real TLS, a free port.

#![allow(clippy::unwrap_used, reason = "what is missing in a test fails it")]

mod access;
mod answers;
mod intelligence;
mod live;
mod openapi;
mod sign_in;
mod support;
mod users;
