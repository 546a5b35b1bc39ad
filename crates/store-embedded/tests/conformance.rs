//! The suite every backend passes, and random queries against the meaning of the language.

#![allow(clippy::unwrap_used)]

use std::{path::PathBuf, rc::Rc};

use proptest::prelude::*;
use yinglong_store::{
    EventStore, Query,
    conformance::{
        OpenEvents, OpenState, Random, check_query, event_store_conformance, events, query_text,
        state_store_conformance,
    },
};
use yinglong_store_embedded::Embedded;

fn folder() -> (Rc<tempfile::TempDir>, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    (Rc::new(dir), path)
}

#[test]
fn the_event_store_conforms() {
    event_store_conformance(|| -> OpenEvents {
        let (keep, path) = folder();
        Box::new(move || {
            let _keep = &keep;
            Box::new(Embedded::open(&path).unwrap().0)
        })
    });
}

#[test]
fn the_state_store_conforms() {
    state_store_conformance(|| -> OpenState {
        let (keep, path) = folder();
        Box::new(move || {
            let _keep = &keep;
            Box::new(Embedded::open(&path).unwrap().1)
        })
    });
}

#[test]
fn random_queries_mean_what_the_language_says() {
    let (_keep, path) = folder();
    let (store, _state) = Embedded::open(&path).unwrap();
    let stored = events(99, 300);
    for (batch, position) in stored.chunks(100).zip(1..) {
        store.append(batch, position).unwrap();
        store.commit().unwrap();
    }
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 150,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    runner
        .run(&any::<u64>(), |seed| {
            let text = query_text(&mut Random::new(seed));
            check_query(&store, &stored, &Query::parse(&text).unwrap());
            Ok(())
        })
        .unwrap();
}
