//! The sensor: reads its ring in rounds, joins, names and hands over.

use std::{collections::HashMap, sync::Arc, time::Duration};

use nix::time::{ClockId, clock_gettime};
use yinglong_model::{
    DropReason, EventData, Observation, Timestamp, config::AgentConfig, event::Protocol,
    host::SensorStatus,
};
use yinglong_sensor::{Context, Error, Outlet, Sensor};

use super::{
    capture::Capture,
    kernel::{self, Kernel},
    mark::{Mark, RING},
    message::{self, Said},
    record::{self, Record},
    stream::{Streams, Way},
    table::{Exchange, Key, Table},
    tell::Teller,
};
use crate::{
    accounts::Accounts, precedence::Precedence, process::boot_id, quiet::Quiet, ring::wait_for_any,
    standing::Standing, tree::Tree,
};

/// Time between two rounds unless the ring fills faster.
const ROUND: Duration = Duration::from_millis(50);

/// Questions from the kernel.
pub(super) struct Names {
    pub(super) tree: Tree,
    pub(super) accounts: Accounts,
    pub(super) source: Source,
    /// Why it is not the best source, or what that one lacks.
    pub(super) reason: String,
    pub(super) excluded_pids: Vec<u32>,
}

/// Where packets come from.
pub(super) enum Source {
    /// From the sockets of the host.
    Kernel(Box<Kernel>),
    /// From its interfaces.
    Capture(Box<Capture>),
}

impl Source {
    const fn kernel(&self) -> Option<&Kernel> {
        match self {
            Self::Kernel(kernel) => Some(kernel),
            Self::Capture(_) => None,
        }
    }

    fn wait(&self, patience: Duration) {
        let fd = match self {
            Self::Kernel(kernel) => kernel.fd(),
            // Packets that keep coming are gathered, not waited for.
            Self::Capture(_) if patience <= ROUND => return std::thread::sleep(patience),
            Self::Capture(capture) => capture.fd(),
        };
        // An interrupted wait only makes the round earlier.
        let _ = wait_for_any([Some(fd)], patience);
    }
}

impl Sensor for Names {
    fn stream(&self) -> &'static str {
        "dns"
    }

    fn status(&self) -> SensorStatus {
        SensorStatus {
            stream: self.stream().to_owned(),
            source: match &self.source {
                Source::Kernel(_) => "ebpf",
                Source::Capture(capture) => capture.kind().as_str(),
            }
            .to_owned(),
            running: true,
            reason: self.reason.clone(),
        }
    }

    fn run(&mut self, context: &Context, outlet: &mut dyn Outlet) -> Result<(), Error> {
        let mut run = Run::new(self, outlet)?;
        let mut standing = Standing::default();
        let mut precedence = Precedence::take("dns");
        let mut more = false;
        loop {
            precedence.round();
            standing.look(run.sensor, outlet);
            let stopping = context.stopping();
            if !more && !stopping {
                run.wait();
            }
            run.follow(&context.config())?;
            more = run.take_records(outlet)?;
            run.tell_losses(outlet)?;
            if stopping && !more {
                return run.finish(outlet);
            }
            run.hand_over(outlet)?;
        }
    }
}

/// State of one run.
struct Run<'a> {
    sensor: &'a mut Names,
    table: Table,
    streams: Streams,
    teller: Teller,
    config: Option<Arc<AgentConfig>>,
    wanted: bool,
    resolvers: bool,
    /// Waiting one round for their names: an execution just before the question reaches the
    /// process table through another ring.
    unnamed: Vec<Exchange>,
    quiet: Quiet,
    /// Something was read in this round.
    seen: bool,
    mark: Mark,
    secured: Mark,
    hurried: u64,
    /// Losses or what is left out were told since the last commit.
    told: bool,
}

