//! Tests of the join: examples in time order, and arbitrary sequences.

use proptest::prelude::*;

use super::*;

const OWNER: Owner = Owner {
    pid: 42,
    uid: 0,
    start_boottime_ns: 1,
    comm: [0; 16],
};
const PACKET_HOLD: Duration = Duration::from_millis(300);

fn tcp(dir: Direction, isn: u32) -> Attempt {
    Attempt {
        protocol: Protocol::Tcp,
        dir,
        local: "192.0.2.1:40000".parse().unwrap(),
        remote: "198.51.100.7:443".parse().unwrap(),
        isn,
    }
}

fn udp(dir: Direction, local: &str) -> Attempt {
    Attempt {
        protocol: Protocol::Udp,
        dir,
        local: local.parse().unwrap(),
        remote: "198.51.100.7:53".parse().unwrap(),
        isn: 0,
    }
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn accepted(waited: Duration) -> Sighting {
    Sighting::Accepted {
        owner: OWNER,
        waited,
    }
}

const fn ended(state: State) -> Sighting {
    Sighting::Ended {
        state: Some(state),
        owner: None,
    }
}

struct Bench {
    join: Join,
}

impl Bench {
    fn new() -> Self {
        Self {
            join: Join::new(PACKET_HOLD),
        }
    }

    fn see(&mut self, now: Duration, attempt: Attempt, sighting: Sighting) {
        let wall = Timestamp::from_secs(0).plus(now);
        self.join.see(now, wall, attempt, sighting, None);
    }

    #[track_caller]
    fn reports(&mut self, now: Duration, expected: &[(Option<Owner>, Option<State>)]) {
        let reports = self.join.take_ready(now);
        let found: Vec<_> = reports.iter().map(|r| (r.owner, r.state)).collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn a_connect_with_its_outcome_leaves_at_once_and_its_packet_adds_nothing() {
    let mut bench = Bench::new();
    let out = tcp(Direction::Out, 7);
    bench.see(ms(0), out, Sighting::Asked(OWNER));
    bench.reports(ms(0), &[]);
    bench.see(ms(1), out, ended(State::Refused));
    bench.reports(ms(1), &[(Some(OWNER), Some(State::Refused))]);
    bench.see(ms(60), out, Sighting::Packet);
    bench.reports(ms(5000), &[]);
}

#[test]
fn a_connect_without_outcome_leaves_within_its_hold() {
    let mut bench = Bench::new();
    let out = tcp(Direction::Out, 7);
    bench.see(ms(0), out, Sighting::Asked(OWNER));
    bench.see(ms(50), out, Sighting::Packet);
    bench.reports(ms(99), &[]);
    bench.reports(ms(100), &[(Some(OWNER), None)]);
    bench.see(ms(20_000), out, ended(State::Timeout));
    bench.reports(ms(60_000), &[]);
}

#[test]
fn retransmitted_requests_are_the_same_attempt_for_as_long_as_they_can_come() {
    let mut bench = Bench::new();
    let out = tcp(Direction::Out, 7);
    bench.see(ms(0), out, Sighting::Asked(OWNER));
    bench.reports(ms(200), &[(Some(OWNER), None)]);
    for secs in [1, 3, 7, 15, 31, 63, 127] {
        bench.see(ms(secs * 1000), out, Sighting::Packet);
    }
    bench.reports(ms(200_000), &[]);
}

#[test]
fn a_new_attempt_from_the_same_port_is_a_new_event() {
    let mut bench = Bench::new();
    for isn in [7, 8] {
        let out = tcp(Direction::Out, isn);
        bench.see(ms(0), out, Sighting::Asked(OWNER));
        bench.see(ms(0), out, ended(State::Established));
    }
    let both = (Some(OWNER), Some(State::Established));
    bench.reports(ms(0), &[both, both]);
}

#[test]
fn a_packet_waits_for_its_kernel_record_and_no_longer() {
    let mut bench = Bench::new();
    bench.see(ms(0), tcp(Direction::Out, 7), Sighting::Packet);
    bench.see(ms(0), tcp(Direction::Out, 8), Sighting::Packet);
    bench.see(ms(10), tcp(Direction::Out, 8), Sighting::Asked(OWNER));
    bench.reports(ms(110), &[(Some(OWNER), None)]);
    bench.reports(ms(299), &[]);
    bench.reports(ms(300), &[(None, None)]);
}

#[test]
fn m08_a_request_to_a_closed_port_is_an_incoming_refused_event_without_process() {
    let mut bench = Bench::new();
    let into = tcp(Direction::In, 7);
    bench.see(ms(0), into, Sighting::Packet);
    bench.see(ms(1), into, ended(State::Refused));
    bench.reports(ms(1), &[(None, Some(State::Refused))]);
}

#[test]
fn an_accepted_connection_is_one_event_however_many_sources_tell_of_it() {
    let mut bench = Bench::new();
    let into = tcp(Direction::In, 7);
    bench.see(ms(0), into, Sighting::Handshake);
    bench.see(ms(1), into, accepted(ms(1)));
    bench.reports(ms(1), &[(Some(OWNER), Some(State::Established))]);
    bench.see(ms(50), into, Sighting::Packet);
    bench.reports(ms(5000), &[]);
}

#[test]
fn a_connection_nobody_accepts_is_reported_and_its_late_accept_is_not() {
    for late in [2, 30, 3600] {
        let mut bench = Bench::new();
        let into = tcp(Direction::In, 7);
        bench.see(ms(0), into, Sighting::Handshake);
        bench.reports(ms(300), &[(None, Some(State::Established))]);
        bench.see(ms(late * 1000), into, accepted(ms(late * 1000)));
        bench.reports(ms(4_000_000), &[]);
    }
}

#[test]
fn both_sides_of_a_connection_within_the_host_are_one_event_each() {
    let mut bench = Bench::new();
    bench.see(ms(0), tcp(Direction::Out, 7), Sighting::Asked(OWNER));
    bench.see(ms(0), tcp(Direction::In, 7), Sighting::Handshake);
    bench.see(ms(0), tcp(Direction::Out, 7), ended(State::Established));
    bench.see(ms(0), tcp(Direction::In, 7), accepted(ms(0)));
    let both = (Some(OWNER), Some(State::Established));
    bench.reports(ms(0), &[both, both]);
}

#[test]
fn a_request_of_a_container_is_one_event_though_translation_changes_its_address() {
    let mut bench = Bench::new();
    let mut inside = tcp(Direction::Out, 7);
    inside.local = "172.17.0.2:40000".parse().unwrap();
    bench.see(ms(0), inside, Sighting::Asked(OWNER));
    bench.see(ms(1), tcp(Direction::Out, 7), Sighting::Packet);
    let reports = bench.join.take_all(ms(2));
    assert_eq!(reports.len(), 1);
    assert_eq!(reports[0].attempt, inside);
}

#[test]
fn m10_a_udp_flow_is_one_event_in_both_directions_until_it_is_idle() {
    let mut bench = Bench::new();
    bench.see(
        ms(0),
        udp(Direction::Out, "0.0.0.0:5353"),
        Sighting::Asked(OWNER),
    );
    bench.reports(ms(0), &[]);
    bench.see(
        ms(1),
        udp(Direction::Out, "192.0.2.1:5353"),
        Sighting::Packet,
    );
    let reports = bench.join.take_ready(ms(1));
    assert_eq!(reports.len(), 1);
    assert_eq!(reports[0].attempt.local, "192.0.2.1:5353".parse().unwrap());
    assert_eq!(reports[0].owner, Some(OWNER));
    for secs in [10, 50, 100, 159] {
        bench.see(
            ms(secs * 1000),
            udp(Direction::In, "192.0.2.1:5353"),
            Sighting::Packet,
        );
    }
    bench.reports(ms(160_000), &[]);
    bench.see(
        ms(220_000),
        udp(Direction::In, "192.0.2.1:5353"),
        Sighting::Packet,
    );
    bench.reports(ms(220_300), &[(None, None)]);
}

#[test]
fn m10_the_first_packet_of_a_flow_tells_who_began_whoever_answered_first_in_the_ring() {
    let mut bench = Bench::new();
    bench.see(
        ms(0),
        udp(Direction::Out, "0.0.0.0:53"),
        Sighting::Asked(OWNER),
    );
    bench.see(ms(1), udp(Direction::In, "192.0.2.1:53"), Sighting::Packet);
    bench.see(ms(2), udp(Direction::Out, "192.0.2.1:53"), Sighting::Packet);
    let reports = bench.join.take_ready(ms(2));
    assert_eq!(reports.len(), 1);
    assert_eq!(reports[0].attempt, udp(Direction::In, "192.0.2.1:53"));
}

#[test]
fn a_flood_makes_the_oldest_leave_early_and_loses_nothing() {
    let mut join = Join::new(PACKET_HOLD);
    let count = u32::try_from(PENDING).unwrap() + 500;
    for isn in 0..count {
        let into = tcp(Direction::In, isn);
        join.see(ms(0), Timestamp::from_secs(0), into, Sighting::Packet, None);
    }
    assert_eq!(join.pending.len(), PENDING);
    assert!(join.turns.len() <= PENDING + 1);
    assert_eq!(join.hurried(), 500);
    assert_eq!(join.take_all(ms(0)).len(), count as usize);
}

#[test]
fn turns_of_attempts_that_left_at_once_are_thrown_away() {
    let mut join = Join::new(PACKET_HOLD);
    // One that stays is at the front: behind it, nothing goes by itself.
    let waits = tcp(Direction::In, 0);
    join.see(
        ms(0),
        Timestamp::from_secs(0),
        waits,
        Sighting::Packet,
        None,
    );
    for isn in 1..=u32::try_from(2 * TURNS).unwrap() {
        let into = tcp(Direction::In, isn);
        join.see(ms(0), Timestamp::from_secs(0), into, accepted(ms(0)), None);
        assert!(join.turns.len() <= TURNS);
    }
    assert_eq!(join.take_ready(ms(0)).len(), 2 * TURNS);
    assert_eq!(join.take_ready(PACKET_HOLD).len(), 1);
}

fn sightings() -> impl Strategy<Value = Sighting> {
    prop_oneof![
        Just(Sighting::Packet),
        Just(Sighting::Asked(OWNER)),
        Just(Sighting::Handshake),
        (0u64..20_000).prop_map(|waited| accepted(ms(waited))),
        Just(ended(State::Established)),
        Just(ended(State::Refused)),
    ]
}

proptest! {
    #[test]
    fn every_attempt_is_reported_exactly_once_whatever_the_order(
        steps in prop::collection::vec((0u32..6, any::<bool>(), sightings(), 0u64..400), 1..120),
    ) {
        let mut join = Join::new(PACKET_HOLD);
        // Less than the shortest memory in all, so that nothing may be forgotten.
        let mut now = Duration::ZERO;
        let mut reports = Vec::new();
        let mut expected = std::collections::HashSet::new();
        for (isn, incoming, sighting, pause) in steps {
            now += ms(pause.min(9_000_u64.saturating_sub(now.as_millis() as u64)));
            let dir = if incoming { Direction::In } else { Direction::Out };
            let attempt = tcp(dir, isn);
            let opens = match sighting {
                Sighting::Ended { .. } => false,
                Sighting::Accepted { waited, .. } => waited <= LATE_ACCEPT,
                _ => true,
            };
            if opens {
                expected.insert(attempt);
            }
            join.see(now, Timestamp::from_secs(0), attempt, sighting, None);
            reports.extend(join.take_ready(now));
            prop_assert!(join.turns.len() >= join.pending.len());
        }
        reports.extend(join.take_all(now));
        let distinct: std::collections::HashSet<_> = reports.iter().map(|r| r.attempt).collect();
        prop_assert_eq!(distinct.len(), reports.len());
        prop_assert_eq!(distinct, expected);
    }
}
