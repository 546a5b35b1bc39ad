//! Clusters that do not take events.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use yinglong_model::Event;
use yinglong_store::{EventStore, Kind, conformance::events};

use crate::{
    open, options,
    stand_in::{Reply, Request, StandIn, error, healthy, outcomes},
};

fn ids(events: &[Event]) -> BTreeSet<String> {
    events.iter().map(|event| event.id.to_string()).collect()
}

/// Ids that a bulk had, with how often.
fn sent(stand_in: &StandIn) -> BTreeMap<String, usize> {
    let mut sent = BTreeMap::new();
    for id in stand_in
        .seen(Request::is_bulk)
        .iter()
        .flat_map(Request::ids)
    {
        *sent.entry(id).or_default() += 1;
    }
    sent
}

#[test]
fn a_busy_cluster_is_asked_again() {
    let mut left = 2;
    let stand_in = StandIn::start(move |request| {
        if request.is_bulk() && left > 0 {
            left -= 1;
            return error(429, "circuit_breaking_exception");
        }
        healthy(request)
    });
    let mut patient = options(&stand_in.url());
    patient.retry_for = Duration::from_secs(20);
    let store = yinglong_store_elastic::Elastic::open(&patient).unwrap();
    store.append(&events(1, 10), 4).unwrap();
    assert_eq!(store.commit().unwrap(), 4);
    assert_eq!(stand_in.seen(Request::is_bulk).len(), 3);
}

#[test]
fn of_a_batch_only_what_may_still_work_is_sent_again() {
    let mut first = true;
    let stand_in = StandIn::start(move |request| {
        if request.is_bulk() && std::mem::take(&mut first) {
            return outcomes(&[
                (201, ""),
                (409, "version_conflict_engine_exception"),
                (429, "es_rejected_execution_exception"),
                (400, "mapper_parsing_exception"),
                (503, "unavailable_shards_exception"),
            ]);
        }
        healthy(request)
    });
    let store = open(&stand_in);
    let all = events(1, 5);
    store.append(&all, 1).unwrap();
    assert_eq!(store.commit().unwrap(), 1);
    let bulks = stand_in.seen(Request::is_bulk);
    assert_eq!(bulks.len(), 2);
    assert_eq!(bulks[1].ids(), [all[2].id.as_str(), all[4].id.as_str()]);
    assert_eq!(store.refused(), 1);
    let kept = stand_in.seen(|request| request.path == "/yinglong-refused/_doc");
    assert!(kept[0].body.contains(all[3].id.as_str()));
}

#[test]
fn what_stays_unavailable_is_given_back_and_nothing_is_lost() {
    let stand_in = StandIn::start(healthy);
    let store = open(&stand_in);
    let all = events(1, 50);
    for answer in [429, 503, 502, 401, 403] {
        stand_in.now(move |request| match request.is_bulk() {
            true => error(answer, "some_exception"),
            false => healthy(request),
        });
        store.append(&all, 3).unwrap();
        let started = Instant::now();
        let error = store.commit().unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable, "{error}");
        assert!(started.elapsed() < Duration::from_secs(10));
        assert_eq!(store.position(), 0);
    }
    // Nor when each document fails for what is no fault of its own.
    for (status, kind) in [
        (400, "validation_exception"),
        (403, "cluster_block_exception"),
        (404, "index_not_found_exception"),
        (400, "index_closed_exception"),
    ] {
        stand_in.now(move |request| match request.is_bulk() {
            true => outcomes(&vec![(status, kind); request.ids().len()]),
            false => healthy(request),
        });
        let error = store.commit().unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable, "{error}");
    }
    assert!(stand_in.seen(Request::writes_position).is_empty());
    assert_eq!(store.refused(), 0);
    stand_in.now(healthy);
    let before = stand_in.seen(Request::is_bulk).len();
    assert_eq!(store.commit().unwrap(), 3);
    let bulks = stand_in.seen(Request::is_bulk);
    let last: BTreeSet<String> = bulks[before..].iter().flat_map(Request::ids).collect();
    assert_eq!(last, ids(&all));
    assert_eq!(stand_in.seen(Request::writes_position).len(), 1);
}

