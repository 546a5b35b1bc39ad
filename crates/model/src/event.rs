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

/// Name of an event type: the `type` of the event document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventType {
    /// A program was executed.
    Process,
    /// A connection was attempted.
    Connection,
    /// A file was changed.
    File,
    /// Somebody logged in, or tried to.
    Loginlog,
    /// A program asked the domain name system.
    Dns,
    /// A system call that matters for security was made.
    Syscall,
    /// A process ended.
    Exit,
    /// Observations were lost.
    Loss,
}

impl EventType {
    /// All of them, in the order of the contract.
    pub const ALL: [Self; 8] = [
        Self::Process,
        Self::Connection,
        Self::File,
        Self::Loginlog,
        Self::Dns,
        Self::Syscall,
        Self::Exit,
        Self::Loss,
    ];

    /// Name used in documents, rules and search.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Connection => "connection",
            Self::File => "file",
            Self::Loginlog => "loginlog",
            Self::Dns => "dns",
            Self::Syscall => "syscall",
            Self::Exit => "exit",
            Self::Loss => "loss",
        }
    }
}

/// What happened: `type` and `data` of the event document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data", rename_all = "lowercase")]
pub enum EventData {
    /// A program was executed.
    Process(Box<Process>),
    /// A connection was attempted.
    Connection(Connection),
    /// A file was changed.
    File(Box<File>),
    /// Somebody logged in, or tried to.
    Loginlog(Login),
    /// A program asked the domain name system.
    Dns(Box<Dns>),
    /// A system call that matters for security was made.
    Syscall(Box<Syscall>),
    /// A process ended.
    Exit(Box<Exit>),
    /// Observations were lost.
    Loss(Box<Loss>),
}

impl EventData {
    /// Its type.
    pub const fn event_type(&self) -> EventType {
        match self {
            Self::Process(_) => EventType::Process,
            Self::Connection(_) => EventType::Connection,
            Self::File(_) => EventType::File,
            Self::Loginlog(_) => EventType::Loginlog,
            Self::Dns(_) => EventType::Dns,
            Self::Syscall(_) => EventType::Syscall,
            Self::Exit(_) => EventType::Exit,
            Self::Loss(_) => EventType::Loss,
        }
    }

