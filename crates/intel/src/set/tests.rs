use std::net::Ipv4Addr;

use super::*;

const NOW: Timestamp = Timestamp::from_secs(1_764_000_000);

fn indicator(text: &str) -> Indicator {
    Indicator {
        value: Value::parse(text).unwrap(),
        label: String::new(),
        level: Level::Danger,
        confidence: None,
        valid_from: None,
        valid_until: None,
    }
}

fn set(texts: &[&str]) -> IndicatorSet {
    let mut builder = Builder::new();
    let feed = builder.feed("f").unwrap();
    for text in texts {
        builder.add(feed, indicator(text)).unwrap();
    }
    builder.finish()
}

fn found(set: &IndicatorSet, text: &str) -> Vec<String> {
    let hits = set.look_up(&Value::parse(text).unwrap(), NOW);
    hits.iter().map(|hit| hit.indicator.to_string()).collect()
}

#[test]
fn addresses_are_found_alone_and_in_networks() {
    let set = set(&[
        "198.51.100.7",
        "203.0.113.0/24",
        "203.0.0.0/16",
        "2001:db8::/32",
        "2001:db8:1::5",
    ]);
    for (address, expected) in [
        ("198.51.100.7", Some("198.51.100.7")),
        ("::ffff:198.51.100.7", Some("198.51.100.7")),
        ("198.51.100.8", None),
        ("203.0.113.255", Some("203.0.113.0/24")),
        ("203.0.112.1", Some("203.0.0.0/16")),
        ("203.1.0.0", None),
        ("2001:db8:1::5", Some("2001:db8:1::5")),
        ("2001:db8:ffff::1", Some("2001:db8::/32")),
        ("2001:db9::1", None),
    ] {
        let found = found(&set, address);
        assert_eq!(found.first().map(String::as_str), expected, "{address}");
    }
}

#[test]
fn a_domain_is_found_by_whole_labels_below_it() {
    let set = set(&["evil.example", "http://bad.example/x", "192.0.2.1"]);
    for (text, expected) in [
        ("evil.example", Some("evil.example")),
        ("a.b.EVIL.example", Some("evil.example")),
        ("notevil.example", None),
        ("evil.example.org", None),
        ("example.org", None),
        ("https://cdn.evil.example/any?thing", Some("evil.example")),
        ("http://bad.example/x#part", Some("http://bad.example/x")),
        ("http://bad.example/y", None),
        ("http://192.0.2.1:8080/y", Some("192.0.2.1")),
    ] {
        let found = found(&set, text);
        assert_eq!(found.first().map(String::as_str), expected, "{text}");
    }
}

#[test]
fn a_question_for_the_host_of_a_url_is_a_hint_unless_the_whole_site_is_meant() {
    let set = set(&[
        "http://bad.example/x",
        "http://bad.example/y?z",
        "https://worse.example:8443/",
        "http://192.0.2.1/x",
    ]);
    for (text, expected) in [
        ("bad.example", Some(Level::Hint)),
        ("www.bad.example", None),
        ("worse.example", Some(Level::Danger)),
        ("other.example", None),
    ] {
        let hits = set.look_up(&Value::domain(text).unwrap(), NOW);
        let levels: Vec<Level> = hits.iter().map(|hit| hit.level).collect();
        assert_eq!(levels.first().copied(), expected, "{text}");
        assert!(levels.len() <= 1, "{levels:?}");
    }
    // The hosts are no indicators of their own.
    assert_eq!(set.stats().indicators, 4);
    assert_eq!(set.stats().kinds.len(), 1);
}

#[test]
fn hashes_and_files_are_found_whatever_their_case() {
    let md5 = "d41d8cd98f00b204e9800998ecf8427e";
    let sha256 = "ab".repeat(32);
    let mut builder = Builder::new();
    let feed = builder.feed("f").unwrap();
    for text in [md5, &sha256, "/tmp/.x/miner"] {
        builder.add(feed, indicator(text)).unwrap();
    }
    let name = Indicator {
        value: Value::name("Dropper.exe").unwrap(),
        ..indicator(md5)
    };
    builder.add(feed, name).unwrap();
    let set = builder.finish();
    for (text, hit) in [
        (md5.to_uppercase().as_str(), true),
        (&sha256, true),
        (&"ab".repeat(20), false),
        ("/TMP/.x/Miner", true),
        ("/tmp/.x/miner2", false),
        ("C:\\Users\\a\\DROPPER.exe", true),
        ("C:\\Users\\dropper.exe\\a", false),
    ] {
        assert_eq!(!found(&set, text).is_empty(), hit, "{text}");
    }
}