impl<'a> Run<'a> {
    fn new(sensor: &'a mut Names, outlet: &mut dyn Outlet) -> Result<Self, Error> {
        let boot = boot_id();
        let earlier = Mark::of_boot(&boot, outlet.marked(RING).as_deref());
        let ring = sensor.source.kernel().map_or(0, Kernel::ring_id);
        let mut mark = Mark {
            boot,
            ring,
            ..Mark::default()
        };
        let mut told = false;
        if let Some(earlier) = earlier {
            // What an earlier reader had read and not told is gone with it.
            if earlier.waiting > 0 {
                outlet.lose(DropReason::AgentKilled, earlier.waiting);
                told = true;
            }
            let adopted = sensor.source.kernel().is_some_and(Kernel::adopted);
            if adopted && earlier.ring == mark.ring {
                mark.position = earlier.position;
                mark.lost = earlier.lost;
                mark.shed = earlier.shed;
            }
        }
        if let Source::Kernel(kernel) = &mut sensor.source {
            kernel.restart_at(mark.position);
        }
        let teller = Teller::new(sensor.tree.clone(), sensor.accounts.clone());
        Ok(Self {
            sensor,
            table: Table::default(),
            streams: Streams::default(),
            teller,
            config: None,
            wanted: false,
            resolvers: true,
            unnamed: Vec::new(),
            quiet: Quiet::default(),
            seen: false,
            secured: Mark::default(),
            mark,
            hurried: 0,
            told,
        })
    }

    /// Waits for the next round.
    fn wait(&mut self) {
        let waiting = self.table.waiting() > 0 || !self.unnamed.is_empty();
        let busy = waiting || std::mem::take(&mut self.seen);
        self.quiet.round(busy);
        self.sensor.source.wait(self.quiet.wait(ROUND));
    }

    /// Puts a changed configuration in force.
    fn follow(&mut self, config: &Arc<AgentConfig>) -> Result<(), Error> {
        let known = self.config.as_ref();
        if known.is_some_and(|known| Arc::ptr_eq(known, config)) {
            return Ok(());
        }
        self.config = Some(Arc::clone(config));
        self.resolvers = config.client.dns_resolvers;
        self.wanted = config.client.dns;
        match &mut self.sensor.source {
            Source::Kernel(kernel) => kernel.want(self.wanted).map_err(unusable),
            Source::Capture(_) => Ok(()),
        }
    }

    /// Says whether there may be more records.
    fn take_records(&mut self, outlet: &mut dyn Outlet) -> Result<bool, Error> {
        let now = since_boot();
        let (table, streams, wanted) = (&mut self.table, &mut self.streams, self.wanted);
        let (mut malformed, mut seen) = (0, false);
        let more = match &mut self.sensor.source {
            Source::Kernel(kernel) => {
                let more = kernel.read(|bytes| {
                    seen = true;
                    malformed += match record::decode(bytes) {
                        Some(record) => take(table, streams, now, &record),
                        None => 1,
                    };
                });
                self.mark.position = kernel.position();
                more
            }
            Source::Capture(capture) => capture
                .read(now, |record| {
                    seen = true;
                    if wanted {
                        malformed += take(table, streams, now, record);
                    }
                })
                .map_err(|error| Error::Os {
                    what: "packets cannot be captured any more".to_owned(),
                    source: error,
                })?,
        };
        self.seen |= seen;
        if malformed > 0 {
            outlet.lose(DropReason::Malformed, malformed);
            self.told = true;
        }
        Ok(more)
    }

    fn tell_losses(&mut self, outlet: &mut dyn Outlet) -> Result<(), Error> {
        match &mut self.sensor.source {
            Source::Kernel(kernel) => {
                let counted = kernel.counted().map_err(unusable)?;
                // A lost answer costs its event the answer, a lost question the event.
                if counted.lost_sent > self.mark.lost {
                    outlet.lose(DropReason::RingFull, counted.lost_sent - self.mark.lost);
                    self.mark.lost = counted.lost_sent;
                    self.told = true;
                }
                if counted.shed_sent > self.mark.shed {
                    kernel.tell_shed(counted.shed_sent - self.mark.shed, outlet);
                    self.mark.shed = counted.shed_sent;
                    self.told = true;
                }
            }
            Source::Capture(capture) => {
                let dropped = capture.newly_dropped();
                if dropped > 0 {
                    outlet.lose(DropReason::CaptureFull, dropped);
                    self.told = true;
                }
            }
        }
        if self.table.hurried() > self.hurried {
            let questions = self.table.hurried() - self.hurried;
            self.hurried = self.table.hurried();
            tracing::warn!(
                questions,
                "many questions: some are reported before their answer"
            );
        }
        Ok(())
    }

