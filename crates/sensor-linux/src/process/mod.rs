//! Executions and ends of processes: the streams `process` and `exit`.
//!
//! - **Guarantees**: every execution is delivered or counted as lost with its reason, to the unit,
//!   also when the agent is killed at any point ([`hold`] and [`Options::adopt`]). The lower a rung of
//!   the ladder, the less of this holds; the status says which rung, and why no higher one.
//! - **The ladder**, best first ([`Source`]): `ebpf`; `ebpf-btf-file`, the same with types from a file;
//!   `audit`, complete but with fewer fields and a cost per execution; `proc-connector`, where
//!   short-lived processes come without details and losses are estimates; `proc-poll`, which misses
//!   short-lived processes.
//! - **Invariants**: a record leaves the ring only after its commit; the ring position in the mark
//!   `process.ring` is what an adopting reader continues from.
//! - **Ends** by a signal that tells of a fault (SIGSEGV, SIGABRT, SIGSYS ...) are events always, the
//!   others while `client.exit` is on. The kernel side decides which, and counts them apart from
//!   executions, so that the books of both streams are exact.
//! - **Not here**: failed executions (see `syscall`); filters of the configuration.

mod account;
mod audit;
mod batch;
mod books;
mod clock;
mod connector;
mod container;
mod convert;
mod ebpf;
mod end;
mod environ;
mod gap;
mod hashing;
mod lesser;
mod netlink;
mod poll;
mod record;
mod snapshot;

use std::{path::PathBuf, time::Duration};

use yinglong_sensor::{Error, Sensor};

use self::{audit::Audit as AuditRecords, connector::Connector, lesser::Rounds as _, poll::Poll};
pub(crate) use self::{
    books::{Audit, Books, Counted},
    clock::Clock,
    container::{Group, Groups, container_id},
    convert::{Names, terminal},
    gap::boot_id,
    record::{GroupId, absolute},
};
pub use crate::attached::{BpfIds, hold};
use crate::{
    accounts::Accounts,
    btf::{self, Btf},
    tree::Tree,
};

const STREAM: &str = "process";
/// Stream of the ends that are told.
const EXIT_STREAM: &str = "exit";

/// Where executions come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Source {
    /// The best there is.
    #[default]
    Automatic,
    /// BPF programs with the kernel's own types, or an error.
    Ebpf,
    /// BPF programs with the types of a file, or an error.
    EbpfBtfFile,
    /// Records of the kernel's audit, or an error.
    Audit,
    /// The kernel's process connector, or an error.
    ProcConnector,
    /// Looks at `/proc`, or an error.
    ProcPoll,
}

impl Source {
    /// Environment variable that forces a source, by its name in the status.
    pub const VARIABLE: &'static str = "YINGLONG_PROCESS_SOURCE";

    /// The source that the environment asks for.
    pub fn from_environment() -> Self {
        std::env::var(Self::VARIABLE).map_or(Self::Automatic, |name| Self::from_name(&name))
    }

    fn from_name(name: &str) -> Self {
        match name {
            ebpf::SOURCE => Self::Ebpf,
            ebpf::FILE_SOURCE => Self::EbpfBtfFile,
            AuditRecords::SOURCE => Self::Audit,
            Connector::SOURCE => Self::ProcConnector,
            Poll::SOURCE => Self::ProcPoll,
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
    /// Longest wait of an event for the hashes of its image.
    pub hash_patience: Duration,
    /// Where from.
    pub source: Source,
    /// File with the kernel's types, to use instead of the kernel's own.
    pub btf: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            adopt: None,
            excluded_pids: Vec::new(),
            ring_bytes: 8 << 20,
            // A file of 32 MB that is in memory takes less.
            hash_patience: Duration::from_millis(200),
            source: Source::from_environment(),
            btf: btf::asked(),
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
    let forced = format!("asked for by {}", Source::VARIABLE);
    let lesser = |source, reason: &str| open_lesser(source, &tree, &accounts, &options, reason);
    match options.source {
        Source::Ebpf | Source::EbpfBtfFile => open_ebpf(&tree, &accounts, &options),
        source @ (Source::Audit | Source::ProcConnector | Source::ProcPoll) => {
            lesser(source, &forced)
        }
        Source::Automatic => {
            let mut error = match open_ebpf(&tree, &accounts, &options) {
                Ok(opened) => return Ok(opened),
                Err(error) => error,
            };
            let mut reasons = Vec::new();
            for source in LESSER {
                reasons.push(chain(&error));
                match lesser(source, &reasons.join("; ")) {
                    Ok(opened) => return Ok(opened),
                    Err(refused) => error = refused,
                }
            }
            reasons.push(chain(&error));
            Err(Error::Unavailable {
                source_name: Poll::SOURCE,
                reason: reasons.join("; "),
            })
        }
    }
}

/// Sources without BPF, best first.
const LESSER: [Source; 3] = [Source::Audit, Source::ProcConnector, Source::ProcPoll];

fn open_lesser(
    source: Source,
    tree: &Tree,
    accounts: &Accounts,
    options: &Options,
    reason: &str,
) -> Result<Opened, Error> {
    let (tree, accounts) = (tree.clone(), accounts.clone());
    let sensor: Box<dyn Sensor> = match source {
        Source::Audit => Box::new(AuditRecords::open(tree, accounts, options, reason)?),
        Source::ProcConnector => Box::new(Connector::open(tree, accounts, options, reason)?),
        _ => Box::new(Poll::open(tree, accounts, options, reason)?),
    };
    Ok(Opened { sensor, ids: None })
}

fn open_ebpf(tree: &Tree, accounts: &Accounts, options: &Options) -> Result<Opened, Error> {
    let types = match options.source {
        Source::Ebpf => Btf::find(None).and_then(|types| match types {
            Btf::Kernel => Ok(types),
            Btf::File(_) => Err(format!(
                "the kernel has no types of its own ({})",
                btf::KERNEL
            )),
        }),
        // Without a file this is what the kernel shows, used as one.
        Source::EbpfBtfFile => match Btf::find(options.btf.as_deref()) {
            Ok(Btf::Kernel) => Ok(Btf::File(btf::KERNEL.into())),
            found => found,
        },
        _ => Btf::find(options.btf.as_deref()),
    };
    let types = types.map_err(|reason| Error::Unavailable {
        source_name: ebpf::SOURCE,
        reason,
    })?;
    let sensor = ebpf::Ebpf::open(tree.clone(), accounts.clone(), options, types)?;
    let ids = Some(sensor.ids().clone());
    let sensor = Box::new(sensor);
    Ok(Opened { sensor, ids })
}

fn start_hashing(options: &Options) -> Result<hashing::Hashing, Error> {
    hashing::Hashing::start(options.hash_patience).map_err(|source| Error::Os {
        what: "cannot start the thread that hashes images".into(),
        source,
    })
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
        assert_eq!(Source::from_name("ebpf-btf-file"), Source::EbpfBtfFile);
        assert_eq!(Source::from_name("audit"), Source::Audit);
        assert_eq!(Source::from_name("proc-connector"), Source::ProcConnector);
        assert_eq!(Source::from_name("proc-poll"), Source::ProcPoll);
        assert_eq!(Source::from_name(""), Source::Automatic);
    }
}
