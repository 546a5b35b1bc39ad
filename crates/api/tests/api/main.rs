//! The API as people and scripts meet it: a real server, real TLS, a free port.

mod access;
mod answers;
mod live;
mod openapi;
mod sign_in;
mod support;
