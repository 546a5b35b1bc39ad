//! How often one source may ask to join.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use yinglong_model::Timestamp;

const WINDOW: Duration = Duration::from_secs(60);
/// More sources than this within a minute are not hosts being set up.
const MAX_SOURCES: usize = 4096;

/// Counts requests per source in windows of a minute.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    sources: HashMap<IpAddr, (Timestamp, u32)>,
}

impl Attempts {
    /// Counts one request; false if the source has used up its `limit` or too many sources ask.
    pub(super) fn admit(&mut self, source: IpAddr, limit: u32, now: Timestamp) -> bool {
        let current = |started: Timestamp| now.since(started) < WINDOW && started <= now;
        let source = network_of(source);
        if self.sources.len() >= MAX_SOURCES && !self.sources.contains_key(&source) {
            self.sources.retain(|_, (started, _)| current(*started));
            if self.sources.len() >= MAX_SOURCES {
                return false;
            }
        }
        let (started, count) = self.sources.entry(source).or_insert((now, 0));
        if !current(*started) {
            (*started, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        *count <= limit
    }
}

/// One IPv6 customer has a whole /64.
fn network_of(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            std::net::Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_764_000_000);

    #[test]
    fn a_source_is_refused_after_its_limit_until_the_minute_is_over() {
        let mut attempts = Attempts::default();
        let (a, b) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        assert!(attempts.admit(a, 2, NOW));
        assert!(attempts.admit(a, 2, NOW));
        assert!(!attempts.admit(a, 2, NOW));
        assert!(attempts.admit(b, 2, NOW));
        assert!(!attempts.admit(a, 2, NOW.plus(WINDOW / 2)));
        assert!(attempts.admit(a, 2, NOW.plus(WINDOW)));
    }

    #[test]
    fn a_clock_set_back_does_not_lock_a_source_out() {
        let mut attempts = Attempts::default();
        let a = [192, 0, 2, 1].into();
        assert!(attempts.admit(a, 1, NOW));
        assert!(attempts.admit(a, 1, NOW.minus(WINDOW * 60)));
    }

    #[test]
    fn addresses_of_one_ipv6_network_count_together() {
        let mut attempts = Attempts::default();
        let parse = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(attempts.admit(parse("2001:db8:0:1::1"), 1, NOW));
        assert!(!attempts.admit(parse("2001:db8:0:1:ffff::2"), 1, NOW));
        assert!(attempts.admit(parse("2001:db8:0:2::1"), 1, NOW));
        assert!(attempts.admit(parse("::ffff:192.0.2.1"), 1, NOW));
        assert!(!attempts.admit(parse("192.0.2.1"), 1, NOW));
    }

    #[test]
    fn memory_is_bounded_however_many_sources_there_are() {
        let mut attempts = Attempts::default();
        for bits in 0..10_000_u32 {
            attempts.admit(std::net::Ipv4Addr::from_bits(bits).into(), 1, NOW);
        }
        assert_eq!(attempts.sources.len(), MAX_SOURCES);
        let late = NOW.plus(WINDOW);
        assert!(attempts.admit([192, 0, 2, 1].into(), 1, late));
    }
}
