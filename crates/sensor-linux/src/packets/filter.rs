//! What the kernel shows a packet socket: programs for its classic packet filter. Pure.
//!
//! The machine is that of `linux/filter.h`: an accumulator A, an index X, jumps forward only, and
//! `ret` with the number of bytes to keep. Packets begin with their network header
//! (`SOCK_DGRAM`), and loads from [`libc::SKF_AD_OFF`] on answer what the kernel knows besides. A
//! load past the end of a packet drops it.

use super::Wanted;

const LOAD_WORD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const LOAD_HALF: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_ABS;
const LOAD_BYTE: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
const LOAD_WORD_BEHIND: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_IND;
const LOAD_HALF_BEHIND: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_IND;
const LOAD_BYTE_BEHIND: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_IND;
/// X = length of the IPv4 header.
const INDEX_HEADER: u32 = libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH;
const AND: u32 = libc::BPF_ALU | libc::BPF_AND | libc::BPF_K;
const EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const ANY_OF: u32 = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;

const TCP: u32 = libc::IPPROTO_TCP as u32;
const UDP: u32 = libc::IPPROTO_UDP as u32;
const DNS_PORT: u32 = 53;
/// Flags of TCP.
const SYN: u32 = 0x02;
const RST: u32 = 0x04;
const ACK: u32 = 0x10;
/// Extension headers of IPv6 behind which TCP or UDP may follow: hop by hop, routing, fragment,
/// authentication, destination options.
const EXTENSIONS: [u32; 5] = [0, 43, 44, 51, 60];
/// Those a name server's port may follow; pieces carry no whole message.
const EXTENSIONS_OF_NAMES: [u32; 3] = [0, 43, 60];

/// Where a jump goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum To {
    /// To the next instruction.
    Next,
    Start,
    Four,
    FourTcp,
    Six,
    SixTcp,
    Ports,
    Drop,
    Keep,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    /// Of these jumps come here.
    Here(To),
    Do(u32, u32),
    /// Code, operand, where to if so, where to if not.
    If(u32, u32, To, To),
}

use Step::{Do, Here, If};

/// The program for what is wanted.
pub(super) fn program(wanted: Wanted) -> Vec<libc::sock_filter> {
    let mut steps = once();
    match wanted {
        Wanted::Requests { answers, udp } => requests(&mut steps, answers, udp),
        Wanted::Names => names(&mut steps),
    }
    steps.extend([
        Here(To::Drop),
        Do(RETURN, 0),
        Here(To::Keep),
        Do(RETURN, wanted.snaplen_bytes()),
    ]);
    assemble(&steps)
}

/// A packet over a loopback interface is shown leaving and arriving; the second time is enough.
fn once() -> Vec<Step> {
    vec![
        Do(LOAD_WORD, ancillary(libc::SKF_AD_PKTTYPE)),
        If(EQUAL, libc::PACKET_OUTGOING.into(), To::Next, To::Start),
        Do(LOAD_WORD, ancillary(libc::SKF_AD_HATYPE)),
        If(EQUAL, libc::ARPHRD_LOOPBACK.into(), To::Drop, To::Start),
        Here(To::Start),
        Do(LOAD_WORD, ancillary(libc::SKF_AD_PROTOCOL)),
        If(EQUAL, libc::ETH_P_IP as u32, To::Four, To::Next),
        If(EQUAL, libc::ETH_P_IPV6 as u32, To::Six, To::Drop),
    ]
}

const fn ancillary(what: i32) -> u32 {
    (libc::SKF_AD_OFF + what) as u32
}

