use super::*;

fn read(text: &str, options: &Options) -> (Vec<Indicator>, Report) {
    let mut taken = Vec::new();
    let report = import(text.as_bytes(), options, |indicator| {
        taken.push(indicator);
        true
    })
    .unwrap();
    assert_eq!(report.taken, taken.len() as u64);
    (taken, report)
}

fn shown(indicators: &[Indicator]) -> Vec<String> {
    indicators
        .iter()
        .map(|indicator| indicator.value.to_string())
        .collect()
}

fn labels(indicators: &[Indicator]) -> Vec<&str> {
    indicators
        .iter()
        .map(|indicator| indicator.label.as_str())
        .collect()
}

fn at(text: &str) -> Option<Timestamp> {
    Some(Timestamp::parse_rfc3339(text).unwrap())
}

#[test]
fn a_plain_list_has_comments_and_bad_lines() {
    let text = "\u{feff}# feed\r\n198.51.100.7\r\n\n203.0.113.0/24 ; SBL1\nevil.example # c2\n\
        0.0.0.0 ads.example\nhttp://a.example/#part\nnot an indicator\n0.0.0.0/0\n// end";
    let (taken, report) = read(text, &Options::default());
    assert_eq!(report.format, Some(Format::Plain));
    assert_eq!(
        shown(&taken),
        [
            "198.51.100.7",
            "203.0.113.0/24",
            "evil.example",
            "ads.example",
            "http://a.example/"
        ]
    );
    assert_eq!(labels(&taken), ["", "SBL1", "c2", "", ""]);
    let lines: Vec<(u64, &str)> = report
        .diagnostics
        .iter()
        .map(|found| (found.line, found.text.as_str()))
        .collect();
    assert_eq!(lines, [(8, "not an indicator"), (9, "0.0.0.0/0")]);
    assert_eq!(report.refused, 2);
}

#[test]
fn columns_are_known_by_their_names() {
    let text = "\"first_seen\",\"ioc_type\",\"ioc_value\",\"malware_printable\",\"confidence_level\",\"expires\"\n\
        \"2026-01-01\",\"ip:port\",\"198.51.100.7:443\",\"Bot, net\",\"75\",\"2026-03-01 00:00:00\"\n\
        \"2026-01-01\",\"domain\",\"evil.example\",\"Loader\",\"100\",\"\"\n\
        \"2026-01-01\",\"email\",\"a@b.example\",\"Spam\",\"100\",\"\"\n\
        \"2026-01-01\",\"sha256_hash\",\"abc\",\"Short\",\"100\",\"\"\n\
        \"2026-01-01\",\"domain\",\"late.example\",\"Loader\",\"100\",\"soon\"\n";
    let (taken, report) = read(text, &Options::default());
    assert_eq!(report.format, Some(Format::Csv));
    assert_eq!(shown(&taken), ["198.51.100.7", "evil.example"]);
    assert_eq!(labels(&taken), ["Bot, net", "Loader"]);
    let first = taken.first().unwrap();
    assert_eq!(first.confidence, Some(75));
    assert_eq!(first.valid_until, at("2026-03-01T00:00:00Z"));
    assert_eq!(report.skipped.get("another type of indicator"), Some(&1));
    let lines: Vec<u64> = report.diagnostics.iter().map(|found| found.line).collect();
    assert_eq!(lines, [5, 6]);
}

#[test]
fn names_of_columns_may_be_in_a_comment() {
    let text = "# Feed\n# \"first_seen_utc\",\"dst_ip\",\"dst_port\",\"malware\"\n\
        \"2026-01-01 00:00:00\",\"198.51.100.7\",\"443\",\"Bot\"\n";
    let (taken, report) = read(text, &Options::default());
    assert_eq!(report.format, Some(Format::Csv));
    assert_eq!(shown(&taken), ["198.51.100.7"]);
    assert_eq!(labels(&taken), ["Bot"]);
}

#[test]
fn without_names_columns_are_known_by_what_is_in_them() {
    let md5 = "d41d8cd98f00b204e9800998ecf8427e";
    let text =
        format!("1;some words;198.51.100.7;{md5}\n2;other words;198.51.100.8;\n3;x;bad;{md5}\n");
    let (taken, report) = read(&text, &Options::default());
    assert_eq!(report.format, Some(Format::Csv));
    assert_eq!(shown(&taken), ["198.51.100.7", md5, "198.51.100.8", md5]);
    assert_eq!(report.refused, 1);
}

