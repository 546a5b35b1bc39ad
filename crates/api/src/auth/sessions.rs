//! Who is signed in. Kept in memory: a restart signs everybody out, and no store ever holds
//! something that signs in.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use yinglong_model::Timestamp;

use super::{Role, secret};

/// Longest session.
pub(crate) const LIFETIME: Duration = Duration::from_secs(12 * 3600);
/// Longest pause between two requests.
pub(crate) const IDLE: Duration = Duration::from_secs(3600);
/// Sessions at the same time; the least used one makes room.
const MOST: usize = 4096;

/// A session without what identifies it.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) username: String,
    pub(crate) role: Role,
    pub(crate) csrf_token: String,
    opened_at: Timestamp,
    used_at: Timestamp,
}

impl Session {
    fn is_over(&self, now: Timestamp) -> bool {
        now.since(self.opened_at) >= LIFETIME || now.since(self.used_at) >= IDLE
    }
}

/// By the hash of the cookie's value.
#[derive(Default)]
pub(crate) struct Sessions(Mutex<HashMap<String, Session>>);

impl Sessions {
    /// Opens a session; returns the cookie's value.
    pub(crate) fn open(&self, username: &str, role: Role, now: Timestamp) -> (String, Session) {
        let cookie = secret::fresh();
        let session = Session {
            username: username.to_owned(),
            role,
            csrf_token: secret::fresh(),
            opened_at: now,
            used_at: now,
        };
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sessions.len() >= MOST {
            sessions.retain(|_, session| !session.is_over(now));
            if sessions.len() >= MOST
                && let Some(oldest) = sessions
                    .iter()
                    .min_by_key(|(_, s)| s.used_at)
                    .map(|(key, _)| key.clone())
            {
                sessions.remove(&oldest);
            }
        }
        sessions.insert(secret::hash(&cookie), session.clone());
        (cookie, session)
    }

    /// The session of a cookie, which counts as used now.
    pub(crate) fn used(&self, cookie: &str, now: Timestamp) -> Option<Session> {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = secret::hash(cookie);
        let session = sessions.get_mut(&key)?;
        if session.is_over(now) {
            sessions.remove(&key);
            return None;
        }
        session.used_at = session.used_at.max(now);
        Some(session.clone())
    }

    /// Whether a cookie still has a session; looking does not prolong it.
    pub(crate) fn is_open(&self, cookie: &str, now: Timestamp) -> bool {
        let sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions
            .get(&secret::hash(cookie))
            .is_some_and(|session| !session.is_over(now))
    }

    /// Ends a session.
    pub(crate) fn close(&self, cookie: &str) {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.remove(&secret::hash(cookie));
    }

    /// Ends all sessions of a user.
    pub(crate) fn close_all(&self, username: &str) {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, session| session.username != username);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_764_000_000);

    #[test]
    fn a_session_ends_after_an_idle_hour() {
        let sessions = Sessions::default();
        let (cookie, _) = sessions.open("ann", Role::Admin, NOW);
        let late = NOW.plus(IDLE - Duration::from_secs(1));
        assert!(sessions.used(&cookie, late).is_some());
        assert!(sessions.used(&cookie, late.plus(IDLE)).is_none());
    }

    #[test]
    fn a_session_ends_after_twelve_hours_however_busy() {
        let sessions = Sessions::default();
        let (cookie, _) = sessions.open("ann", Role::Admin, NOW);
        for half_hours in 1..24 {
            let now = NOW.plus(Duration::from_secs(1800) * half_hours);
            assert!(sessions.used(&cookie, now).is_some(), "{half_hours}");
        }
        assert!(sessions.used(&cookie, NOW.plus(LIFETIME)).is_none());
    }

    #[test]
    fn what_is_kept_does_not_sign_in() {
        let sessions = Sessions::default();
        let (cookie, _) = sessions.open("ann", Role::Admin, NOW);
        let kept = sessions.0.lock().unwrap().keys().next().cloned().unwrap();
        assert_ne!(kept, cookie);
        assert!(sessions.used(&kept, NOW).is_none());
        sessions.close_all("ann");
        assert!(!sessions.is_open(&cookie, NOW));
    }
}
