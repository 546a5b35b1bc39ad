//! Everything against a real cluster: the one of `YINGLONG_TEST_ELASTIC_URL`, else a node that
//! `script/opensearch` starts.

#![allow(clippy::unwrap_used)]

mod edges;
mod server;

use proptest::prelude::*;
use yinglong_store::{
    EventStore, Query,
    conformance::{OpenEvents, Random, check_query, event_store_conformance, events, query_text},
};
use yinglong_store_elastic::Elastic;

#[test]
fn the_event_store_conforms() {
    let Some(url) = server::url("the_event_store_conforms") else {
        return;
    };
    event_store_conformance(|| -> OpenEvents {
        let options = server::fresh(url);
        Box::new(move || Box::new(Elastic::open(&options).unwrap()))
    });
}

#[test]
fn random_queries_mean_what_the_language_says() {
    let Some(url) = server::url("random_queries_mean_what_the_language_says") else {
        return;
    };
    let store = Elastic::open(&server::fresh(url)).unwrap();
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
