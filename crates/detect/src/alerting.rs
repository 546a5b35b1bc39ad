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

#[cfg(test)]
mod tests {
    use yinglong_model::{AgentId, Timestamp, rule::Level};

    use super::*;

    fn alert(status: Status) -> Alert {
        let now = Timestamp::from_secs(0);
        Alert {
            id: "1".into(),
            agent_id: AgentId::from_bits(1),
            ip: "192.0.2.1".into(),
            hostname: "web-1".into(),
            kind: "process".into(),
            source: "r".into(),
            rule_id: "r".into(),
            level: Level::Danger,
            info: "x".into(),
            description: "d".into(),
            description_zh: String::new(),
            attack: Vec::new(),
            status,
            time: now,
            raised_at: now,
            uptime: now,
            count: 1,
            matched: Vec::new(),
            raw: serde_json::Value::Null,
            story: String::new(),
        }
    }

    #[test]
    fn s18_open_is_counted_ignored_is_silent_handled_opens_again() {
        let cases = [
            (None, Decision::New(Status::Open)),
            (Some(Status::Open), Decision::Count),
            (Some(Status::Ignored), Decision::Silent),
            (Some(Status::Handled), Decision::New(Status::Open)),
            (Some(Status::Learned), Decision::New(Status::Open)),
        ];
        for (status, expected) in cases {
            let existing = status.map(alert);
            assert_eq!(decide(existing.as_ref(), false), expected, "{status:?}");
        }
    }

    #[test]
    fn s16_in_learn_mode_nothing_is_opened_and_repetitions_are_counted() {
        let cases = [
            (None, Decision::New(Status::Learned)),
            (Some(Status::Learned), Decision::Count),
            (Some(Status::Open), Decision::Count),
            (Some(Status::Ignored), Decision::Silent),
            (Some(Status::Handled), Decision::New(Status::Learned)),
        ];
        for (status, expected) in cases {
            let existing = status.map(alert);
            assert_eq!(decide(existing.as_ref(), true), expected, "{status:?}");
        }
    }
}