    /// Value of the `data.*` field `name`, stored or derived, as the string rules and search see;
    /// `None` when the type has no such field or the field is unset.
    pub fn field(&self, name: &str) -> Option<Cow<'_, str>> {
        match self {
            Self::Process(data) => data.field(name),
            Self::Connection(data) => data.field(name),
            Self::File(data) => data.field(name),
            Self::Loginlog(data) => data.field(name),
            Self::Dns(data) => data.field(name),
            Self::Syscall(data) => data.field(name),
            Self::Exit(data) => data.field(name),
            Self::Loss(data) => data.field(name),
        }
    }

    /// Names of the `data.*` fields a type can have: those that are stored and searched.
    pub const fn field_names(event_type: EventType) -> &'static [&'static str] {
        match event_type {
            EventType::Process => Process::FIELDS,
            EventType::Connection => Connection::FIELDS,
            EventType::File => File::FIELDS,
            EventType::Loginlog => Login::FIELDS,
            EventType::Dns => Dns::FIELDS,
            EventType::Syscall => Syscall::FIELDS,
            EventType::Exit => Exit::FIELDS,
            EventType::Loss => Loss::FIELDS,
        }
    }

    /// Number of a field, stored or derived, for [`EventData::at`]; `None` when the type has no such
    /// field.
    pub fn place(event_type: EventType, name: &str) -> Option<u16> {
        let place = Self::field_names(event_type)
            .iter()
            .chain(Self::derived_names(event_type))
            .position(|known| *known == name)?;
        u16::try_from(place).ok()
    }

    /// Value of the field of that number, faster than by its name.
    pub fn at(&self, place: u16) -> Option<Cow<'_, str>> {
        let place = usize::from(place);
        match self {
            Self::Process(data) => Process::READERS.get(place).and_then(|read| read(data)),
            Self::Connection(data) => Connection::READERS.get(place).and_then(|read| read(data)),
            Self::File(data) => File::READERS.get(place).and_then(|read| read(data)),
            Self::Loginlog(data) => Login::READERS.get(place).and_then(|read| read(data)),
            Self::Dns(data) => Dns::READERS.get(place).and_then(|read| read(data)),
            Self::Syscall(data) => Syscall::READERS.get(place).and_then(|read| read(data)),
            Self::Exit(data) => Exit::READERS.get(place).and_then(|read| read(data)),
            Self::Loss(data) => Loss::READERS.get(place).and_then(|read| read(data)),
        }
    }

    /// Names of the fields that rules can ask for besides: made of the stored ones when asked for.
    pub const fn derived_names(event_type: EventType) -> &'static [&'static str] {
        match event_type {
            EventType::Process => Process::DERIVED,
            EventType::Connection => Connection::DERIVED,
            EventType::File => File::DERIVED,
            EventType::Loginlog => Login::DERIVED,
            EventType::Dns => Dns::DERIVED,
            EventType::Syscall => Syscall::DERIVED,
            EventType::Exit => Exit::DERIVED,
            EventType::Loss => Loss::DERIVED,
        }
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

mod dns;
mod exit;
mod loss;
mod mode;
mod syscall;

pub use dns::Dns;
pub use exit::Exit;
pub use loss::Loss;
pub use mode::{Mode, NotAMode};
pub use syscall::Syscall;

/// An execution.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Process {
    /// Linux: absolute path of the executable as the kernel resolved it. Windows: image name.
    pub name: String,
    /// Full command line, arguments separated by spaces; at least 32 KiB are kept.
    pub command: String,
    /// Process id in the host's own pid namespace.
    pub pid: u32,
    /// Parent's process id; 0 when the kernel has none.
    pub ppid: u32,
    /// Parent's executable: base name of the image.
    pub parentname: String,
    /// `PWD`, `LOGNAME`, `USER` and friends as `K=V` separated by spaces.
    pub info: String,
    /// Numeric real user id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Numeric effective user id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub euid: Option<u32>,
    /// User name of `uid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Numeric real group id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    /// Working directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Path of the image. Linux: the same as `name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exe: Option<String>,
    /// MD5 of the image, lower-case hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub md5: Option<String>,
    /// SHA-256 of the image, lower-case hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Why there are no hashes: `too_large`, `gone`, `changed`, `unreadable`, `not_regular`, `busy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash_skipped: Option<String>,
    /// When the process (not the image) started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Timestamp>,
    /// Session id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<u32>,
    /// Login uid of the audit subsystem; absent when unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loginuid: Option<u32>,
    /// Controlling terminal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tty: Option<String>,
    /// Identity of the container, when the control group names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_id: Option<String>,
    /// Control group path, version 2 hierarchy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// Parent's command line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_command: Option<String>,
    /// Executables of the ancestors, nearest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ancestors: Vec<String>,
    /// Not used: the end of a process is an event of its own, `exit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Script that the image interprets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub script: Option<String>,
    /// The image has no name in any directory (memfd, deleted file).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memfd: Option<bool>,
    /// Execution changed the effective user or group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub setuid: Option<bool>,
    /// Command line or environment is shorter than the real one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub truncated: Option<bool>,
}

fields!(Process: name, command, pid, ppid, parentname, info, uid, euid, user, gid, cwd, exe,
    md5, sha256, hash_skipped, start_time, session, loginuid, tty, container_id, cgroup, parent_command, ancestors,
    exit_code, script, memfd, setuid, truncated;
    derived: parent_exe, hashes);

/// Who started a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// The remote side.
    In,
    /// This host.
    #[default]
    Out,
}

impl FieldValue for Direction {
    fn value(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(match self {
            Self::In => "in",
            Self::Out => "out",
        }))
    }
}

/// Transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Transmission Control Protocol.
    #[default]
    Tcp,
    /// User Datagram Protocol.
    Udp,
}

