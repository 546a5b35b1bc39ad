//! The filters as the kernel carries them out, and the ring on the real kernel.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::unix::net::UnixDatagram,
    thread,
    time::{Duration, Instant},
};

use proptest::prelude::*;

use super::*;
use crate::namespace::in_namespace;

pub(super) const EVERYTHING: [Wanted; 5] = [
    requests(false, false),
    requests(false, true),
    requests(true, false),
    requests(true, true),
    Wanted::Names,
];

const fn requests(answers: bool, udp: bool) -> Wanted {
    Wanted::Requests { answers, udp }
}

/// The kernel's machine, applied to packets we make: a filter works on any socket.
struct Machine {
    send: UnixDatagram,
    receive: UnixDatagram,
}

impl Machine {
    /// Such a socket does not know what a packet socket knows, so the program is entered after its
    /// first question (way and hardware) and told the answer to its second (the protocol).
    fn new(wanted: Wanted, ether_type: u16) -> Self {
        let mut program = filter::program(wanted);
        let immediate = (libc::BPF_LD | libc::BPF_W | libc::BPF_IMM) as u16;
        let protocol = (libc::SKF_AD_OFF + libc::SKF_AD_PROTOCOL) as u32;
        let at = program.iter().position(|step| step.k == protocol).unwrap();
        program[at] = libc::sock_filter {
            code: immediate,
            jt: 0,
            jf: 0,
            k: ether_type.into(),
        };
        let (send, receive) = UnixDatagram::pair().unwrap();
        receive.set_nonblocking(true).unwrap();
        socket::attach(&receive, &program[at..]).unwrap();
        Self { send, receive }
    }

    fn shows(&self, packet: &[u8]) -> bool {
        self.send.send(packet).unwrap();
        self.receive.recv(&mut [0; 8192]).is_ok()
    }
}

fn ipv4(protocol: u8, fragment: u16, options: usize, rest: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45 + options as u8, 0, 0, 0, 0, 1];
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0, 192, 0, 2, 1, 198, 51, 100, 7]);
    packet.extend(vec![1; options * 4]);
    packet.extend(rest);
    packet
}

fn ipv6(next: u8, rest: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0, 0, rest.len() as u8, next, 64];
    packet.extend([0x20; 32]);
    packet.extend(rest);
    packet
}