#[test]
fn an_unclosed_quote_spoils_what_follows_and_nothing_else() {
    let tail = "198.51.100.9,x\n".repeat(8000);
    let text = format!("ip,label\n198.51.100.7,good\n\"198.51.100.8,bad\n{tail}");
    let (taken, report) = read(&text, &Options::default());
    assert_eq!(shown(&taken), ["198.51.100.7"]);
    assert_eq!(report.refused, 1);
    assert!(report.diagnostics.first().unwrap().reason.contains("quote"));
}

const BUNDLE: &str = r#"{"type": "bundle", "id": "bundle--1", "objects": [
  {"type": "identity", "name": "somebody", "nested": {"a": [1, {"b": null}]}},
  {"type": "indicator", "spec_version": "2.1", "name": "C2", "confidence": 80,
   "pattern_type": "stix", "pattern": "[ipv4-addr:value = '198.51.100.7']",
   "valid_from": "2026-01-01T00:00:00Z", "valid_until": "2026-02-01T00:00:00Z"},
  {"type": "indicator", "revoked": true, "pattern": "[ipv4-addr:value = '198.51.100.8']"},
  {"type": "indicator", "indicator_types": ["benign"], "pattern": "[ipv4-addr:value = '198.51.100.9']"},
  {"type": "indicator", "pattern_type": "yara", "pattern": "rule x {}"},
  {"type": "indicator", "pattern": "[domain-name:value = 'a.example'] AND [url:value = 'http://b.example/']"},
  {"type": "indicator", "pattern": "[domain-name:value = 'c.example'", "name": ["odd"]},
  {"type": "indicator", "pattern": "[domain-name:value = 'd.example']", "valid_until": "soon"},
  {"type": "indicator", "indicator_types": ["malicious-activity"], "pattern": "[domain-name:value = 'e.example']"},
  "no object", 7, null, [1, 2]
]}"#;

#[test]
fn a_stix_bundle_gives_its_valid_indicators() {
    let (taken, report) = read(BUNDLE, &Options::default());
    assert_eq!(report.format, Some(Format::Stix));
    assert_eq!(shown(&taken), ["198.51.100.7", "e.example"]);
    assert_eq!(labels(&taken), ["C2", "malicious-activity"]);
    let first = taken.first().unwrap();
    assert_eq!(first.confidence, Some(80));
    assert_eq!(first.valid_until, at("2026-02-01T00:00:00Z"));
    let lines: Vec<u64> = report.diagnostics.iter().map(|found| found.line).collect();
    assert_eq!(lines, [5, 6, 7, 8, 10, 11, 12, 13]);
    for reason in ["revoked", "benign", "not an indicator"] {
        assert_eq!(report.skipped.get(reason), Some(&1), "{reason}");
    }
    assert_eq!(report.ended_early, None);
}

#[test]
fn stix_comes_as_envelope_array_or_single_object_too() {
    let object = r#"{"type": "indicator", "pattern": "[ipv4-addr:value = '198.51.100.7']"}"#;
    for text in [
        object.to_owned(),
        format!("[{object}]"),
        format!(r#"{{"more": false, "objects": [{object}]}}"#),
    ] {
        assert_eq!(
            shown(&read(&text, &Options::default()).0),
            ["198.51.100.7"],
            "{text}"
        );
    }
}

#[test]
fn a_damaged_bundle_gives_what_was_before_the_damage() {
    let cut = BUNDLE.find("\"yara\"").unwrap();
    let (taken, report) = read(&BUNDLE[..cut], &Options::default());
    assert_eq!(shown(&taken), ["198.51.100.7"]);
    assert!(report.ended_early.unwrap().contains("damaged"));
    let deep = format!(r#"{{"objects": [{{"type": {}"#, "[".repeat(200_000));
    let stix = Options {
        format: Some(Format::Stix),
        ..Options::default()
    };
    assert!(read(&deep, &stix).1.ended_early.is_some());
}

const EVENT: &str = r#"{"response": [{"Event": {"id": "7", "info": "Campaign", "date": "2026-01-01",
  "Attribute": [
    {"type": "ip-dst", "value": "198.51.100.7", "to_ids": true, "comment": "c2"},
    {"type": "ip-dst|port", "value": "198.51.100.8|443", "to_ids": "1"},
    {"type": "domain|ip", "value": "evil.example|198.51.100.9", "to_ids": true},
    {"type": "url", "value": "http://evil.example/x", "to_ids": false},
    {"type": "md5", "value": "d41d8cd98f00b204e9800998ecf8427e", "to_ids": true, "deleted": true},
    {"type": "sha256", "value": "short", "to_ids": true},
    {"type": "email-src", "value": "a@b.example", "to_ids": true},
    {"type": "filename", "value": "Dropper.exe", "to_ids": true}
  ],
  "Object": [{"name": "file", "Attribute": [
    {"type": "filename|md5", "value": "a.exe|d41d8cd98f00b204e9800998ecf8427e", "to_ids": true}
  ]}]}}]}"#;

