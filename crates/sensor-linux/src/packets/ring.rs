//! A packet socket with a ring that the kernel shares (`TPACKET_V3`).
//!
//! The ring is a row of blocks. The kernel fills a block with packets one after another and hands
//! it over when the next one does not fit, or when it has been open for [`Wanted::latency`] and
//! holds any; the reader gives it back. Only a reader that waits is woken, once for each block.
//! (`Documentation/networking/packet_mmap.rst`, `linux/if_packet.h`)

use std::{io, os::fd::BorrowedFd, sync::atomic::Ordering};

use yinglong_model::Timestamp;

use super::{Capture, Frame, Wanted, Way, filter, socket::Socket};
use crate::mapping::Mapping;

/// Size of a ring: 25,000 requests, of 160 bytes each; a sensor that reads every 50 ms keeps up with
/// half a million a second.
const RING_BYTES: usize = 4 << 20;

/// Of `struct tpacket_block_desc`.
const BLOCK_STATUS: usize = 8;
const BLOCK_PACKETS: usize = 12;
const BLOCK_FIRST: usize = 16;
/// Of `struct tpacket3_hdr`.
const NEXT: usize = 0;
const SECONDS: usize = 4;
const NANOSECONDS: usize = 8;
const CAPTURED: usize = 12;
const NETWORK: usize = 26;
/// Of `struct sockaddr_ll` behind it.
const ADDRESS: usize = 48;
const PROTOCOL: usize = ADDRESS + 2;
const HARDWARE: usize = ADDRESS + 8;
const PACKET_TYPE: usize = ADDRESS + 10;

/// An open ring.
#[derive(Debug)]
pub(super) struct PacketRing {
    socket: Socket,
    mapping: Mapping,
    block_bytes: usize,
    /// The block that is handed over next.
    block: usize,
}

impl PacketRing {
    /// # Errors
    /// The kernel's answer; needs `CAP_NET_RAW`.
    pub(super) fn open(wanted: Wanted) -> io::Result<Self> {
        let socket = Socket::open()?;
        socket.filter(&filter::program(wanted))?;
        let block_bytes = block_bytes(wanted);
        let blocks = (RING_BYTES / block_bytes) as u32;
        socket.make_ring(&libc::tpacket_req3 {
            tp_block_size: block_bytes as u32,
            tp_block_nr: blocks,
            // Packets take what they need; these two only have to agree.
            tp_frame_size: block_bytes as u32,
            tp_frame_nr: blocks,
            tp_retire_blk_tov: u32::try_from(wanted.latency().as_millis()).unwrap_or(50),
            tp_sizeof_priv: 0,
            tp_feature_req_word: 0,
        })?;
        let writable = libc::PROT_READ | libc::PROT_WRITE;
        let mapping = Mapping::new(socket.fd(), RING_BYTES, 0, writable)?;
        socket.begin()?;
        Ok(Self {
            socket,
            mapping,
            block_bytes,
            block: 0,
        })
    }
}

/// A block that is handed over for its age is used up however little is in it, so many small blocks
/// outlast a longer pause of the reader: 1,024 of them 50 seconds.
const fn block_bytes(wanted: Wanted) -> usize {
    match wanted {
        Wanted::Requests { .. } => 4096,
        // One packet of the largest size has to fit.
        Wanted::Names => 16 << 10,
    }
}

impl Capture for PacketRing {
    fn want(&mut self, wanted: Wanted) -> io::Result<()> {
        self.socket.filter(&filter::program(wanted))
    }

    fn read(&mut self, each: &mut dyn FnMut(Frame<'_>)) -> io::Result<bool> {
        // Once around: whoever fills the ring faster than it is read does not hold the sensor.
        let blocks = RING_BYTES / self.block_bytes;
        for _ in 0..blocks {
            let at = self.block * self.block_bytes;
            let status = self.mapping.word(at + BLOCK_STATUS);
            if status.load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
                return Ok(false);
            }
            // SAFETY: the block is handed over (loaded with Acquire), and stays so until its status
            // is stored below, when this slice is gone. The status word itself the kernel leaves
            // alone meanwhile.
            let block = unsafe { self.mapping.bytes(at, self.block_bytes) };
            let shown = show(block, each);
            status.store(libc::TP_STATUS_KERNEL, Ordering::Release);
            self.block = (self.block + 1) % blocks;
            shown.ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the ring of packets is not laid out as it should be",
                )
            })?;
        }
        Ok(true)
    }

    fn newly_dropped(&mut self) -> u64 {
        let statistics = self.socket.statistics();
        statistics.map_or(0, |statistics| statistics.tp_drops.into())
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.socket.fd()
    }
}

