//! Observations as JSON documents: what `run --debug` prints and `record` writes.
//!
//! An event has the fields of an exported event, without those that only a server gives it (its id,
//! the agent's identity, when it was taken in), so every reader of exported events reads it.

use serde::Serialize;
use yinglong_model::{
    EventData, Inventory, Observation, Record, Timestamp, event::System, inventory::Element,
};

/// The host that observes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Host {
    /// Its name.
    pub hostname: String,
    /// Its primary address.
    pub ip: String,
}

/// An observation, ready to be written as one line.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Document<'a> {
    /// Something happened.
    Event {
        /// When, by the host's clock.
        time: Timestamp,
        /// When the agent took it from its source.
        observed_at: Timestamp,
        /// Place in the spool.
        seq: u64,
        /// Name of the host.
        hostname: &'a str,
        /// Address of the host.
        ip: &'a str,
        /// Always `linux` here.
        system: System,
        /// `type` and `data`.
        #[serde(flatten)]
        data: &'a EventData,
    },
    /// A list.
    Inventory {
        /// When the agent made it.
        observed_at: Timestamp,
        /// Place in the spool.
        seq: u64,
        /// Name of the host.
        hostname: &'a str,
        /// Kind of list.
        inventory: &'static str,
        /// Its elements.
        elements: &'a [Element],
    },
}

impl<'a> Document<'a> {
    /// The document of a record.
    pub fn new(host: &'a Host, record: &'a Record) -> Self {
        let Record {
            seq,
            observed_at,
            observation,
        } = record;
        match observation {
            Observation::Event { occurred_at, data } => Self::Event {
                time: *occurred_at,
                observed_at: *observed_at,
                seq: *seq,
                hostname: &host.hostname,
                ip: &host.ip,
                system: System::Linux,
                data,
            },
            Observation::Inventory(Inventory { kind, data }) => Self::Inventory {
                observed_at: *observed_at,
                seq: *seq,
                hostname: &host.hostname,
                inventory: kind.as_str(),
                elements: data,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use yinglong_model::{InventoryType, event::Process};

    use super::*;

    fn host() -> Host {
        Host {
            hostname: "web-1".into(),
            ip: "192.0.2.7".into(),
        }
    }

    fn record(observation: Observation) -> Record {
        Record {
            seq: 7,
            observed_at: Timestamp::from_secs(2),
            observation,
        }
    }

    #[test]
    fn an_event_has_the_fields_of_an_exported_one_but_those_of_the_server() {
        let data = EventData::Process(Box::new(Process {
            name: "/bin/id".into(),
            ..Process::default()
        }));
        let record = record(Observation::Event {
            occurred_at: Timestamp::from_secs(1),
            data,
        });
        let document = serde_json::to_value(Document::new(&host(), &record)).unwrap();
        assert_eq!(document["type"], "process");
        assert_eq!(document["data"]["name"], "/bin/id");
        let mut names: Vec<_> = document.as_object().unwrap().keys().collect();
        names.sort_unstable();
        let stored = [
            "data",
            "hostname",
            "ip",
            "observed_at",
            "seq",
            "system",
            "time",
            "type",
        ];
        assert_eq!(names, stored);
    }

    #[test]
    fn a_list_is_no_event() {
        let record = record(Observation::Inventory(Inventory {
            kind: InventoryType::Crontab,
            data: vec![Element::new()],
        }));
        let document = serde_json::to_value(Document::new(&host(), &record)).unwrap();
        assert_eq!(document["inventory"], "crontab");
        assert!(document.get("type").is_none());
    }
}