fn requests(steps: &mut Vec<Step>, answers: bool, udp: bool) {
    // Bits for ECN (0xc0) may have any value, and so may the rest.
    let request = if answers { SYN | RST } else { SYN | RST | ACK };
    steps.extend([
        Here(To::Four),
        Do(LOAD_BYTE, 9),
        If(EQUAL, TCP, To::FourTcp, To::Next),
        If(EQUAL, UDP, if udp { To::Next } else { To::Drop }, To::Drop),
        // Only the first piece has ports.
        Do(LOAD_HALF, 6),
        If(ANY_OF, 0x1fff, To::Drop, To::Keep),
        Here(To::FourTcp),
        Do(LOAD_HALF, 6),
        If(ANY_OF, 0x1fff, To::Drop, To::Next),
        Do(INDEX_HEADER, 0),
        Do(LOAD_BYTE_BEHIND, 13),
        Do(AND, request),
        If(EQUAL, SYN, To::Keep, To::Next),
        Do(LOAD_BYTE_BEHIND, 13),
        Do(AND, RST | ACK),
        If(EQUAL, RST | ACK, To::Next, To::Drop),
        // A reset that answers a request has the sequence number 0 (RFC 9293, 3.5.2).
        Do(LOAD_WORD_BEHIND, 4),
        If(EQUAL, 0, To::Keep, To::Drop),
    ]);
    steps.extend([Here(To::Six), Do(LOAD_BYTE, 6)]);
    steps.push(If(EQUAL, TCP, To::SixTcp, To::Next));
    if udp {
        steps.push(If(EQUAL, UDP, To::Keep, To::Next));
    }
    // The machine cannot step over these: whoever reads the packet does.
    steps.extend(EXTENSIONS.map(|header| If(EQUAL, header, To::Keep, To::Next)));
    steps.extend([
        Do(RETURN, 0),
        Here(To::SixTcp),
        Do(LOAD_BYTE, 40 + 13),
        Do(AND, request),
        If(EQUAL, SYN, To::Keep, To::Next),
        Do(LOAD_BYTE, 40 + 13),
        Do(AND, RST | ACK),
        If(EQUAL, RST | ACK, To::Next, To::Drop),
        Do(LOAD_WORD, 40 + 4),
        If(EQUAL, 0, To::Keep, To::Drop),
    ]);
}

fn names(steps: &mut Vec<Step>) {
    steps.extend([
        Here(To::Four),
        Do(LOAD_BYTE, 9),
        If(EQUAL, TCP, To::FourTcp, To::Next),
        If(EQUAL, UDP, To::FourTcp, To::Drop),
        Here(To::FourTcp),
        Do(LOAD_HALF, 6),
        If(ANY_OF, 0x1fff, To::Drop, To::Next),
        Do(INDEX_HEADER, 0),
        Do(LOAD_HALF_BEHIND, 0),
        If(EQUAL, DNS_PORT, To::Keep, To::Next),
        Do(LOAD_HALF_BEHIND, 2),
        If(EQUAL, DNS_PORT, To::Keep, To::Drop),
    ]);
    steps.extend([Here(To::Six), Do(LOAD_BYTE, 6)]);
    steps.extend([
        If(EQUAL, TCP, To::Ports, To::Next),
        If(EQUAL, UDP, To::Ports, To::Next),
    ]);
    steps.extend(EXTENSIONS_OF_NAMES.map(|header| If(EQUAL, header, To::Keep, To::Next)));
    steps.extend([
        Do(RETURN, 0),
        Here(To::Ports),
        Do(LOAD_HALF, 40),
        If(EQUAL, DNS_PORT, To::Keep, To::Next),
        Do(LOAD_HALF, 42),
        If(EQUAL, DNS_PORT, To::Keep, To::Drop),
    ]);
}

/// Turns names of places into distances. The programs are fixed and short: what cannot be
/// expressed is a mistake in this file that every test of it finds.
fn assemble(steps: &[Step]) -> Vec<libc::sock_filter> {
    let mut places = Vec::new();
    let mut length = 0usize;
    for step in steps {
        match step {
            Here(place) => places.push((*place, length)),
            Do(..) | If(..) => length += 1,
        }
    }
    let distance = |from: usize, to: To| match to {
        To::Next => 0,
        _ => places
            .iter()
            .find(|(place, _)| *place == to)
            .and_then(|(_, at)| at.checked_sub(from + 1))
            .and_then(|distance| u8::try_from(distance).ok())
            .expect("jumps go forward, to a place of the program, less than 256 instructions far"),
    };
    let mut program = Vec::with_capacity(length);
    for step in steps {
        let (code, jt, jf, k) = match *step {
            Here(_) => continue,
            Do(code, k) => (code, 0, 0, k),
            If(code, k, yes, no) => {
                let from = program.len();
                (code, distance(from, yes), distance(from, no), k)
            }
        };
        // Codes are below 256.
        let code = code as u16;
        program.push(libc::sock_filter { code, jt, jf, k });
    }
    program
}
