//! Which fields a class has, and what Sigma calls them.

use yinglong_model::{EventType, event::System};

use super::{Feed, sources};
use crate::{Class, Source};

/// A field of a class under the name Sigma rules use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Named {
    /// Name in Sigma rules.
    pub(super) sigma: &'static str,
    /// Canonical name.
    pub(super) name: &'static str,
    /// Readers of recorded logs fill it.
    pub(super) recorded: bool,
}

/// A field that recorded logs have, too.
const fn both(sigma: &'static str, name: &'static str) -> Named {
    Named {
        sigma,
        name,
        recorded: true,
    }
}

/// A field that no recorded log of the system has.
const fn live(sigma: &'static str, name: &'static str) -> Named {
    Named {
        sigma,
        name,
        recorded: false,
    }
}

/// A field the contract has no name for: recorded logs only.
const fn kept(sigma: &'static str) -> Named {
    both(sigma, sigma)
}

/// Fields of one of our own event types on one system.
#[derive(Debug, Clone, Copy)]
pub(super) struct Own {
    pub(super) kind: EventType,
    pub(super) system: System,
    /// Names of Sigma.
    pub(super) named: &'static [Named],
    /// Stored or derived fields that no agent fills on this system.
    pub(super) unfilled: &'static [&'static str],
}

