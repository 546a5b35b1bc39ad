//! What the sources without BPF have in common: they take what there is in rounds, and a count of the
//! kernel's forks tells what happened while none of them ran.

use std::time::{Duration, Instant};

use yinglong_model::host::SensorStatus;
use yinglong_sensor::{Context, Error, Outlet, Sensor};

use super::{STREAM, gap};

/// How often the count of forks is remembered, if anything was handed over since.
const MARK_EVERY: Duration = Duration::from_secs(1);

/// A source that is read in rounds.
pub(super) trait Rounds: Send {
    /// Its name in the status.
    const SOURCE: &'static str;

    /// Waits a while for news and hands it over; answers whether there was anything to commit.
    ///
    /// # Errors
    /// The source cannot be read any more.
    fn round(&mut self, context: &Context, outlet: &mut dyn Outlet) -> Result<bool, Error>;
}

/// The sensor made of such a source.
#[derive(Debug)]
pub(super) struct Lesser<S> {
    source: S,
    reason: String,
    /// What happened before is in the books.
    accounted: bool,
    running: bool,
}

impl<S: Rounds> Lesser<S> {
    /// `reason`: why no better source is used, and what this one lacks.
    pub(super) const fn new(source: S, reason: String) -> Self {
        Self {
            source,
            reason,
            accounted: false,
            running: false,
        }
    }

    fn watch(&mut self, context: &Context, outlet: &mut dyn Outlet) -> Result<(), Error> {
        let boot = gap::boot_id();
        if !self.accounted {
            gap::account(outlet, &boot);
            outlet.commit()?;
            self.accounted = true;
        }
        let (mut marked, mut unmarked) = (Instant::now(), false);
        while !context.stopping() {
            let news = self.source.round(context, outlet)?;
            unmarked |= news;
            let due = unmarked && marked.elapsed() >= MARK_EVERY;
            if due {
                (marked, unmarked) = (Instant::now(), false);
                gap::mark(outlet, &boot);
            }
            if news || due {
                outlet.commit()?;
            }
        }
        gap::mark(outlet, &boot);
        outlet.commit()
    }
}

impl<S: Rounds> Sensor for Lesser<S> {
    fn stream(&self) -> &'static str {
        STREAM
    }

    fn status(&self) -> SensorStatus {
        SensorStatus {
            stream: STREAM.into(),
            source: S::SOURCE.into(),
            running: self.running,
            reason: self.reason.clone(),
        }
    }

    fn run(&mut self, context: &Context, outlet: &mut dyn Outlet) -> Result<(), Error> {
        self.running = true;
        outlet.status(self.status());
        let result = self.watch(context, outlet);
        self.running = false;
        result
    }
}
