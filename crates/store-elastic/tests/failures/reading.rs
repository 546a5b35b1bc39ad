//! Clusters that answer searches badly.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use yinglong_model::Event;
use yinglong_store::{EventStore, Kind, Query, conformance::events, event_store::PageRequest};

use crate::{
    open, options,
    stand_in::{Reply, Request, StandIn, error, healthy, ok},
};

fn hits(events: &[Event]) -> Value {
    let hits: Vec<Value> = events
        .iter()
        .map(|event| {
            json!({
                "_id": event.id, "_source": event,
                "sort": [event.time.nanos(), event.id],
            })
        })
        .collect();
    json!({"hits": hits})
}

fn searching(
    mut answer: impl FnMut(&Request) -> Reply + Send + 'static,
) -> impl FnMut(&Request) -> Reply + Send + 'static {
    move |request| {
        if request.is_search() {
            answer(request)
        } else {
            healthy(request)
        }
    }
}

#[test]
fn missing_shards_are_an_error_and_no_smaller_answer() {
    let stand_in = StandIn::start(searching(|_| {
        ok(json!({
            "timed_out": false,
            "_shards": {"total": 3, "successful": 2, "failed": 1},
            "hits": hits(&events(1, 2)),
        }))
    }));
    let store = open(&stand_in);
    let all = Query::default();
    for failed in [
        store.search(&all, &PageRequest::default()).map(drop),
        store.count(&all).map(drop),
        store.top(&all, "name", 3).map(drop),
        store.histogram(&all, Duration::from_secs(60)).map(drop),
        store.get(&events(1, 1)[0].id).map(drop),
    ] {
        let error = failed.unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable);
        assert!(error.to_string().contains("1 of 3 shards"), "{error}");
    }
}

#[test]
fn a_shard_that_is_just_starting_is_asked_again() {
    let mut left = 2;
    let found = events(1, 2);
    let stand_in = StandIn::start(searching(move |_| {
        let successful = if left > 0 { 0 } else { 1 };
        left -= 1;
        ok(json!({
            "_shards": {"total": 1, "successful": successful},
            "hits": hits(&found),
        }))
    }));
    let page = open(&stand_in).search(&Query::default(), &PageRequest::default());
    assert_eq!(page.unwrap().events.len(), 2);
}

#[test]
fn what_was_found_in_time_is_marked_as_a_part() {
    let found = events(1, 2);
    let expected = found.clone();
    let stand_in = StandIn::start(searching(move |_| {
        ok(json!({
            "timed_out": true,
            "_shards": {"total": 1, "successful": 1},
            "hits": hits(&found),
        }))
    }));
    let store = open(&stand_in);
    let page = store
        .search(&Query::default(), &PageRequest::default())
        .unwrap();
    assert!(page.partial);
    assert_eq!(page.events, expected);
    assert_eq!(
        store.count(&Query::default()).unwrap_err().kind(),
        Kind::Unavailable
    );
}

#[test]
fn a_search_that_must_read_everything_can_go_on_where_its_time_was_over() {
    // As many events as it likes, none of which match.
    let all = events(1, 500);
    let stand_in = StandIn::start(searching(move |_| {
        std::thread::sleep(Duration::from_millis(40));
        ok(json!({"_shards": {"total": 1, "successful": 1}, "hits": hits(&all)}))
    }));
    let request = PageRequest {
        time_limit: Duration::from_millis(100),
        ..PageRequest::default()
    };
    let query = Query::parse("type:process | command:/no such[ ]command/").unwrap();
    let page = open(&stand_in).search(&query, &request).unwrap();
    assert!(page.partial && page.events.is_empty());
    assert!(page.next.is_some());

    let mut hasty = options(&stand_in.url());
    hasty.scan_for = Duration::from_millis(100);
    let store = yinglong_store_elastic::Elastic::open(&hasty).unwrap();
    let error = store.count(&query).unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable, "a count is whole or none");
}

#[test]
fn a_document_that_is_no_event_spoils_nothing() {
    let found = events(1, 2);
    let stand_in = StandIn::start(searching(move |_| {
        let mut hits = hits(&found);
        hits["hits"][0]["_source"] = json!({"type": "process", "data": 3});
        ok(json!({"_shards": {"total": 1, "successful": 1}, "hits": hits}))
    }));
    let page = open(&stand_in).search(&Query::default(), &PageRequest::default());
    assert_eq!(page.unwrap().events.len(), 1);
}

#[test]
fn a_cluster_that_lies_about_matches_is_not_believed() {
    let found = events(1, 50);
    let all = found.clone();
    let stand_in = StandIn::start(searching(move |_| {
        ok(json!({"_shards": {"total": 1, "successful": 1}, "hits": hits(&found)}))
    }));
    let query = Query::parse("type:process | name:curl").unwrap();
    let page = open(&stand_in)
        .search(&query, &PageRequest::default())
        .unwrap();
    let expected = all.iter().filter(|event| query.matches(event)).count();
    assert_eq!(page.events.len(), expected);
}

#[test]
fn searches_end_in_time_and_say_why() {
    let stand_in = StandIn::start(healthy);
    let mut hasty = options(&stand_in.url());
    hasty.request_timeout = Duration::from_millis(300);
    let store = yinglong_store_elastic::Elastic::open(&hasty).unwrap();
    stand_in.now(|_| Reply::Silence);
    let started = Instant::now();
    let late = store.search(&Query::default(), &PageRequest::default());
    assert_eq!(late.unwrap_err().kind(), Kind::Unavailable);
    assert!(started.elapsed() < Duration::from_secs(5));
    stand_in.now(|_| error(400, "search_phase_execution_exception"));
    let error = store.count(&Query::default()).unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(error.to_string().contains("because"), "{error}");
}