#[test]
fn a_misp_event_gives_what_is_meant_for_detection() {
    let (taken, report) = read(EVENT, &Options::default());
    assert_eq!(report.format, Some(Format::Misp));
    assert_eq!(
        shown(&taken),
        [
            "198.51.100.7",
            "198.51.100.8",
            "evil.example",
            "198.51.100.9",
            "dropper.exe",
            "d41d8cd98f00b204e9800998ecf8427e"
        ]
    );
    assert_eq!(
        labels(&taken),
        [
            "c2", "Campaign", "Campaign", "Campaign", "Campaign", "Campaign"
        ]
    );
    let levels: Vec<Level> = taken.iter().map(|indicator| indicator.level).collect();
    assert_eq!(
        levels.get(4),
        Some(&Level::Hint),
        "a name alone says little"
    );
    assert_eq!(report.refused, 1);
    for (reason, count) in [
        ("not to_ids", 1),
        ("deleted", 1),
        ("another type of attribute", 1),
    ] {
        assert_eq!(report.skipped.get(reason), Some(&count), "{reason}");
    }
}

#[test]
fn what_is_stated_for_the_whole_feed_fills_gaps() {
    let options = Options {
        level: Level::Suspicious,
        valid_until: at("2026-05-01T00:00:00Z"),
        ..Options::default()
    };
    let (taken, _) = read(
        "ip,level,expires\n198.51.100.7,,\n198.51.100.8,0,2026-03-01\n",
        &options,
    );
    let facts: Vec<_> = taken.iter().map(|i| (i.level, i.valid_until)).collect();
    assert_eq!(
        facts,
        [
            (Level::Suspicious, at("2026-05-01T00:00:00Z")),
            (Level::Danger, at("2026-03-01T00:00:00Z"))
        ]
    );
}

#[test]
fn every_bound_is_kept_and_said() {
    let many: String = (0..300)
        .map(|n| format!("198.51.100.{}\n", n % 250))
        .collect();
    let few = Options {
        max_indicators: 10,
        ..Options::default()
    };
    let (taken, report) = read(&many, &few);
    assert_eq!(taken.len(), 10);
    assert!(report.ended_early.unwrap().contains("more than 10"));

    let short = Options {
        max_bytes: 100,
        ..Options::default()
    };
    assert!(
        read(&many, &short)
            .1
            .ended_early
            .unwrap()
            .contains("larger than 100")
    );
    let exact = Options {
        max_bytes: many.len() as u64,
        ..Options::default()
    };
    assert_eq!(read(&many, &exact).1.ended_early, None);

    let bad = "? ?\n".repeat(500);
    let (_, report) = read(&bad, &Options::default());
    assert_eq!((report.refused, report.diagnostics.len()), (500, 100));

    let long = format!("198.51.100.7\n{}\n198.51.100.8\n", "x".repeat(1 << 20));
    let (taken, report) = read(
        &long,
        &Options {
            format: Some(Format::Plain),
            ..Options::default()
        },
    );
    assert_eq!((taken.len(), report.refused), (2, 1));

    let full = import(BUNDLE.as_bytes(), &Options::default(), |_| false).unwrap();
    assert!(full.ended_early.unwrap().contains("no room"));
}

#[test]
fn formats_have_names() {
    for format in [Format::Plain, Format::Csv, Format::Stix, Format::Misp] {
        assert_eq!(format.as_str().parse(), Ok(format));
        assert!(Format::NAMES.contains(format.as_str()));
    }
    let error = "xml".parse::<Format>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "`xml` is no format; there are plain, csv, stix, misp"
    );
}
