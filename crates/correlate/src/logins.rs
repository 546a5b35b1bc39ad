//! Guessed passwords: detectors over our own login events that need no rule file.
//!
//! | correlation | what it sees |
//! |---|---|
//! | [`BRUTE_FORCE`] | one address fails often on one host |
//! | [`LOCAL_BRUTE_FORCE`] | one account fails often on one host, without an address (`su`, console) |
//! | [`SPRAYING_USERS`] | one address fails with many accounts, on any hosts |
//! | [`SPRAYING_HOSTS`] | one address fails on many hosts |
//! | [`GUESSED`] | one address logs in to a host where it failed often just before |
//! | [`SPRAYED`] | one address logs in anywhere after it failed with many accounts |

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use yinglong_model::{event::System, rule::Level};
use yinglong_rules::{
    About, Class,
    correlation::{Correlation, CorrelationKind, Member},
    ir::{Comparison, Compiled, Expr, Field, Number, Pattern, Predicate, Target, Test},
};

use crate::HOST;

/// Rule: a login from elsewhere failed.
const FAILED: &str = "yinglong-login-failed";
/// Rule: a login on the host itself failed.
const FAILED_HERE: &str = "yinglong-login-failed-local";
/// Rule: a login from elsewhere succeeded.
const SUCCEEDED: &str = "yinglong-login-succeeded";
/// Correlation behind [`GUESSED`].
const MANY_FAILED: &str = "yinglong-login-many-failed";
/// Correlation behind [`SPRAYED`].
const MANY_USERS: &str = "yinglong-login-many-users";

/// Id of the detector of brute force from one address.
pub const BRUTE_FORCE: &str = "yinglong-login-brute-force";
/// Id of the detector of brute force on the host itself.
pub const LOCAL_BRUTE_FORCE: &str = "yinglong-login-brute-force-local";
/// Id of the detector of password spraying over accounts.
pub const SPRAYING_USERS: &str = "yinglong-login-spraying-users";
/// Id of the detector of password spraying over hosts.
pub const SPRAYING_HOSTS: &str = "yinglong-login-spraying-hosts";
/// Id of the detector of a login after brute force.
pub const GUESSED: &str = "yinglong-login-guessed";
/// Id of the detector of a login after spraying.
pub const SPRAYED: &str = "yinglong-login-sprayed";

/// So many within such a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Threshold {
    /// How many; less than 1 is taken as 1.
    pub count: u32,
    /// Length of the window.
    pub within: Duration,
}

impl Threshold {
    const fn new(count: u32, minutes: u64) -> Self {
        Self {
            count,
            within: Duration::from_secs(60 * minutes),
        }
    }
}

/// When a login detector fires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginOptions {
    /// Failures of one address (or of one account locally) on one host. A person has three
    /// attempts per connection with the usual client and waits about two seconds after each, so
    /// three connections in a row stay below ten; the slowest common guessing tool, held back by
    /// the same delay on one connection at a time, makes ten in half a minute. Default: 10 in 2
    /// minutes.
    pub brute_force: Threshold,
    /// Different accounts one address fails with. Several people behind one address mistype too,
    /// each with one account. Default: 10 in 10 minutes.
    pub spraying_users: Threshold,
    /// Different hosts one address fails on; a deployment with an old key does that as well.
    /// Default: 10 in 10 minutes.
    pub spraying_hosts: Threshold,
    /// Failures of one address on one host that make a following login suspect. Slower guessing
    /// counts here, for a success proves it. Default: 10 in 10 minutes.
    pub failures_before_success: Threshold,
    /// How long after those a login counts as guessed. Default: 15 minutes.
    pub success_within: Duration,
    /// How long after spraying a login from the same address counts as sprayed. Default: 1 hour.
    pub success_after_spraying: Duration,
}

impl Default for LoginOptions {
    fn default() -> Self {
        Self {
            brute_force: Threshold::new(10, 2),
            spraying_users: Threshold::new(10, 10),
            spraying_hosts: Threshold::new(10, 10),
            failures_before_success: Threshold::new(10, 10),
            success_within: Duration::from_secs(15 * 60),
            success_after_spraying: Duration::from_secs(3600),
        }
    }
}

/// Rules and the correlations over them.
#[derive(Debug, Clone, PartialEq)]
pub struct Detectors {
    /// Rules whose matches the correlations take; they raise no alerts of their own.
    pub rules: Vec<Compiled>,
    /// The correlations.
    pub correlations: Vec<Correlation>,
}

