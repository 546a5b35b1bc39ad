//! Windows events in JSON, flattened to names and values.
//!
//! Three notations are read: the XML of an event as an object (`Event` with `System` and `EventData`
//! or `UserData`; attributes in `#attributes`, in `NAME_attributes`, or with `@`), the object that
//! shippers write under `winlog`, and a flat object with `Channel` and `EventID`.

use serde_json::{Map, Value};
use yinglong_model::Timestamp;

use super::Event;

/// The event in an object; `None` when it is none.
pub(crate) fn flatten(document: &Map<String, Value>) -> Option<Event> {
    let event = match object(document, "Event").or_else(|| object(document, "event_xml")) {
        Some(event) => of_xml(event),
        None if document.contains_key("System") => of_xml(document),
        None => match object(document, "winlog") {
            Some(winlog) => of_shipper(document, winlog),
            None => of_flat(document)?,
        },
    };
    event.get("EventID").is_some().then_some(event)
}

fn object<'d>(document: &'d Map<String, Value>, name: &str) -> Option<&'d Map<String, Value>> {
    document.get(name)?.as_object()
}

fn of_xml(xml: &Map<String, Value>) -> Event {
    let mut event = Event::default();
    if let Some(system) = object(xml, "System") {
        for (name, value) in system {
            element(&mut event, name, value);
        }
    }
    if let Some(data) = xml.get("EventData") {
        data_of(&mut event, data);
    }
    if let Some(Value::Object(user)) = xml.get("UserData") {
        leaves(&mut event, user);
    }
    head(&mut event);
    event
}

/// An element of the head: its text, and its attributes as `ELEMENT_ATTRIBUTE`.
fn element(event: &mut Event, name: &str, value: &Value) {
    let (name, all_attributes) = match name.strip_suffix("_attributes") {
        Some(name) => (name, true),
        None => (name, false),
    };
    match value {
        Value::Object(parts) => {
            for (part, value) in parts {
                match part.as_str() {
                    "#text" => put(event, name, value),
                    "#attributes" => {
                        if let Value::Object(attributes) = value {
                            attributes_of(event, name, attributes);
                        }
                    }
                    part => {
                        let attribute = part.strip_prefix('@');
                        if all_attributes || attribute.is_some() || !value.is_object() {
                            let part = attribute.unwrap_or(part);
                            attribute_of(event, name, part, value);
                        }
                    }
                }
            }
        }
        value => put(event, name, value),
    }
}

fn attributes_of(event: &mut Event, name: &str, attributes: &Map<String, Value>) {
    for (attribute, value) in attributes {
        attribute_of(event, name, attribute, value);
    }
}

fn attribute_of(event: &mut Event, name: &str, attribute: &str, value: &Value) {
    if !attribute.starts_with("xmlns") {
        put(event, &format!("{name}_{attribute}"), value);
    }
}

/// Event data: named values, and values without a name, which become the lines of `Data`.
fn data_of(event: &mut Event, data: &Value) {
    let mut unnamed = Vec::new();
    match data {
        Value::Object(parts) => {
            for (name, value) in parts {
                match name.as_str() {
                    "Data" => data_elements(event, value, &mut unnamed),
                    "#attributes" | "@Name" | "Data_attributes" => {}
                    name if name.starts_with("@xmlns") => {}
                    name => named(event, name, value),
                }
            }
        }
        value => data_elements(event, value, &mut unnamed),
    }
    if !unnamed.is_empty() {
        event.push("Data", unnamed.join("\n"));
    }
}

fn data_elements(event: &mut Event, value: &Value, unnamed: &mut Vec<String>) {
    match value {
        Value::Array(elements) => {
            for value in elements {
                data_elements(event, value, unnamed);
            }
        }
        Value::Object(element) => {
            let attributes = object(element, "#attributes");
            let name = ["@Name", "Name"].iter().find_map(|name| element.get(*name));
            let name = name.or_else(|| attributes?.get("Name"));
            match (name.and_then(Value::as_str), element.get("#text")) {
                (Some(name), text) => {
                    let text = text.or_else(|| element.get("Value"));
                    named(event, name, text.unwrap_or(&Value::Null));
                }
                (None, Some(text)) => data_elements(event, text, unnamed),
                (None, None) => {
                    for (name, value) in element {
                        named(event, name, value);
                    }
                }
            }
        }
        value => unnamed.extend(scalar(value)),
    }
}

/// Data with a name. Rules write names with blanks without them, or with underscores.
fn named(event: &mut Event, name: &str, value: &Value) {
    if name.contains(' ') {
        put(event, &name.replace(' ', ""), value);
        put(event, &name.replace(' ', "_"), value);
    } else {
        put(event, name, value);
    }
}