/// Our event types. The order is that of the documentation.
pub(super) const OWN: &[Own] = &[
    Own {
        kind: EventType::Process,
        system: System::Linux,
        named: &[
            both("Image", "name"),
            both("CommandLine", "command"),
            both("ProcessId", "pid"),
            both("ParentProcessId", "ppid"),
            both("ParentImage", "parent_exe"),
            both("ParentCommandLine", "parent_command"),
            both("User", "user"),
            both("CurrentDirectory", "cwd"),
            both("TerminalSessionId", "session"),
            live("Hashes", "hashes"),
            live("sha256", "sha256"),
            live("md5", "md5"),
        ],
        unfilled: &["exit_code"],
    },
    Own {
        kind: EventType::Process,
        system: System::Windows,
        named: &[
            both("Image", "exe"),
            both("CommandLine", "command"),
            both("ProcessId", "pid"),
            both("ParentProcessId", "ppid"),
            both("ParentImage", "parent_exe"),
            both("ParentCommandLine", "parent_command"),
            both("User", "user"),
            both("CurrentDirectory", "cwd"),
            both("TerminalSessionId", "session"),
            both("Hashes", "hashes"),
            both("sha256", "sha256"),
            both("md5", "md5"),
            kept("sha1"),
            kept("Imphash"),
            kept("OriginalFileName"),
            kept("Description"),
            kept("Product"),
            kept("Company"),
            kept("FileVersion"),
            kept("IntegrityLevel"),
            kept("LogonId"),
            kept("LogonGuid"),
            kept("ProcessGuid"),
            kept("ParentProcessGuid"),
            kept("ParentUser"),
        ],
        unfilled: &[
            "info",
            "uid",
            "euid",
            "gid",
            "loginuid",
            "tty",
            "container_id",
            "cgroup",
            "exit_code",
            "script",
            "memfd",
            "setuid",
        ],
    },
    Own {
        kind: EventType::Connection,
        system: System::Linux,
        named: &[
            live("Image", "name"),
            live("ProcessId", "pid"),
            live("User", "user"),
            live("Protocol", "protocol"),
            live("Initiated", "initiated"),
            live("SourceIp", "source_ip"),
            live("SourcePort", "source_port"),
            live("DestinationIp", "destination_ip"),
            live("DestinationPort", "destination_port"),
        ],
        unfilled: &[],
    },
    Own {
        kind: EventType::Connection,
        system: System::Windows,
        named: &[
            both("Image", "name"),
            both("ProcessId", "pid"),
            both("User", "user"),
            both("Protocol", "protocol"),
            both("Initiated", "initiated"),
            both("SourceIp", "source_ip"),
            both("SourcePort", "source_port"),
            both("DestinationIp", "destination_ip"),
            both("DestinationPort", "destination_port"),
            kept("SourceHostname"),
            kept("SourcePortName"),
            kept("SourceIsIpv6"),
            kept("DestinationHostname"),
            kept("DestinationPortName"),
            kept("DestinationIsIpv6"),
            kept("ProcessGuid"),
        ],
        unfilled: &[],
    },
    Own {
        kind: EventType::File,
        system: System::Linux,
        named: &[
            both("TargetFilename", "path"),
            both("Image", "actor_name"),
            both("ProcessId", "actor_pid"),
            both("User", "actor_user"),
            live("Hashes", "hashes"),
            live("sha256", "sha256"),
            live("md5", "hash"),
        ],
        unfilled: &[],
    },
    Own {
        kind: EventType::File,
        system: System::Windows,
        named: &[
            both("TargetFilename", "path"),
            both("Image", "actor_name"),
            both("ProcessId", "actor_pid"),
            both("User", "actor_user"),
            both("Hashes", "hashes"),
            both("sha256", "sha256"),
            both("md5", "hash"),
            kept("sha1"),
            kept("Imphash"),
            kept("CreationUtcTime"),
            kept("PreviousCreationUtcTime"),
            kept("IsExecutable"),
            kept("Archived"),
            kept("ProcessGuid"),
        ],
        unfilled: &[
            "mode",
            "capabilities",
            "old_path",
            "new_path",
            "link_path",
            "yara",
            "yara_tags",
        ],
    },
    Own {
        kind: EventType::Loginlog,
        system: System::Linux,
        named: &[],
        unfilled: &[],
    },
    Own {
        kind: EventType::Loginlog,
        system: System::Windows,
        named: &[both("LogonType", "LogonType")],
        unfilled: &["tty"],
    },
    Own {
        kind: EventType::Dns,
        system: System::Linux,
        named: &[
            live("QueryName", "query"),
            live("QueryStatus", "query_status"),
            live("QueryResults", "answers"),
            live("Image", "name"),
            live("ProcessId", "pid"),
            live("User", "user"),
            live("record_type", "qtype"),
            live("answer", "answers"),
        ],
        unfilled: &["exe"],
    },
    Own {
        kind: EventType::Syscall,
        system: System::Linux,
        named: &[
            live("Image", "name"),
            live("CommandLine", "command"),
            live("ProcessId", "pid"),
            live("ParentProcessId", "ppid"),
            live("User", "user"),
            live("TerminalSessionId", "session"),
        ],
        unfilled: &["exe"],
    },
    Own {
        kind: EventType::Exit,
        system: System::Linux,
        named: &[
            live("Image", "name"),
            live("CommandLine", "command"),
            live("ProcessId", "pid"),
            live("ParentProcessId", "ppid"),
            live("User", "user"),
        ],
        unfilled: &[],
    },
    Own {
        kind: EventType::Loss,
        system: System::Linux,
        named: &[live("User", "user")],
        unfilled: &[],
    },
];

/// What records of the type SYSCALL in the audit log call the fields of a system call. `key` is
/// chosen by whoever wrote the audit rule, and arguments are not kept as numbers.
pub(super) const AUDIT_SYSCALL: &[Named] = &[
    live("type", "record"),
    live("SYSCALL", "call"),
    live("SyscallName", "call"),
    live("syscall", "call"),
    live("success", "outcome"),
    live("exe", "name"),
    live("comm", "comm"),
    live("pid", "pid"),
    live("ppid", "ppid"),
    live("uid", "uid"),
    live("euid", "euid"),
    live("auid", "auid"),
    live("tty", "tty"),
];

/// Whether agents on a system can send events of a type.
pub(super) const fn observed(kind: EventType, system: System) -> bool {
    match kind {
        EventType::Dns | EventType::Syscall | EventType::Exit | EventType::Loss => {
            matches!(system, System::Linux)
        }
        EventType::Process | EventType::Connection | EventType::File | EventType::Loginlog => true,
    }
}

