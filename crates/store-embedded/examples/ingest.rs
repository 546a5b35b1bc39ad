//! Stores synthetic events as a server does and prints what it cost:
//! `cargo run --release -p yinglong-store-embedded --example ingest -- [events] [events per commit]`.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use yinglong_store::{
    EventStore, Query,
    conformance::{Random, event},
    event_store::PageRequest,
};
use yinglong_store_embedded::Embedded;

const BATCH: u64 = 1000;

/// CPU time of this process, all threads, from `/proc/self/stat` (proc(5): utime, stime, in
/// hundredths of a second).
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let ticks: u64 = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|field| field.parse::<u64>().unwrap())
        .sum();
    Duration::from_millis(ticks * 10)
}

fn peak_memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM"));
    line.unwrap_or_default().to_owned()
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse().unwrap());
    let number: u64 = arguments.next().unwrap_or(200_000);
    let per_commit: u64 = arguments.next().unwrap_or(20_000);
    let dir = tempfile::tempdir().unwrap();
    let (store, _state) = Embedded::open(dir.path()).unwrap();
    let mut random = Random::new(42);
    let (mut spent, mut json_bytes, mut longest) = (Duration::ZERO, 0, Duration::ZERO);
    for position in 1..=number / BATCH {
        let batch: Vec<_> = (0..BATCH)
            .map(|n| {
                let mut event = event((position - 1) * BATCH + n, &mut random);
                // The sample crosses a day every 2160 events; a busy server does not.
                event.ingested_at = event
                    .ingested_at
                    .minus(Duration::from_secs(40 * (n + (position - 1) * BATCH)));
                json_bytes += serde_json::to_vec(&event).unwrap().len();
                event
            })
            .collect();
        let before = cpu();
        store.append(&batch, position).unwrap();
        if (position * BATCH).is_multiple_of(per_commit) {
            let start = Instant::now();
            store.commit().unwrap();
            longest = longest.max(start.elapsed());
        }
        spent += cpu().saturating_sub(before);
    }
    store.commit().unwrap();
    let usage = store.usage().unwrap();
    let seconds = spent.as_secs_f64();
    println!(
        "events {}, {} B each as JSON",
        usage.events,
        json_bytes as u64 / number
    );
    println!(
        "{:.0} events per CPU second, longest commit {longest:?}",
        number as f64 / seconds
    );
    println!(
        "{} B per event on disk, {}",
        usage.bytes / number,
        peak_memory()
    );
    for text in [
        "type:process | ip:192.0.2.1",
        "type:file | hash:00000000000000000000000000000003",
        r"type:process | command:/curl.*\|.*sh/",
        "type:process | all:curl",
    ] {
        let query = Query::parse(text).unwrap();
        let start = Instant::now();
        let page = store.search(&query, &PageRequest::default()).unwrap();
        let paged = start.elapsed();
        let count = store.count(&query).unwrap();
        println!(
            "{text}: {} of {count}, page {paged:?}, count {:?}",
            page.events.len(),
            start.elapsed() - paged
        );
    }
    let start = Instant::now();
    let buckets = store
        .histogram(&Query::default(), Duration::from_secs(3600))
        .unwrap();
    println!(
        "histogram: {} buckets, {:?}",
        buckets.len(),
        start.elapsed()
    );
    let start = Instant::now();
    let top = store.top(&Query::default(), "name", 20).unwrap();
    println!("top names: {}, {:?}", top.len(), start.elapsed());
}
