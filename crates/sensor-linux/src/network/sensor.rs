//! The sensor: reads its sources in rounds, joins, names and hands over.

use std::{
    cell::RefCell,
    collections::HashMap,
    os::fd::BorrowedFd,
    sync::Arc,
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    time::{ClockId, clock_gettime},
};
use yinglong_model::{
    DropReason, EventData, Observation, Timestamp,
    config::AgentConfig,
    event::{Connection, Direction, Protocol},
    host::SensorStatus,
};
use yinglong_sensor::{Context, Error, Outlet, Sensor};

use super::{
    capture::{Capture, Captured},
    join::{Attempt, Join, Owner, Report, Sighting, State},
    kernel::{Batch, Kernel, Lost},
    locals::Locals,
    lookup::Lookup,
    packet::{Packet, Segment, Way},
    record::Record,
    scope::Scope,
};
use crate::{
    accounts::Accounts,
    standing::Standing,
    tree::{TICK_NS, Tree},
};

/// Time between two rounds unless the ring fills faster.
const ROUND_MS: u16 = 50;
/// How long packets wait for their kernel record.
const HOLD_WITH_KERNEL: Duration = Duration::from_millis(300);
/// Without the kernel: until the answer, which is captured with the request, has been read.
const HOLD_WITHOUT_KERNEL: Duration = Duration::from_millis(50);

/// Connections from the kernel, from packets, or from both.
pub(super) struct Connections {
    pub(super) tree: Tree,
    pub(super) accounts: Accounts,
    pub(super) kernel: Option<Kernel>,
    pub(super) capture: Option<Capture>,
    pub(super) reason: String,
}

impl Sensor for Connections {
    fn stream(&self) -> &'static str {
        "connection"
    }

    fn status(&self) -> SensorStatus {
        let source = match (&self.kernel, &self.capture) {
            (Some(_), Some(_)) => "pcap+ebpf",
            (Some(_), None) => "ebpf",
            (None, Some(_)) => "pcap",
            (None, None) => "none",
        };
        SensorStatus {
            stream: self.stream().to_owned(),
            source: source.to_owned(),
            running: self.kernel.is_some() || self.capture.is_some(),
            reason: self.reason.clone(),
        }
    }

    fn run(&mut self, context: &Context, outlet: &mut dyn Outlet) -> Result<(), Error> {
        let batch = RefCell::new(Batch::default());
        let reader = match &self.kernel {
            Some(kernel) => Some(kernel.reader(&batch).map_err(|error| Error::Unavailable {
                source_name: "ebpf",
                reason: error.to_string(),
            })?),
            None => None,
        };
        let mut run = Run::new(self);
        let mut standing = Standing::default();
        let mut more = false;
        loop {
            standing.look(run.sensor, outlet);
            let stopping = context.stopping();
            if !more && !stopping {
                wait(reader.as_ref().map(|reader| reader.fd()));
            }
            run.follow(&context.config())?;
            more = reader.as_ref().is_some_and(|reader| reader.read());
            let seen = std::mem::take(&mut *batch.borrow_mut());
            run.take_records(seen, outlet);
            more |= run.take_packets(outlet)?;
            run.tell_losses(outlet);
            if stopping && !more {
                return run.finish(outlet);
            }
            run.hand_over(outlet)?;
        }
    }
}

/// Waits for the next round, or less when the ring is filling.
fn wait(ring: Option<i32>) {
    let timeout = PollTimeout::from(ROUND_MS);
    let mut fds = Vec::with_capacity(1);
    if let Some(fd) = ring {
        // SAFETY: the ring is open for as long as its reader, which the caller holds.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        fds.push(PollFd::new(fd, PollFlags::POLLIN));
    }
    // An interrupted wait only makes the round earlier.
    let _ = poll(&mut fds, timeout);
}