fn tcp(ports: [u16; 2], seq: u32, flags: u8) -> Vec<u8> {
    let mut header = Vec::new();
    header.extend(ports[0].to_be_bytes());
    header.extend(ports[1].to_be_bytes());
    header.extend(seq.to_be_bytes());
    header.extend([0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    header
}

#[test]
fn the_kernel_shows_requests_and_refusals_and_nothing_else() {
    const ANY: [u16; 2] = [40000, 443];
    let cases = |tcp_of: &dyn Fn(&[u8]) -> Vec<u8>| {
        [
            // Packet, whether it is shown: without and with answers.
            (tcp_of(&tcp(ANY, 1, 0x02)), true, true),
            (tcp_of(&tcp(ANY, 1, 0xc2)), true, true),
            (tcp_of(&tcp(ANY, 1, 0x12)), false, true),
            (tcp_of(&tcp(ANY, 0, 0x14)), true, true),
            (tcp_of(&tcp(ANY, 5, 0x14)), false, false),
            (tcp_of(&tcp(ANY, 0, 0x04)), false, false),
            (tcp_of(&tcp(ANY, 1, 0x10)), false, false),
            (tcp_of(&tcp(ANY, 1, 0x11)), false, false),
            (tcp_of(&tcp(ANY, 1, 0x18)), false, false),
            (tcp_of(&tcp(ANY, 1, 0x02)[..13]), false, false),
        ]
    };
    let four = |rest: &[u8]| ipv4(6, 0, 0, rest);
    let four_with_options = |rest: &[u8]| ipv4(6, 0x4000, 3, rest);
    let six = |rest: &[u8]| ipv6(6, rest);
    for answers in [false, true] {
        let machine = [0x0800, 0x86dd].map(|kind| Machine::new(requests(answers, false), kind));
        for (version, packets) in [
            (0, cases(&four)),
            (0, cases(&four_with_options)),
            (1, cases(&six)),
        ] {
            for (packet, without, with) in packets {
                let expected = if answers { with } else { without };
                let shown = machine[version].shows(&packet);
                assert_eq!(shown, expected, "{answers} {packet:02x?}");
            }
        }
        let later = ipv4(6, 0x2001, 0, &tcp(ANY, 1, 0x02));
        assert!(!machine[0].shows(&later));
        let behind_options = ipv6(0, &tcp(ANY, 1, 0x10));
        assert!(machine[1].shows(&behind_options));
        let datagram = [0, 53, 0x9c, 0x40, 0, 8, 0, 0];
        for (version, packet) in [(0, ipv4(17, 0, 0, &datagram)), (1, ipv6(17, &datagram))] {
            assert!(!machine[version].shows(&packet));
            let kind = [0x0800, 0x86dd][version];
            assert!(Machine::new(requests(answers, true), kind).shows(&packet));
        }
    }
    assert!(!Machine::new(requests(true, true), 0x0806).shows(&four(&tcp(ANY, 1, 0x02))));
}

#[test]
fn the_kernel_shows_what_concerns_the_port_of_name_servers() {
    for (ports, expected) in [([53, 9], true), ([9, 53], true), ([9, 530], false)] {
        let rest = tcp(ports, 1, 0x18);
        for protocol in [6, 17, 132] {
            // What SCTP says there is nobody's question.
            let expected = expected && protocol != 132;
            let four = Machine::new(Wanted::Names, 0x0800);
            assert_eq!(four.shows(&ipv4(protocol, 0, 2, &rest)), expected);
            let six = Machine::new(Wanted::Names, 0x86dd);
            assert_eq!(six.shows(&ipv6(protocol, &rest)), expected);
        }
    }
}

#[cfg(feature = "pcap")]
proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// The two sources must not differ in what they show: libpcap compiles the same wish from a
    /// language of its own.
    #[test]
    fn the_kernel_and_libpcap_agree_about_every_packet(
        six: bool, flags: u8, answered in prop::option::of(0u32..2), near: bool,
        protocol in prop::sample::select(vec![6u8, 6, 6, 17, 1, 58, 0, 43, 44, 51, 60, 2]),
        fragment in prop::sample::select(vec![0u16, 0, 0, 0x4000, 0x2000, 0x2001, 0x1fff]),
        options in 0usize..4, cut in prop::option::of(0usize..90),
    ) {
        let ports = if near { [53, 40000] } else { [40000, 443] };
        let rest = tcp(ports, answered.unwrap_or(0x1234_5678), flags);
        let (ether_type, mut packet) = match six {
            true => (0x86dd_u16, ipv6(protocol, &rest)),
            false => (0x0800, ipv4(protocol, fragment, options, &rest)),
        };
        packet.truncate(cut.unwrap_or(usize::MAX));
        // Arrived over interface 2, which is Ethernet.
        let mut framed = ether_type.to_be_bytes().to_vec();
        framed.extend([0, 0, 0, 0, 0, 2, 0, 1, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0]);
        framed.extend(&packet);
        let dead = ::pcap::Capture::dead(pcap::COOKED2).unwrap();
        for wanted in EVERYTHING {
            let expression = pcap::expression(wanted, true);
            let theirs = dead.compile(&expression, true).unwrap().filter(&framed);
            let ours = Machine::new(wanted, ether_type).shows(&packet);
            prop_assert_eq!(ours, theirs, "{:?} {:02x?}", wanted, packet);
        }
    }
}

const KINDS: [Kind; 2] = [Kind::Packet, Kind::Pcap];

/// `None`, loudly, where this program or this user cannot.
fn open(test: &str, kind: Kind, wanted: Wanted) -> Option<Box<dyn Capture>> {
    kind.open(wanted)
        .inspect_err(|error| eprintln!("SKIPPED {test} with {kind}: {error}"))
        .ok()
}

/// Connections to an address nobody else uses, so that those of other tests do not count.
fn connect(from: Ipv4Addr, to: SocketAddr) -> SocketAddr {
    use std::os::fd::AsRawFd as _;

    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};
    let flags = SockFlag::SOCK_CLOEXEC;
    let fd = socket(AddressFamily::Inet, SockType::Stream, flags, None).unwrap();
    let own = SockaddrIn::from(std::net::SocketAddrV4::new(from, 0));
    bind(fd.as_raw_fd(), &own).unwrap();
    let SocketAddr::V4(to) = to else {
        panic!("IPv4 only");
    };
    connect(fd.as_raw_fd(), &SockaddrIn::from(to)).unwrap();
    TcpStream::from(fd).local_addr().unwrap()
}

