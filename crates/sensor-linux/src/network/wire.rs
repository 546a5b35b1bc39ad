//! What captured packets tell of attempts. Pure.

use yinglong_model::event::{Direction, Protocol};

use super::{
    join::{Attempt, Sighting, State},
    packet::{Packet, Segment},
};
use crate::packets::Way;

/// What a packet means, from the side of this host; for packets within it, from both sides.
/// Whether `local` is an address of this host remains to be asked.
pub(super) fn sightings(packet: &Packet, with_kernel: bool) -> Vec<(Attempt, Sighting)> {
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
