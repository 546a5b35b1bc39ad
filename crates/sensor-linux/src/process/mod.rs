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
mod container;
mod convert;
mod ebpf;
mod environ;
mod gap;
mod record;

use yinglong_sensor::{Error, Sensor};

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
    let sensor = ebpf::Ebpf::open(tree, accounts, &options)?;
    let ids = Some(sensor.ids().clone());
    Ok(Opened {
        sensor: Box::new(sensor),
        ids,
    })
}
