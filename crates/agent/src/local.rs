//! An agent without a server: the same sensors, filter, books and spool; what they bring is read
//! here instead of being sent. For debugging, recording and measuring on this host.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use yinglong_model::{
    DropReason, Ledger, Record,
    config::AgentConfig,
    host::{AgentUsage, SensorStatus},
};
use yinglong_proto::decode_record;
use yinglong_sensor::Context;
use yinglong_sensor_linux::attached::RingFill;
use yinglong_spool::Error;

use crate::{
    books::Books,
    filter::Filter,
    report,
    rings::Rings,
    sensors::{self, Sensors},
    spools,
};

/// Records read at a time.
const BATCH_RECORDS: usize = 1_024;
/// Bytes read at a time.
const BATCH_BYTES: usize = 4 << 20;
/// How often is looked whether sensors have started.
const LOOK: Duration = Duration::from_millis(20);

/// How it stands.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Snapshot {
    /// Every sensor.
    pub sensors: Vec<SensorStatus>,
    /// Where everything observed went.
    pub ledger: Ledger,
    /// How full the rings are.
    pub rings: BTreeMap<String, RingFill>,
    /// What it costs.
    pub usage: AgentUsage,
}

/// A running one.
pub struct Local {
    context: Context,
    books: Books,
    rings: Rings,
    sensors: Option<Sensors>,
    board: sensors::Board,
    next: u64,
}

impl Local {
    /// Starts sensors that write into a spool below `folder`, which should be new.
    ///
    /// # Errors
    /// The folder cannot be used, or the system refuses a thread.
    pub fn start(folder: &Path, config: AgentConfig, spool_bytes: u64) -> anyhow::Result<Self> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let spools = spools::open(folder, boot.trim(), rand::random(), spool_bytes)?;
        let books = Books::open(spools.current, spools.note.as_deref());
        let (filter, refused) = Filter::new(&config.filter);
        for entry in refused {
            tracing::warn!(entry, "a filter entry cannot be used and is left out");
        }
        books.set_filter(filter);
        let context = Context::default();
        context.set_config(config);
        let options = sensors::Options {
            excluded_pids: vec![std::process::id()],
            ..sensors::Options::default()
        };
        let rings = Rings::default();
        let known = rings.clone();
        let sensors = Sensors::start(&context, &books, &options, move |new| known.loaded(new))
            .context("the sensors cannot be started")?;
        Ok(Self {
            next: books.spool().released_seq() + 1,
            board: sensors.board(),
            sensors: Some(sensors),
            context,
            books,
            rings,
        })
    }

    /// Waits until every sensor observes or has said why not.
    ///
    /// # Errors
    /// None observes, or they do not say in time.
    pub fn ready(&self, timeout: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + timeout;
        while !self.sensors.as_ref().is_some_and(Sensors::all_told) {
            if Instant::now() >= until {
                bail!("the sensors did not start within {timeout:?}");
            }
            thread::sleep(LOOK);
        }
        let statuses = self.board.statuses();
        if !statuses.iter().any(|status| status.running) {
            let why: Vec<_> = statuses.into_iter().map(|status| status.reason).collect();
            bail!("nothing can be observed: {}", why.join("; "));
        }
        Ok(())
    }

    /// How it stands now.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            sensors: self.board.statuses(),
            ledger: self.books.ledger(),
            rings: self.rings.fill(),
            usage: report::usage(&self.books),
        }
    }

    /// Hands over what came in, waiting for the first of it at most for `wait`. Returns how much.
    ///
    /// # Errors
    /// Those of `each`, and those of the disk.
    pub fn drain(
        &mut self,
        wait: Duration,
        mut each: impl FnMut(Record) -> anyhow::Result<()>,
    ) -> anyhow::Result<usize> {
        let spool = self.books.spool();
        spool.wait_beyond(self.next.saturating_sub(1), wait);
        let records = match spool.read(self.next, BATCH_RECORDS, BATCH_BYTES) {
            Ok(records) => records,
            Err(Error::Corrupt { last_lost, .. }) => {
                let lost = (last_lost + 1).saturating_sub(self.next);
                self.books.lost_in_spool(DropReason::Malformed, lost);
                self.next = last_lost + 1;
                return Ok(0);
            }
            Err(error) => return Err(error.into()),
        };
        let count = records.len();
        for (seq, bytes) in records {
            self.next = seq + 1;
            let (observed_at, observation) =
                decode_record(&bytes).context("the agent cannot read its own record")?;
            each(Record {
                seq,
                observed_at,
                observation,
            })?;
        }
        if count > 0 {
            spool.release(self.next - 1)?;
        }
        Ok(count)
    }

    /// Ends the sensors. What they had in hand is in the spool then.
    pub fn stop(&mut self) {
        self.context.stop();
        if let Some(sensors) = self.sensors.take() {
            sensors.join();
        }
    }
}

/// The configuration in a file, as a server gave it or as people write it.
///
/// # Errors
/// The file cannot be read or is no such document.
pub fn config(path: &Path) -> anyhow::Result<AgentConfig> {
    let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text)
        .with_context(|| format!("{} is no agent configuration", path.display()))
}
