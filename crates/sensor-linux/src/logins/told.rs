//! A login as one witness tells of it.

use yinglong_model::{Timestamp, event::Login};

/// Who tells of a login. Each tells of every login once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Witness(u8);

impl Witness {
    /// Records of successful logins.
    pub(super) const WTMP: Self = Self(0);
    /// Records of failed logins.
    pub(super) const BTMP: Self = Self(1);
    /// The journal of systemd.
    pub(super) const JOURNAL: Self = Self(2);
    /// The audit subsystem of the kernel.
    pub(super) const AUDIT: Self = Self(3);
    /// The database of successful logins.
    pub(super) const WTMPDB: Self = Self(4);
    /// The database of last logins.
    pub(super) const LASTLOG2: Self = Self(5);

    /// The text log of that number.
    pub(super) fn log(number: usize) -> Self {
        Self(6_u8.saturating_add(u8::try_from(number).unwrap_or(u8::MAX)))
    }

    /// A bit of its own; beyond 32 witnesses the last is shared.
    pub(super) const fn bit(self) -> u32 {
        let place = if self.0 < 31 { self.0 } else { 31 };
        1 << place
    }
}

/// A login as one witness tells of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Told {
    pub(super) at: Timestamp,
    /// The earliest and the latest another witness may have seen it, where that is more than a moment:
    /// one line stands for several attempts, or for one that lasted.
    pub(super) within: Option<(Timestamp, Timestamp)>,
    pub(super) login: Login,
    pub(super) witness: Witness,
    /// The witness knows that nobody logged in: somebody wrote what a login program would write. It
    /// is not reported, and whoever else tells of it is not believed either.
    pub(super) forged: bool,
}

/// What is read in one turn of all witnesses.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) told: Vec<Told>,
    /// Records and lines that make no sense.
    pub(super) malformed: u64,
    /// Lines that are too long.
    pub(super) too_large: u64,
    /// Messages that a queue of the kernel had no room for.
    pub(super) overflowed: u64,
    /// Records of logins that were tampered with.
    pub(super) tampered: Vec<super::tamper::Finding>,
}

/// What programs write for an account they do not know, so as not to write a password into a log that
/// was typed for a name.
const UNKNOWN: [&str; 6] = [
    "",
    "?",
    "UNKNOWN",
    "(unknown)",
    "(unknown user)",
    "(invalid user)",
];

/// Whether the account's name says that there is none.
pub(super) fn is_unknown(username: &str) -> bool {
    UNKNOWN.contains(&username)
}
