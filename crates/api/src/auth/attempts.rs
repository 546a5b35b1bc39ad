//! Wrong passwords: counted per account and address, and answered by a pause.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use yinglong_model::Timestamp;

/// Wrong passwords after which an account is locked for an address.
pub(crate) const ALLOWED: u32 = 10;
/// How long it stays locked, and how long wrong passwords are remembered.
pub(crate) const PAUSE: Duration = Duration::from_secs(15 * 60);
/// Pairs of account and address remembered; the one that is free soonest makes room.
const REMEMBERED: usize = 10_000;

#[derive(Default)]
pub(crate) struct Attempts(Mutex<HashMap<(String, IpAddr), Record>>);

struct Record {
    wrong: u32,
    forgotten_at: Timestamp,
}

impl Attempts {
    /// Begins an attempt; it counts as wrong until [`Attempts::succeeded`], so that attempts at
    /// the same time do not get past the limit together. Accounts need not exist.
    ///
    /// # Errors
    /// Locked, for so long.
    pub(crate) fn begin(
        &self,
        account: &str,
        address: IpAddr,
        now: Timestamp,
    ) -> Result<(), Duration> {
        let mut records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (account.to_lowercase(), network(address));
        if records.len() >= REMEMBERED && !records.contains_key(&key) {
            records.retain(|_, record| record.forgotten_at > now);
            if records.len() >= REMEMBERED
                && let Some(oldest) = records
                    .iter()
                    .min_by_key(|(_, r)| r.forgotten_at)
                    .map(|(key, _)| key.clone())
            {
                records.remove(&oldest);
            }
        }
        let record = records.entry(key).or_insert(Record {
            wrong: 0,
            forgotten_at: now,
        });
        if record.forgotten_at <= now {
            record.wrong = 0;
        }
        if record.wrong >= ALLOWED {
            return Err(record.forgotten_at.since(now));
        }
        record.wrong += 1;
        record.forgotten_at = now.plus(PAUSE);
        Ok(())
    }

    /// The attempt was right.
    pub(crate) fn succeeded(&self, account: &str, address: IpAddr) {
        let mut records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        records.remove(&(account.to_lowercase(), network(address)));
    }
}

/// A host has a whole /64 of IPv6 addresses to choose from.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => v4.into(),
            None => Ipv6Addr::from(u128::from(v6) & (u128::MAX << 64)).into(),
        },
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_764_000_000);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn c02_ten_wrong_passwords_lock_the_account_for_that_address_for_a_while() {
        let attempts = Attempts::default();
        for _ in 0..ALLOWED {
            assert_eq!(attempts.begin("root", ip("192.0.2.1"), NOW), Ok(()));
        }
        assert_eq!(attempts.begin("ROOT", ip("192.0.2.1"), NOW), Err(PAUSE));
        assert_eq!(
            attempts.begin("root", ip("192.0.2.2"), NOW),
            Ok(()),
            "another address"
        );
        assert_eq!(
            attempts.begin("other", ip("192.0.2.1"), NOW),
            Ok(()),
            "another account"
        );
        assert_eq!(
            attempts.begin("root", ip("192.0.2.1"), NOW.plus(PAUSE)),
            Ok(()),
            "later"
        );
    }

    #[test]
    fn a_right_password_starts_over() {
        let attempts = Attempts::default();
        for _ in 0..5 {
            for _ in 0..ALLOWED {
                assert!(attempts.begin("root", ip("192.0.2.1"), NOW).is_ok());
            }
            attempts.succeeded("root", ip("192.0.2.1"));
        }
    }

    #[test]
    fn addresses_of_one_ipv6_network_count_together() {
        let attempts = Attempts::default();
        for n in 0..ALLOWED {
            assert!(
                attempts
                    .begin("root", ip(&format!("2001:db8::{n:x}")), NOW)
                    .is_ok()
            );
        }
        assert!(attempts.begin("root", ip("2001:db8::ffff"), NOW).is_err());
        assert!(attempts.begin("root", ip("2001:db8:0:1::1"), NOW).is_ok());
    }

    #[test]
    fn memory_is_bounded() {
        let attempts = Attempts::default();
        for n in 0..REMEMBERED + 50 {
            assert!(attempts.begin(&n.to_string(), ip("192.0.2.1"), NOW).is_ok());
        }
        assert!(attempts.0.lock().unwrap().len() <= REMEMBERED);
    }
}
