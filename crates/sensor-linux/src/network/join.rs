//! Makes one report of the several sightings of a connection attempt. Pure: time is an argument.
//!
//! - **Guarantees**: an attempt is reported exactly once, however many packets and kernel records
//!   tell of it and in whatever order; nothing sighted is left unreported.
//! - **Invariants**: at most [`PENDING`] attempts wait; one more makes the oldest be reported
//!   early (counted), never lost. TCP attempts between the same ends are told apart by their
//!   initial sequence number, so a retransmitted SYN is the same attempt and a new connection
//!   from the same port is not.
//! - **Not here**: names, users, configuration.

use std::{
    hash::{Hash, Hasher},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use yinglong_model::{
    Timestamp,
    event::{Direction, Protocol},
};

use super::{
    journal::Known,
    memory::{Fingerprint, Memory, Secret, Table},
    turns::{Turn, Turns, Wait},
};

/// Attempts that may wait for more sightings.
pub(super) const PENDING: usize = 16_384;
/// Turns kept, those included of attempts that have left.
const TURNS: usize = 4 * PENDING;
/// Attempts there is always room for.
const KEPT: usize = 2_048;
/// Attempts and flows remembered after their report.
const REMEMBERED: usize = 65_536;

/// How long an attempt whose process is known waits for its outcome.
const OUTCOME_HOLD: Duration = Duration::from_millis(100);
/// After an answer there are no more requests, only a late `accept`.
const ANSWERED_SPAN: Duration = Duration::from_secs(10);
/// An `accept` this long after the handshake was reported without it.
const LATE_ACCEPT: Duration = Duration::from_secs(5);
/// Linux gives a request up after 127 s (`tcp_syn_retries` = 6).
const UNANSWERED_SPAN: Duration = Duration::from_secs(130);
/// How exactly others are told that a flow goes on.
const FLOW_STEP: Duration = Duration::from_secs(20);
/// A UDP flow that was silent for so long is a new one.
const FLOW_IDLE: Duration = Duration::from_secs(60);

/// What identifies an attempt, seen from one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Attempt {
    pub(crate) protocol: Protocol,
    pub(crate) dir: Direction,
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    /// Initial sequence number of the side that asks; 0 for UDP.
    pub(crate) isn: u32,
}

/// The process behind a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) pid: u32,
    pub(crate) uid: u32,
    /// 0 when unknown.
    pub(crate) start_boottime_ns: u64,
    /// Name of the task, padded with zeros.
    pub(crate) comm: [u8; 16],
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Established,
    Refused,
    Timeout,
}

impl State {
    /// Name in events.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Established => "established",
            Self::Refused => "refused",
            Self::Timeout => "timeout",
        }
    }
}

/// One observation of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sighting {
    /// A SYN or a datagram on a wire.
    Packet,
    /// A process asked for the connection, or sent a datagram.
    Asked(Owner),
    /// The kernel completed an incoming handshake.
    Handshake,
    /// A process accepted the connection.
    Accepted {
        owner: Owner,
        /// Time since the handshake.
        waited: Duration,
    },
    /// The outcome, with the asking process where the kernel told it.
    Ended {
        state: Option<State>,
        owner: Option<Owner>,
    },
}

/// An attempt with everything known about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) attempt: Attempt,
    /// First sighting.
    pub(super) occurred_at: Timestamp,
    /// From the kernel; absent when only packets told of the attempt.
    pub(super) owner: Option<Owner>,
    pub(super) state: Option<State>,
    /// Where its first record in the ring begins; absent when only packets told of it.
    pub(super) position: Option<u64>,
    /// Which memory keeps that it must not be reported again, and until when.
    pub(super) kind: Kind,
    pub(super) until: Duration,
}

impl Report {
    /// What must not be reported again.
    pub(super) fn known(&self) -> Known {
        Known {
            key: Key::of(&self.attempt),
            kind: self.kind,
            until: self.until,
        }
    }
}

/// Attempt without what may differ between its sightings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    /// None for UDP, where an answer belongs to the flow it answers.
    pub(super) dir: Option<Direction>,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) isn: u32,
}

impl Hash for Key {
    /// In one piece: keyed hashers are slow at small ones. Tables know keys by their hash alone, so
    /// everything is in it.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mut bytes = [0; 43];
        let mut place = bytes.as_mut_slice();
        let mut put = |part: &[u8]| {
            if let Some((here, rest)) = std::mem::take(&mut place).split_at_mut_checked(part.len())
            {
                here.copy_from_slice(part);
                place = rest;
            }
        };
        put(&[match self.dir {
            None => 0,
            Some(Direction::In) => 1,
            Some(Direction::Out) => 2,
        }]);
        for end in [self.local, self.remote] {
            match end.ip() {
                IpAddr::V4(ip) => {
                    put(&[4]);
                    put(&ip.octets());
                }
                IpAddr::V6(ip) => {
                    put(&[6]);
                    put(&ip.octets());
                }
            }
            put(&end.port().to_ne_bytes());
        }
        put(&self.isn.to_ne_bytes());
        state.write(&bytes);
    }
}

