//! The event types of the event store.

mod derived;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::{AgentId, EventId, Timestamp};

/// Operating system family of the observed host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum System {
    /// Any Linux distribution.
    #[default]
    Linux,
    /// Microsoft Windows.
    Windows,
}

impl System {
    /// Name used in rules and documents.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Linux => "linux",
            Self::Windows => "windows",
        }
    }
}

/// Something that happened once on a host, as stored and searched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Deterministic identity, the same for every delivery.
    pub id: EventId,
    /// The host's agent.
    pub agent_id: AgentId,
    /// Primary address of the host when the event was taken in.
    pub ip: String,
    /// Name of the host when the event was taken in.
    pub hostname: String,
    /// Operating system family.
    pub system: System,
    /// Position in the agent's spool; dense from 1 within an epoch.
    pub seq: u64,
    /// When it happened, by the host's clock.
    pub time: Timestamp,
    /// When the agent took it from its source, by the host's clock.
    pub observed_at: Timestamp,
    /// When the server made it durable, by the server's clock.
    pub ingested_at: Timestamp,
    /// Type and fields.
    #[serde(flatten)]
    pub data: EventData,
}

macro_rules! event_types {
    ($($(#[$doc:meta])* $name:ident($held:ty) of $fields:ident is $text:literal,)*) => {
        /// Name of an event type: the `type` of the event document.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum EventType {
            $($(#[$doc])* $name,)*
        }

        impl EventType {
            /// All of them, in the order of the contract.
            pub const ALL: [Self; [$($text),*].len()] = [$(Self::$name),*];

            /// Name used in documents, rules and search.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }

        /// What happened: `type` and `data` of the event document.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "type", content = "data", rename_all = "lowercase")]
        pub enum EventData {
            $($(#[$doc])* $name($held),)*
        }

        impl EventData {
            /// Its type.
            pub const fn event_type(&self) -> EventType {
                match self {
                    $(Self::$name(_) => EventType::$name,)*
                }
            }

            /// Value of the `data.*` field `name`, stored or derived, as the string rules and
            /// search see; `None` when the type has no such field or the field is unset.
            pub fn field(&self, name: &str) -> Option<Cow<'_, str>> {
                match self {
                    $(Self::$name(data) => data.field(name),)*
                }
            }

            /// Value of the field of that number ([`EventData::place`]), faster than by its name.
            pub fn at(&self, place: u16) -> Option<Cow<'_, str>> {
                let place = usize::from(place);
                match self {
                    $(Self::$name(data) => $fields::READERS.get(place)?(data),)*
                }
            }

            /// Names of the `data.*` fields a type can have: those that are stored and searched.
            pub const fn field_names(event_type: EventType) -> &'static [&'static str] {
                match event_type {
                    $(EventType::$name => $fields::FIELDS,)*
                }
            }

            /// Names of the fields that rules can ask for besides: made of the stored ones when
            /// asked for.
            pub const fn derived_names(event_type: EventType) -> &'static [&'static str] {
                match event_type {
                    $(EventType::$name => $fields::DERIVED,)*
                }
            }
        }
    };
}

event_types! {
    /// A program was executed.
    Process(Box<Process>) of Process is "process",
    /// A connection was attempted.
    Connection(Connection) of Connection is "connection",
    /// A file was changed.
    File(Box<File>) of File is "file",
    /// Somebody logged in, or tried to.
    Loginlog(Login) of Login is "loginlog",
    /// A program asked the domain name system.
    Dns(Box<Dns>) of Dns is "dns",
    /// A system call that matters for security was made.
    Syscall(Box<Syscall>) of Syscall is "syscall",
    /// A process ended.
    Exit(Box<Exit>) of Exit is "exit",
    /// Observations were lost.
    Loss(Box<Loss>) of Loss is "loss",
}

impl EventData {
    /// Number of a field, stored or derived, for [`EventData::at`]; `None` when the type has no such
    /// field.
    pub fn place(event_type: EventType, name: &str) -> Option<u16> {
        let place = Self::field_names(event_type)
            .iter()
            .chain(Self::derived_names(event_type))
            .position(|known| *known == name)?;
        u16::try_from(place).ok()
    }
}

/// Value of one field as a rule sees it. Unset and empty optional values are both absent.
trait FieldValue {
    fn value(&self) -> Option<Cow<'_, str>>;
}

impl FieldValue for String {
    fn value(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(self))
    }
}

impl<T: FieldValue> FieldValue for Option<T> {
    fn value(&self) -> Option<Cow<'_, str>> {
        self.as_ref().and_then(FieldValue::value)
    }
}

