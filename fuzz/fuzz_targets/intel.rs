//! Feeds from anywhere, in every format: an import ends, and what it takes is found again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use yinglong_intel::{
    Builder, Indicator,
    import::{Format, Options, import},
};
use yinglong_model::Timestamp;

fuzz_target!(|input: (u8, &[u8])| {
    let (choice, bytes) = input;
    let formats = [Format::Plain, Format::Csv, Format::Stix, Format::Misp];
    let options = Options {
        format: formats.get(usize::from(choice % 5)).copied(),
        ..Options::default()
    };
    let mut builder = Builder::new();
    let feed = builder.feed("fuzz").expect("a first feed has room");
    let mut values = Vec::new();
    let report = import(bytes, &options, |indicator| {
        values.push(indicator.value.clone());
        let timeless = Indicator {
            valid_from: None,
            valid_until: None,
            ..indicator
        };
        builder.add(feed, timeless).is_ok()
    });
    report.expect("bytes in memory can be read");
    let set = builder.finish();
    for value in values {
        let hits = set.look_up(&value, Timestamp::from_secs(1_764_000_000));
        assert!(!hits.is_empty(), "{value}");
    }
});
