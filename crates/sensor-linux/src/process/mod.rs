//! Executions: the stream `process`.
//!
//! - **Guarantees**: every execution is delivered or counted as lost with its reason, to the unit,
//!   also when the agent is killed at any point ([`hold`] and [`Options::adopt`]). With the
//!   fallback source losses are estimates and short-lived processes come without details; the
//!   status says so.
//! - **Invariants**: a record leaves the ring only after its commit; the ring position in the mark
//!   `process.ring` is what an adopting reader continues from.
//! - **Not here**: exits and failed executions; filters of the configuration.

mod books;
mod clock;
mod connector;
mod container;
mod convert;
mod ebpf;
mod environ;
mod gap;
mod netlink;
mod record;
mod snapshot;

use yinglong_sensor::{Error, Sensor};

pub(crate) use self::{
    books::{Audit, Books, Counted},
    clock::Clock,
    container::{Group, Groups},
    convert::{Names, terminal},
    gap::boot_id,
    record::absolute,
};
pub use crate::attached::{BpfIds, hold};
use crate::{accounts::Accounts, tree::Tree};

const STREAM: &str = "process";

/// Where executions come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Source {
    /// The best there is.
    #[default]
    Automatic,
    /// BPF programs, or an error.
    Ebpf,
    /// The kernel's process connector, or an error.
    ProcConnector,
}

impl Source {
    /// Environment variable that forces a source: `ebpf` or `proc-connector`.
    pub const VARIABLE: &'static str = "YINGLONG_PROCESS_SOURCE";

    /// The source that the environment asks for.
    pub fn from_environment() -> Self {
        std::env::var(Self::VARIABLE).map_or(Self::Automatic, |name| Self::from_name(&name))
    }

    fn from_name(name: &str) -> Self {
        match name {
            "ebpf" => Self::Ebpf,
            "proc-connector" => Self::ProcConnector,
            _ => Self::Automatic,
        }
    }
}

/// How to observe.
#[derive(Debug, Clone)]
pub struct Options {
    /// Programs that an earlier process loaded; loaded anew if they are gone.
    pub adopt: Option<BpfIds>,
    /// Processes not reported, neither they nor their children: the agent's own.
    pub excluded_pids: Vec<u32>,
    /// Size of the ring in bytes, rounded up to a power of two. Without effect on an adopted one.
    pub ring_bytes: usize,
    /// Where from.
    pub source: Source,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            adopt: None,
            excluded_pids: Vec::new(),
            ring_bytes: 8 << 20,
            source: Source::from_environment(),
        }
    }
}

/// An opened sensor.
pub struct Opened {
    /// The sensor.
    pub sensor: Box<dyn Sensor>,
    /// What to [`hold`] while this process may be killed, and to adopt afterwards; `None` when the
    /// source has nothing that could be held.
    pub ids: Option<BpfIds>,
}

/// Opens the sensor and fills the tree with the running processes. From here on nothing is missed,
/// even before the sensor runs.
///
/// # Errors
/// [`Error::Unavailable`] when no source can be used, or the one asked for cannot.
pub fn open(tree: Tree, accounts: Accounts, options: Options) -> Result<Opened, Error> {
    if options.source != Source::ProcConnector {
        match ebpf::Ebpf::open(tree.clone(), accounts.clone(), &options) {
            Ok(sensor) => {
                let ids = Some(sensor.ids().clone());
                let sensor = Box::new(sensor);
                return Ok(Opened { sensor, ids });
            }
            Err(error) if options.source == Source::Ebpf => return Err(error),
            Err(error) => return fall_back(tree, accounts, &options, &error.to_string()),
        }
    }
    let reason = format!("asked for by {}", Source::VARIABLE);
    fall_back(tree, accounts, &options, &reason)
}

fn fall_back(
    tree: Tree,
    accounts: Accounts,
    options: &Options,
    reason: &str,
) -> Result<Opened, Error> {
    match connector::Connector::open(tree, accounts, options, reason) {
        Ok(sensor) => Ok(Opened {
            sensor: Box::new(sensor),
            ids: None,
        }),
        Err(error) => Err(Error::Unavailable {
            source_name: connector::SOURCE,
            reason: format!("{}; {reason}", chain(&error)),
        }),
    }
}

/// The error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// Reads `bytes` as a record of our programs, and as a message of the process connector.
#[cfg(fuzzing)]
pub(crate) fn fuzz_record(bytes: &[u8]) {
    record::claims_exec(bytes);
    if let Ok(record::Record::Exec(exec)) = record::Record::parse(bytes) {
        // Nothing is told of an image that could not be read.
        assert!(exec.path.is_empty() || absolute(exec.path).starts_with(b"/"));
        absolute(exec.cwd);
        crate::text::command_line(exec.args);
        environ::extract(exec.env);
        terminal(exec.tty);
    }
    let _ = netlink::Message::parse(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_forced_by_its_name() {
        assert_eq!(Source::from_name("ebpf"), Source::Ebpf);
        assert_eq!(Source::from_name("proc-connector"), Source::ProcConnector);
        assert_eq!(Source::from_name(""), Source::Automatic);
    }
}
