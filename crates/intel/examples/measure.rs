//! Build time, memory and look-ups at millions of indicators, beside a map of texts in the same
//! run: `cargo run --release -p yinglong-intel --example measure [INDICATORS]`.

use std::{
    collections::HashMap,
    hint::black_box,
    io::{self, Read},
    time::Duration,
};

use yinglong_intel::{
    Builder, Indicator, Value,
    import::{Options, import},
};
use yinglong_model::{Timestamp, rule::Level};

/// Look-ups per figure.
const LOOK_UPS: u64 = 1_000_000;
const NOW: Timestamp = Timestamp::from_secs(1_764_000_000);

/// SplitMix64: the same numbers in every run.
fn random(n: u64) -> u64 {
    let mut x = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A value as a feed writes it: half hashes, then addresses, then domains.
fn text(n: u64) -> String {
    let r = random(n);
    match n % 10 {
        0..=4 => format!(
            "{:016x}{:016x}{:016x}{:016x}",
            r,
            random(!n),
            random(r),
            random(!r)
        ),
        5..=7 => std::net::Ipv4Addr::from((r >> 32) as u32).to_string(),
        _ => format!("{:x}.host{}.example", r >> 24, r % 1000),
    }
}

/// Time this thread had a processor, by Linux's scheduler: others on the machine do not count.
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.unwrap_or_default())
}

fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or_default() * 4096
}

fn main() {
    import_bundle();
    let count: u64 = std::env::args()
        .nth(1)
        .and_then(|n| n.parse().ok())
        .unwrap_or(5_000_000);
    let values = |start: u64| {
        (start..start + LOOK_UPS).map(move |n| text(random(n) % count + start / LOOK_UPS * count))
    };
    // Hits are among the first `count`, misses behind them.
    let hits: Vec<String> = values(0).collect();
    let misses: Vec<String> = values(LOOK_UPS).collect();
    let parse = |texts: &[String]| -> Vec<Value> {
        texts
            .iter()
            .filter_map(|text| Value::parse(text).ok())
            .collect()
    };
    let (hit_values, miss_values) = (parse(&hits), parse(&misses));

    let before = resident_bytes();
    let started = processor_time();
    let mut builder = Builder::new();
    let feed = builder.feed("measure").expect("the first feed fits");
    for n in 0..count {
        let Ok(value) = Value::parse(&text(n)) else {
            continue;
        };
        let indicator = Indicator {
            value,
            label: String::new(),
            level: Level::Danger,
            confidence: None,
            valid_from: None,
            valid_until: Some(Timestamp::from_secs(2_000_000_000)),
        };
        builder.add(feed, indicator).expect("there is room");
    }
    let read = processor_time() - started;
    let set = builder.finish();
    let built = processor_time() - started;
    let stats = set.stats();
    println!("indicators            {:>12}", stats.indicators);
    println!("parsed and added      {:>12.2?}", read);
    println!("built in all          {:>12.2?}", built);
    println!(
        "bytes per indicator   {:>12.1}",
        stats.bytes as f64 / stats.indicators as f64
    );
    println!(
        "resident after, MiB   {:>12}",
        (resident_bytes() - before) >> 20
    );
    look_up("set", "hit", &hit_values, |value| {
        !set.look_up(value, NOW).is_empty()
    });
    look_up("set", "miss", &miss_values, |value| {
        !set.look_up(value, NOW).is_empty()
    });

    let before = resident_bytes();
    let started = processor_time();
    let map: HashMap<String, u32> = (0..count).map(|n| (text(n), 0)).collect();
    println!(
        "map built             {:>12.2?}",
        (processor_time() - started)
    );
    let bytes = resident_bytes().saturating_sub(before);
    println!(
        "map bytes each        {:>12.1}",
        bytes as f64 / map.len() as f64
    );
    look_up("map", "hit", &hits, |text| map.contains_key(text));
    look_up("map", "miss", &misses, |text| map.contains_key(text));
}

/// A STIX bundle that is made while it is read.
struct Bundle {
    next: u64,
    count: u64,
    ready: Vec<u8>,
    given: usize,
}

impl Read for Bundle {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.given == self.ready.len() && self.next <= self.count {
            let n = self.next;
            let (open, close) = match n {
                0 => ("{\"type\": \"bundle\", \"objects\": [", ""),
                n if n == self.count => (",", "]}"),
                _ => (",", ""),
            };
            let object = format!(
                "{open}{{\"type\": \"indicator\", \"spec_version\": \"2.1\", \"id\": \"indicator--{n}\", \
                 \"created\": \"2026-01-01T00:00:00Z\", \"modified\": \"2026-01-01T00:00:00Z\", \"pattern_type\": \"stix\", \
                 \"pattern\": \"[file:hashes.'SHA-256' = '{:064x}']\", \"valid_from\": \"2026-01-01T00:00:00Z\"}}{close}",
                random(n)
            );
            self.ready = object.into_bytes();
            self.given = 0;
            self.next += 1;
        }
        let part = self.ready.get(self.given..).unwrap_or_default();
        let read = part.len().min(buffer.len());
        buffer[..read].copy_from_slice(&part[..read]);
        self.given += read;
        Ok(read)
    }
}

/// Reads a bundle of about 300 MB and keeps nothing of it.
fn import_bundle() {
    const OBJECTS: u64 = 1_000_000;
    let bundle = Bundle {
        next: 0,
        count: OBJECTS - 1,
        ready: Vec::new(),
        given: 0,
    };
    let (before, started) = (resident_bytes(), processor_time());
    let report = import(bundle, &Options::default(), |_| true).expect("it cannot fail to be read");
    println!("STIX objects taken    {:>12}", report.taken);
    println!(
        "STIX read             {:>12.2?}",
        processor_time() - started
    );
    println!(
        "STIX resident, KiB    {:>12}",
        resident_bytes().saturating_sub(before) >> 10
    );
}

fn look_up<T>(what: &str, expected: &str, items: &[T], find: impl Fn(&T) -> bool) {
    let started = processor_time();
    let found = items.iter().filter(|item| black_box(find(item))).count();
    let each = (processor_time() - started).as_nanos() / items.len() as u128;
    println!(
        "{what} {expected:<5} ns           {each:>12}  ({found} of {} found)",
        items.len()
    );
}
