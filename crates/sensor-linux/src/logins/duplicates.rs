//! One login told by several witnesses is one event.
//!
//! Witnesses are matched one to one: what one of them told three times is three logins, whoever else
//! tells of them, and in whatever order. Accounts match by the part of their name that every record
//! keeps; one that a witness does not know matches any. A host's name matches any address, since some
//! record the one and some the other.

use std::{collections::BTreeMap, fmt::Write as _, net::IpAddr, time::Duration};

use sha2::{Digest, Sha256};
use yinglong_model::{Timestamp, event::Login};

use super::told::{Told, is_unknown};

/// How far the times of two witnesses may be apart.
const APART: Duration = Duration::from_secs(2);

/// How long a login is remembered after it was read, once every source is up to date. A log daemon
/// that folds equal lines writes them when something else happens, which may take a while.
const REMEMBERED: Duration = Duration::from_secs(3600);

/// Logins remembered: 1 MiB.
const LIMIT: usize = 16_384;

/// The longest time that one report may be about: sudo asks for so long, and log daemons fold.
const LONGEST: Duration = Duration::from_secs(3600);

/// Logins that are remembered across a restart.
const SAVED: usize = 64;

/// Characters of an account that every source keeps: `ut_user` has 32 bytes.
const NAME_BYTES: usize = 31;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    who: Who,
    /// The earliest and the latest another witness may have seen it.
    within: (Timestamp, Timestamp),
    read: Timestamp,
    /// Bit per witness that told of it.
    witnesses: u32,
}

/// Account, remote side and outcome, as far as they tell logins apart. The same in every run: it is
/// saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Who {
    /// Zero for an account that is not known.
    user: u64,
    remote: u64,
    /// The remote side is a name, not an address.
    named: bool,
    status: bool,
}

impl Who {
    fn of(login: &Login) -> Self {
        let name = login
            .username
            .get(..login.username.floor_char_boundary(NAME_BYTES))
            .unwrap_or_default();
        let user = match is_unknown(name) {
            true => 0,
            false => digest(name).max(1),
        };
        Self {
            user,
            remote: digest(&login.remote),
            named: !login.remote.is_empty() && login.remote.parse::<IpAddr>().is_err(),
            status: login.status,
        }
    }

    /// Whether both can be the same login; `local` is the digest of no remote side.
    fn fits(self, other: Self, local: u64) -> bool {
        let same_user = self.user == other.user || self.user == 0 || other.user == 0;
        let both_remote = self.remote != local && other.remote != local;
        let same_remote = self.remote == other.remote || (both_remote && self.named != other.named);
        self.status == other.status && same_user && same_remote
    }
}

/// Logins that were reported a short while ago.
#[derive(Debug)]
pub(super) struct Duplicates {
    /// By the latest another witness may have seen it, and in the order they were told.
    entries: BTreeMap<(Timestamp, u64), Entry>,
    told: u64,
    local: u64,
}

impl Default for Duplicates {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            told: 0,
            local: digest(""),
        }
    }
}

impl Duplicates {
    /// Those an earlier run saved; what makes no sense is forgotten.
    pub(super) fn restore(saved: &str, now: Timestamp) -> Self {
        let entry = |text: &str| {
            let mut parts = text.split(':');
            let mut hex = || u64::from_str_radix(parts.next()?, 16).ok();
            let (user, remote, flags) = (hex()?, hex()?, hex()?);
            let entry = Entry {
                who: Who {
                    user,
                    remote,
                    named: flags & 1 != 0,
                    status: flags & 2 != 0,
                },
                within: {
                    let mut time = || Some(Timestamp::from_nanos(parts.next()?.parse().ok()?));
                    (time()?, time()?)
                },
                read: now,
                witnesses: parts.next()?.parse().ok()?,
            };
            parts.next().is_none().then_some(entry)
        };
        let mut restored = Self::default();
        let saved = saved.split_ascii_whitespace().take(SAVED);
        for entry in saved.filter_map(entry) {
            restored.insert(entry);
        }
        restored
    }

