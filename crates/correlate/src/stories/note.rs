//! What stories are told: processes and alerts.

use yinglong_model::{
    AgentId, Event, EventData, Timestamp,
    event::{self, System},
    rule::Level,
};

/// An execution, as far as stories need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessNote<'a> {
    /// When the program was executed.
    pub time: Timestamp,
    /// Process id.
    pub pid: u32,
    /// Parent's process id.
    pub ppid: u32,
    /// When the process started, if known.
    pub start_time: Option<Timestamp>,
    /// Executable; only its base name counts.
    pub name: &'a str,
    /// Parent's executable; empty when unknown.
    pub parent: &'a str,
    /// Login session: the number the audit subsystem gave it, which is inherited and never changes.
    /// `None` for services, and on Windows, where sessions are something else.
    pub session: Option<u32>,
    /// Container, or else control group.
    pub group: Option<&'a str>,
    /// Controlling terminal.
    pub tty: Option<&'a str>,
    /// User.
    pub user: Option<&'a str>,
    /// Executables of the ancestors, nearest first.
    pub ancestors: &'a [String],
}

impl<'a> ProcessNote<'a> {
    /// What a process event says.
    pub fn of(system: System, time: Timestamp, process: &'a event::Process) -> Self {
        let unix = system == System::Linux;
        let group = process.container_id.as_ref().or(process.cgroup.as_ref());
        Self {
            time,
            pid: process.pid,
            ppid: process.ppid,
            start_time: process.start_time,
            name: &process.name,
            parent: &process.parentname,
            session: process.session.filter(|_| unix),
            group: group.map(String::as_str),
            tty: process.tty.as_deref().filter(|_| unix),
            user: process.user.as_deref(),
            ancestors: &process.ancestors,
        }
    }
}

/// Whom an alert is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject<'a> {
    /// The process that was executed.
    Process(ProcessNote<'a>),
    /// A process that did something: changed a file, has a connection.
    Actor {
        /// Process id.
        pid: u32,
        /// Executable; empty when unknown.
        name: &'a str,
    },
    /// Somebody who logged in.
    Login {
        /// Session, if known.
        session: Option<u32>,
        /// Terminal, if known.
        tty: Option<&'a str>,
        /// Account.
        user: &'a str,
    },
    /// Nobody in particular: the alert is a story of its own.
    Nobody,
}

impl<'a> Subject<'a> {
    /// Whom an event is about.
    pub fn of(event: &'a Event) -> Self {
        match &event.data {
            EventData::Process(process) => {
                Self::Process(ProcessNote::of(event.system, event.time, process))
            }
            EventData::File(file) => match file.actor_pid {
                Some(pid) if pid != 0 => Self::Actor {
                    pid,
                    name: file.actor_name.as_deref().unwrap_or_default(),
                },
                _ => Self::Nobody,
            },
            EventData::Connection(connection) if connection.pid != 0 => Self::Actor {
                pid: connection.pid,
                name: &connection.name,
            },
            EventData::Dns(dns) if dns.pid != 0 => Self::Actor {
                pid: dns.pid,
                name: &dns.name,
            },
            EventData::Syscall(call) if call.pid != 0 => Self::Actor {
                pid: call.pid,
                name: &call.name,
            },
            EventData::Exit(exit) => Self::Actor {
                pid: exit.pid,
                name: &exit.name,
            },
            EventData::Connection(_)
            | EventData::Dns(_)
            | EventData::Syscall(_)
            | EventData::Loss(_) => Self::Nobody,
            // A failed login starts no session.
            EventData::Loginlog(login) if login.status => Self::Login {
                session: None,
                tty: login.tty.as_deref(),
                user: &login.username,
            },
            EventData::Loginlog(_) => Self::Nobody,
        }
    }
}

/// An alert that was just raised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AlertNote<'a> {
    /// Id of the alert, the same whenever the same alert is told.
    pub reference: &'a str,
    /// Host.
    pub agent: &'a AgentId,
    /// When the observed thing happened.
    pub time: Timestamp,
    /// How dangerous.
    pub level: Level,
    /// Name of the rule.
    pub name: &'a str,
    /// The same in Chinese; empty when there is none.
    pub name_zh: &'a str,
    /// ATT&CK techniques.
    pub techniques: &'a [String],
    /// Whom it is about.
    pub subject: Subject<'a>,
}
