//! Where an index and the query language could come apart, and where an index could break.

use std::{collections::HashSet, time::Duration};

use proptest::prelude::*;
use serde_json::{Value, json};
use yinglong_model::{
    Event, EventData, EventId, Timestamp,
    event::{File, Process},
};
use yinglong_store::{
    EventStore, Kind, Query,
    conformance::{check_query, events},
    event_store::PageRequest,
    query::{Condition, HostKey, Key, Pattern, Target, Test, words},
};
use yinglong_store_elastic::{Elastic, Options, is_common};

use crate::server;

fn stored(options: &Options, events: &[Event]) -> Elastic {
    let store = Elastic::open(options).unwrap();
    store.append(events, store.position() + 1).unwrap();
    store.commit().unwrap();
    store
}

/// A request of a neighbour of ours.
fn ask(url: &str, method: &str, path: &str, body: &Value) -> Value {
    let request = ureq::http::Request::builder()
        .method(method)
        .uri(format!("{}{path}", url.trim_end_matches('/')))
        .header("Content-Type", "application/json")
        .body(body.to_string())
        .unwrap();
    let mut answer = ureq::run(request).unwrap();
    serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap()
}

fn process(number: u128, command: &str) -> Event {
    Event {
        id: EventId::from(format!("{number:032x}")),
        data: EventData::Process(Box::new(Process {
            name: "/bin/sh".to_owned(),
            command: command.to_owned(),
            ..Process::default()
        })),
        ..events(1, 1).remove(0)
    }
}

#[test]
fn the_engine_splits_and_folds_common_characters_as_the_language_does() {
    let name = "the_engine_splits_and_folds_common_characters_as_the_language_does";
    let Some(url) = server::url(name) else { return };
    let options = server::fresh(url);
    let _store = stored(&options, &[process(1, "x")]);
    let index = format!("{}2026_01", options.index_prefix);
    let common: Vec<char> = ('\0'..=char::MAX).filter(|c| is_common(*c)).collect();
    assert!(common.len() > 30_000);
    for chunk in common.chunks(1500) {
        let text: String = chunk.iter().map(|c| format!("a{c}b ")).collect();
        let answer = ask(
            url,
            "POST",
            &format!("/{index}/_analyze"),
            &json!({"analyzer": "yinglong_words", "text": text}),
        );
        let split: Vec<&str> = answer["tokens"]
            .as_array()
            .unwrap()
            .iter()
            .map(|token| token["token"].as_str().unwrap())
            .collect();
        let different = split.iter().zip(words(&text)).find(|(a, b)| *a != b);
        assert_eq!(different, None);
        assert_eq!(split.len(), words(&text).len());
        let text: String = chunk.iter().collect();
        let answer = ask(
            url,
            "POST",
            &format!("/{index}/_analyze"),
            &json!({"normalizer": "yinglong_lower", "text": text}),
        );
        assert_eq!(answer["tokens"][0]["token"], text.to_lowercase());
    }
}