/// Fields of the head of every recorded Windows event, named as flattened from its XML.
pub const WINDOWS_HEAD: &[&str] = &[
    "EventID",
    "Provider_Name",
    "Channel",
    "Computer",
    "Level",
    "Task",
    "Opcode",
    "Keywords",
    "Version",
    "EventRecordID",
    "Execution_ProcessID",
    "Execution_ThreadID",
    "Security_UserID",
];

/// Fields that every Sysmon event has.
pub(super) const SYSMON: &[&str] = &["RuleName", "UtcTime", "ProcessGuid", "ProcessId"];

pub(super) fn own(class: Class, system: System) -> Option<&'static Own> {
    let Class::Source(Source::Event(kind)) = class else {
        return None;
    };
    OWN.iter()
        .find(|own| own.kind == kind && own.system == system)
}

/// Canonical name of a field that a Sigma rule names; `first` are names that go before others.
pub(super) fn canonical(class: Class, system: System, first: &[Named], sigma: &str) -> String {
    let named = own(class, system).map_or(&[][..], |own| own.named);
    let other = sources::other_names(class);
    let known = || first.iter().chain(named).chain(other);
    if let Some(exact) = known().find(|named| named.sigma == sigma) {
        return exact.name.to_owned();
    }
    let provided = || fields(class, system);
    if provided().any(|name| name == sigma) {
        return sigma.to_owned();
    }
    if let Some(likely) = known().find(|named| named.sigma.eq_ignore_ascii_case(sigma)) {
        return likely.name.to_owned();
    }
    provided()
        .find(|name| name.eq_ignore_ascii_case(sigma))
        .unwrap_or(sigma)
        .to_owned()
}

/// Name that Sigma rules use for a canonical field.
pub(super) fn sigma_name(class: Class, system: System, name: &str) -> &str {
    let named = own(class, system).map_or(&[][..], |own| own.named);
    named
        .iter()
        .find(|named| named.name == name)
        .map_or(name, |named| named.sigma)
}

/// Canonical names of all fields that are known of a class; others may be there in an open class.
pub(super) fn fields(class: Class, system: System) -> impl Iterator<Item = &'static str> {
    let (contract, derived): (&[&str], &[&str]) = match class {
        Class::Source(source) => (source.field_names(), source.derived_names()),
        Class::Log(name) => sources::log(name).map_or((&[], &[]), |log| (log.fields, &[])),
    };
    let named = own(class, system).map_or(&[][..], |own| own.named);
    let named = named.iter().map(|named| named.name);
    let sysmon = if sources::is_sysmon(class) {
        SYSMON
    } else {
        &[]
    };
    let head = if has_head(class, system) {
        WINDOWS_HEAD
    } else {
        &[]
    };
    let lists = contract.iter().chain(derived).chain(sysmon).chain(head);
    lists.copied().chain(named)
}

fn has_head(class: Class, system: System) -> bool {
    system == System::Windows && !matches!(class, Class::Source(Source::Inventory(_)))
}

/// Whether a feed provides a field of a class.
pub(super) fn provides(class: Class, system: System, name: &str, feed: Feed) -> bool {
    match class {
        Class::Source(source) => {
            let own = own(class, system);
            let filled = own.is_none_or(|own| !own.unfilled.contains(&name));
            if filled && source.rule_fields().any(|field| field == name) {
                return feed == Feed::Agents || own.is_some();
            }
            let recorded = own.is_some_and(|own| {
                let mut named = own.named.iter();
                named.any(|named| named.name == name && named.recorded)
            });
            let shared = WINDOWS_HEAD.contains(&name) || SYSMON.contains(&name);
            let shared = has_head(class, system) && shared;
            feed == Feed::Recordings && (recorded || shared)
        }
        Class::Log(log) => {
            let open = sources::log(log).is_some_and(|log| log.open);
            feed == Feed::Recordings && (open || fields(class, system).any(|field| field == name))
        }
    }
}
