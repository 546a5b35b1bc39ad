//! What every event store does.

use std::{collections::BTreeMap, time::Duration};

use yinglong_model::{Event, EventData, EventId, Timestamp, event::Process};

use super::{OpenEvents, Random, events, query_text};
use crate::{
    EventStore, Kind, Query,
    event_store::{HistogramBucket, PageRequest},
    query::Key,
};

const HOUR: Duration = Duration::from_secs(3600);

/// Runs every test, each on new storage.
pub fn event_store_conformance(make: impl Fn() -> OpenEvents) {
    searches_mean_what_the_language_says(&make());
    reading_the_log_again_stores_nothing_twice(&make());
    what_was_not_committed_is_gone_and_comes_from_the_log(&make());
    odd_and_huge_values_are_stored_and_found(&make());
    old_partitions_retire_whole(&make());
    bad_requests_are_refused(&make());
}

/// Compares every kind of answer with the meaning of the query.
pub fn check_query(store: &dyn EventStore, stored: &[Event], query: &Query) {
    let mut expected: Vec<&Event> = stored.iter().filter(|e| query.matches(e)).collect();
    expected.sort_by(|a, b| (b.time, &b.id).cmp(&(a.time, &a.id)));
    for limit in [7, 1000] {
        let found = walk(store, query, limit);
        let ids = |events: &[&Event]| -> Vec<EventId> {
            events.iter().map(|event| event.id.clone()).collect()
        };
        assert_eq!(
            ids(&found.iter().collect::<Vec<_>>()),
            ids(&expected),
            "pages of {limit} of {query:?}"
        );
        assert!(
            found.iter().zip(&expected).all(|(a, b)| a == *b),
            "{query:?}"
        );
    }
    assert_eq!(
        store.count(query).unwrap(),
        expected.len() as u64,
        "{query:?}"
    );
    let mut buckets: BTreeMap<_, u64> = BTreeMap::new();
    for event in &expected {
        let hour = event.time.nanos().div_euclid(3_600_000_000_000) * 3_600_000_000_000;
        *buckets.entry((hour, event.data.event_type())).or_default() += 1;
    }
    let buckets: Vec<_> = buckets
        .into_iter()
        .map(|((start, event_type), count)| HistogramBucket {
            start: Timestamp::from_nanos(start),
            event_type,
            count,
        })
        .collect();
    assert_eq!(store.histogram(query, HOUR).unwrap(), buckets, "{query:?}");
    for field in ["name", "ip", "type"] {
        let mut values: BTreeMap<String, u64> = BTreeMap::new();
        for event in &expected {
            let value = match field {
                "ip" => Some(event.ip.clone()),
                "type" => Some(event.data.event_type().as_str().to_owned()),
                name => event.data.field(name).map(|value| value.into_owned()),
            };
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                *values.entry(value).or_default() += 1;
            }
        }
        let mut values: Vec<_> = values.into_iter().collect();
        values.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        values.truncate(3);
        assert_eq!(
            store.top(query, field, 3).unwrap(),
            values,
            "{field} {query:?}"
        );
    }
}

/// All pages together.
fn walk(store: &dyn EventStore, query: &Query, limit: usize) -> Vec<Event> {
    let mut found = Vec::new();
    let mut request = PageRequest {
        limit,
        ..PageRequest::default()
    };
    loop {
        let page = store.search(query, &request).unwrap();
        assert!(!page.partial && page.events.len() <= limit, "{query:?}");
        found.extend(page.events);
        match page.next {
            Some(next) => request.cursor = Some(next),
            None => return found,
        }
    }
}

