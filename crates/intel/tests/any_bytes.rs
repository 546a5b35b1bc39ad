//! Feeds come from strangers: whatever the bytes, an import ends, and says what it did.

#![allow(clippy::unwrap_used, reason = "what is missing in a test fails it")]

use proptest::prelude::*;
use yinglong_intel::{
    Builder, Value,
    import::{Format, Options, import, pattern},
};
use yinglong_model::Timestamp;

fn any_format() -> impl Strategy<Value = Option<Format>> {
    prop_oneof![
        Just(None),
        Just(Some(Format::Plain)),
        Just(Some(Format::Csv)),
        Just(Some(Format::Stix)),
        Just(Some(Format::Misp)),
    ]
}

/// Pieces that lead deeper into the readers than chance does.
fn piece() -> impl Strategy<Value = String> {
    let fixed = [
        "{",
        "}",
        "[",
        "]",
        "(",
        ")",
        ",",
        ":",
        "\"",
        "'",
        "\\",
        "\n",
        " ",
        "|",
        ";",
        "#",
        "\u{feff}",
        "\"objects\":[",
        "\"type\":\"indicator\"",
        "\"pattern\":\"",
        "\"Event\":{",
        "\"Attribute\":[",
        "\"Object\":[",
        "\"to_ids\":true",
        "\"value\":\"",
        "\"type\":\"ip-dst\"",
        "ipv4-addr:value",
        "file:hashes.'SHA-256'",
        " = ",
        " OR ",
        " AND ",
        " NOT ",
        " IN ",
        " ISSUBSET ",
        "'198.51.100.7'",
        "198.51.100.7",
        "2001:db8::1",
        "/24",
        "/0",
        "evil.example",
        "http://",
        "hxxp://a[.]example/x",
        "d41d8cd98f00b204e9800998ecf8427e",
        "ip,domain,expires",
        "2026-01-01",
        "/tmp/x",
        "C:\\x",
        "龙",
        "WITHIN 5 SECONDS",
        "t'2026-01-01T00:00:00Z'",
        "null",
        "true",
        "1e999",
        "-1",
    ];
    prop_oneof![
        4 => proptest::sample::select(fixed.to_vec()).prop_map(str::to_owned),
        1 => any::<String>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn random_bytes_are_imported_without_panic(bytes in any::<Vec<u8>>(), format in any_format()) {
        let options = Options { format, ..Options::default() };
        let report = import(&bytes[..], &options, |_| true).unwrap();
        prop_assert!(report.format.is_some());
    }

    #[test]
    fn near_feeds_are_imported_without_panic_and_found_again(
        pieces in proptest::collection::vec(piece(), 0..60),
        format in any_format(),
    ) {
        let text = pieces.concat();
        let options = Options { format, ..Options::default() };
        let mut builder = Builder::new();
        let feed = builder.feed("any").unwrap();
        let mut values = Vec::new();
        import(text.as_bytes(), &options, |indicator| {
            values.push(indicator.value.clone());
            let timeless = yinglong_intel::Indicator { valid_from: None, valid_until: None, ..indicator };
            builder.add(feed, timeless).is_ok()
        }).unwrap();
        let set = builder.finish();
        for value in values {
            let hits = set.look_up(&value, Timestamp::from_secs(1_764_000_000));
            prop_assert!(!hits.is_empty(), "{value}");
        }
    }

    #[test]
    fn patterns_are_parsed_without_panic(pieces in proptest::collection::vec(piece(), 0..40)) {
        let _ = pattern::parse(&pieces.concat());
    }

    #[test]
    fn values_come_to_one_form_and_stay_in_it(pieces in proptest::collection::vec(piece(), 1..4)) {
        if let Ok(value) = Value::parse(&pieces.concat()) {
            prop_assert_eq!(Value::parse(&value.to_string()), Ok(value));
        }
    }

    #[test]
    fn only_what_was_put_in_is_found(
        addresses in proptest::collection::btree_set(any::<u32>(), 0..200),
        asked in any::<u32>(),
    ) {
        let mut builder = Builder::new();
        let feed = builder.feed("f").unwrap();
        for address in &addresses {
            let indicator = yinglong_intel::Indicator {
                value: Value::ip(std::net::Ipv4Addr::from(*address).into()),
                label: String::new(),
                level: yinglong_model::rule::Level::Danger,
                confidence: None,
                valid_from: None,
                valid_until: None,
            };
            builder.add(feed, indicator).unwrap();
        }
        let set = builder.finish();
        for address in addresses.iter().chain([&asked]) {
            let value = Value::ip(std::net::Ipv4Addr::from(*address).into());
            let found = !set.look_up(&value, Timestamp::from_secs(0)).is_empty();
            prop_assert_eq!(found, addresses.contains(address));
        }
    }
}
