//! System calls that matter for security: the stream `syscall`.
//!
//! - **Guarantees**: every watched call that ended is delivered once, or counted as lost with its
//!   reason, to the unit, also when the agent is killed at any point ([`hold`] and
//!   [`Options::adopt`]). No program of ours runs at
//!   other calls, unless 32-bit programs are watched too (`docs/syscalls.md` has the cost).
//! - **Invariants**: a record leaves the ring only after its commit; the ring position in the mark
//!   `syscall.ring` is what an adopting reader continues from. Failed executions of files that do
//!   not exist are counted as filtered, not sent.
//! - **Watched**: ptrace (attach, seize, poke), process_vm_writev, loading and removal of kernel
//!   modules, loading of BPF programs, mount, umount2, move_mount, pivot_root, unshare, setns,
//!   changes of user and group ids that gain 0, memfd_create, signals to the agent, failed
//!   executions.
//! - **Not here**: what io_uring does, clone with namespaces, the new mount interface but
//!   move_mount, tkill of threads of the agent other than its first, calls of the agent itself and
//!   of what it starts. There is no other source than BPF: without it, nothing is watched.
//!
//! The programs run at the tracepoints of the watched calls alone. Calls through the interface for
//! 32-bit programs have no tracepoints; while `client.syscall32` is on, two more programs look at
//! every call of the host. Kernels before 5.15, which cannot share tracepoints, need those two for
//! native calls as well; they stay attached there, also while the agent is away.

mod convert;
mod describe;
mod load;
mod record;
mod sensor;
mod watched;
mod words;

use yinglong_sensor::{Error, Sensor};

pub use crate::attached::{BpfIds, hold};
use crate::{accounts::Accounts, tree::Tree};

const STREAM: &str = "syscall";

/// Where the programs run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Source {
    /// At the tracepoints of the watched calls, or at every call where the kernel cannot do that.
    #[default]
    Automatic,
    /// At every call.
    EveryCall,
}

impl Source {
    /// Environment variable that forces a source: `every-call`.
    pub const VARIABLE: &'static str = "YINGLONG_SYSCALL_SOURCE";

    /// The source that the environment asks for.
    pub fn from_environment() -> Self {
        match std::env::var(Self::VARIABLE).as_deref() {
            Ok("every-call") => Self::EveryCall,
            _ => Self::Automatic,
        }
    }
}

/// How to observe.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the programs run. Without effect on adopted ones.
    pub source: Source,
    /// Programs that an earlier process loaded; loaded anew if they are gone.
    pub adopt: Option<BpfIds>,
    /// The agent's own processes: what they do is not reported, what is done to them is.
    pub agent_pids: Vec<u32>,
    /// Size of the ring in bytes, rounded up to a power of two. Without effect on an adopted one.
    pub ring_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            adopt: None,
            agent_pids: Vec::new(),
            ring_bytes: 2 << 20,
            source: Source::from_environment(),
        }
    }
}

/// An opened sensor.
pub struct Opened {
    /// The sensor.
    pub sensor: Box<dyn Sensor>,
    /// What to [`hold`] while this process may be killed, and to adopt afterwards.
    pub ids: BpfIds,
}

/// Opens the sensor. From its first run on nothing is missed, even between two runs.
///
/// # Errors
/// [`Error::Unavailable`] when the kernel refuses the programs.
pub fn open(tree: Tree, accounts: Accounts, options: &Options) -> Result<Opened, Error> {
    let sensor = sensor::Syscalls::open(tree, accounts, options)?;
    let ids = sensor.ids().clone();
    Ok(Opened {
        sensor: Box::new(sensor),
        ids,
    })
}

/// Reads `bytes` as a record of our programs, and describes the call.
#[cfg(fuzzing)]
pub(crate) fn fuzz_record(bytes: &[u8]) {
    if let Ok(record) = record::Record::parse(bytes) {
        describe::describe(&record, |pid| Some(pid.to_string()));
    }
}
