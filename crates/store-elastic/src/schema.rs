//! What an index looks like: names, mapping, and which values it reads as the query language does.
//!
//! Every field of the data and of the host is `text` (its words, as the language splits them) with
//! a `keyword` beside it, as users of the classic system know them. Fields that are not listed stay
//! in the document and are not indexed, so that no data can make a mapping grow.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Map, Value, json};
use yinglong_model::{Event, EventData, EventType, Timestamp};
use yinglong_store::query::HostKey;

/// Raised when the mapping changes in a way that old indexes do not have.
pub(crate) const MAPPING_VERSION: u64 = 1;

/// Values up to so many bytes are keywords, and words up to so many are whole. The engine refuses
/// terms above 32766 bytes; what is longer makes the event [inexact](is_exact).
pub(crate) const LONGEST_TERM_BYTES: usize = 8191;

/// Fields of the data that hold whole numbers, and have a `number` beside the words.
const NUMBERS: [&str; 17] = [
    "actor_pid",
    "auid",
    "count",
    "duration_ms",
    "euid",
    "exit_code",
    "gid",
    "loginuid",
    "max_rss_bytes",
    "pid",
    "ppid",
    "session",
    "size",
    "system_ms",
    "target_pid",
    "uid",
    "user_ms",
];

/// Fields of the data that hold several texts. To the language they are one text, joined by bars.
const LISTS: [&str; 2] = ["ancestors", "answers"];

/// How far from its arrival the time of an event may lie to name an index: a host with a wrong
/// clock must not fill the cluster with indexes.
const PAST: Duration = Duration::from_secs(366 * 24 * 60 * 60);
const FUTURE: Duration = Duration::from_secs(24 * 60 * 60);

/// Whether the index knows a field as a number.
pub(crate) fn is_number(field: &str) -> bool {
    NUMBERS.contains(&field)
}

/// Whether a field holds several texts.
pub(crate) fn is_list(field: &str) -> bool {
    LISTS.contains(&field)
}

/// Index of an event: `monitorYYYY_MM` by its time.
pub(crate) fn index_name(prefix: &str, event: &Event) -> String {
    let time = event
        .time
        .max(event.ingested_at.minus(PAST))
        .min(event.ingested_at.plus(FUTURE))
        .to_datetime();
    format!("{prefix}{:04}_{:02}", time.year(), u8::from(time.month()))
}

/// End of the month of an index; `None` when it is no index of ours.
pub(crate) fn index_end(prefix: &str, name: &str) -> Option<Timestamp> {
    let (year, month) = name.strip_prefix(prefix)?.split_once('_')?;
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if year.len() != 4 || month.len() != 2 || !digits(year) || !digits(month) {
        return None;
    }
    let (year, month): (u16, u8) = (year.parse().ok()?, month.parse().ok()?);
    let next = match month {
        1..=11 => format!("{year:04}-{:02}-01T00:00:00Z", month + 1),
        12 => format!("{:04}-01-01T00:00:00Z", year + 1),
        _ => return None,
    };
    Timestamp::parse_rfc3339(&next).ok()
}

/// What matches every monthly index, and little else.
pub(crate) fn index_patterns(prefix: &str) -> [String; 2] {
    [format!("{prefix}1*_*"), format!("{prefix}2*_*")]
}

/// Path of a value of the host in a document.
pub(crate) const fn host_path(key: HostKey) -> &'static str {
    key.as_str()
}

/// Path of a field of the data in a document.
pub(crate) fn data_path(field: &str) -> String {
    format!("data.{field}")
}

/// Whether the index reads every value of an event as the query language does, so that the cluster
/// can decide by itself. Of the others every search takes the whole event and decides here.
///
/// The engine and Rust know different versions of Unicode and fold case differently here and
/// there; they agree on [`is_common`] characters.
pub(crate) fn is_exact(event: &Event) -> bool {
    let common = |value: &str| value.len() <= LONGEST_TERM_BYTES && value.chars().all(is_common);
    HostKey::ALL
        .into_iter()
        .all(|key| common(key.of_event(event)))
        && EventData::field_names(event.data.event_type())
            .iter()
            .all(|name| event.data.field(name).is_none_or(|value| common(&value)))
}