    fn insert(&mut self, entry: Entry) {
        if self.entries.len() >= LIMIT {
            self.entries.pop_first();
        }
        self.told += 1;
        self.entries.insert((entry.within.1, self.told), entry);
    }

    /// The newest, for the next run.
    pub(super) fn save(&self) -> String {
        let mut saved = String::new();
        let skipped = self.entries.len().saturating_sub(SAVED);
        for Entry {
            who,
            within: (from, to),
            witnesses,
            ..
        } in self.entries.values().skip(skipped)
        {
            let flags = u8::from(who.named) | u8::from(who.status) << 1;
            let (user, remote) = (who.user, who.remote);
            let (from, to) = (from.nanos(), to.nanos());
            // Writing to a string does not fail.
            let _ = write!(
                saved,
                "{user:016x}:{remote:016x}:{flags:x}:{from}:{to}:{witnesses} "
            );
        }
        saved
    }

    /// Whether this is the first report of a login.
    pub(super) fn is_first(&mut self, told: &Told, now: Timestamp) -> bool {
        let who = Who::of(&told.login);
        let bit = told.witness.bit();
        let within = told.within.unwrap_or((told.at, told.at));
        let overlaps = |(from, to): (Timestamp, Timestamp)| {
            within.0.since(to) <= APART && from.since(within.1) <= APART
        };
        let local = self.local;
        let fits = |entry: &Entry| {
            entry.witnesses & bit == 0 && who.fits(entry.who, local) && overlaps(entry.within)
        };
        // One that is known to be the same goes before one that only may be.
        let first = (within.0.minus(APART), 0);
        let last = (within.1.plus(APART).plus(LONGEST), u64::MAX);
        let mut found = None;
        for (key, entry) in self.entries.range(first..=last) {
            if !fits(entry) {
                continue;
            }
            let exact = entry.who == who;
            if exact || found.is_none() {
                found = Some(*key);
            }
            if exact {
                break;
            }
        }
        if let Some(known) = found.and_then(|key| self.entries.get_mut(&key)) {
            known.witnesses |= bit;
            if known.who.user == 0 {
                known.who.user = who.user;
            }
            return false;
        }
        self.insert(Entry {
            who,
            within,
            read: now,
            witnesses: bit,
        });
        true
    }

    /// Forgets what no source can tell of any more.
    pub(super) fn forget(&mut self, now: Timestamp) {
        self.entries
            .retain(|_, entry| now.since(entry.read) <= REMEMBERED);
    }
}

