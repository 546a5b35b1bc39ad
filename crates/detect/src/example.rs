//! Elements as tests of rules write them, in the form in which agents deliver them.
//!
//! An example is an object with `kind`, `system`, `count` and `fields`; fields have the names of the
//! data contract and are all texts, as rules see them, `ancestors` and `answers` joined by bars. It is read back
//! through the types of the contract, so that an example cannot have what no agent delivers.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use yinglong_model::{EventData, InventoryType, event::System, inventory};
use yinglong_rules::{Class, Source};

use crate::{Element, Fields};

/// One element with all that rules can ask about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    class: Class,
    system: System,
    count: Option<u64>,
    delivered: Delivered,
}

#[derive(Debug, Clone, PartialEq)]
enum Delivered {
    Event(Box<EventData>),
    Inventory(inventory::Element),
}

impl Example {
    /// Reads one.
    ///
    /// # Errors
    /// No agent delivers such an element; the text says what is wrong with it.
    pub fn read(written: &Value) -> Result<Self, String> {
        let text = |name: &str| {
            let value = written.get(name).and_then(Value::as_str);
            value.ok_or_else(|| format!("`{name}` is not a text"))
        };
        let kind = text("kind")?;
        let source = Source::from_name(kind)
            .ok_or_else(|| format!("`{kind}` is no type of events or inventories"))?;
        let system = match text("system")? {
            "linux" => System::Linux,
            "windows" => System::Windows,
            other => return Err(format!("`{other}` is no system; write linux or windows")),
        };
        let count = match written.get("count") {
            None | Some(Value::Null) => None,
            Some(count) => Some(count.as_u64().ok_or("`count` is not a number")?),
        };
        let fields = written.get("fields").and_then(Value::as_object);
        let mut values = BTreeMap::new();
        for (name, value) in fields.ok_or("`fields` is not an object")? {
            let value = value.as_str();
            let value = value.ok_or_else(|| format!("the field `{name}` is not a text"))?;
            values.insert(name.clone(), value.to_owned());
        }
        Ok(Self {
            class: source.into(),
            system,
            count,
            delivered: Delivered::new(source, values)?,
        })
    }

    /// The same for the engine.
    pub fn element(&self) -> Element<'_> {
        let fields: &dyn Fields = match &self.delivered {
            Delivered::Event(event) => event.as_ref(),
            Delivered::Inventory(element) => element,
        };
        Element {
            class: self.class,
            system: self.system,
            fields,
            count: self.count,
            learn: false,
        }
    }
}

impl Delivered {
    fn new(source: Source, values: BTreeMap<String, String>) -> Result<Self, String> {
        let kind = source.as_str();
        if InventoryType::from_name(kind).is_some() {
            return Ok(Self::Inventory(values));
        }
        let mut data = Map::new();
        for (name, value) in values {
            if !source.field_names().contains(&name.as_str()) {
                return Err(format!("`{kind}` has no field `{name}`"));
            }
            let typed = typed(&name, &value)?;
            data.insert(name, typed);
        }
        let event = json!({"type": kind, "data": data});
        let event = serde_json::from_value(event).map_err(|error| error.to_string())?;
        Ok(Self::Event(Box::new(event)))
    }
}

/// A value as documents have it.
fn typed(name: &str, value: &str) -> Result<Value, String> {
    Ok(match name {
        "ancestors" | "answers" => json!(value.split('|').collect::<Vec<_>>()),
        "memfd" | "setuid" | "truncated" | "web" | "success" | "core_dumped" => match value {
            "true" => json!(true),
            "false" => json!(false),
            _ => return Err(format!("the field `{name}` is neither true nor false")),
        },
        "pid" | "ppid" | "uid" | "euid" | "gid" | "session" | "loginuid" | "exit_code"
        | "actor_pid" | "size" | "target_pid" | "auid" | "count" | "duration_ms" | "user_ms"
        | "system_ms" | "max_rss_bytes" => {
            let number = value.parse::<i64>();
            json!(number.map_err(|_| format!("the field `{name}` is not a number"))?)
        }
        _ => json!(value),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_example_has_what_the_contract_derives_too() {
        let written = json!({"kind": "process", "system": "linux", "count": 3,
            "fields": {"name": "/bin/sh", "ancestors": "/sbin/init|/sbin/x", "setuid": "true"}});
        let example = Example::read(&written).unwrap();
        let element = example.element();
        assert_eq!((element.count, element.class), (Some(3), Class::PROCESS));
        assert_eq!(
            element.fields.get("parent_exe").as_deref(),
            Some("/sbin/init")
        );
        assert_eq!(element.fields.get("setuid").as_deref(), Some("true"));
    }

    #[test]
    fn an_example_may_be_of_every_type_of_events() {
        let read = |kind: &str, fields: Value| {
            let written = json!({"kind": kind, "system": "linux", "fields": fields});
            Example::read(&written).unwrap()
        };
        let dns = read(
            "dns",
            json!({"query": "a.example", "answers": "b.example|192.0.2.1"}),
        );
        assert_eq!(
            dns.element().fields.get("answers").as_deref(),
            Some("b.example|192.0.2.1")
        );
        let call = read(
            "syscall",
            json!({"call": "ptrace", "success": "true", "target_pid": "7", "auid": "1000"}),
        );
        let element = call.element();
        assert_eq!(element.class, Class::SYSCALL);
        assert_eq!(element.fields.get("outcome").as_deref(), Some("yes"));
        assert_eq!(element.fields.get("target_pid").as_deref(), Some("7"));
        let loss = read("loss", json!({"stream": "dns", "count": "312"}));
        assert_eq!(loss.element().fields.get("count").as_deref(), Some("312"));
    }

    #[test]
    fn what_no_agent_delivers_is_refused_with_the_reason() {
        let example = |kind: &str, system: &str, field: &str, value: &str| {
            let written = json!({"kind": kind, "system": system, "fields": {field: value}});
            Example::read(&written).unwrap_err()
        };
        for (said, expected) in [
            (
                example("processes", "linux", "name", "x"),
                "no type of events",
            ),
            (example("process", "plan9", "name", "x"), "no system"),
            (
                example("process", "linux", "Image", "x"),
                "no field `Image`",
            ),
            (example("process", "linux", "pid", "x"), "not a number"),
            (
                example("process", "linux", "setuid", "1"),
                "neither true nor false",
            ),
            (
                Example::read(&json!([])).unwrap_err(),
                "`kind` is not a text",
            ),
        ] {
            assert!(said.contains(expected), "{said}");
        }
    }
}