#[test]
fn what_is_not_valid_at_the_time_asked_about_is_no_hit() {
    let mut builder = Builder::new();
    let feed = builder.feed("f").unwrap();
    let timed = Indicator {
        valid_from: Some(NOW),
        valid_until: Some(NOW.plus(std::time::Duration::from_secs(60))),
        ..indicator("198.51.100.7")
    };
    builder.add(feed, timed).unwrap();
    builder.add(feed, indicator("198.51.100.8")).unwrap();
    let set = builder.finish();
    let value = Value::ip(Ipv4Addr::new(198, 51, 100, 7).into());
    for (secs, hit) in [(-1, false), (0, true), (59, true), (60, false)] {
        let at = Timestamp::from_secs(NOW.secs() + secs);
        assert_eq!(!set.look_up(&value, at).is_empty(), hit, "{secs}");
    }
    assert_eq!(set.expired(NOW), 0);
    assert_eq!(set.expired(Timestamp::from_secs(NOW.secs() + 60)), 1);
}

#[test]
fn every_feed_is_told_once_and_the_worst_first() {
    let mut builder = Builder::new();
    for (name, level) in [
        ("hint", Level::Hint),
        ("danger", Level::Danger),
        ("odd", Level::Suspicious),
    ] {
        let feed = builder.feed(name).unwrap();
        for label in ["a", "b"] {
            let stated = Indicator {
                level,
                label: label.into(),
                ..indicator("198.51.100.7")
            };
            builder.add(feed, stated).unwrap();
        }
    }
    let first = Arc::new(builder.finish());
    let second = Arc::new(set(&["198.51.100.0/24"]));
    let sets = [first, second];
    let value = Value::ip(Ipv4Addr::new(198, 51, 100, 7).into());
    let hits = find(&sets, &value, NOW);
    let told: Vec<(&str, Level)> = hits.iter().map(|hit| (hit.feed, hit.level)).collect();
    assert_eq!(
        told,
        [
            ("danger", Level::Danger),
            ("f", Level::Danger),
            ("odd", Level::Suspicious),
            ("hint", Level::Hint)
        ]
    );
}

#[test]
fn a_feed_that_repeats_itself_keeps_its_worst_and_latest_statements() {
    let mut builder = Builder::new();
    let feed = builder.feed("f").unwrap();
    for n in 0..500_i64 {
        let repeated = Indicator {
            valid_until: Some(Timestamp::from_secs(NOW.secs() + n)),
            ..indicator("evil.example")
        };
        builder.add(feed, repeated.clone()).unwrap();
        let address = Indicator {
            value: Value::parse("198.51.100.7").unwrap(),
            ..repeated
        };
        builder.add(feed, address).unwrap();
    }
    let set = builder.finish();
    assert_eq!(set.stats().indicators, 2 * MAX_STATEMENTS as u64);
    for text in ["evil.example", "198.51.100.7"] {
        let hits = set.look_up(&Value::parse(text).unwrap(), NOW);
        let until = hits.first().unwrap().valid_until;
        assert_eq!(
            until,
            Some(Timestamp::from_secs(NOW.secs() + 499)),
            "{text}"
        );
    }
}

#[test]
fn labels_are_cut_at_a_character() {
    let mut builder = Builder::new();
    let feed = builder.feed("f").unwrap();
    let long = Indicator {
        label: "龙".repeat(200),
        ..indicator("198.51.100.7")
    };
    builder.add(feed, long).unwrap();
    let set = builder.finish();
    let hits = set.look_up(&Value::parse("198.51.100.7").unwrap(), NOW);
    assert_eq!(hits.first().unwrap().label, "龙".repeat(85));
}