fn digest(text: &str) -> u64 {
    let digest = Sha256::digest(text.as_bytes());
    digest
        .iter()
        .take(8)
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logins::told::Witness;

    const A: Witness = Witness::BTMP;
    const B: Witness = Witness::JOURNAL;
    const C: Witness = Witness::AUDIT;

    fn told(user: &str, remote: &str, secs: i64, witness: Witness) -> Told {
        Told {
            at: Timestamp::from_secs(secs),
            within: None,
            login: Login {
                username: user.to_owned(),
                remote: remote.to_owned(),
                ..Login::default()
            },
            witness,
            forged: false,
        }
    }

    const NOW: Timestamp = Timestamp::from_secs(100);

    #[test]
    fn three_attempts_told_by_three_witnesses_are_three_a10() {
        let mut duplicates = Duplicates::default();
        let mut first = |secs, witness| {
            let told = told("a", "192.0.2.1", secs, witness);
            duplicates.is_first(&told, NOW)
        };
        assert_eq!([first(5, A), first(5, A), first(6, A)], [true; 3]);
        assert_eq!([first(6, B), first(5, B), first(7, B)], [false; 3]);
        assert_eq!([first(5, C), first(5, C), first(5, C)], [false; 3]);
        assert!(first(6, B), "a fourth one");
        assert!(!first(8, A), "two seconds later it is still the same");
        assert!(first(11, A), "later it is another one");
    }

    #[test]
    fn a_folded_line_is_the_attempts_it_stands_for_however_late_it_comes_a10() {
        let mut duplicates = Duplicates::default();
        for secs in [10, 14, 18] {
            assert!(duplicates.is_first(&told("a", "192.0.2.1", secs, A), NOW));
        }
        assert!(!duplicates.is_first(&told("a", "192.0.2.1", 10, B), NOW));
        duplicates.forget(NOW.plus(Duration::from_secs(600)));
        let folded = Told {
            within: Some((Timestamp::from_secs(10), Timestamp::from_secs(18))),
            ..told("a", "192.0.2.1", 18, B)
        };
        assert!(!duplicates.is_first(&folded, NOW));
        assert!(!duplicates.is_first(&folded, NOW));
        assert!(duplicates.is_first(&folded, NOW), "one that only it has");

        // The same when the one that may have been seen later comes first.
        let early = Told {
            within: Some((Timestamp::from_secs(50), Timestamp::from_secs(53))),
            ..told("b", "192.0.2.1", 50, C)
        };
        assert!(duplicates.is_first(&early, NOW));
        assert!(duplicates.is_first(&told("b", "192.0.2.1", 56, A), NOW));
        assert!(!duplicates.is_first(&told("b", "192.0.2.1", 55, A), NOW));
    }

    #[test]
    fn an_account_or_address_that_one_witness_lacks_matches() {
        let cases = [
            ("a", "192.0.2.1", "(invalid user)", "192.0.2.1", false),
            ("a", "192.0.2.1", "?", "box.example", false),
            ("a", "192.0.2.1", "a", "box.example", false),
            ("a", "box.example", "a", "192.0.2.1", false),
            ("a", "192.0.2.1", "b", "192.0.2.1", true),
            ("a", "192.0.2.1", "a", "192.0.2.2", true),
            ("a", "box.example", "a", "other.example", true),
            ("a", "192.0.2.1", "a", "", true),
            ("a", "box.example", "a", "", true),
        ];
        for (user, remote, other_user, other_remote, first) in cases {
            let mut duplicates = Duplicates::default();
            assert!(duplicates.is_first(&told(user, remote, 5, A), NOW));
            let other = told(other_user, other_remote, 5, B);
            let case = format!("{user}@{remote} {other_user}@{other_remote}");
            assert_eq!(duplicates.is_first(&other, NOW), first, "{case}");
        }
        let mut duplicates = Duplicates::default();
        assert!(duplicates.is_first(&told("?", "192.0.2.1", 5, A), NOW));
        assert!(duplicates.is_first(&told("b", "192.0.2.1", 6, A), NOW));
        assert!(!duplicates.is_first(&told("b", "192.0.2.1", 5, B), NOW));
        assert!(!duplicates.is_first(&told("a", "192.0.2.1", 5, B), NOW));
    }

    #[test]
    fn the_newest_survive_a_restart_and_old_ones_are_forgotten() {
        let mut duplicates = Duplicates::default();
        assert!(duplicates.is_first(&told("a", "192.0.2.1", 100, A), NOW));
        let mut restored = Duplicates::restore(&duplicates.save(), NOW);
        assert_eq!(restored.entries, duplicates.entries);
        assert!(!restored.is_first(&told("a", "192.0.2.1", 100, B), NOW));
        assert!(restored.is_first(&told("b", "192.0.2.1", 100, B), NOW));
        restored.forget(NOW.plus(Duration::from_secs(3601)));
        assert_eq!(restored.save(), "");
        let saved = "x:y zz 1:2:3 1:2:3:4:5:6:7 1:2:3:4:5:6 : :::::";
        assert_eq!(Duplicates::restore(saved, NOW).entries.len(), 1);
    }

    #[test]
    fn a_name_that_a_record_cuts_off_is_the_same() {
        let mut duplicates = Duplicates::default();
        let long = "ü".repeat(30);
        assert!(duplicates.is_first(&told(&long, "", 100, A), NOW));
        let cut = String::from_utf8_lossy(&long.as_bytes()[..32]).into_owned();
        assert!(!duplicates.is_first(&told(&cut, "", 100, B), NOW));
    }
}
