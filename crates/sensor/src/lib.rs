//! The port every sensor implements, and the outlet it pours its observations into.
//!
//! - **Guarantees**: when [`Outlet::commit`] returns `Ok`, everything emitted before is in the
//!   spool, together with the sensor's marks. A sensor may only then give its source up (advance
//!   a ring, move an offset), so an agent killed at any point repeats or resumes, exactly.
//! - **Invariants**: every loss is told to the outlet with its reason; a sensor never drops
//!   silently. A sensor runs on a thread of its own and blocks nobody else.
//! - **Not here**: filtering by configuration, the spool, any platform.

#![forbid(unsafe_code)]

use std::{
    sync::{
        Arc, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use yinglong_model::{
    DropReason, Observation, config::AgentConfig, host::SensorStatus, ledger::Origin,
};

/// Something that observes a host.
pub trait Sensor: Send {
    /// Stream it feeds (`process`, `connection`, `file`, `loginlog`, `dns`, `syscall`, `exit`, `inventory`).
    fn stream(&self) -> &'static str;

    /// What it uses and why.
    fn status(&self) -> SensorStatus;

    /// Observes until [`Context::stopping`], committing at least every 50 ms while there is
    /// something to report, and reacting to a new configuration within a second.
    ///
    /// # Errors
    /// The source is gone for good; the agent reports it and may start a fallback.
    fn run(&mut self, context: &Context, outlet: &mut dyn Outlet) -> Result<(), Error>;
}

/// Where observations go.
pub trait Outlet {
    /// Hands an observation over. It is not safe before [`Outlet::commit`].
    fn emit(&mut self, observation: Observation);

    /// Counts a loss of this sensor's stream.
    fn lose(&mut self, reason: DropReason, count: u64);

    /// Counts a loss of the other stream of a sensor that feeds two. What is emitted counts in the
    /// stream of its type in any case. An outlet that keeps no books by stream counts all in one.
    fn lose_in(&mut self, _stream: &'static str, reason: DropReason, count: u64) {
        self.lose(reason, count);
    }

    /// Counts a loss of this sensor's stream, and says whose observations it was.
    fn lose_of(&mut self, reason: DropReason, _origin: &Origin, count: u64) {
        self.lose(reason, count);
    }

    /// Counts observations of this sensor's stream that configuration leaves out; they count as
    /// emitted.
    fn filtered(&mut self, count: u64);

    /// Remembers, with the next commit, how far a source has been read. Names are unique within
    /// the agent, for example `process.ring`; values are small.
    fn mark(&mut self, name: &str, value: String);

    /// Tells that the sensor's status is not what it was: another source, a new reason. Told at
    /// once, not with the next commit; telling the same again changes nothing.
    fn status(&mut self, _status: SensorStatus) {}

    /// The mark of the last commit, of this run or an earlier one.
    fn marked(&self, name: &str) -> Option<String>;

    /// Writes everything emitted, with losses and marks, to the spool as one atomic unit.
    ///
    /// # Errors
    /// The spool failed for good (its disk is gone). A full spool is not an error: what does not
    /// fit is counted as dropped.
    fn commit(&mut self) -> Result<(), Error>;
}

/// What sensors share: the configuration, and whether to stop.
#[derive(Debug, Clone, Default)]
pub struct Context {
    stop: Arc<AtomicBool>,
    config: Arc<RwLock<Arc<AgentConfig>>>,
}

impl Context {
    /// Longest time a sensor may wait in one go, so that it sees a stop or a new configuration.
    pub const PATIENCE: Duration = Duration::from_millis(500);

    /// Whether the agent is ending.
    pub fn stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Asks every sensor to end.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<AgentConfig> {
        let guard = self
            .config
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        Arc::clone(&guard)
    }

    /// Puts a configuration in force.
    pub fn set_config(&self, config: AgentConfig) {
        let mut guard = self
            .config
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        *guard = Arc::new(config);
    }
}

/// Why a sensor cannot observe.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host lacks something; the text names it and the remedy.
    #[error("{source_name} is unavailable: {reason}")]
    Unavailable {
        /// Source, as in [`SensorStatus::source`].
        source_name: &'static str,
        /// What is missing and what to do.
        reason: String,
    },
    /// The operating system refused a call.
    #[error("{what}")]
    Os {
        /// What was tried.
        what: String,
        /// Its answer.
        #[source]
        source: std::io::Error,
    },
    /// The spool cannot be written any more.
    #[error("the spool failed")]
    Spool(#[source] Box<dyn std::error::Error + Send + Sync>),
}