fn source_of(frame: &Frame<'_>) -> Option<Ipv4Addr> {
    let octets: [u8; 4] = frame.bytes.get(12..16)?.try_into().ok()?;
    (frame.ether_type == 0x0800).then(|| octets.into())
}

#[test]
fn a_packet_within_the_host_is_shown_once_and_soon() {
    const FROM: Ipv4Addr = Ipv4Addr::new(127, 83, 1, 1);
    for kind in KINDS {
        let Some(mut capture) = open("packets", kind, requests(false, false)) else {
            continue;
        };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let before = yinglong_model::Timestamp::from(std::time::SystemTime::now());
        for _ in 0..3 {
            connect(FROM, listener.local_addr().unwrap());
        }
        let mut seen = Vec::new();
        let end = Instant::now() + Duration::from_secs(20);
        while seen.len() < 3 && Instant::now() < end {
            capture
                .read(&mut |frame| {
                    if source_of(&frame) == Some(FROM) {
                        seen.push((frame.at, frame.way, frame.bytes.len()));
                    }
                })
                .unwrap();
            thread::sleep(Duration::from_millis(10));
        }
        // Nothing is shown a second time.
        thread::sleep(2 * requests(false, false).latency());
        let mut more = 0;
        while capture
            .read(&mut |frame| more += usize::from(source_of(&frame) == Some(FROM)))
            .unwrap()
        {}
        assert_eq!((seen.len(), more), (3, 0), "{kind}");
        for (at, way, bytes) in seen {
            assert_eq!((way, bytes), (Way::Looping, 60), "{kind}");
            let now = yinglong_model::Timestamp::from(std::time::SystemTime::now());
            assert!(
                before <= at && at <= now,
                "{kind}: {before:?} {at:?} {now:?}"
            );
        }
    }
}

#[test]
fn what_is_wanted_can_be_changed_while_running() {
    const FROM: Ipv4Addr = Ipv4Addr::new(127, 83, 1, 2);
    for kind in KINDS {
        let Some(mut capture) = open("change of filter", kind, requests(false, false)) else {
            continue;
        };
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = UdpSocket::bind((FROM, 0)).unwrap();
        let mut seen = 0;
        for wanted in [false, true, false] {
            capture.want(requests(false, wanted)).unwrap();
            client.send_to(b"x", server.local_addr().unwrap()).unwrap();
            thread::sleep(3 * requests(false, wanted).latency());
            while capture
                .read(&mut |frame| seen += usize::from(source_of(&frame) == Some(FROM)))
                .unwrap()
            {}
        }
        assert_eq!(seen, 1, "{kind}");
    }
}

#[test]
fn what_a_full_ring_had_no_room_for_is_counted_to_the_packet() {
    const SENT: usize = 40_000;
    let wanted = requests(false, true);
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED full ring: needs root");
        return;
    }
    // Where nobody else sends.
    let (seen, dropped) = in_namespace(|| {
        let mut capture = Kind::Packet.open(wanted).unwrap();
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(server.local_addr().unwrap()).unwrap();
        for _ in 0..SENT {
            // The server does not read: its queue is full soon, and the wire does not care.
            client.send(&[0; 200]).unwrap();
        }
        let (mut seen, mut dropped) = (0, 0);
        let end = Instant::now() + Duration::from_secs(20);
        while seen + dropped < SENT && Instant::now() < end {
            capture.read(&mut |_| seen += 1).unwrap();
            dropped += usize::try_from(capture.newly_dropped()).unwrap();
            thread::sleep(wanted.latency());
        }
        (seen, dropped)
    });
    assert!(dropped > 0, "the ring was never full");
    assert_eq!(seen + dropped, SENT, "{seen} + {dropped}");
}