/// Shows the packets of a block; `None` when it is not laid out as it should be.
fn show(block: &[u8], each: &mut dyn FnMut(Frame<'_>)) -> Option<()> {
    let mut at = word(block, BLOCK_FIRST)? as usize;
    let mut left = word(block, BLOCK_PACKETS)?;
    while left > 0 {
        let packet = block.get(at..)?;
        each(frame(packet)?);
        left -= 1;
        let distance = word(packet, NEXT)? as usize;
        if left > 0 && distance == 0 {
            return None;
        }
        at = at.checked_add(distance)?;
    }
    Some(())
}

fn frame(packet: &[u8]) -> Option<Frame<'_>> {
    let (seconds, nanoseconds) = (word(packet, SECONDS)?, word(packet, NANOSECONDS)?);
    let nanos = i64::from(seconds) * 1_000_000_000 + i64::from(nanoseconds);
    let begin = usize::from(half(packet, NETWORK)?);
    let end = begin.checked_add(word(packet, CAPTURED)? as usize)?;
    let packet_type = *packet.get(PACKET_TYPE)?;
    Some(Frame {
        at: Timestamp::from_nanos(nanos),
        way: Way::of(half(packet, HARDWARE)?, packet_type.into()),
        ether_type: u16::from_be(half(packet, PROTOCOL)?),
        bytes: packet.get(begin..end)?,
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at + 4)?;
    word.try_into().ok().map(u32::from_ne_bytes)
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    let half = bytes.get(at..at + 2)?;
    half.try_into().ok().map(u16::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn offsets_are_those_of_the_kernels_header() {
        assert_eq!(NEXT, offset_of!(libc::tpacket3_hdr, tp_next_offset));
        assert_eq!(SECONDS, offset_of!(libc::tpacket3_hdr, tp_sec));
        assert_eq!(NANOSECONDS, offset_of!(libc::tpacket3_hdr, tp_nsec));
        assert_eq!(CAPTURED, offset_of!(libc::tpacket3_hdr, tp_snaplen));
        assert_eq!(NETWORK, offset_of!(libc::tpacket3_hdr, tp_net));
        let aligned = size_of::<libc::tpacket3_hdr>().next_multiple_of(libc::TPACKET_ALIGNMENT);
        assert_eq!(ADDRESS, aligned);
        let address = |offset| aligned + offset;
        assert_eq!(
            PROTOCOL,
            address(offset_of!(libc::sockaddr_ll, sll_protocol))
        );
        assert_eq!(HARDWARE, address(offset_of!(libc::sockaddr_ll, sll_hatype)));
        assert_eq!(
            PACKET_TYPE,
            address(offset_of!(libc::sockaddr_ll, sll_pkttype))
        );
        let block = offset_of!(libc::tpacket_block_desc, hdr);
        let header = |offset| block + offset;
        assert_eq!(
            BLOCK_STATUS,
            header(offset_of!(libc::tpacket_hdr_v1, block_status))
        );
        assert_eq!(
            BLOCK_PACKETS,
            header(offset_of!(libc::tpacket_hdr_v1, num_pkts))
        );
        assert_eq!(
            BLOCK_FIRST,
            header(offset_of!(libc::tpacket_hdr_v1, offset_to_first_pkt))
        );
    }

    /// A block as the kernel fills it.
    fn block(packets: &[&[u8]]) -> Vec<u8> {
        const FIRST: usize = 48;
        const TO_NETWORK: usize = 96;
        let mut block = vec![0; FIRST];
        block[BLOCK_PACKETS..][..4].copy_from_slice(&(packets.len() as u32).to_ne_bytes());
        block[BLOCK_FIRST..][..4].copy_from_slice(&(FIRST as u32).to_ne_bytes());
        for (index, packet) in packets.iter().enumerate() {
            let bytes = (TO_NETWORK + packet.len()).next_multiple_of(16);
            let mut whole = vec![0; bytes];
            let next = if index + 1 == packets.len() { 0 } else { bytes };
            whole[NEXT..][..4].copy_from_slice(&(next as u32).to_ne_bytes());
            whole[SECONDS..][..4].copy_from_slice(&7u32.to_ne_bytes());
            whole[NANOSECONDS..][..4].copy_from_slice(&9u32.to_ne_bytes());
            whole[CAPTURED..][..4].copy_from_slice(&(packet.len() as u32).to_ne_bytes());
            whole[NETWORK..][..2].copy_from_slice(&(TO_NETWORK as u16).to_ne_bytes());
            whole[PROTOCOL..][..2].copy_from_slice(&0x86dd_u16.to_be_bytes());
            whole[HARDWARE..][..2].copy_from_slice(&1u16.to_ne_bytes());
            whole[PACKET_TYPE] = 4;
            whole[TO_NETWORK..][..packet.len()].copy_from_slice(packet);
            block.extend(whole);
        }
        block
    }

    #[test]
    fn every_packet_of_a_block_is_shown() {
        let mut seen = Vec::new();
        let shown = show(&block(&[b"one", b"", b"three"]), &mut |frame| {
            assert_eq!(frame.at, Timestamp::from_nanos(7_000_000_009));
            assert_eq!((frame.way, frame.ether_type), (Way::Leaving, 0x86dd));
            seen.push(frame.bytes.to_vec());
        });
        assert_eq!(shown, Some(()));
        assert_eq!(seen, [&b"one"[..], b"", b"three"]);
    }

    proptest! {
        #[test]
        fn no_damage_to_a_block_makes_the_reader_panic(
            at in 0usize..260, word: u32, cut in 0usize..400,
        ) {
            let mut block = block(&[b"one", b"three"]);
            if let Some(slot) = block.get_mut(at..at + 4) {
                slot.copy_from_slice(&word.to_ne_bytes());
            }
            block.truncate(cut);
            let _ = show(&block, &mut |_| {});
        }
    }
}
