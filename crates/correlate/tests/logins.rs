//! The login detectors, from login events to what fires.

#![allow(
    clippy::unwrap_used,
    reason = "what a test sets up is there, or the test fails"
)]

use yinglong_correlate::{Correlator, Fired, Limits, LoginOptions, Match, login_detectors, logins};
use yinglong_model::{
    AgentId, Timestamp,
    event::{EventData, Login, System},
    rule::Level,
};
use yinglong_rules::ir::{Compiled, Expr, Pattern, Test};

struct Fleet {
    rules: Vec<Compiled>,
    correlator: Correlator,
    events: u64,
}

/// A condition as far as the login rules need it.
fn holds(expr: &Expr, data: &EventData) -> bool {
    match expr {
        Expr::All(parts) => parts.iter().all(|part| holds(part, data)),
        Expr::Not(part) => !holds(part, data),
        Expr::Test(predicate) => {
            let field = predicate.field.as_ref().unwrap();
            let Test::Text { pattern, .. } = &predicate.test else {
                panic!("unexpected {predicate:?}");
            };
            let value = data.field(&field.name).unwrap();
            if *pattern == Pattern::filled() {
                !value.is_empty()
            } else {
                *pattern == Pattern::equal(value)
            }
        }
        other => panic!("unexpected {other:?}"),
    }
}

impl Fleet {
    fn new() -> Self {
        let detectors = login_detectors(&LoginOptions::default());
        let knows = |id: &str| detectors.rules.iter().any(|rule| rule.about.id == id);
        let (correlator, diagnostics) =
            Correlator::new(&detectors.correlations, &knows, Limits::default());
        assert_eq!(diagnostics, []);
        for rule in &detectors.rules {
            assert!(correlator.silences(&rule.about.id), "{}", rule.about.id);
        }
        Self {
            rules: detectors.rules,
            correlator,
            events: 0,
        }
    }

    /// A login at a second; ids of the alerts it brings.
    fn login(&mut self, at: i64, host: u128, user: &str, remote: &str, status: bool) -> Vec<Fired> {
        self.events += 1;
        let data = EventData::Loginlog(Login {
            username: user.into(),
            remote: remote.into(),
            status,
            ..Login::default()
        });
        let agent = AgentId::from_bits(host);
        let id = format!("{:032x}", self.events);
        let mut fired = Vec::new();
        for rule in &self.rules {
            let target = rule
                .targets
                .iter()
                .find(|t| t.system == System::Linux)
                .unwrap();
            if holds(&target.condition, &data) {
                fired.extend(self.correlator.observe(&Match {
                    rule_id: &rule.about.id,
                    agent: &agent,
                    time: Timestamp::from_secs(at),
                    received: Timestamp::from_secs(at),
                    values: &|name| data.field(name),
                    reference: &id,
                }));
            }
        }
        fired.retain(|fired| fired.alert);
        fired
    }
}

fn ids(fired: &[Fired]) -> Vec<&str> {
    fired.iter().map(|fired| fired.about.id.as_str()).collect()
}

#[test]
fn guessing_and_then_success_is_a_danger() {
    let mut fleet = Fleet::new();
    for n in 0..9 {
        assert!(fleet.login(n, 1, "root", "192.0.2.9", false).is_empty());
    }
    let fired = fleet.login(9, 1, "root", "192.0.2.9", false);
    assert_eq!(ids(&fired), [logins::BRUTE_FORCE]);
    assert_eq!(fired[0].references.len(), 10);
    assert!(
        fleet.login(60, 2, "root", "192.0.2.9", true).is_empty(),
        "another host"
    );
    assert!(
        fleet.login(61, 1, "root", "192.0.2.1", true).is_empty(),
        "another address"
    );
    let fired = fleet.login(62, 1, "root", "192.0.2.9", true);
    assert_eq!(ids(&fired), [logins::GUESSED]);
    assert_eq!(fired[0].about.level, Level::Danger);
    assert_eq!(fired[0].references.len(), 11);
}

#[test]
fn somebody_who_mistypes_and_gets_in_is_nothing() {
    let mut fleet = Fleet::new();
    for n in 0..9 {
        assert!(fleet.login(4 * n, 1, "bob", "192.0.2.9", false).is_empty());
    }
    assert!(fleet.login(40, 1, "bob", "192.0.2.9", true).is_empty());
}

#[test]
fn slow_guessing_shows_when_it_succeeds() {
    let mut fleet = Fleet::new();
    for n in 0..20 {
        assert!(
            fleet
                .login(50 * n, 1, "root", "192.0.2.9", false)
                .is_empty()
        );
    }
    assert_eq!(
        ids(&fleet.login(1_000, 1, "root", "192.0.2.9", true)),
        [logins::GUESSED]
    );
}

#[test]
fn one_address_and_many_accounts_over_the_fleet_is_spraying() {
    let mut fleet = Fleet::new();
    let mut fired = Vec::new();
    for n in 0..10 {
        let user = format!("user{n}");
        fired.extend(fleet.login(30 * n, (n % 3) as u128, &user, "192.0.2.9", false));
    }
    assert_eq!(ids(&fired), [logins::SPRAYING_USERS]);
    let fired = fleet.login(1_800, 8, "user4", "192.0.2.9", true);
    assert_eq!(ids(&fired), [logins::SPRAYED]);
}

#[test]
fn one_address_and_many_hosts_is_spraying() {
    let mut fleet = Fleet::new();
    let mut fired = Vec::new();
    for n in 0..10 {
        fired.extend(fleet.login(n, n as u128, "root", "192.0.2.9", false));
    }
    assert_eq!(ids(&fired), [logins::SPRAYING_HOSTS]);
}

#[test]
fn local_failures_count_by_account_and_never_over_hosts() {
    let mut fleet = Fleet::new();
    let mut fired = Vec::new();
    for n in 0..40 {
        fired.extend(fleet.login(n, (n % 10) as u128, &format!("user{n}"), "", false));
    }
    assert_eq!(fired, []);
    for n in 0..10 {
        fired.extend(fleet.login(100 + n, 3, "root", "", false));
    }
    assert_eq!(ids(&fired), [logins::LOCAL_BRUTE_FORCE]);
}
