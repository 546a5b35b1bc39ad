//! Captures requests for connections on every interface, with libpcap.

use pcap::{Active, Linktype};
use yinglong_model::Timestamp;

use super::packet::{self, Link, Malformed, Packet};

/// Enough for the cooked header, IPv6 with extension headers, and a TCP header.
const SNAPLEN_BYTES: i32 = 256;
/// Ring between kernel and agent: about 40,000 requests.
const BUFFER_BYTES: i32 = 4 << 20;
/// Longest time the kernel keeps a packet before it shows it.
const LATENCY_MS: i32 = 50;
/// Packets taken in one go.
const BATCH: usize = 32_768;
/// `LINKTYPE_LINUX_SLL2`
const COOKED2: Linktype = Linktype(276);

/// An open capture.
pub(super) struct Capture {
    handle: pcap::Capture<Active>,
    link: Link,
    answers: bool,
    udp: Option<bool>,
    dropped: u32,
}

/// Something captured.
pub(super) type Captured = (Timestamp, Result<Option<Packet>, Malformed>);

impl Capture {
    /// Opens the capture. `answers`: whether acceptances are wanted too, not only requests and
    /// refusals; needed where the kernel does not tell outcomes.
    pub(super) fn open(answers: bool) -> Result<Self, pcap::Error> {
        let mut handle = pcap::Capture::from_device("any")?
            .snaplen(SNAPLEN_BYTES)
            .buffer_size(BUFFER_BYTES)
            .timeout(LATENCY_MS)
            .promisc(false)
            .open()?
            // A blocking read would not come back while nothing matches the filter.
            .setnonblock()?;
        let link = match handle.set_datalink(COOKED2) {
            Ok(()) => Link::Cooked2,
            Err(_) => Link::Cooked1,
        };
        let mut capture = Self {
            handle,
            link,
            answers,
            udp: None,
            dropped: 0,
        };
        capture.want_udp(false)?;
        Ok(capture)
    }

    /// Starts or stops the capture of UDP.
    pub(super) fn want_udp(&mut self, udp: bool) -> Result<(), pcap::Error> {
        if self.udp != Some(udp) {
            let filter = filter(self.answers, udp, self.link == Link::Cooked2);
            self.handle.filter(&filter, true)?;
            self.udp = Some(udp);
        }
        Ok(())
    }

    /// Takes the captured packets, up to a bound; says whether there may be more.
    pub(super) fn read(&mut self, mut take: impl FnMut(Captured)) -> Result<bool, pcap::Error> {
        for _ in 0..BATCH {
            match self.handle.next_packet() {
                Ok(packet) => {
                    let time = packet.header.ts;
                    let nanos = time.tv_sec.saturating_mul(1_000_000_000)
                        + time.tv_usec.saturating_mul(1000);
                    let at = Timestamp::from_nanos(nanos);
                    take((at, packet::parse(self.link, packet.data)));
                }
                Err(pcap::Error::TimeoutExpired | pcap::Error::NoMorePackets) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Packets the buffer had no room for since the last call. (Only the drops are meaningful:
    /// libpcap counts what it received on a loopback interface twice.)
    pub(super) fn newly_dropped(&mut self) -> u64 {
        let Ok(statistics) = self.handle.stats() else {
            return 0;
        };
        let new = statistics.dropped.wrapping_sub(self.dropped);
        self.dropped = statistics.dropped;
        u64::from(new)
    }
}

/// Filter expression. `tcp[..]` knows IPv4 only; for IPv6 the flags are 53 bytes into the packet
/// when TCP follows at once, and packets with extension headers are taken whole.
fn filter(answers: bool, udp: bool, interfaces: bool) -> String {
    // Flags: 0x02 SYN, 0x04 RST, 0x10 ACK; ECN bits (0xc0) may have any value.
    let mut terms = Vec::new();
    let request = |flags: &str| {
        if answers {
            format!("{flags} & 0x06 = 0x02")
        } else {
            format!("{flags} & 0x16 = 0x02")
        }
    };
    terms.push(format!("({})", request("tcp[13]")));
    terms.push("(tcp[13] & 0x14 = 0x14 and tcp[4:4] = 0)".to_owned());
    terms.push(format!("(ip6[6] = 6 and {})", request("ip6[53]")));
    terms.push("(ip6[6] = 6 and ip6[53] & 0x14 = 0x14 and ip6[44:4] = 0)".to_owned());
    terms.push("(ip6[6] = 0 or ip6[6] = 43 or ip6[6] = 44 or ip6[6] = 51 or ip6[6] = 60)".into());
    if udp {
        terms.push("(udp and ip[6:2] & 0x1fff = 0)".to_owned());
        terms.push("(ip6[6] = 17)".to_owned());
    }
    let wanted = terms.join(" or ");
    if interfaces {
        // A loopback interface (always number 1) shows each packet leaving and arriving.
        format!("not (ifindex 1 and outbound) and ({wanted})")
    } else {
        wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_filter_compiles_for_its_link_type() {
        for answers in [false, true] {
            for udp in [false, true] {
                for (link, interfaces) in [(COOKED2, true), (Linktype::LINUX_SLL, false)] {
                    let dead = pcap::Capture::dead(link).unwrap();
                    let expression = filter(answers, udp, interfaces);
                    if let Err(error) = dead.compile(&expression, true) {
                        panic!("{expression}: {error}");
                    }
                }
            }
        }
    }
}