    fn hand_over(&mut self, outlet: &mut dyn Outlet) -> Result<(), Error> {
        let ready = self.table.take_ready(since_boot());
        self.emit_named(outlet);
        self.admit(ready, outlet);
        self.secure(outlet)
    }

    fn finish(&mut self, outlet: &mut dyn Outlet) -> Result<(), Error> {
        let ready = self.table.take_all();
        self.admit(ready, outlet);
        self.emit_named(outlet);
        self.secure(outlet)
    }

    /// Leaves out what the configuration does not want.
    fn admit(&mut self, ready: Vec<Exchange>, outlet: &mut dyn Outlet) {
        let excluded = &self.sensor.excluded_pids;
        let mut left_out = 0;
        for exchange in ready {
            if excluded.contains(&exchange.asker.pid) {
                // Our own: not observed at all.
            } else if exchange.asker.resolver && !self.resolvers {
                left_out += 1;
            } else {
                self.unnamed.push(exchange);
            }
        }
        if left_out > 0 {
            outlet.filtered(left_out);
            self.told = true;
        }
    }

    fn emit_named(&mut self, outlet: &mut dyn Outlet) {
        let boot = Timestamp::from(std::time::SystemTime::now()).minus(since_boot());
        // Asking for an account looks at a file; once a round is enough.
        let mut users = HashMap::new();
        for exchange in std::mem::take(&mut self.unnamed) {
            let occurred_at = boot.plus(exchange.at);
            let data = EventData::Dns(Box::new(self.teller.event(exchange, &mut users)));
            outlet.emit(Observation::Event { occurred_at, data });
            self.told = true;
        }
    }

    /// Commits what there is, and gives up what was read.
    fn secure(&mut self, outlet: &mut dyn Outlet) -> Result<(), Error> {
        self.mark.waiting = (self.table.waiting() + self.unnamed.len()) as u64;
        if std::mem::take(&mut self.told) || self.mark != self.secured {
            outlet.mark(RING, self.mark.to_string());
            outlet.commit()?;
            self.secured = self.mark.clone();
        }
        if let Source::Kernel(kernel) = &mut self.sensor.source {
            kernel.give_up();
        }
        Ok(())
    }
}

/// Takes a packet; says how many messages in it made no sense.
fn take(table: &mut Table, streams: &mut Streams, now: Duration, record: &Record<'_>) -> u64 {
    if record.protocol == Protocol::Udp {
        return u64::from(take_message(table, now, record, record.payload));
    }
    let way = Way {
        cookie: record.cookie,
        sent: record.sent,
    };
    let told = streams.take(now, way, record.tcp_seq, record.payload, record.length);
    let malformed = told
        .messages
        .iter()
        .filter(|message| take_message(table, now, record, message))
        .count();
    u64::from(told.gap) + malformed as u64
}

/// Takes one message; says whether it was none.
fn take_message(table: &mut Table, now: Duration, record: &Record<'_>, bytes: &[u8]) -> bool {
    let said = match message::read(bytes) {
        Ok(Some(said)) => said,
        Ok(None) => return false,
        // What comes in from port 53 may be anybody's; only what this host asks is an observation.
        Err(_) => return record.sent,
    };
    let Said {
        id,
        question,
        answer,
    } = said;
    let key = Key {
        cookie: record.cookie,
        id,
        server: record.server,
        question,
    };
    match (record.sent, answer, record.asker) {
        (true, None, Some(asker)) => table.asked(now, key, record.at, record.protocol, asker),
        (false, Some(answer), asker) => {
            table.answered(key, answer, record.at, record.protocol, asker);
        }
        // An answer that leaves for port 53, or a question that comes from there: two servers.
        _ => {}
    }
    false
}

fn unusable(error: kernel::Error) -> Error {
    Error::Os {
        what: error.to_string(),
        source: std::io::Error::other(error),
    }
}

/// Time since this host was booted.
fn since_boot() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME)
        .map(Duration::from)
        .unwrap_or_default()
}
