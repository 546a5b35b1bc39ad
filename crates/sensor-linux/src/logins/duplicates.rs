//! One login told by several sources is one event.

use std::{collections::VecDeque, fmt::Write as _, time::Duration};

use sha2::{Digest, Sha256};
use yinglong_model::{Timestamp, event::Login};

/// How far the times of two sources may be apart.
const APART: Duration = Duration::from_secs(2);

/// How long a login is remembered after it was read, once every source is up to date.
const REMEMBERED: Duration = Duration::from_secs(10);

/// Logins remembered while sources are read that lag behind each other.
const LIMIT: usize = 16_384;

/// Logins that are remembered across a restart.
const SAVED: usize = 64;

/// Characters of an account that every source keeps: `ut_user` has 32 bytes.
const NAME_BYTES: usize = 31;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    key: u64,
    at: Timestamp,
    read: Timestamp,
    /// Bit per source that told of it.
    sources: u32,
}

/// Logins that were reported a short while ago.
#[derive(Debug, Default)]
pub(super) struct Duplicates {
    entries: VecDeque<Entry>,
}

impl Duplicates {
    /// Those an earlier run saved; what makes no sense is forgotten.
    pub(super) fn restore(saved: &str, now: Timestamp) -> Self {
        let entries = saved
            .split_ascii_whitespace()
            .take(SAVED)
            .filter_map(|text| {
                let mut parts = text.split(':');
                Some(Entry {
                    key: u64::from_str_radix(parts.next()?, 16).ok()?,
                    at: Timestamp::from_nanos(parts.next()?.parse().ok()?),
                    read: now,
                    sources: parts.next()?.parse().ok()?,
                })
            });
        Self {
            entries: entries.collect(),
        }
    }

    /// The newest, for the next run.
    pub(super) fn save(&self) -> String {
        let mut saved = String::new();
        let skipped = self.entries.len().saturating_sub(SAVED);
        for entry in self.entries.iter().skip(skipped) {
            let (key, at, sources) = (entry.key, entry.at.nanos(), entry.sources);
            // Writing to a string does not fail.
            let _ = write!(saved, "{key:016x}:{at}:{sources} ");
        }
        saved
    }

    /// Whether this is the first report of a login. A source tells of every login once, so two
    /// reports of the same source are two logins, however alike.
    pub(super) fn is_first(
        &mut self,
        login: &Login,
        at: Timestamp,
        source: usize,
        now: Timestamp,
    ) -> bool {
        let key = key(login);
        let bit = u32::try_from(source)
            .ok()
            .and_then(|source| 1_u32.checked_shl(source))
            .unwrap_or(1 << 31);
        let known = self.entries.iter_mut().find(|entry| {
            entry.key == key
                && entry.sources & bit == 0
                && entry.at.since(at) <= APART
                && at.since(entry.at) <= APART
        });
        if let Some(known) = known {
            known.sources |= bit;
            return false;
        }
        if self.entries.len() == LIMIT {
            self.entries.pop_front();
        }
        self.entries.push_back(Entry {
            key,
            at,
            read: now,
            sources: bit,
        });
        true
    }

    /// Forgets what no source can tell of any more.
    pub(super) fn forget(&mut self, now: Timestamp) {
        self.entries
            .retain(|entry| now.since(entry.read) <= REMEMBERED);
    }
}

/// The same in every run: it is saved.
fn key(login: &Login) -> u64 {
    let name = login
        .username
        .get(..login.username.floor_char_boundary(NAME_BYTES))
        .unwrap_or_default();
    let digest = Sha256::new()
        .chain_update(name)
        .chain_update([0, u8::from(login.status)])
        .chain_update(&login.remote)
        .finalize();
    digest
        .iter()
        .take(8)
        .fold(0, |key, byte| key << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(user: &str) -> Login {
        Login {
            username: user.to_owned(),
            remote: "192.0.2.1".to_owned(),
            ..Login::default()
        }
    }

    #[test]
    fn three_attempts_told_by_two_sources_are_three_a10() {
        let mut duplicates = Duplicates::default();
        let at = |secs| Timestamp::from_secs(secs);
        let mut first = |secs, source| duplicates.is_first(&login("a"), at(secs), source, at(9));
        assert_eq!([first(5, 0), first(5, 0), first(6, 0)], [true; 3]);
        assert_eq!([first(6, 1), first(5, 1), first(7, 1)], [false; 3]);
        assert_eq!([first(5, 2), first(5, 2), first(5, 2)], [false; 3]);
        assert!(first(6, 1), "a fourth one");
        assert!(!first(8, 0), "two seconds later it is still the same");
        assert!(first(11, 0), "later it is another one");
    }

    #[test]
    fn the_newest_survive_a_restart_and_old_ones_are_forgotten() {
        let mut duplicates = Duplicates::default();
        let now = Timestamp::from_secs(100);
        assert!(duplicates.is_first(&login("a"), now, 0, now));
        let mut restored = Duplicates::restore(&duplicates.save(), now);
        assert!(!restored.is_first(&login("a"), now, 1, now));
        assert!(restored.is_first(&login("b"), now, 1, now));
        restored.forget(now.plus(Duration::from_secs(11)));
        assert_eq!(restored.save(), "");
        assert_eq!(
            Duplicates::restore("x:y zz 1:2:3:4: :", now).entries.len(),
            1
        );
    }

    #[test]
    fn a_name_that_a_record_cuts_off_is_the_same() {
        let mut duplicates = Duplicates::default();
        let now = Timestamp::from_secs(100);
        let long = "ü".repeat(30);
        assert!(duplicates.is_first(&login(&long), now, 0, now));
        let cut = String::from_utf8_lossy(&long.as_bytes()[..32]).into_owned();
        assert!(!duplicates.is_first(&login(&cut), now, 1, now));
    }
}