/// State of one run.
struct Run<'a> {
    sensor: &'a mut Connections,
    join: Join,
    scope: Scope,
    config: Option<Arc<AgentConfig>>,
    locals: Locals,
    lookup: Lookup,
    /// Looked up and waiting one round for their names: an execution just before the connection
    /// reaches the process table through another ring.
    unnamed: Vec<Found>,
    started: Instant,
    lost: Lost,
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
    fn new(sensor: &'a mut Connections) -> Self {
        let hold = if sensor.kernel.is_some() {
            HOLD_WITH_KERNEL
        } else {
            HOLD_WITHOUT_KERNEL
        };
        Self {
            sensor,
            join: Join::new(hold),
            scope: Scope::default(),
            config: None,
            locals: Locals::default(),
            lookup: Lookup::default(),
            unnamed: Vec::new(),
            started: Instant::now(),
            lost: Lost::default(),
            hurried: 0,
            forgotten: 0,
            told: false,
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
            kernel.want_udp(self.scope.udp());
        }
        let udp = self.scope.udp();
        let followed = self
            .sensor
            .capture
            .as_mut()
            .map(|capture| capture.want_udp(udp));
        match followed {
            Some(Err(error)) => self.go_on_without_capture(error),
            _ => Ok(()),
        }
    }

    /// Goes on with the kernel alone, if there is that.
    fn go_on_without_capture(&mut self, error: pcap::Error) -> Result<(), Error> {
        self.sensor.capture = None;
        if self.sensor.kernel.is_none() {
            return Err(Error::Os {
                what: "packets cannot be captured any more".to_owned(),
                source: std::io::Error::other(error),
            });
        }
        tracing::error!(%error, "packets cannot be captured any more, scans will not be seen");
        self.sensor.reason = format!("pcap: {error}");
        Ok(())
    }

    fn take_records(&mut self, batch: Batch, outlet: &mut dyn Outlet) {
        if batch.malformed > 0 {
            outlet.lose(DropReason::Malformed, batch.malformed);
            self.told = true;
        }
        if batch.records.is_empty() {
            return;
        }
        let boot = boot_time();
        let now = self.started.elapsed();
        for Record {
            at,
            attempt,
            sighting,
        } in batch.records
        {
            self.join.see(now, boot.plus(at), attempt, sighting);
        }
    }

    /// Says whether there may be more packets.
    fn take_packets(&mut self, outlet: &mut dyn Outlet) -> Result<bool, Error> {
        let Some(capture) = &mut self.sensor.capture else {
            return Ok(false);
        };
        let now = self.started.elapsed();
        let with_kernel = self.sensor.kernel.is_some();
        let (join, locals) = (&mut self.join, &mut self.locals);
        let mut malformed = 0;
        let more = capture.read(|(at, packet): Captured| match packet {
            Ok(Some(packet)) => {
                for (attempt, sighting) in sightings(&packet, with_kernel) {
                    if locals.contains(now, attempt.local.ip()) {
                        join.see(now, at, attempt, sighting);
                    }
                }
            }
            Ok(None) => {}
            Err(_) => malformed += 1,
        });
        if malformed > 0 {
            outlet.lose(DropReason::Malformed, malformed);
            self.told = true;
        }
        match more {
            Ok(more) => Ok(more),
            Err(error) => self.go_on_without_capture(error).map(|()| false),
        }
    }

    fn tell_losses(&mut self, outlet: &mut dyn Outlet) {
        if let Some(kernel) = &self.sensor.kernel {
            let lost = kernel.lost();
            let new = lost.observations.saturating_sub(self.lost.observations);
            if new > 0 {
                outlet.lose(DropReason::RingFull, new);
                self.told = true;
            }
            if lost.details > self.lost.details {
                let records = lost.details - self.lost.details;
                tracing::warn!(
                    records,
                    "ring was full: outcomes of connections are missing"
                );
            }
            self.lost = lost;
        }
        if let Some(capture) = &mut self.sensor.capture {
            let new = capture.newly_dropped();
            if new > 0 {
                outlet.lose(DropReason::CaptureFull, new);
                self.told = true;
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
    }

    fn hand_over(&mut self, outlet: &mut dyn Outlet) -> Result<(), Error> {
        let now = self.started.elapsed();
        let reports = self.join.take_ready(now);
        let mut work = std::mem::take(&mut self.told);
        work |= self.emit_named(outlet);
        work |= self.admit(now, reports, outlet);
        if work { outlet.commit() } else { Ok(()) }
    }

    fn finish(&mut self, outlet: &mut dyn Outlet) -> Result<(), Error> {
        let now = self.started.elapsed();
        let reports = self.join.take_all(now);
        self.admit(now, reports, outlet);
        self.emit_named(outlet);
        outlet.commit()
    }

    /// Leaves out what the configuration does not want, and finds missing owners.
    fn admit(&mut self, now: Duration, reports: Vec<Report>, outlet: &mut dyn Outlet) -> bool {
        let (wanted, filtered): (Vec<_>, Vec<_>) = reports
            .into_iter()
            .partition(|report| self.scope.allows(&report.attempt).is_ok());
        if !filtered.is_empty() {
            outlet.filtered(filtered.len() as u64);
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
        !filtered.is_empty()
    }

    fn emit_named(&mut self, outlet: &mut dyn Outlet) -> bool {
        let found = std::mem::take(&mut self.unnamed);
        let any = !found.is_empty();
        // Asking for an account looks at a file; once a round is enough.
        let mut users = HashMap::new();
        for found in found {
            let occurred_at = found.report.occurred_at;
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

/// Whether two start times are of one process: `known` may come from `/proc`, which tells it in
/// hundredths of a second, and 0 is unknown.
const fn started_together(known: u64, told: u64) -> bool {
    let rounded = known.is_multiple_of(TICK_NS) && known / TICK_NS == told / TICK_NS;
    known == 0 || told == 0 || known == told || rounded
}

/// A refused request had no process here; everything else belongs to one.
fn needs_lookup(report: &Report) -> bool {
    let refused = report.attempt.dir == Direction::In && report.state == Some(State::Refused);
    report.owner.is_none() && !refused
}

/// When this host was booted, by its present idea of the time.
fn boot_time() -> Timestamp {
    let since_boot = clock_gettime(ClockId::CLOCK_BOOTTIME)
        .map(Duration::from)
        .unwrap_or_default();
    Timestamp::from(std::time::SystemTime::now()).minus(since_boot)
}

/// What a packet means, from the side of this host; for packets within it, from both sides.
/// Whether `local` is an address of this host remains to be asked.
fn sightings(packet: &Packet, with_kernel: bool) -> Vec<(Attempt, Sighting)> {
    let Packet {
        way,
        source,
        destination,
        segment,
    } = *packet;
    let attempt = |protocol, dir, isn| {
        let (local, remote) = match (dir, segment) {
            // An answer goes from the side that was asked to the side that asked.
            (Direction::Out, Segment::Answer { .. }) => (destination, source),
            (Direction::In, Segment::Answer { .. }) => (source, destination),
            (Direction::Out, _) => (source, destination),
            (Direction::In, _) => (destination, source),
        };
        Attempt {
            protocol,
            dir,
            local,
            remote,
            isn,
        }
    };
    let request_dir = match way {
        Way::Leaving => Direction::Out,
        Way::Arriving => Direction::In,
        Way::Looping => Direction::Out,
        Way::Foreign => return Vec::new(),
    };
    match segment {
        Segment::Syn { isn } => {
            let request = attempt(Protocol::Tcp, request_dir, isn);
            vec![(request, Sighting::Packet)]
        }
        Segment::Answer { isn, refused } => {
            let state = if refused {
                State::Refused
            } else {
                State::Established
            };
            let ended = Sighting::Ended {
                state: Some(state),
                owner: None,
            };
            let asking = attempt(Protocol::Tcp, Direction::Out, isn);
            let asked = attempt(Protocol::Tcp, Direction::In, isn);
            match way {
                Way::Leaving => vec![(asked, ended)],
                Way::Arriving => vec![(asking, ended)],
                // Within the host a request that is refused has no second side. The kernel tells
                // the second side of an accepted one, a capture alone takes it from the answer.
                _ if refused || with_kernel => vec![(asking, ended)],
                _ => vec![(asking, ended), (asked, Sighting::Handshake)],
            }
        }
        Segment::Datagram => {
            let flow = attempt(Protocol::Udp, request_dir, 0);
            let mut seen = vec![(flow, Sighting::Packet)];
            if way == Way::Looping {
                seen.push((attempt(Protocol::Udp, Direction::In, 0), Sighting::Packet));
            }
            seen
        }
    }
}
