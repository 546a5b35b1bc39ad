//! Inventories: what a host has. One list per host and type, replaced whole.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Kind of inventory: the `type` of the `info` document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InventoryType {
    /// Accounts that can log in.
    Userlist,
    /// TCP and UDP sockets that other hosts can reach.
    Listening,
    /// Windows services and systemd units.
    Service,
    /// What starts by itself.
    Startup,
    /// Scheduled jobs.
    Crontab,
    /// Running processes.
    Processlist,
    /// Installed packages, as the package manager's own database has them.
    Package,
    /// Loaded kernel modules.
    Module,
    /// Keys that may log in by SSH.
    Sshkey,
    /// Who may run what as whom, by sudo and doas.
    Sudoer,
    /// Containers of every engine.
    Container,
}

impl InventoryType {
    /// All of them: those of the contract in its order, then ours.
    pub const ALL: [Self; 11] = [
        Self::Userlist,
        Self::Listening,
        Self::Service,
        Self::Startup,
        Self::Crontab,
        Self::Processlist,
        Self::Package,
        Self::Module,
        Self::Sshkey,
        Self::Sudoer,
        Self::Container,
    ];

    /// Name used in documents, rules and search.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Userlist => "userlist",
            Self::Listening => "listening",
            Self::Service => "service",
            Self::Startup => "startup",
            Self::Crontab => "crontab",
            Self::Processlist => "processlist",
            Self::Package => "package",
            Self::Module => "module",
            Self::Sshkey => "sshkey",
            Self::Sudoer => "sudoer",
            Self::Container => "container",
        }
    }

    /// The type of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Fields an element can have.
    pub const fn field_names(self) -> &'static [&'static str] {
        match self {
            Self::Userlist => &["name", "description", "status"],
            Self::Listening => &["proto", "address", "pid", "name"],
            Self::Service => &[
                "name",
                "pathname",
                "started",
                "startmode",
                "startname",
                "caption",
            ],
            Self::Startup => &["name", "command", "location", "user"],
            Self::Crontab => &["command", "user", "rule", "name", "arg", "description"],
            Self::Processlist => &["name", "pid", "ppid", "command", "starttime"],
            Self::Package => &[
                "name",
                "version",
                "arch",
                "vendor",
                "source",
                "manager",
                "installtime",
            ],
            Self::Module => &[
                "name", "size", "usedby", "state", "path", "version", "signed", "taint",
            ],
            Self::Sshkey => &["user", "path", "kind", "fingerprint", "comment", "options"],
            Self::Sudoer => &[
                "name", "host", "runas", "tags", "commands", "location", "line",
            ],
            Self::Container => &[
                "engine",
                "id",
                "name",
                "image",
                "state",
                "privileged",
                "pid",
                "started",
            ],
        }
    }
}

/// One element of an inventory: field names as in [`InventoryType::field_names`].
pub type Element = BTreeMap<String, String>;

/// A complete list of one type on one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// Kind.
    #[serde(rename = "type")]
    pub kind: InventoryType,
    /// Every element; empty when the host has none (any more).
    pub data: Vec<Element>,
}
