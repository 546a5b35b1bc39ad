//! What becomes of a detection, given what is known about its identity.

use yinglong_model::{Alert, alert::Status};

/// What to do about a detection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Store a new alert with this status.
    New(Status),
    /// Count it on the existing alert.
    Count,
    /// Do nothing: a person called this identity harmless.
    Silent,
}

/// Decides about a detection. `existing` is the newest alert of the same identity: host, rule or
/// list, type, info. `learn` is the mode of the server.
///
/// Outside learn mode a learned alert does not stand in the way of an open one: its review is still
/// pending, and what goes on must be seen.
pub fn decide(existing: Option<&Alert>, learn: bool) -> Decision {
    let fresh = if learn {
        Decision::New(Status::Learned)
    } else {
        Decision::New(Status::Open)
    };
    match existing.map(|alert| alert.status) {
        Some(Status::Ignored) => Decision::Silent,
        Some(Status::Open) => Decision::Count,
        Some(Status::Learned) if learn => Decision::Count,
        Some(Status::Learned | Status::Handled) | None => fresh,
    }
}