impl FieldValue for Vec<String> {
    fn value(&self) -> Option<Cow<'_, str>> {
        if self.is_empty() {
            None
        } else {
            Some(Cow::Owned(self.join("|")))
        }
    }
}

impl FieldValue for bool {
    fn value(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(if *self { "true" } else { "false" }))
    }
}

impl FieldValue for Timestamp {
    fn value(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Owned(self.to_string()))
    }
}

macro_rules! numeric_field_value {
    ($($number:ty),*) => {$(
        impl FieldValue for $number {
            fn value(&self) -> Option<Cow<'_, str>> {
                Some(Cow::Owned(self.to_string()))
            }
        }
    )*};
}
numeric_field_value!(u32, u64, i32);

macro_rules! fields {
    ($event:ty: $($field:ident),*; derived: $($derived:ident),* $(,)?) => {
        impl $event {
            /// Names of its `data.*` fields.
            pub const FIELDS: &'static [&'static str] = &[$(stringify!($field)),*];

            /// Names of the fields made of those when a rule asks for them. They are in no
            /// document and not on the wire.
            pub const DERIVED: &'static [&'static str] = &[$(stringify!($derived)),*];

            /// Value of a field, stored or derived, as rules and search see it.
            pub fn field(&self, name: &str) -> Option<Cow<'_, str>> {
                match name {
                    $(stringify!($field) => self.$field.value(),)*
                    $(stringify!($derived) => self.$derived(),)*
                    _ => None,
                }
            }

            /// What reads each field: the stored ones, then the derived ones.
            pub(super) const READERS: &'static [fn(&$event) -> Option<Cow<'_, str>>] = &[
                $({
                    fn read(event: &$event) -> Option<Cow<'_, str>> {
                        event.$field.value()
                    }
                    read
                },)*
                $({
                    fn read(event: &$event) -> Option<Cow<'_, str>> {
                        event.$derived()
                    }
                    read
                },)*
            ];
        }
    };
}

mod connection;
mod dns;
mod exit;
mod file;
mod login;
mod loss;
mod mode;
mod process;
mod syscall;

pub use connection::{Connection, Direction, Protocol};
pub use dns::Dns;
pub use exit::Exit;
pub use file::File;
pub use login::Login;
pub use loss::Loss;
pub use mode::{Mode, NotAMode};
pub use process::Process;
pub use syscall::Syscall;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Epoch;

    fn sample() -> Event {
        let agent_id = AgentId::from_bits(1);
        Event {
            id: EventId::derive(&agent_id, Epoch(1), 9),
            agent_id,
            ip: "192.0.2.1".into(),
            hostname: "web-1".into(),
            system: System::Linux,
            seq: 9,
            time: Timestamp::from_secs(1_764_000_000),
            observed_at: Timestamp::from_secs(1_764_000_000),
            ingested_at: Timestamp::from_secs(1_764_000_001),
            data: EventData::Process(Box::new(Process {
                name: "/usr/bin/id".into(),
                command: "id -u".into(),
                pid: 42,
                ppid: 1,
                parentname: "bash".into(),
                ..Process::default()
            })),
        }
    }

    #[test]
    fn the_document_has_the_classic_shape() {
        let document = serde_json::to_value(sample()).unwrap();
        assert_eq!(document["type"], "process");
        assert_eq!(document["data"]["name"], "/usr/bin/id");
        assert_eq!(document["data"]["pid"], 42);
        assert_eq!(document["time"], "2025-11-24T16:00:00Z");
        assert!(document["data"].get("sha256").is_none());
    }

    #[test]
    fn a_document_reads_back_as_the_same_event() {
        let event = sample();
        let text = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event);
    }

    #[test]
    fn login_status_is_text() {
        let login = Login {
            status: true,
            ..Login::default()
        };
        let document = serde_json::to_value(&login).unwrap();
        assert_eq!(document["status"], "true");
        assert_eq!(login.field("status").unwrap(), "true");
    }

    #[test]
    fn every_listed_field_can_be_asked_for() {
        let event = sample();
        assert_eq!(event.data.field("pid").unwrap(), "42");
        assert_eq!(event.data.field("command").unwrap(), "id -u");
        assert_eq!(event.data.field("nonsense"), None);
        for event_type in EventType::ALL {
            let stored = EventData::field_names(event_type);
            assert!(!stored.is_empty());
            for derived in EventData::derived_names(event_type) {
                assert!(!stored.contains(derived), "{derived} is stored and derived");
            }
        }
    }
}