/// Whether a character is one whose class and lower case the engine and Rust agree on; the node
/// test asks a real engine about each.
pub const fn is_common(c: char) -> bool {
    match c {
        '\0'..='\u{7f}' => true,
        // A dotted capital I becomes two characters, a long s is an s, a capital sigma has two
        // lower cases.
        '\u{130}' | '\u{17f}' | '\u{3a3}' | '\u{3c2}' | '\u{3c3}' => false,
        // Latin, Greek, Cyrillic; holes were filled, and small letters above others became letters,
        // at different times.
        '\u{80}'..='\u{362}' | '\u{388}'..='\u{38a}' | '\u{38c}' => true,
        '\u{38e}'..='\u{3a1}' | '\u{3a4}'..='\u{527}' => true,
        // Punctuation; Japanese, Chinese, Korean; full-width forms; what stands for odd bytes.
        '\u{2010}'..='\u{2027}' | '\u{2030}'..='\u{205e}' => true,
        '\u{3000}'..='\u{303f}' | '\u{3041}'..='\u{3096}' | '\u{30a1}'..='\u{30fe}' => true,
        '\u{3400}'..='\u{4db5}' | '\u{4e00}'..='\u{9fa5}' | '\u{ac00}'..='\u{d7a3}' => true,
        '\u{ff01}'..='\u{ff5e}' | '\u{fffd}' => true,
        _ => false,
    }
}

/// Every field of the data of any type.
pub(crate) fn data_fields() -> BTreeSet<&'static str> {
    EventType::ALL
        .into_iter()
        .flat_map(EventData::field_names)
        .copied()
        .collect()
}

/// The mapping of the documents.
pub(crate) fn mapping() -> Value {
    let mut data = Map::new();
    for field in data_fields() {
        let mut value = text();
        if is_number(field) {
            value["fields"]["number"] = json!({"type": "long", "ignore_malformed": true});
        }
        data.insert(field.to_owned(), value);
    }
    let mut properties = Map::new();
    for key in HostKey::ALL {
        let mut value = text();
        value["fields"]["lower"] = json!({
            "type": "keyword",
            "normalizer": "yinglong_lower",
            "ignore_above": LONGEST_TERM_BYTES,
        });
        properties.insert(host_path(key).to_owned(), value);
    }
    // Classic scripts ask for `type.keyword`.
    let same = json!({"type": "keyword", "fields": {"keyword": {"type": "keyword"}}});
    for name in ["type", "id"] {
        properties.insert(name.to_owned(), same.clone());
    }
    let date = json!({"type": "date", "format": "strict_date_optional_time"});
    for name in ["time", "observed_at", "ingested_at"] {
        properties.insert(name.to_owned(), date.clone());
    }
    properties.insert("seq".into(), json!({"type": "long"}));
    properties.insert("time_nanos".into(), json!({"type": "long"}));
    properties.insert("inexact".into(), json!({"type": "boolean"}));
    properties.insert(
        "data".into(),
        json!({"type": "object", "dynamic": false, "properties": data}),
    );
    json!({
        "_meta": {"yinglong": {"mapping": MAPPING_VERSION}},
        "dynamic": false,
        "date_detection": false,
        "properties": properties,
    })
}

/// The index template.
pub(crate) fn template(prefix: &str) -> Value {
    json!({
        "index_patterns": index_patterns(prefix),
        "priority": 300,
        "_meta": {"description": "Events of Yinglong, an index per month"},
        "template": {
            "settings": {
                "index.number_of_shards": 1,
                // No copy on a single node, one on more.
                "index.auto_expand_replicas": "0-1",
                "index.codec": "best_compression",
                // Commits refresh by themselves.
                "index.refresh_interval": "30s",
                "index.translog.durability": "request",
                "index.mapping.total_fields.limit": 2000,
                "analysis": {
                    "tokenizer": {"yinglong_words": {
                        "type": "pattern",
                        "pattern": r"[^\p{IsAlphabetic}\p{N}]+",
                    }},
                    "filter": {"yinglong_longest": {
                        "type": "truncate",
                        "length": LONGEST_TERM_BYTES,
                    }},
                    "analyzer": {"yinglong_words": {
                        "type": "custom",
                        "tokenizer": "yinglong_words",
                        "filter": ["lowercase", "yinglong_longest"],
                    }},
                    "normalizer": {"yinglong_lower": {
                        "type": "custom",
                        "filter": ["lowercase"],
                    }},
                },
            },
            "mappings": mapping(),
        },
    })
}