#[test]
fn a_silent_cluster_is_not_waited_for() {
    let stand_in = StandIn::start(healthy);
    let mut hasty = options(&stand_in.url());
    hasty.request_timeout = Duration::from_millis(300);
    let store = yinglong_store_elastic::Elastic::open(&hasty).unwrap();
    stand_in.now(|_| Reply::Silence);
    store.append(&events(1, 5), 1).unwrap();
    let started = Instant::now();
    assert_eq!(store.commit().unwrap_err().kind(), Kind::Unavailable);
    assert!(started.elapsed() < Duration::from_secs(10));
    stand_in.now(healthy);
    assert_eq!(store.commit().unwrap(), 1);
}

#[test]
fn what_is_held_is_bounded_and_the_same_batch_can_come_again() {
    let stand_in = StandIn::start(healthy);
    let store = open(&stand_in);
    stand_in.now(|request| match request.is_bulk() {
        true => error(503, "unavailable"),
        false => healthy(request),
    });
    let all = events(1, 60_000);
    let batches: Vec<&[Event]> = all.chunks(2000).collect();
    let (mut taken, mut held) = (0, None);
    for (batch, position) in batches.iter().zip(1..) {
        match store.append(batch, position) {
            Ok(()) => taken = position,
            Err(error) => {
                assert_eq!(error.kind(), Kind::Unavailable);
                held = Some(position);
                break;
            }
        }
    }
    let held = held.expect("memory is bounded");
    assert_eq!(held, taken + 1);
    stand_in.now(healthy);
    for (batch, position) in batches.iter().zip(1..).skip(taken as usize) {
        store.append(batch, position).unwrap();
    }
    assert_eq!(store.commit().unwrap(), batches.len() as u64);
    let ids_sent: BTreeSet<String> = sent(&stand_in).into_keys().collect();
    assert_eq!(ids_sent, ids(&all));
    let largest = stand_in
        .seen(Request::is_bulk)
        .iter()
        .map(|bulk| bulk.body.len())
        .max();
    assert!(
        largest.unwrap() < 6 << 20,
        "requests are bounded: {largest:?}"
    );
}

#[test]
fn a_request_that_is_too_large_is_halved() {
    let stand_in = StandIn::start(|request| {
        if request.is_bulk() && request.body.len() > 4000 {
            return error(413, "too_large");
        }
        healthy(request)
    });
    let store = open(&stand_in);
    let mut all = events(1, 40);
    all[7].hostname = "h".repeat(5000);
    store.append(&all, 1).unwrap();
    assert_eq!(store.commit().unwrap(), 1);
    assert_eq!(store.refused(), 1, "the one that is too large by itself");
    assert_eq!(sent(&stand_in).len(), 40);
}

#[test]
fn the_position_is_written_after_the_events_and_again_when_that_failed() {
    let stand_in = StandIn::start(|request| match request.writes_position() {
        true => error(503, "unavailable"),
        false => healthy(request),
    });
    let store = open(&stand_in);
    store.append(&events(1, 3), 5).unwrap();
    assert_eq!(store.commit().unwrap_err().kind(), Kind::Unavailable);
    assert_eq!(store.position(), 0);
    stand_in.now(healthy);
    assert_eq!(store.commit().unwrap(), 5);
    assert_eq!(stand_in.seen(Request::is_bulk).len(), 1);
    let all = stand_in.seen(|request| request.is_bulk() || request.writes_position());
    assert!(all[0].is_bulk() && all[1].writes_position());
}

#[test]
fn an_answer_that_does_not_say_enough_is_no_success() {
    let stand_in = StandIn::start(|request| match request.is_bulk() {
        true => outcomes(&[(201, ""), (400, "mapper_parsing_exception")]),
        false => healthy(request),
    });
    let store = open(&stand_in);
    store.append(&events(1, 3), 1).unwrap();
    assert_eq!(store.commit().unwrap_err().kind(), Kind::Unavailable);
    assert_eq!((store.position(), store.refused()), (0, 0));
}