/// Values of nested elements by their own names. The names of what they are in do not count.
fn leaves(event: &mut Event, element: &Map<String, Value>) {
    for (name, value) in element {
        match value {
            Value::Object(inner) if inner.contains_key("#text") => {
                put(event, name, inner.get("#text").unwrap_or(&Value::Null));
            }
            Value::Object(_) if name == "#attributes" || name.ends_with("_attributes") => {}
            Value::Object(inner) => leaves(event, inner),
            _ if name.starts_with('@') || name.starts_with("xmlns") => {}
            value => named(event, name, value),
        }
    }
}

fn of_shipper(document: &Map<String, Value>, winlog: &Map<String, Value>) -> Event {
    let mut event = Event::default();
    let heads = [
        ("channel", "Channel"),
        ("event_id", "EventID"),
        ("provider_name", "Provider_Name"),
        ("computer_name", "Computer"),
        ("record_id", "EventRecordID"),
        ("version", "Version"),
        ("task", "Task"),
        ("opcode", "Opcode"),
    ];
    for (written, name) in heads {
        if let Some(value) = winlog.get(written) {
            put(&mut event, name, value);
        }
    }
    if let Some(data) = winlog.get("event_data") {
        data_of(&mut event, data);
    }
    if let Some(user) = object(winlog, "user_data") {
        leaves(&mut event, user);
    }
    if let Some(time) = document.get("@timestamp") {
        put(&mut event, "TimeCreated_SystemTime", time);
    }
    head(&mut event);
    event
}

fn of_flat(document: &Map<String, Value>) -> Option<Event> {
    let first = |names: &[&str]| names.iter().find_map(|name| document.get(*name));
    let id = first(&["EventID", "EventId", "event_id"])?;
    let channel = first(&["Channel", "channel", "LogName", "log_name"])?;
    let mut event = Event::default();
    put(&mut event, "Channel", channel);
    put(&mut event, "EventID", id);
    let heads: [(&str, &[&str]); 3] = [
        (
            "Provider_Name",
            &[
                "Provider_Name",
                "ProviderName",
                "SourceName",
                "provider_name",
            ],
        ),
        (
            "Computer",
            &[
                "Computer",
                "Hostname",
                "ComputerName",
                "MachineName",
                "computer_name",
            ],
        ),
        (
            "TimeCreated_SystemTime",
            &[
                "TimeCreated",
                "SystemTime",
                "@timestamp",
                "EventTime",
                "timestamp",
                "UtcTime",
            ],
        ),
    ];
    for (name, written) in heads {
        if let Some(value) = first(written) {
            put(&mut event, name, value);
        }
    }
    for (name, value) in document {
        match (name.as_str(), value) {
            ("EventData" | "event_data", data) => data_of(&mut event, data),
            ("UserData" | "user_data", Value::Object(user)) => leaves(&mut event, user),
            (name, value) if event.get(name).is_none() => named(&mut event, name, value),
            _ => {}
        }
    }
    head(&mut event);
    Some(event)
}

fn head(event: &mut Event) {
    event.channel = event.get("Channel").unwrap_or_default().to_owned();
    let id = event.get("EventID").and_then(|id| id.trim().parse().ok());
    event.id = id.unwrap_or_default();
    event.time = event.get("TimeCreated_SystemTime").and_then(time);
}

/// A time in RFC 3339, with a blank for its `T` and without a zone (which is UTC then).
fn time(text: &str) -> Option<Timestamp> {
    let text = text.trim().trim_end_matches(" UTC");
    let text = text.replacen(' ', "T", 1);
    let parsed = Timestamp::parse_rfc3339(&text);
    parsed
        .or_else(|_| Timestamp::parse_rfc3339(&format!("{text}Z")))
        .ok()
}

fn put(event: &mut Event, name: &str, value: &Value) {
    match value {
        Value::Array(values) => {
            let lines: Vec<String> = values.iter().filter_map(scalar).collect();
            if !lines.is_empty() {
                event.push(name, lines.join("\n"));
            }
        }
        Value::Object(parts) => {
            if let Some(text) = parts.get("#text").and_then(scalar) {
                event.push(name, text);
            }
        }
        value => {
            if let Some(text) = scalar(value) {
                event.push(name, text);
            }
        }
    }
}