impl FieldValue for Protocol {
    fn value(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }))
    }
}

/// A connection attempt, or a UDP flow.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Connection {
    /// Who started it.
    pub dir: Direction,
    /// Transport.
    pub protocol: Protocol,
    /// This host's `ip:port`; IPv6 as `[ip]:port`.
    pub local: String,
    /// The other side's `ip:port`; IPv6 as `[ip]:port`.
    pub remote: String,
    /// The other side's address without port; what statistics, lists and intelligence use.
    pub remote_ip: String,
    /// Executable that owns the socket; empty when none does (scan of a closed port).
    pub name: String,
    /// Its process id; 0 when unknown.
    pub pid: u32,
    /// User name of the process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Outcome when it is known: `established`, `refused`, `timeout`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// How the process was found: `kernel`, `lookup`, `none`; `raw` when no socket of this host made
    /// the request, so that a program must have made the packet itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attribution: Option<String>,
}

fields!(Connection: dir, protocol, local, remote, remote_ip, name, pid, user, state, attribution;
    derived: initiated, source_ip, source_port, destination_ip, destination_port, remote_port);

/// A change to a file.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct File {
    /// `CREATE`, `WRITE`, `REMOVE`, `RENAME`, `CHMOD`, joined by a bar; or `SCAN`, when the scanner
    /// found something in the file; or `TAMPER|` and what was done to a record of logins: `SHORTENED`,
    /// `ERASED`, `REWRITTEN`, `BACKDATED`, `REPLACED`, `GONE`.
    pub action: String,
    /// Absolute path; bytes that are not UTF-8 as `\xNN`.
    pub path: String,
    /// MD5 in lower-case hex; empty when the file is not regular, gone or above the limit.
    pub hash: String,
    /// Owner of the file.
    pub user: String,
    /// SHA-256 in lower-case hex, when `hash` is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Size in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Why `hash` is empty: `too_large`, `not_regular`, `gone`, `unreadable`, `busy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash_skipped: Option<String>,
    /// Process that made the change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor_pid: Option<u32>,
    /// Executable of that process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor_name: Option<String>,
    /// User name of that process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor_user: Option<String>,
    /// The path lies in a web root of this host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub web: Option<bool>,
    /// Permission bits, four octal digits; the first tells setuid, setgid and sticky.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Capabilities the file gives to who executes it, as `getcap` writes them: `cap_net_raw=ep`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<String>,
    /// Name the file had before, on the `CREATE` of a rename.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old_path: Option<String>,
    /// Name the file has now, on a `RENAME`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_path: Option<String>,
    /// Other name of the same file (a hard link) through which it was changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link_path: Option<String>,
    /// YARA rules that matched the file, joined by bars.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub yara: Option<String>,
    /// Tags of those rules, joined by bars, and how grave the gravest is: `danger`, `suspicious` or
    /// `hint`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub yara_tags: Option<String>,
}

fields!(File: action, path, hash, user, sha256, size, hash_skipped, actor_pid, actor_name,
    actor_user, web, mode, capabilities, old_path, new_path, link_path, yara, yara_tags;
    derived: hashes);

/// A login or an attempt.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Login {
    /// Account.
    pub username: String,
    /// Where from, without port; empty for a local login.
    pub remote: String,
    /// Whether it succeeded: `true` or `false`.
    #[serde(with = "status_text")]
    pub status: bool,
    /// Name of this host in the log, or of the remote side where the log has it.
    pub hostname: String,
    /// Terminal or service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tty: Option<String>,
    /// Record that said so: `wtmp`, `btmp`, `auth.log`, `journal`, `audit`, `wtmpdb`,
    /// `lastlog2`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

fields!(Login: username, remote, status, hostname, tty, source;
    derived:);

/// The classic document holds the status as the texts `true` and `false`.
mod status_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(
        status: &bool,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if *status { "true" } else { "false" })
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<bool, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            other => Err(D::Error::custom(format!(
                "login status is `true` or `false`, not `{other}`"
            ))),
        }
    }
}

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