/// C09.
fn searches_mean_what_the_language_says(open: &OpenEvents) {
    let store = open();
    let stored = events(7, 500);
    for (batch, position) in stored.chunks(23).zip(10..) {
        store.append(batch, position).unwrap();
        if position % 4 == 0 {
            assert_eq!(store.commit().unwrap(), position);
        }
    }
    store.commit().unwrap();
    let mut random = Random::new(8);
    let (mut found, mut forms) = (0, 0);
    for _ in 0..300 {
        let text = query_text(&mut random);
        let mut query = Query::parse(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
        if random.below(3) == 0 {
            let at = |random: &mut Random| stored.get(random.below(500) as usize).map(|e| e.time);
            query = query.since(at(&mut random)).until(at(&mut random));
        }
        found += usize::from(stored.iter().any(|event| query.matches(event)));
        forms += query
            .conditions
            .iter()
            .filter(|condition| condition.key == Key::All)
            .count();
        check_query(&*store, &stored, &query);
    }
    assert!(
        found > 100 && forms > 20,
        "the queries are too weak: {found} found something, {forms} ask for any field"
    );
    check_query(&*store, &stored, &Query::default());
    for event in stored.iter().step_by(41) {
        assert_eq!(store.get(&event.id).unwrap().as_ref(), Some(event));
    }
    assert_eq!(store.get(&EventId::from("f".repeat(32))).unwrap(), None);
    let usage = store.usage().unwrap();
    assert_eq!(usage.events, 500);
    assert!(usage.bytes > 0);
    drop(store);
    check_query(&*open(), &stored, &Query::default());
}

fn reading_the_log_again_stores_nothing_twice(open: &OpenEvents) {
    let store = open();
    let stored = events(1, 300);
    assert_eq!(store.position(), 0);
    for (batch, position) in stored.chunks(50).zip(1..) {
        store.append(batch, position).unwrap();
        // The same batch again, before and after the commit.
        store.append(batch, position).unwrap();
        if position == 3 {
            assert_eq!(store.commit().unwrap(), 3);
            store.append(batch, position).unwrap();
        }
    }
    assert_eq!(store.position(), 3);
    assert_eq!(store.commit().unwrap(), 6);
    assert_eq!(store.commit().unwrap(), 6);
    store.append(&stored[..50], 1).unwrap();
    store.commit().unwrap();
    check_query(&*store, &stored, &Query::default());
    // A position without events is a position all the same.
    store.append(&[], 9).unwrap();
    assert_eq!(store.commit().unwrap(), 9);
    let twice = &events(2, 301)[300];
    store.append(&[twice.clone(), twice.clone()], 10).unwrap();
    store.commit().unwrap();
    assert_eq!(store.count(&Query::default()).unwrap(), 301);
    drop(store);
    let store = open();
    assert_eq!(store.position(), 10);
    store.append(&stored[250..], 6).unwrap();
    store.commit().unwrap();
    assert_eq!(store.count(&Query::default()).unwrap(), 301);
}

fn what_was_not_committed_is_gone_and_comes_from_the_log(open: &OpenEvents) {
    let stored = events(3, 400);
    let store = open();
    store.append(&stored[..100], 1).unwrap();
    store.commit().unwrap();
    store.append(&stored[100..], 2).unwrap();
    drop(store);
    let store = open();
    assert_eq!(store.position(), 1);
    assert_eq!(store.count(&Query::default()).unwrap(), 100);
    store.append(&stored[..100], 1).unwrap();
    store.append(&stored[100..], 2).unwrap();
    store.commit().unwrap();
    check_query(&*store, &stored, &Query::default());
}

/// 32 KiB and more are kept whole and found by their last word.
fn odd_and_huge_values_are_stored_and_found(open: &OpenEvents) {
    let commands = [
        "\u{0}\u{1}\u{7f}".to_owned(),
        "\u{202e}rtl\u{feff}\u{fffd}".to_owned(),
        "{\"json\": [\"in\", null]}\n\t\r".to_owned(),
        "2026-01-31T09:30:00Z".to_owned(),
        "42".to_owned(),
        format!("{} last", "word".repeat(8192)),
        format!("{} last", "word ".repeat(8192)),
        format!("{} last", "word ".repeat(40_000)),
        format!("{} last", "龙".repeat(100_000)),
        format!("{} last", "x".repeat(2 << 20)),
    ];
    let template = events(4, 1).remove(0);
    let stored: Vec<Event> = commands
        .iter()
        .zip(0_u128..)
        .map(|(command, n)| Event {
            id: EventId::from(format!("{n:032x}")),
            data: EventData::Process(Box::new(Process {
                name: format!("/bin/{}", "y".repeat(70_000)),
                command: command.clone(),
                ..Process::default()
            })),
            ..template.clone()
        })
        .collect();
    let store = open();
    store.append(&stored, 1).unwrap();
    store.commit().unwrap();
    let word = "word".repeat(8192);
    for condition in [
        "pid:0".to_owned(),
        "command:last".to_owned(),
        "command:/last$/".to_owned(),
        "command.keyword:42".to_owned(),
        format!("command:{word}"),
        format!("command:{}", &word[..300]),
        format!("command.keyword:{}", commands[5]),
        "command:json null".to_owned(),
        "command:30".to_owned(),
        "command:>41".to_owned(),
        r"command:/\x00/".to_owned(),
    ] {
        let query = Query::parse(&format!("type:process | {condition}")).unwrap();
        let expected = stored.iter().filter(|e| query.matches(e)).count();
        assert_eq!(walk(&*store, &query, 3).len(), expected, "{condition:.40}");
        assert_eq!(store.count(&query).unwrap(), expected as u64);
    }
    assert_eq!(walk(&*store, &Query::default(), 3).len(), commands.len());
    for event in &stored {
        assert_eq!(store.get(&event.id).unwrap().as_ref(), Some(event));
    }
}

/// S07.
fn old_partitions_retire_whole(open: &OpenEvents) {
    let store = open();
    let stored = events(5, 2500);
    store.append(&stored, 1).unwrap();
    store.commit().unwrap();
    assert_eq!(store.retire(Timestamp::from_secs(0)).unwrap(), 0);
    let newest = stored.iter().map(|event| event.time).max().unwrap();
    let before = newest.minus(HOUR);
    let gone = store.retire(before).unwrap();
    assert!(gone > 0, "2500 events span more than one partition");
    let left = walk(&*store, &Query::default(), 1000);
    assert_eq!(left.len() as u64, 2500 - gone);
    let kept = stored.iter().filter(|event| event.time >= before);
    assert!(kept.into_iter().all(|event| left.contains(event)));
    drop(store);
    let store = open();
    assert_eq!(store.usage().unwrap().events, 2500 - gone);
    store.append(&stored[..10], 2).unwrap();
    store.commit().unwrap();
    assert_eq!(store.count(&Query::default()).unwrap(), 2510 - gone);
}

fn bad_requests_are_refused(open: &OpenEvents) {
    let store = open();
    store.append(&events(6, 5000), 1).unwrap();
    store.commit().unwrap();
    let all = Query::default();
    let request = |limit, cursor: Option<&str>| PageRequest {
        limit,
        cursor: cursor.map(str::to_owned),
        ..PageRequest::default()
    };
    for bad in [
        request(0, None),
        request(1001, None),
        request(1, Some("x")),
        request(1, Some("1.5:a")),
    ] {
        assert_eq!(
            store.search(&all, &bad).unwrap_err().kind(),
            Kind::Invalid,
            "{bad:?}"
        );
    }
    for text in ["type:userlist", "type:process | count:1"] {
        let query = Query::parse(text).unwrap();
        assert_eq!(store.count(&query).unwrap_err().kind(), Kind::Invalid);
    }
    assert_eq!(
        store.top(&all, "comand", 1).unwrap_err().kind(),
        Kind::Invalid
    );
    assert_eq!(
        store.histogram(&all, Duration::ZERO).unwrap_err().kind(),
        Kind::Invalid
    );
    let at_once = PageRequest {
        time_limit: Duration::ZERO,
        ..PageRequest::default()
    };
    assert!(store.search(&all, &at_once).unwrap().partial);
}