/// Which memory keeps a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Answered,
    Unanswered,
    Flow,
}

impl Key {
    fn of(attempt: &Attempt) -> Self {
        let Attempt {
            local, remote, isn, ..
        } = *attempt;
        let port_only = SocketAddr::new(unspecified(local.ip()), local.port());
        match (attempt.protocol, attempt.dir) {
            // Address translation for a container changes where its request seems to come from;
            // port and sequence number stay.
            (Protocol::Tcp, Direction::Out) => Self {
                dir: Some(Direction::Out),
                local: port_only,
                remote,
                isn,
            },
            (Protocol::Tcp, Direction::In) => Self {
                dir: Some(Direction::In),
                local,
                remote,
                isn,
            },
            // The kernel does not know the local address of a UDP socket before it routes.
            (Protocol::Udp, _) => Self {
                dir: None,
                local: port_only,
                remote,
                isn: 0,
            },
        }
    }
}

fn unspecified(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

#[derive(Debug)]
struct Entry {
    report: Report,
    turn: Turn,
    /// A packet told of it. The first one of a UDP flow tells who began and from which address;
    /// the kernel only knows who sends.
    on_wire: bool,
}

/// The attempts in progress.
#[derive(Debug)]
pub(super) struct Join {
    packet_hold: Duration,
    secret: Secret,
    pending: Table<Entry>,
    turns: Turns,
    ready: Vec<Report>,
    answered: Memory,
    unanswered: Memory,
    flows: Memory,
    renewed: Vec<Known>,
    hurried: u64,
}

impl Join {
    /// `packet_hold`: how long an attempt known from packets alone waits for its kernel record.
    pub(super) fn new(packet_hold: Duration) -> Self {
        Self {
            packet_hold,
            secret: Secret::default(),
            pending: Table::default(),
            turns: Turns::default(),
            ready: Vec::new(),
            answered: Memory::new(ANSWERED_SPAN, REMEMBERED),
            unanswered: Memory::new(UNANSWERED_SPAN, REMEMBERED),
            flows: Memory::new(FLOW_IDLE, REMEMBERED),
            renewed: Vec::new(),
            hurried: 0,
        }
    }

    /// Takes over what an earlier join had reported.
    pub(super) fn remember(&mut self, mut known: Vec<Known>) {
        known.sort_by_key(|known| known.until);
        for Known { key, kind, until } in known {
            let key = self.secret.fingerprint(&key);
            self.memory(kind).restore(key, until);
        }
    }

    fn memory(&mut self, kind: Kind) -> &mut Memory {
        match kind {
            Kind::Answered => &mut self.answered,
            Kind::Unanswered => &mut self.unanswered,
            Kind::Flow => &mut self.flows,
        }
    }

    /// Takes a sighting. `now` never goes back; `occurred_at` is the wall clock of the sighting,
    /// `position` the place of its record in the ring if it has one.
    pub(super) fn see(
        &mut self,
        now: Duration,
        occurred_at: Timestamp,
        attempt: Attempt,
        sighting: Sighting,
        position: Option<u64>,
    ) {
        let key = self.secret.fingerprint(&Key::of(&attempt));
        if !self.pending.contains_key(&key) {
            if !self.opens(now, &attempt, key, sighting) {
                return;
            }
            self.make_room(now);
            self.open(now, occurred_at, attempt, key);
        }
        let Some(entry) = self.pending.get_mut(&key) else {
            return;
        };
        let report = &mut entry.report;
        report.occurred_at = report.occurred_at.min(occurred_at);
        report.position = report.position.or(position);
        let complete = match sighting {
            Sighting::Packet => {
                if !entry.on_wire {
                    entry.on_wire = true;
                    if attempt.protocol == Protocol::Udp {
                        report.attempt = attempt;
                    }
                }
                attempt.protocol == Protocol::Udp && report.owner.is_some()
            }
            Sighting::Asked(owner) => {
                report.owner = Some(owner);
                if attempt.protocol == Protocol::Udp {
                    entry.on_wire
                } else {
                    report.state.is_some()
                }
            }
            Sighting::Handshake => {
                report.state = Some(State::Established);
                report.owner.is_some()
            }
            Sighting::Accepted { owner, .. } => {
                report.owner = Some(owner);
                report.state = Some(State::Established);
                true
            }
            Sighting::Ended { state, owner } => {
                report.owner = report.owner.or(owner);
                report.state = report.state.or(state);
                report.owner.is_some() || attempt.dir == Direction::In
            }
        };
        if complete {
            self.settle(now, key);
        } else if matches!(sighting, Sighting::Asked(_)) {
            self.hold(key, now + OUTCOME_HOLD);
        }
    }

    /// The attempts about which no more is awaited, in the order they became so.
    pub(super) fn take_ready(&mut self, now: Duration) -> Vec<Report> {
        while let Some(((due, _), key)) = self.first() {
            if due > now {
                break;
            }
            self.settle(now, key);
        }
        if self.pending.is_empty() && self.pending.capacity() > KEPT {
            self.pending.shrink_to(KEPT / 2);
            self.turns = Turns::default();
        }
        std::mem::take(&mut self.ready)
    }

    /// Every attempt, ready or not: the end of observation.
    pub(super) fn take_all(&mut self, now: Duration) -> Vec<Report> {
        while let Some((_, key)) = self.first() {
            self.settle(now, key);
        }
        std::mem::take(&mut self.ready)
    }

    /// Reports what has been known since before that position in the ring, for want of room there.
    pub(super) fn hurry(&mut self, now: Duration, position: u64) {
        let old = |entry: &Entry| entry.report.position.is_some_and(|at| at < position);
        let keys = self.pending.iter().filter(|(_, entry)| old(entry));
        let mut turns: Vec<_> = keys.map(|(key, entry)| (entry.turn, *key)).collect();
        turns.sort_unstable_by_key(|(turn, _)| *turn);
        self.hurried += turns.len() as u64;
        for (_, key) in turns {
            self.settle(now, key);
        }
    }

    /// Whether no attempt waits.
    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Where the oldest record begins of an attempt that waits.
    pub(super) fn oldest(&self) -> Option<u64> {
        let entries = self.pending.values();
        entries.filter_map(|entry| entry.report.position).min()
    }

    /// Flows that were reported earlier and still go on.
    pub(super) fn take_renewed(&mut self) -> Vec<Known> {
        std::mem::take(&mut self.renewed)
    }

    /// Attempts reported before their time for want of room.
    pub(super) fn hurried(&self) -> u64 {
        self.hurried
    }

    /// Reports forgotten before their time for want of room; only these can be repeated.
    pub(super) fn forgotten(&self) -> u64 {
        self.answered.evicted() + self.unanswered.evicted() + self.flows.evicted()
    }

    /// Whether the sighting begins something that was not reported yet.
    fn opens(
        &mut self,
        now: Duration,
        attempt: &Attempt,
        key: Fingerprint,
        sighting: Sighting,
    ) -> bool {
        match sighting {
            Sighting::Ended { .. } => return false,
            Sighting::Accepted { waited, .. } if waited > LATE_ACCEPT => return false,
            _ => {}
        }
        match attempt.protocol {
            Protocol::Udp => {
                let Some([before, until]) = self.flows.refresh(now, key) else {
                    return true;
                };
                let step = |at: Duration| at.as_secs() / FLOW_STEP.as_secs();
                if step(before) != step(until) {
                    let (key, kind) = (Key::of(attempt), Kind::Flow);
                    self.renewed.push(Known { key, kind, until });
                }
                false
            }
            Protocol::Tcp => {
                !self.answered.contains(now, key) && !self.unanswered.contains(now, key)
            }
        }
    }

    fn make_room(&mut self, now: Duration) {
        if self.pending.len() >= PENDING
            && let Some((_, oldest)) = self.first()
        {
            self.hurried += 1;
            self.settle(now, oldest);
        }
        if self.turns.len() >= TURNS {
            let pending = &self.pending;
            self.turns.clean(|turn, key| holds(pending, turn, key));
        }
    }

    /// Who leaves first, and when.
    fn first(&mut self) -> Option<(Turn, Fingerprint)> {
        let pending = &self.pending;
        self.turns.first(|turn, key| holds(pending, turn, key))
    }

    fn open(&mut self, now: Duration, occurred_at: Timestamp, attempt: Attempt, key: Fingerprint) {
        let turn = self.turns.give(Wait::Record, now + self.packet_hold, key);
        let report = Report {
            attempt,
            occurred_at,
            owner: None,
            state: None,
            position: None,
            kind: Kind::Flow,
            until: now,
        };
        let entry = Entry {
            report,
            turn,
            on_wire: false,
        };
        self.pending.insert(key, entry);
    }

    fn hold(&mut self, key: Fingerprint, until: Duration) {
        if let Some(entry) = self.pending.get_mut(&key)
            && until < entry.turn.0
        {
            entry.turn = self.turns.give(Wait::Outcome, until, key);
        }
    }

    fn settle(&mut self, now: Duration, key: Fingerprint) {
        let Some(Entry { mut report, .. }) = self.pending.remove(&key) else {
            return;
        };
        report.kind = match (report.attempt.protocol, report.state) {
            (Protocol::Udp, _) => Kind::Flow,
            (Protocol::Tcp, Some(_)) => Kind::Answered,
            (Protocol::Tcp, None) => Kind::Unanswered,
        };
        report.until = self.memory(report.kind).insert(now, key);
        self.ready.push(report);
    }
}

/// Whether an attempt still waits for that turn.
fn holds(pending: &Table<Entry>, turn: Turn, key: Fingerprint) -> bool {
    pending.get(&key).is_some_and(|entry| entry.turn == turn)
}

#[cfg(test)]
#[path = "join_tests.rs"]
mod tests;
