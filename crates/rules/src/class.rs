//! What rules read: our own event and inventory types, and the logs other programs write.

use yinglong_model::{EventType, InventoryType};

use crate::Source;

/// A class of events or elements that have the same fields. Rules are routed by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Ours: what agents send.
    Source(Source),
    /// Records of another log, by the name of the class in the taxonomy: `registry`,
    /// `windows/security`, `linux/auditd` ...
    Log(&'static str),
}

impl Class {
    /// Executions.
    pub const PROCESS: Self = Self::Source(Source::Event(EventType::Process));
    /// Connections.
    pub const CONNECTION: Self = Self::Source(Source::Event(EventType::Connection));
    /// Changes of files.
    pub const FILE: Self = Self::Source(Source::Event(EventType::File));
    /// Logins.
    pub const LOGINLOG: Self = Self::Source(Source::Event(EventType::Loginlog));

    /// Questions to the domain name system.
    pub const DNS: Self = Self::Source(Source::Event(EventType::Dns));
    /// System calls.
    pub const SYSCALL: Self = Self::Source(Source::Event(EventType::Syscall));
    /// Ends of processes.
    pub const EXIT: Self = Self::Source(Source::Event(EventType::Exit));
    /// Losses.
    pub const LOSS: Self = Self::Source(Source::Event(EventType::Loss));

    /// Name in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Source(source) => source.as_str(),
            Self::Log(name) => name,
        }
    }
}

impl From<Source> for Class {
    fn from(source: Source) -> Self {
        Self::Source(source)
    }
}

impl From<EventType> for Class {
    fn from(kind: EventType) -> Self {
        Self::Source(Source::Event(kind))
    }
}

impl From<InventoryType> for Class {
    fn from(kind: InventoryType) -> Self {
        Self::Source(Source::Inventory(kind))
    }
}