/// Words without positions or lengths, and the whole value.
fn text() -> Value {
    json!({
        "type": "text",
        "analyzer": "yinglong_words",
        "index_options": "docs",
        "norms": false,
        "fields": {"keyword": {"type": "keyword", "ignore_above": LONGEST_TERM_BYTES}},
    })
}

#[cfg(test)]
mod tests {
    use yinglong_store::conformance::events;

    use super::*;

    fn at(time: &str, arrival: &str) -> String {
        let mut event = events(1, 1).remove(0);
        event.time = Timestamp::parse_rfc3339(time).unwrap();
        event.ingested_at = Timestamp::parse_rfc3339(arrival).unwrap();
        index_name("monitor", &event)
    }

    #[test]
    fn an_index_is_the_month_of_the_event() {
        let arrival = "2026-02-01T00:00:05Z";
        assert_eq!(
            at("2026-01-31T23:59:59.999999999Z", arrival),
            "monitor2026_01"
        );
        assert_eq!(at("2026-02-01T00:00:00Z", arrival), "monitor2026_02");
        assert_eq!(at("2025-11-30T00:00:00Z", arrival), "monitor2025_11");
    }

    #[test]
    fn a_wrong_clock_makes_no_new_indexes() {
        let arrival = "2026-02-10T00:00:00Z";
        assert_eq!(at("2199-01-01T00:00:00Z", arrival), "monitor2026_02");
        assert_eq!(at("1970-01-01T00:00:00Z", arrival), "monitor2025_02");
        assert_eq!(at("1677-10-01T00:00:00Z", arrival), "monitor2025_02");
    }

    #[test]
    fn an_index_ends_with_its_month() {
        let end = |name: &str| index_end("monitor", name).map(|time| time.to_string());
        assert_eq!(end("monitor2026_01").unwrap(), "2026-02-01T00:00:00Z");
        assert_eq!(end("monitor2026_12").unwrap(), "2027-01-01T00:00:00Z");
        for other in [
            "monitor2026_13",
            "monitor2026_1",
            "monitor26_01",
            "monitor",
            "x2026_01",
        ] {
            assert_eq!(end(other), None, "{other}");
        }
    }

    #[test]
    fn documents_hold_what_the_mapping_says() {
        // The index sees the document, the language sees the field: they must be the same.
        for event in events(3, 2000) {
            let document = serde_json::to_value(&event).unwrap();
            for name in EventData::field_names(event.data.event_type()) {
                let seen = event.data.field(name);
                let value = &document["data"][name];
                assert_eq!(value.is_array(), is_list(name) && seen.is_some(), "{name}");
                assert_eq!(
                    value.is_number(),
                    is_number(name) && seen.is_some(),
                    "{name}"
                );
                let stored = match value {
                    Value::Null => None,
                    Value::String(text) => Some(text.clone()),
                    Value::Array(texts) => Some(
                        texts
                            .iter()
                            .map(|text| text.as_str().unwrap())
                            .collect::<Vec<_>>()
                            .join("|"),
                    ),
                    other => Some(other.to_string()),
                };
                assert_eq!(stored.as_deref(), seen.as_deref(), "{name}");
            }
        }
    }

    #[test]
    fn common_characters_have_one_lower_case() {
        for c in ('\0'..=char::MAX).filter(|c| is_common(*c)) {
            assert_eq!(c.to_lowercase().count(), 1, "{c:?}");
            let alone = c.to_string();
            assert!(c.to_lowercase().eq(alone.to_lowercase().chars()), "{c:?}");
        }
        assert!(
            "/usr/bin/curl -s 应龙 агент büro\u{fffd}"
                .chars()
                .all(is_common)
        );
    }
}
