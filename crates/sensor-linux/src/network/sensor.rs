//! The sensor: reads its sources in rounds, joins, names and hands over.

use std::{collections::HashMap, sync::Arc, time::Duration};

use nix::time::{ClockId, clock_gettime};
use yinglong_model::{
    DropReason, EventData, Observation, Timestamp,
    config::AgentConfig,
    event::{Connection, Direction, Protocol},
    host::SensorStatus,
};
use yinglong_sensor::{Context, Error, Outlet, Sensor};

use super::{
    books::{Books, Mark, RING},
    join::{Attempt, Join, Owner, Report, State},
    journal::{Known, Note},
    kernel::{self, Kernel, Look},
    locals::Locals,
    lookup::Lookup,
    memory::{Memory, Secret},
    packet::{self, Packet, Segment},
    record::Record,
    scope::Scope,
    wire::sightings,
};
use crate::{
    accounts::Accounts,
    packets::{self, Capture, Wanted, Way},
    precedence::Precedence,
    process::{Audit, boot_id},
    quiet::Quiet,
    ring::wait_for_any,
    standing::Standing,
    tree::{Tree, started_together},
};

/// Time between two rounds unless the ring fills faster.
const ROUND: Duration = Duration::from_millis(50);
/// How long packets wait for their kernel record.
const HOLD_WITH_KERNEL: Duration = Duration::from_millis(300);
/// Without the kernel: until the answer, which is captured with the request, has been read.
const HOLD_WITHOUT_KERNEL: Duration = Duration::from_millis(50);

/// How long a request that passes through this host is remembered.
const FORWARDED_SPAN: Duration = Duration::from_secs(10);
/// Requests remembered that pass through.
const FORWARDED: usize = 16_384;
/// After the start, requests may be under way that the hooks have not seen.
const DOUBT_AT_START: Duration = Duration::from_secs(2);
/// After a loss, the record of a request may be among what was lost.
const DOUBT_AFTER_LOSS: Duration = Duration::from_secs(10);

/// Connections from the kernel, from packets, or from both.
pub(super) struct Connections {
    pub(super) tree: Tree,
    pub(super) accounts: Accounts,
    pub(super) kernel: Option<Kernel>,
    pub(super) capture: Option<Box<dyn Capture>>,
    /// Where packets come from if they do.
    pub(super) packets: packets::Kind,
    pub(super) reason: String,
}

/// What packets must tell: outcomes only if the kernel does not.
pub(super) const fn wanted(with_kernel: bool, udp: bool) -> Wanted {
    let answers = !with_kernel;
    Wanted::Requests { answers, udp }
}