#[test]
fn any_text_is_found_as_the_language_says() {
    let Some(url) = server::url("any_text_is_found_as_the_language_says") else {
        return;
    };
    let texts = [
        "İSTANBUL istanbul ı",
        "ΣΊΣΥΦΟΣ σίσυφος",
        "ſtrange strange Kelvin kelvin",
        "a*b?c\\d",
        "\u{1e900}\u{1e922} adlam",
        "e\u{301} é É",
        "straße STRASSE",
        "１２３ ＡＢＣ ab\u{200d}c",
        "\u{0}a\u{0}b",
        "null true -1 +5 007",
        "5",
        "+5",
        "",
        " ",
        "|a|b|",
    ];
    let mut all = Vec::new();
    for (text, number) in texts.iter().zip(0_u128..) {
        let mut event = process(number, text);
        event.hostname = (*text).to_owned();
        if let EventData::Process(process) = &mut event.data {
            process.ancestors = text.split('|').map(str::to_owned).collect();
            process.user = (number % 2 == 0).then(|| (*text).to_owned());
        }
        all.push(event);
    }
    let store = stored(&server::fresh(url), &all);
    let keys = [
        Key::All,
        Key::Host(HostKey::Hostname),
        Key::Data("command".into()),
        Key::Data("ancestors".into()),
        Key::Data("user".into()),
    ];
    let mut tests = Vec::new();
    for text in texts.iter().flat_map(|text| text.split(' ').chain([*text])) {
        tests.push(Test::Exact(text.to_owned()));
        tests.push(Test::Same(text.to_lowercase()));
        tests.push(Test::Words(words(text)));
        tests.extend(Pattern::new(text).map(Test::Regex));
    }
    for regex in [r"\*b\?", r"c\\d", "^$", "K", "S", r"a\|b", r"a|x", r"\|"] {
        tests.push(Test::Regex(Pattern::new(regex).unwrap()));
    }
    for number in ["user:>4", "user:<=-1", "all:>4"] {
        let query = Query::parse(&format!("type:process | {number}")).unwrap();
        check_query(&store, &all, &query);
    }
    let mut asked = HashSet::new();
    for test in tests {
        if !asked.insert(format!("{test:?}")) {
            continue;
        }
        for key in &keys {
            let query = Query {
                kind: Some(Target::Event(yinglong_model::EventType::Process)),
                conditions: vec![Condition {
                    key: key.clone(),
                    test: test.clone(),
                }],
                ..Query::default()
            };
            let expected = all.iter().filter(|event| query.matches(event)).count();
            assert_eq!(store.count(&query).unwrap(), expected as u64, "{query:?}");
            let found = store.search(&query, &PageRequest::default()).unwrap();
            assert_eq!(found.events.len(), expected, "{query:?}");
        }
    }
}