/// The text of a value. What has no value is not there at all.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(yes) => Some(yes.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(document: Value) -> Event {
        flatten(document.as_object().unwrap()).unwrap()
    }

    fn check(event: &Event, expected: &[(&str, &str)]) {
        for (name, value) in expected {
            assert_eq!(event.get(name), Some(*value), "{name}");
        }
    }

    #[test]
    fn the_three_notations_of_attributes_say_the_same() {
        let expected = [
            ("Provider_Name", "Microsoft-Windows-Sysmon"),
            ("EventID", "1"),
            ("Channel", "Microsoft-Windows-Sysmon/Operational"),
            ("Image", "C:\\x.exe"),
        ];
        let channel = "Microsoft-Windows-Sysmon/Operational";
        let time = "2026-11-05T10:00:00.123Z";
        let documents = [
            json!({"Event": {
                "System": {
                    "Provider": {"#attributes": {"Name": "Microsoft-Windows-Sysmon"}},
                    "EventID": {"#attributes": {"Qualifiers": 0}, "#text": 1},
                    "TimeCreated": {"#attributes": {"SystemTime": time}},
                    "Channel": channel,
                },
                "EventData": {"Image": "C:\\x.exe"},
            }}),
            json!({"Event": {
                "System": {
                    "Provider_attributes": {"Name": "Microsoft-Windows-Sysmon"},
                    "EventID": 1,
                    "TimeCreated_attributes": {"SystemTime": time},
                    "Channel": channel,
                },
                "EventData": {"Image": "C:\\x.exe"},
            }}),
            json!({"Event": {
                "@xmlns": "http://schemas.microsoft.com/win/2004/08/events/event",
                "System": {
                    "Provider": {"@Name": "Microsoft-Windows-Sysmon"},
                    "EventID": "1",
                    "TimeCreated": {"@SystemTime": time},
                    "Channel": channel,
                },
                "EventData": {"Data": [{"@Name": "Image", "#text": "C:\\x.exe"}]},
            }}),
        ];
        for document in documents {
            let event = event(document);
            check(&event, &expected);
            assert_eq!((event.id, event.channel.as_str()), (1, channel));
            assert_eq!(event.time.unwrap().millis() % 1000, 123);
        }
    }

    #[test]
    fn what_shippers_and_exporters_write_is_read() {
        let shipped = event(json!({
            "@timestamp": "2026-11-05T10:00:00Z",
            "winlog": {
                "channel": "Security",
                "event_id": 4625,
                "computer_name": "pc",
                "event_data": {"TargetUserName": "ann"},
            },
        }));
        let flat = event(json!({
            "EventTime": "2026-11-05 10:00:00",
            "Channel": "Security",
            "EventID": 4625,
            "Hostname": "pc",
            "TargetUserName": "ann",
        }));
        for event in [shipped, flat] {
            check(
                &event,
                &[
                    ("EventID", "4625"),
                    ("Computer", "pc"),
                    ("TargetUserName", "ann"),
                ],
            );
            assert_eq!(
                event.time,
                Timestamp::parse_rfc3339("2026-11-05T10:00:00Z").ok()
            );
        }
    }

    #[test]
    fn data_without_names_are_the_lines_of_one_value() {
        for data in [json!({"#text": ["a", "b"]}), json!(["a", "b"])] {
            let event = event(json!({"Event": {
                "System": {"EventID": 400, "Channel": "Windows PowerShell"},
                "EventData": {"Data": data, "Binary": null},
            }}));
            check(&event, &[("Data", "a\nb")]);
            assert_eq!(event.get("Binary"), None);
        }
    }

    #[test]
    fn user_data_have_the_names_of_their_elements() {
        let event = event(json!({"Event": {
            "System": {"EventID": 5858, "Channel": "Microsoft-Windows-WMI-Activity/Operational"},
            "UserData": {"Operation_ClientFailure": {
                "#attributes": {"xmlns": "x"},
                "User": "pc\\ann",
                "Operation": "Start",
            }},
        }}));
        check(&event, &[("User", "pc\\ann"), ("Operation", "Start")]);
        assert_eq!(event.fields.len(), 4);
    }

    #[test]
    fn names_with_blanks_are_there_in_both_notations_of_rules() {
        let event = event(json!({"Event": {
            "System": {"EventID": 1116, "Channel": "x"},
            "EventData": {"Threat Name": "EICAR", "Feature Name": "y"},
        }}));
        check(&event, &[("ThreatName", "EICAR"), ("Feature_Name", "y")]);
    }

    #[test]
    fn what_has_no_event_id_is_no_event() {
        for document in [
            json!({}),
            json!({"Event": 7}),
            json!({"Event": {"System": {}}}),
            json!({"Channel": "x"}),
        ] {
            assert_eq!(flatten(document.as_object().unwrap()), None);
        }
    }
}