/// The login detectors.
pub fn login_detectors(options: &LoginOptions) -> Detectors {
    let from_elsewhere = || field_test("remote", Pattern::filled());
    let rules = vec![
        rule(FAILED, "Failed login", false, from_elsewhere()),
        rule(
            FAILED_HERE,
            "Failed login on the host itself",
            false,
            Expr::Not(Box::new(from_elsewhere())),
        ),
        rule(SUCCEEDED, "Login", true, from_elsewhere()),
    ];
    let count = CorrelationKind::EventCount;
    let users = || CorrelationKind::ValueCount(vec!["username".into()]);
    let hosts = CorrelationKind::ValueCount(vec![HOST.into()]);
    let correlations = vec![
        counting(
            about(
                BRUTE_FORCE,
                &["T1110.001"],
                [
                    "Password guessing from one address",
                    "One address failed to log in to this host many times in a short time. Block it, and \
                 look whether it got in.",
                    "同一地址在短时间内多次登录此主机失败。请封禁该地址，并检查其是否已登录成功。",
                ],
            ),
            count.clone(),
            FAILED,
            &[HOST, "remote"],
            options.brute_force,
        ),
        counting(
            about(
                LOCAL_BRUTE_FORCE,
                &["T1110.001"],
                [
                    "Password guessing on the host itself",
                    "Attempts to become or log in as one account failed many times in a short time, \
                 without a remote address: somebody on the host is guessing.",
                    "在主机本地（无远程地址）短时间内多次尝试切换或登录同一账号失败，可能有人在本机猜测口令。",
                ],
            ),
            count.clone(),
            FAILED_HERE,
            &[HOST, "username"],
            options.brute_force,
        ),
        counting(
            about(
                SPRAYING_USERS,
                &["T1110.003"],
                [
                    "Password spraying over accounts",
                    "One address failed to log in with many different accounts in a short time.",
                    "同一地址在短时间内使用大量不同账号登录失败（口令喷洒）。",
                ],
            ),
            users(),
            FAILED,
            &["remote"],
            options.spraying_users,
        ),
        counting(
            about(
                SPRAYING_HOSTS,
                &["T1110.003"],
                [
                    "Password spraying over hosts",
                    "One address failed to log in to many hosts in a short time.",
                    "同一地址在短时间内登录多台主机均失败（口令喷洒）。",
                ],
            ),
            hosts,
            FAILED,
            &["remote"],
            options.spraying_hosts,
        ),
        counting(
            about(MANY_FAILED, &[], ["Many failed logins", "", ""]),
            count,
            FAILED,
            &[HOST, "remote"],
            options.failures_before_success,
        ),
        counting(
            about(
                MANY_USERS,
                &[],
                ["Failed logins with many accounts", "", ""],
            ),
            users(),
            FAILED,
            &["remote"],
            options.spraying_users,
        ),
        then_success(
            about(
                GUESSED,
                &["T1110.001", "T1078"],
                [
                    "Login after password guessing",
                    "An address that had just failed many times logged in to this host. Take the account \
                 for compromised: end its sessions, change its password, and look at what it did.",
                    "某地址在多次登录失败后成功登录此主机。应视该账号已失陷：请结束其会话、修改口令，并检查其后续行为。",
                ],
            ),
            MANY_FAILED,
            &[HOST, "remote"],
            options.success_within,
        ),
        then_success(
            about(
                SPRAYED,
                &["T1110.003", "T1078"],
                [
                    "Login after password spraying",
                    "An address that had just failed with many accounts logged in. Take the account for \
                 compromised: end its sessions, change its password, and look at what it did.",
                    "某地址在使用大量账号登录失败后成功登录。应视该账号已失陷：请结束其会话、修改口令，并检查其后续行为。",
                ],
            ),
            MANY_USERS,
            &["remote"],
            options.success_after_spraying,
        ),
    ];
    Detectors {
        rules,
        correlations,
    }
}

/// Name, description, and description in Chinese.
type Words = [&'static str; 3];

fn about(id: &str, attack: &[&str], [name, description, description_zh]: Words) -> About {
    About {
        id: id.into(),
        name: name.into(),
        description: description.into(),
        description_zh: description_zh.into(),
        attack: attack.iter().map(|technique| (*technique).into()).collect(),
        ..About::default()
    }
}

fn field_test(field: &str, pattern: Pattern) -> Expr {
    Expr::Test(Predicate {
        field: Some(Field::whole(field)),
        test: Test::Text {
            pattern,
            cased: true,
        },
    })
}

fn rule(id: &str, name: &'static str, success: bool, remote: Expr) -> Compiled {
    let status = Pattern::equal(if success { "true" } else { "false" });
    let condition = Expr::All(vec![field_test("status", status), remote]);
    let target = |system| Target {
        class: Class::LOGINLOG,
        system,
        condition: condition.clone(),
    };
    Compiled {
        about: Arc::new(About {
            level: Level::Hint,
            ..about(id, &[], [name, "", ""])
        }),
        targets: vec![target(System::Linux), target(System::Windows)],
    }
}

fn correlation(about: About, kind: CorrelationKind, rules: &[&str], group: &[&str]) -> Correlation {
    let names: Vec<String> = group.iter().map(|name| (*name).into()).collect();
    Correlation {
        about: Arc::new(About {
            identity: names.clone(),
            ..about
        }),
        kind,
        members: rules
            .iter()
            .map(|id| Member {
                id: (*id).into(),
                name: (*id).into(),
                fields: BTreeMap::new(),
            })
            .collect(),
        group_by: names,
        timespan: Duration::ZERO,
        bounds: Vec::new(),
        condition: None,
        generate: false,
    }
}

fn counting(
    about: About,
    kind: CorrelationKind,
    rule: &str,
    group: &[&str],
    threshold: Threshold,
) -> Correlation {
    let count = Number::new(f64::from(threshold.count.max(1)));
    Correlation {
        timespan: threshold.within,
        bounds: count
            .map(|count| (Comparison::GreaterOrEqual, count))
            .into_iter()
            .collect(),
        ..correlation(about, kind, &[rule], group)
    }
}

fn then_success(about: About, first: &str, group: &[&str], within: Duration) -> Correlation {
    let about = About {
        level: Level::Danger,
        ..about
    };
    Correlation {
        timespan: within,
        ..correlation(
            about,
            CorrelationKind::TemporalOrdered,
            &[first, SUCCEEDED],
            group,
        )
    }
}