#[test]
fn random_texts_are_found_as_the_language_says() {
    let Some(url) = server::url("random_texts_are_found_as_the_language_says") else {
        return;
    };
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 12,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let texts = proptest::collection::vec(any::<String>(), 40);
    runner
        .run(&texts, |texts| {
            let all: Vec<Event> = texts
                .iter()
                .zip(0_u128..)
                .map(|(text, number)| process(number, text))
                .collect();
            let store = stored(&server::fresh(url), &all);
            for text in texts.iter().take(20) {
                let part: String = text.chars().take(3).collect();
                for test in [Test::Exact(text.clone()), Test::Words(words(&part))] {
                    let query = Query {
                        conditions: vec![Condition {
                            key: Key::Data("command".into()),
                            test,
                        }],
                        ..Query::default()
                    };
                    let expected = all.iter().filter(|event| query.matches(event)).count();
                    prop_assert_eq!(store.count(&query).unwrap(), expected as u64);
                }
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn values_at_the_limits_neither_break_an_index_nor_get_lost() {
    let name = "values_at_the_limits_neither_break_an_index_nor_get_lost";
    let Some(url) = server::url(name) else { return };
    let mut all: Vec<Event> = [8190, 8191, 8192, 32_766, 32_767, 40_000]
        .into_iter()
        .flat_map(|length: usize| ["x".repeat(length), "龙".repeat(length), "a ".repeat(length)])
        .zip(0_u128..)
        .map(|(text, number)| process(number, &text))
        .collect();
    for (size, number) in [0, 1, i64::MAX as u64, u64::MAX]
        .into_iter()
        .zip(100_u128..)
    {
        all.push(Event {
            data: EventData::File(Box::new(File {
                path: "/etc/passwd".to_owned(),
                size: Some(size),
                ..File::default()
            })),
            ..process(number, "")
        });
    }
    // Clocks that are wrong by centuries, and a time between two milliseconds.
    for (nanos, number) in [i64::MIN + 3_600_000_000_000, -1, 0, 1, i64::MAX]
        .into_iter()
        .zip(200_u128..)
    {
        let mut event = process(number, "clock");
        event.time = Timestamp::from_nanos(nanos);
        all.push(event);
    }
    let options = server::fresh(url);
    let store = stored(&options, &all);
    assert_eq!(store.refused(), 0);
    check_query(&store, &all, &Query::default());
    for text in [
        "type:file | size:>0",
        "type:file | size:>=9223372036854775807",
        "type:file | size:18446744073709551615",
        "type:process | command:clock",
        "type:process | command:/^a a/",
    ] {
        check_query(&store, &all, &Query::parse(text).unwrap());
    }
    for event in &all {
        let query = Query {
            conditions: vec![Condition {
                key: Key::Data("command".into()),
                test: Test::Exact(event.data.field("command").unwrap_or_default().into_owned()),
            }],
            ..Query::of(Target::Event(event.data.event_type()))
        };
        let expected = all.iter().filter(|event| query.matches(event)).count();
        assert_eq!(store.count(&query).unwrap(), expected as u64);
    }
    for width in [1, 1_000, 1_500_000, 86_400_000_000_000] {
        let buckets = store
            .histogram(&Query::default(), Duration::from_nanos(width))
            .unwrap();
        let mut starts: Vec<i64> = all
            .iter()
            .map(|event| {
                let width = i64::try_from(width).unwrap();
                event.time.nanos().div_euclid(width).saturating_mul(width)
            })
            .collect();
        starts.sort_unstable();
        starts.dedup();
        let mut found: Vec<i64> = buckets.iter().map(|bucket| bucket.start.nanos()).collect();
        found.dedup();
        assert_eq!(found, starts, "{width}");
        let total: u64 = buckets.iter().map(|bucket| bucket.count).sum();
        assert_eq!(total, all.len() as u64);
    }
    let found = ask(
        url,
        "GET",
        &format!(
            "/{}*/_settings?filter_path=*.settings.index.uuid",
            options.index_prefix
        ),
        &json!({}),
    );
    let names: Vec<&String> = found.as_object().unwrap().keys().collect();
    assert_eq!(names.len(), 3, "wrong clocks make few indexes: {names:?}");
}

#[test]
fn an_event_on_the_edge_of_months_is_in_one_index_however_often_it_comes() {
    let name = "an_event_on_the_edge_of_months_is_in_one_index_however_often_it_comes";
    let Some(url) = server::url(name) else { return };
    let edge = Timestamp::parse_rfc3339("2026-02-01T00:00:00Z").unwrap();
    let mut last = process(1, "last of January");
    last.time = edge.minus(Duration::from_nanos(1));
    let mut first = process(2, "first of February");
    first.time = edge;
    let options = server::fresh(url);
    let all = [last, first];
    let store = stored(&options, &all);
    for _ in 0..3 {
        // As after a crash between the events and the position.
        store.append(&all, store.position() + 1).unwrap();
        store.commit().unwrap();
    }
    check_query(&store, &all, &Query::default());
    let january = Query::default().until(Some(edge));
    check_query(&store, &all, &january);
    check_query(&store, &all, &Query::default().since(Some(edge)));
    assert_eq!(
        store.retire(edge.minus(Duration::from_nanos(1))).unwrap(),
        0
    );
    assert_eq!(store.retire(edge).unwrap(), 1);
    check_query(&store, &all[1..], &Query::default());
}

#[test]
fn frequent_values_are_exact_however_many_there_are() {
    let Some(url) = server::url("frequent_values_are_exact_however_many_there_are") else {
        return;
    };
    // Values that each month names otherwise, more of them than a shard is asked for.
    let edge = Timestamp::parse_rfc3339("2026-02-01T00:00:00Z").unwrap();
    let mut all = Vec::new();
    for number in 0..24_000_u128 {
        let mut event = process(number, &format!("c{}", number % 12_000));
        event.hostname = format!("h{}", number % 7);
        event.time = if number % 2 == 0 {
            edge
        } else {
            edge.minus(Duration::from_secs(1))
        };
        all.push(event);
    }
    all.push(process(30_000, "c77"));
    all.push(process(30_001, "ΣΊΣΥΦΟΣ"));
    let options = server::fresh(url);
    let store = Elastic::open(&options).unwrap();
    for (batch, position) in all.chunks(4000).zip(1..) {
        store.append(batch, position).unwrap();
    }
    store.commit().unwrap();
    let top = store.top(&Query::default(), "command", 3).unwrap();
    let expected = [("c77", 3), ("c0", 2), ("c1", 2)];
    assert_eq!(
        top,
        expected.map(|(value, count)| (value.to_owned(), count))
    );
    let hosts = store.top(&Query::default(), "hostname", 100).unwrap();
    assert_eq!(hosts.iter().map(|(_, count)| count).sum::<u64>(), 24_002);
    assert_eq!(store.top(&Query::default(), "command", 0).unwrap(), []);
}

#[test]
fn positions_are_of_their_node_and_outlive_it() {
    let Some(url) = server::url("positions_are_of_their_node_and_outlive_it") else {
        return;
    };
    let options = server::fresh(url);
    let mut other = options.clone();
    other.node = "node-2".to_owned();
    let all = events(11, 60);
    let (first, second) = (
        Elastic::open(&options).unwrap(),
        Elastic::open(&other).unwrap(),
    );
    first.append(&all[..40], 7).unwrap();
    assert_eq!(first.commit().unwrap(), 7);
    // Another node took some of the same events.
    second.append(&all[20..], 3).unwrap();
    assert_eq!(second.commit().unwrap(), 3);
    drop((first, second));
    let first = Elastic::open(&options).unwrap();
    assert_eq!(
        (first.position(), Elastic::open(&other).unwrap().position()),
        (7, 3)
    );
    check_query(&first, &all, &Query::default());
}

#[test]
fn indexes_of_somebody_else_are_left_alone() {
    let Some(url) = server::url("indexes_of_somebody_else_are_left_alone") else {
        return;
    };
    let options = server::fresh(url);
    let prefix = &options.index_prefix;
    // Alike by name, and no month: it is searched by the pattern and must not matter.
    let alike = format!("/{prefix}2026_backup");
    ask(
        url,
        "PUT",
        &format!("{alike}/_doc/1?refresh=true"),
        &json!({"id": "1", "type": "process"}),
    );
    let store = stored(&options, &[process(1, "ours")]);
    assert_eq!(store.count(&Query::default()).unwrap(), 1);
    assert_eq!(store.usage().unwrap().events, 1);
    assert_eq!(store.retire(Timestamp::from_nanos(i64::MAX)).unwrap(), 1);
    let found = ask(url, "GET", &format!("{alike}/_doc/1"), &json!({}));
    assert_eq!(found["found"], true);
    // A classic installation's index of a month.
    ask(
        url,
        "DELETE",
        &format!("/_index_template/yinglong-{prefix}"),
        &json!({}),
    );
    ask(
        url,
        "PUT",
        &format!("/{prefix}2018_03/_doc/1"),
        &json!({"type": "process"}),
    );
    let error = Elastic::open(&options).unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(error.to_string().contains("2018_03"), "{error}");
}

#[test]
fn what_the_cluster_refuses_is_kept_and_stops_nothing() {
    let Some(url) = server::url("what_the_cluster_refuses_is_kept_and_stops_nothing") else {
        return;
    };
    let mut all = vec![
        process(1, "good"),
        process(2, "too long an id"),
        process(3, "good"),
    ];
    all[1].id = EventId::from("i".repeat(600));
    let store = stored(&server::fresh(url), &all);
    assert_eq!((store.refused(), store.position()), (1, 1));
    assert_eq!(store.count(&Query::default()).unwrap(), 2);
    ask(url, "POST", "/yinglong-refused/_refresh", &json!({}));
    let kept = ask(
        url,
        "POST",
        "/yinglong-refused/_search",
        &json!({"query": {"term": {"event_id": "i".repeat(600)}}}),
    );
    let text = kept["hits"]["hits"][0]["_source"]["event"]
        .as_str()
        .unwrap();
    assert_eq!(serde_json::from_str::<Event>(text).unwrap(), all[1]);
}

#[test]
fn a_read_only_index_holds_events_back_until_it_is_writable() {
    let Some(url) = server::url("a_read_only_index_holds_events_back_until_it_is_writable") else {
        return;
    };
    let mut options = server::fresh(url);
    options.retry_for = Duration::from_millis(300);
    let store = stored(&options, &[process(1, "before")]);
    let settings = format!("/{}2026_01/_settings", options.index_prefix);
    let block = |on: Value| {
        ask(
            url,
            "PUT",
            &settings,
            &json!({"index.blocks.read_only_allow_delete": on}),
        )
    };
    block(json!(true));
    store.append(&[process(2, "held")], 2).unwrap();
    let error = store.commit().unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(error.to_string().contains("read-only"), "{error}");
    assert_eq!(store.position(), 1);
    block(Value::Null);
    assert_eq!(store.commit().unwrap(), 2);
    assert_eq!(store.count(&Query::default()).unwrap(), 2);
}
