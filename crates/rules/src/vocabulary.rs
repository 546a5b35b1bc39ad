//! What rules can name: sources, their fields, and the values those fields can have.

use yinglong_model::{
    EventData, EventType, InventoryType,
    statistics::{event_key, inventory_key},
};

/// Condition types, in the order of the contract.
pub const TYPES: [&str; 4] = ["string", "regex", "non-regex", "count"];

/// Systems a rule can be for.
pub(crate) const SYSTEMS: [&str; 3] = ["linux", "windows", "all"];

/// What a rule reads: an event type or an inventory type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// Events of one type.
    Event(EventType),
    /// Elements of one inventory.
    Inventory(InventoryType),
}

impl Source {
    /// All of them, in the order of the contract.
    pub fn all() -> impl Iterator<Item = Self> {
        let events = EventType::ALL.into_iter().map(Self::Event);
        events.chain(InventoryType::ALL.into_iter().map(Self::Inventory))
    }

    /// The source of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::all().find(|source| source.as_str() == name)
    }

    /// Name used in rules and documents.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Event(kind) => kind.as_str(),
            Self::Inventory(kind) => kind.as_str(),
        }
    }

    /// Fields that are stored and searched.
    pub const fn field_names(self) -> &'static [&'static str] {
        match self {
            Self::Event(kind) => EventData::field_names(kind),
            Self::Inventory(kind) => kind.field_names(),
        }
    }

    /// Fields made of the stored ones when a rule asks for them.
    pub const fn derived_names(self) -> &'static [&'static str] {
        match self {
            Self::Event(kind) => EventData::derived_names(kind),
            Self::Inventory(_) => &[],
        }
    }

    /// Fields a condition can name: stored and derived.
    pub fn rule_fields(self) -> impl Iterator<Item = &'static str> {
        let (stored, derived) = (self.field_names(), self.derived_names());
        stored.iter().chain(derived).copied()
    }

    /// Field whose value is counted; `None` when nothing of this source is.
    pub const fn key(self) -> Option<&'static str> {
        match self {
            Self::Event(kind) => event_key(kind),
            Self::Inventory(kind) => inventory_key(kind),
        }
    }

    /// Field that a `count` condition on `field` reads; `None` when that field is not counted.
    /// Classic rules count the `remote` of connections and mean the address without its port.
    pub fn counted_field(self, field: &str) -> Option<&'static str> {
        let key = self.key()?;
        let classic = self == Self::Event(EventType::Connection) && field == "remote";
        (field == key || classic).then_some(key)
    }

    /// Whether the field names an executable, so that its path and its base name both match.
    pub fn is_executable(self, field: &str) -> bool {
        match self {
            Self::Event(
                EventType::Process | EventType::Dns | EventType::Syscall | EventType::Exit,
            ) => {
                matches!(field, "name" | "parentname" | "exe" | "parent_exe")
            }
            Self::Event(EventType::Connection)
            | Self::Inventory(InventoryType::Processlist | InventoryType::Listening) => {
                field == "name"
            }
            Self::Event(EventType::File) => field == "actor_name",
            Self::Event(EventType::Loginlog | EventType::Loss) | Self::Inventory(_) => false,
        }
    }

    /// Whether the field holds several words joined by bars, so that a text equals it when it equals
    /// one of them: a file that was created and written in one go was written.
    pub fn is_joined(self, field: &str) -> bool {
        matches!(self.domain(field), Domain::Joined(_))
            || (self == Self::Event(EventType::Dns) && field == "answers")
    }

    /// Values the field can have.
    pub(crate) fn domain(self, field: &str) -> Domain {
        match (self, field) {
            (Self::Event(EventType::File), "action") => Domain::Joined(&ACTIONS),
            (Self::Event(EventType::File), "hash") | (_, "md5") => Domain::Hex(32),
            (_, "sha256") => Domain::Hex(64),
            (Self::Event(EventType::Connection), "dir") => Domain::OneOf(&["in", "out"]),
            (Self::Event(EventType::Connection | EventType::Dns), "protocol") => {
                Domain::OneOf(&["tcp", "udp"])
            }
            (Self::Event(EventType::Connection), "initiated")
            | (Self::Event(EventType::Loginlog), "status")
            | (Self::Event(EventType::Process), "memfd" | "setuid" | "truncated")
            | (Self::Event(EventType::Syscall), "success")
            | (Self::Event(EventType::Exit), "core_dumped")
            | (Self::Event(EventType::File), "web")
            | (Self::Inventory(InventoryType::Service), "started") => {
                Domain::OneOf(&["true", "false"])
            }
            (
                _,
                "pid" | "ppid" | "uid" | "euid" | "gid" | "session" | "loginuid" | "actor_pid"
                | "target_pid" | "auid" | "server_port" | "size" | "exit_code" | "remote_port"
                | "source_port" | "destination_port" | "duration_ms" | "user_ms" | "system_ms"
                | "max_rss_bytes" | "count",
            ) => Domain::Number,
            _ => Domain::Text,
        }
    }
}

/// Parts of a file event's `action`, in the order in which they are joined.
const ACTIONS: [&str; 13] = [
    "CREATE",
    "WRITE",
    "REMOVE",
    "RENAME",
    "CHMOD",
    "SCAN",
    // What happened to a record of logins.
    "TAMPER",
    "SHORTENED",
    "ERASED",
    "REWRITTEN",
    "BACKDATED",
    "REPLACED",
    "GONE",
];

/// Values a field can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Domain {
    /// Anything.
    Text,
    /// A decimal number.
    Number,
    /// Hexadecimal digits, that many, or nothing.
    Hex(usize),
    /// One of these.
    OneOf(&'static [&'static str]),
    /// One or more of these, joined by bars.
    Joined(&'static [&'static str]),
}

impl Domain {
    /// Whether some value equals `text`, ignoring case.
    pub(crate) fn has(self, text: &str) -> bool {
        let known = |part: &str, parts: &[&str]| parts.iter().any(|p| p.eq_ignore_ascii_case(part));
        match self {
            Self::Text => true,
            Self::Number => {
                let digits = text.strip_prefix('-').unwrap_or(text);
                !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
            }
            Self::Hex(length) => {
                text.is_empty()
                    || (text.len() == length && text.bytes().all(|b| b.is_ascii_hexdigit()))
            }
            Self::OneOf(values) => known(text, values),
            Self::Joined(parts) => text.split('|').all(|part| known(part, parts)),
        }
    }

    /// Every value, when there are few.
    pub(crate) fn values(self) -> Option<Vec<String>> {
        match self {
            Self::Text | Self::Number | Self::Hex(_) => None,
            Self::OneOf(values) => Some(values.iter().map(|v| (*v).to_owned()).collect()),
            Self::Joined(parts) => Some(
                (1_u32..1 << parts.len())
                    .map(|chosen| {
                        let chosen = parts
                            .iter()
                            .enumerate()
                            .filter(|(i, _)| chosen & 1 << i != 0);
                        chosen.map(|(_, part)| *part).collect::<Vec<_>>().join("|")
                    })
                    .collect(),
            ),
        }
    }

    /// What can be written, for a reason.
    pub(crate) fn describe(self) -> String {
        match self {
            Self::Text => "any text".to_owned(),
            Self::Number => "a number".to_owned(),
            Self::Hex(length) => format!("{length} hexadecimal digits"),
            Self::OneOf(values) => values.join(" or "),
            Self::Joined(parts) => format!("{}, or several joined by a bar", parts.join(", ")),
        }
    }
}