impl Sensor for Connections {
    fn stream(&self) -> &'static str {
        "connection"
    }

    fn status(&self) -> SensorStatus {
        let source = match (&self.kernel, &self.capture) {
            (Some(_), Some(_)) => format!("{}+ebpf", self.packets),
            (Some(_), None) => "ebpf".to_owned(),
            (None, Some(_)) => self.packets.to_string(),
            (None, None) => "none".to_owned(),
        };
        SensorStatus {
            stream: self.stream().to_owned(),
            source,
            running: self.kernel.is_some() || self.capture.is_some(),
            reason: self.reason.clone(),
        }
    }

    fn run(&mut self, context: &Context, outlet: &mut dyn Outlet) -> Result<(), Error> {
        let mut run = Run::new(self, outlet)?;
        let mut standing = Standing::default();
        let mut precedence = Precedence::take("connection");
        let mut more = false;
        loop {
            precedence.round();
            standing.look(run.sensor, outlet);
            let stopping = context.stopping();
            if !more && !stopping {
                run.wait();
            }
            run.follow(&context.config())?;
            run.tick();
            more = run.take_records(outlet)?;
            more |= run.take_packets(outlet)?;
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
    sensor: &'a mut Connections,
    join: Join,
    scope: Scope,
    config: Option<Arc<AgentConfig>>,
    /// Asked of the packets.
    wanted: Option<Wanted>,
    locals: Locals,
    lookup: Lookup,
    /// Requests of others that pass through this host, by their sequence number: translation of
    /// addresses can make them look like its own.
    forwarded: Memory,
    secret: Secret,
    /// Until when a request without record proves nothing.
    doubtful: Duration,
    /// Looked up and waiting one round for their names: an execution just before the connection
    /// reaches the process table through another ring.
    unnamed: Vec<Found>,
    /// The time of the join, since boot: up to then every record was read, so nothing is given up
    /// whose record may still lie in the ring, however long a round takes. It is that of the records
    /// while what was left in an adopted ring is read, or more than one look can take, so that spans
    /// count from when things happened.
    clock: Duration,
    catching_up: bool,
    /// There were more records than one look takes.
    lagging: bool,
    quiet: Quiet,
    /// Records or packets were read in this round.
    seen: bool,
    books: Books,
    audit: Audit,
    /// Reported since the last commit.
    reported: Vec<Known>,
    lost_details: u64,
    hurried: u64,
    forgotten: u64,
    /// Losses were told since the last commit.
    told: bool,
}

/// A report with its owner, however it was found.
struct Found {
    report: Report,
    owner: Option<Owner>,
    attribution: &'static str,
}

impl<'a> Run<'a> {
    fn new(sensor: &'a mut Connections, outlet: &dyn Outlet) -> Result<Self, Error> {
        let hold = if sensor.kernel.is_some() {
            HOLD_WITH_KERNEL
        } else {
            HOLD_WITHOUT_KERNEL
        };
        let mut run = Self {
            join: Join::new(hold),
            scope: Scope::default(),
            config: None,
            wanted: None,
            locals: Locals::default(),
            lookup: Lookup::default(),
            forwarded: Memory::new(FORWARDED_SPAN, FORWARDED),
            secret: Secret::default(),
            doubtful: since_boot() + DOUBT_AT_START,
            unnamed: Vec::new(),
            clock: since_boot(),
            catching_up: false,
            lagging: false,
            quiet: Quiet::default(),
            seen: false,
            books: Books::default(),
            audit: Audit::new(),
            reported: Vec::new(),
            lost_details: 0,
            hurried: 0,
            forgotten: 0,
            told: false,
            sensor,
        };
        if let Some(kernel) = &mut run.sensor.kernel {
            let mark = outlet.marked(RING);
            let mark = Mark::of_ring(&boot_id(), kernel.ring_id(), mark.as_deref());
            kernel.restart_at(mark.position);
            let notes = kernel.notes(mark.notes).map_err(unusable)?;
            run.join
                .remember(notes.into_iter().map(|note| note.known).collect());
            run.lost_details = kernel.counted().map_err(unusable)?.lost_details;
            if kernel.adopted() || mark.at > Duration::ZERO {
                run.clock = mark.at;
                run.catching_up = true;
            }
            run.books = Books::new(mark);
        }
        Ok(run)
    }

    /// To be called before records are read.
    fn tick(&mut self) {
        if !self.catching_up && !self.lagging {
            self.clock = self.clock.max(since_boot());
        }
    }

    /// Waits for the next round. While packets keep coming they are gathered, not waited for.
    fn wait(&mut self) {
        let waiting = self.catching_up || !self.join.is_empty() || !self.unnamed.is_empty();
        self.quiet.round(waiting || std::mem::take(&mut self.seen));
        let patience = self.quiet.wait(ROUND);
        let kernel = self.sensor.kernel.as_ref();
        match kernel.map(Kernel::fd) {
            Some(None) => kernel.into_iter().for_each(|kernel| kernel.wait(ROUND)),
            Some(Some(ring)) if patience == ROUND => {
                // An interrupted wait only makes the round earlier.
                let _ = wait_for_any([Some(ring)], patience);
            }
            None if patience == ROUND => std::thread::sleep(ROUND),
            ring => {
                let packets = self.sensor.capture.as_ref().map(|capture| capture.fd());
                let _ = wait_for_any([ring.flatten(), packets], patience);
            }
        }
    }

    /// Puts a changed configuration in force.
    fn follow(&mut self, config: &Arc<AgentConfig>) -> Result<(), Error> {
        if self
            .config
            .as_ref()
            .is_some_and(|known| Arc::ptr_eq(known, config))
        {
            return Ok(());
        }
        self.config = Some(Arc::clone(config));
        self.scope = Scope::new(config);
        if let Some(kernel) = &mut self.sensor.kernel {
            kernel.want_udp(self.scope.udp()).map_err(unusable)?;
        }
        let wanted = wanted(self.sensor.kernel.is_some(), self.scope.udp());
        if self.wanted == Some(wanted) {
            return Ok(());
        }
        self.wanted = Some(wanted);
        let capture = self.sensor.capture.as_mut();
        match capture.map(|capture| capture.want(wanted)) {
            Some(Err(error)) => self.go_on_without_capture(error),
            _ => Ok(()),
        }
    }

    /// Goes on with the kernel alone, if there is that.
    fn go_on_without_capture(&mut self, error: std::io::Error) -> Result<(), Error> {
        self.sensor.capture = None;
        if self.sensor.kernel.is_none() {
            return Err(Error::Os {
                what: "packets cannot be captured any more".to_owned(),
                source: error,
            });
        }
        tracing::error!(%error, "packets cannot be captured any more, scans will not be seen");
        self.sensor.reason = format!("{}: {error}", self.sensor.packets);
        Ok(())
    }

    /// Says whether there may be more records.
    fn take_records(&mut self, outlet: &mut dyn Outlet) -> Result<bool, Error> {
        let Some(kernel) = &mut self.sensor.kernel else {
            return Ok(false);
        };
        let (join, books, clock) = (&mut self.join, &mut self.books, &mut self.clock);
        let follows = self.catching_up || self.lagging;
        let boot = boot_time();
        let (mut records, mut malformed) = (0_u64, 0);
        let look = kernel.read(|taken| {
            records += 1;
            if taken.observation {
                books.read(taken.position);
            }
            let Some(record) = taken.record else {
                malformed += 1;
                return;
            };
            let Record {
                at,
                attempt,
                sighting,
            } = record;
            if follows {
                *clock = (*clock).max(at);
            }
            let position = Some(taken.position);
            join.see(*clock, boot.plus(at), attempt, sighting, position);
        });
        let Look { more, corrupt } = look.map_err(unusable)?;
        let drained = kernel.drained();
        if corrupt {
            self.audit = Audit::new();
        }
        self.seen |= records > 0 || !self.audit.finished();
        if malformed > 0 {
            outlet.lose(DropReason::Malformed, malformed);
            self.told = true;
        }
        self.catching_up &= more || !drained;
        self.lagging = more;
        Ok(more)
    }

    /// Says whether there may be more packets.
    fn take_packets(&mut self, outlet: &mut dyn Outlet) -> Result<bool, Error> {
        let now = self.clock;
        let Some(capture) = &mut self.sensor.capture else {
            return Ok(false);
        };
        let with_kernel = self.sensor.kernel.is_some();
        let (join, locals, forwarded) = (&mut self.join, &mut self.locals, &mut self.forwarded);
        let secret = &self.secret;
        let (mut malformed, mut packets) = (0, 0_u64);
        let more = capture.read(&mut |frame| {
            packets += 1;
            match packet::parse(&frame) {
                Ok(Some(packet)) => {
                    for (attempt, sighting) in sightings(&packet, with_kernel) {
                        if locals.contains(now, attempt.local.ip()) {
                            join.see(now, frame.at, attempt, sighting, None);
                        } else if let Some(isn) = passing(&packet) {
                            forwarded.insert(now, secret.fingerprint(&isn));
                        }
                    }
                }
                Ok(None) => {}
                Err(_) => malformed += 1,
            }
        });
        self.seen |= packets > 0;
        if malformed > 0 {
            outlet.lose(DropReason::Malformed, malformed);
            self.told = true;
        }
        match more {
            Ok(more) => Ok(more),
            Err(error) => self.go_on_without_capture(error).map(|()| false),
        }
    }

    fn tell_losses(&mut self, outlet: &mut dyn Outlet) -> Result<(), Error> {
        if let Some(kernel) = &mut self.sensor.kernel {
            // Before the look at the ring: what is counted later may still be on its way.
            let counted = kernel.counted().map_err(unusable)?;
            let new = self.books.drop_new(counted);
            if new > 0 {
                outlet.lose(DropReason::RingFull, new);
                self.told = true;
                self.doubtful = since_boot() + DOUBT_AFTER_LOSS;
            }
            let shed = self.books.shed_new(counted);
            if shed > 0 {
                kernel.tell_shed(shed, outlet);
                self.told = true;
                self.doubtful = since_boot() + DOUBT_AFTER_LOSS;
            }
            if kernel.drained()
                && !self.audit.finished()
                && let Some(missing) = self.audit.look(self.books.missing(counted))
                && missing > 0
            {
                outlet.lose(DropReason::AgentKilled, missing);
                self.books.mark.accounted += missing;
                self.told = true;
            }
            if counted.lost_details > self.lost_details {
                let records = counted.lost_details - self.lost_details;
                self.lost_details = counted.lost_details;
                tracing::warn!(
                    records,
                    "ring was full: outcomes of connections are missing"
                );
            }
        }
        if let Some(capture) = &mut self.sensor.capture {
            let new = capture.newly_dropped();
            if new > 0 {
                outlet.lose(DropReason::CaptureFull, new);
                self.told = true;
                self.doubtful = since_boot() + DOUBT_AFTER_LOSS;
            }
        }
        if self.join.hurried() > self.hurried {
            let attempts = self.join.hurried() - self.hurried;
            self.hurried = self.join.hurried();
            tracing::warn!(
                attempts,
                "many connections: some are reported before their outcome"
            );
        }
        if self.join.forgotten() > self.forgotten {
            let attempts = self.join.forgotten() - self.forgotten;
            self.forgotten = self.join.forgotten();
            tracing::warn!(
                attempts,
                "many connections: retransmissions may be reported again"
            );
        }
        Ok(())
    }

    fn hand_over(&mut self, outlet: &mut dyn Outlet) -> Result<(), Error> {
        let now = self.clock;
        if let Some(position) = self.sensor.kernel.as_ref().and_then(Kernel::crowded) {
            self.join.hurry(now, position);
        }
        let reports = self.join.take_ready(now);
        let mut work = self.emit_named(outlet);
        work |= self.admit(now, reports, outlet);
        self.secure(work, outlet)
    }

    fn finish(&mut self, outlet: &mut dyn Outlet) -> Result<(), Error> {
        let now = self.clock;
        let reports = self.join.take_all(now);
        self.admit(now, reports, outlet);
        self.emit_named(outlet);
        self.secure(true, outlet)
    }

    /// Commits, and gives up the records of which nothing is awaited any more.
    fn secure(&mut self, work: bool, outlet: &mut dyn Outlet) -> Result<(), Error> {
        let now = self.clock;
        let mut work = work || std::mem::take(&mut self.told);
        let Some(kernel) = &mut self.sensor.kernel else {
            return if work { outlet.commit() } else { Ok(()) };
        };
        let unnamed = self.unnamed.iter().filter_map(|f| f.report.position).min();
        let oldest = self.join.oldest().into_iter().chain(unnamed).min();
        let position = oldest.unwrap_or_else(|| kernel.position());
        work |= self.books.give_up(position);
        self.reported.append(&mut self.join.take_renewed());
        if work || !self.reported.is_empty() {
            let first = self.books.mark.notes;
            self.books.mark.notes += self.reported.len() as u64;
            let notes = (first..).zip(self.reported.drain(..));
            let notes = notes.map(|(number, known)| Note { number, known });
            kernel.write_notes(notes).map_err(unusable)?;
            self.books.mark.at = now;
            outlet.mark(RING, self.books.mark.to_string());
            outlet.commit()?;
        }
        kernel.give_up(position);
        Ok(())
    }

    /// Leaves out what the configuration does not want, and finds missing owners.
    fn admit(&mut self, now: Duration, reports: Vec<Report>, outlet: &mut dyn Outlet) -> bool {
        let mut wanted = reports;
        let before = wanted.len();
        let (scope, reported) = (&self.scope, &mut self.reported);
        wanted.retain(|report| {
            let allowed = scope.allows(&report.attempt).is_ok();
            if !allowed {
                reported.push(report.known());
            }
            allowed
        });
        let filtered = before - wanted.len();
        if filtered > 0 {
            outlet.filtered(filtered as u64);
        }
        let orphans: Vec<Attempt> = wanted
            .iter()
            .filter(|report| needs_lookup(report))
            .map(|report| report.attempt)
            .collect();
        let mut looked_up = if orphans.is_empty() {
            Vec::new()
        } else {
            self.lookup.owners(now, &orphans)
        }
        .into_iter();
        for report in wanted {
            let (owner, attribution) = match report.owner {
                Some(owner) => (Some(owner), "kernel"),
                None if needs_lookup(&report) => match looked_up.next().flatten() {
                    Some(owner) => (Some(owner), "lookup"),
                    None if self.made_by_hand(now, &report) => (None, "raw"),
                    None => (None, "none"),
                },
                None => (None, "none"),
            };
            self.unnamed.push(Found {
                report,
                owner,
                attribution,
            });
        }
        filtered > 0
    }

    /// Whether no socket can have made this request: the hooks tell of every one that does.
    fn made_by_hand(&mut self, now: Duration, report: &Report) -> bool {
        let Attempt {
            protocol, dir, isn, ..
        } = report.attempt;
        let hooked = self
            .sensor
            .kernel
            .as_ref()
            .is_some_and(|kernel| kernel.missing().is_empty());
        hooked
            && (protocol, dir) == (Protocol::Tcp, Direction::Out)
            && report.position.is_none()
            && !self.catching_up
            && now >= self.doubtful
            && !self.forwarded.contains(now, self.secret.fingerprint(&isn))
    }

    fn emit_named(&mut self, outlet: &mut dyn Outlet) -> bool {
        let found = std::mem::take(&mut self.unnamed);
        let any = !found.is_empty();
        // Asking for an account looks at a file; once a round is enough.
        let mut users = HashMap::new();
        for found in found {
            let occurred_at = found.report.occurred_at;
            self.reported.push(found.report.known());
            let data = EventData::Connection(self.connection(found, &mut users));
            outlet.emit(Observation::Event { occurred_at, data });
        }
        any
    }

    fn connection(&self, found: Found, users: &mut HashMap<u32, String>) -> Connection {
        let Attempt {
            protocol,
            dir,
            local,
            remote,
            ..
        } = found.report.attempt;
        let user = found.owner.map(|Owner { uid, .. }| {
            let name = users
                .entry(uid)
                .or_insert_with(|| self.sensor.accounts.name(uid));
            name.clone()
        });
        Connection {
            dir,
            protocol,
            local: local.to_string(),
            remote: remote.to_string(),
            remote_ip: remote.ip().to_string(),
            name: found
                .owner
                .map(|owner| self.name(&owner))
                .unwrap_or_default(),
            pid: found.owner.map_or(0, |owner| owner.pid),
            user,
            state: found.report.state.map(|state| state.as_str().to_owned()),
            attribution: Some(found.attribution.to_owned()),
        }
    }

    /// The executable; the task's name when the process is unknown or its pid was used again.
    fn name(&self, owner: &Owner) -> String {
        let entry = self.sensor.tree.find(owner.pid);
        let entry = entry
            .filter(|entry| started_together(entry.key.start_boottime_ns, owner.start_boottime_ns));
        match entry {
            Some(entry) if !entry.name.is_empty() => entry.name.clone(),
            _ => {
                let end = owner.comm.iter().position(|&byte| byte == 0);
                let comm = owner.comm.get(..end.unwrap_or(owner.comm.len()));
                String::from_utf8_lossy(comm.unwrap_or_default()).into_owned()
            }
        }
    }
}

/// The sequence number of a request that arrives for somebody else.
const fn passing(packet: &Packet) -> Option<u32> {
    match (packet.way, packet.segment) {
        (Way::Arriving | Way::Foreign, Segment::Syn { isn }) => Some(isn),
        _ => None,
    }
}

/// A refused request had no process here; everything else belongs to one.
fn needs_lookup(report: &Report) -> bool {
    let refused = report.attempt.dir == Direction::In && report.state == Some(State::Refused);
    report.owner.is_none() && !refused
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

/// When this host was booted, by its present idea of the time.
fn boot_time() -> Timestamp {
    Timestamp::from(std::time::SystemTime::now()).minus(since_boot())
}
