//! Messages out of TCP segments: each is preceded by its length (RFC 1035, section 4.2.2). Pure;
//! bounded.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

/// Streams followed at the same time.
const STREAMS: usize = 1024;
/// A stream silent for so long is forgotten.
const IDLE: Duration = Duration::from_secs(30);
/// Bytes of a message that are waited for; what is longer is read as far as it goes.
const MESSAGE_BYTES: usize = 4096;

/// One direction of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Way {
    /// Of the socket.
    pub(super) cookie: u64,
    /// From this host.
    pub(super) sent: bool,
}

#[derive(Debug)]
struct Stream {
    /// Sequence number of the next byte.
    next: u32,
    /// Bytes of the message that is on its way, its length first.
    kept: Vec<u8>,
    /// Bytes of it that are passed over, having been enough already.
    passed: usize,
    seen: Duration,
}

/// The streams in progress.
#[derive(Debug, Default)]
pub(super) struct Streams {
    streams: HashMap<Way, Stream>,
    /// In order of their first sight, for the bound.
    order: VecDeque<Way>,
}

/// What a segment did.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// Messages that are complete, or as much of them as is kept.
    pub(super) messages: Vec<Vec<u8>>,
    /// Segments were missing: some messages cannot be told.
    pub(super) gap: bool,
}

impl Streams {
    /// Takes a segment: its sequence number, the bytes kept of it, and how many it had.
    pub(super) fn take(
        &mut self,
        now: Duration,
        way: Way,
        seq: u32,
        bytes: &[u8],
        length: u32,
    ) -> Told {
        let mut told = Told::default();
        self.make_room(now, way);
        let stream = self.streams.entry(way).or_insert_with(|| {
            self.order.push_back(way);
            Stream {
                next: seq,
                kept: Vec::new(),
                passed: 0,
                seen: now,
            }
        });
        stream.seen = now;
        // Sequence numbers wrap: the distance says which is first.
        let repeated = stream.next.wrapping_sub(seq);
        if repeated > i32::MAX as u32 {
            // Bytes between were not seen. Where a message begins is not known any more; a segment
            // that follows a gap begins one more often than not.
            told.gap = true;
            stream.kept.clear();
            stream.passed = 0;
            stream.next = seq;
        } else if repeated >= length {
            return told;
        }
        let skipped = usize::try_from(stream.next.wrapping_sub(seq)).unwrap_or_default();
        let new = bytes.get(skipped..).unwrap_or_default();
        let missing = (length as usize).saturating_sub(skipped + new.len());
        stream.next = seq.wrapping_add(length);
        stream.add(new, missing, &mut told.messages);
        told
    }

    fn make_room(&mut self, now: Duration, way: Way) {
        while let Some(&oldest) = self.order.front() {
            let idle = self
                .streams
                .get(&oldest)
                .is_none_or(|stream| now >= stream.seen + IDLE);
            let full = self.order.len() >= STREAMS && !self.streams.contains_key(&way);
            if !idle && !full {
                return;
            }
            self.order.pop_front();
            self.streams.remove(&oldest);
        }
    }
}

impl Stream {
    /// Takes new bytes, behind which `missing` more were sent but not kept.
    fn add(&mut self, mut new: &[u8], mut missing: usize, messages: &mut Vec<Vec<u8>>) {
        loop {
            let head = 2_usize.saturating_sub(self.kept.len()).min(new.len());
            let (length, rest) = new.split_at(head);
            self.kept.extend_from_slice(length);
            new = rest;
            let Some(length) = self.kept.first_chunk::<2>() else {
                return;
            };
            let whole = 2 + usize::from(u16::from_be_bytes(*length));
            let lacking = whole.saturating_sub(self.kept.len() + self.passed);
            let (mine, rest) = new.split_at(lacking.min(new.len()));
            new = rest;
            let room = (2 + MESSAGE_BYTES).saturating_sub(self.kept.len());
            let (kept, passed) = mine.split_at(room.min(mine.len()));
            self.kept.extend_from_slice(kept);
            self.passed += passed.len();
            if new.is_empty() {
                let gone = (lacking - mine.len()).min(missing);
                self.passed += gone;
                missing -= gone;
            }
            if self.kept.len() + self.passed < whole {
                return;
            }
            let mut message = std::mem::take(&mut self.kept);
            self.passed = 0;
            message.drain(..2);
            messages.push(message);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WAY: Way = Way {
        cookie: 1,
        sent: true,
    };

    fn framed(messages: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for message in messages {
            bytes.extend(u16::try_from(message.len()).unwrap().to_be_bytes());
            bytes.extend(*message);
        }
        bytes
    }

    fn take(streams: &mut Streams, seq: u32, bytes: &[u8]) -> Told {
        let length = u32::try_from(bytes.len()).unwrap();
        streams.take(Duration::ZERO, WAY, seq, bytes, length)
    }

    #[test]
    fn two_messages_in_one_segment_are_two() {
        let mut streams = Streams::default();
        let told = take(&mut streams, u32::MAX - 3, &framed(&[b"one", b"two"]));
        assert_eq!(told.messages, [b"one".to_vec(), b"two".to_vec()]);
        assert!(!told.gap);
    }

    #[test]
    fn what_is_sent_again_counts_once_and_a_gap_is_told() {
        let mut streams = Streams::default();
        let bytes = framed(&[b"message"]);
        assert_eq!(take(&mut streams, 10, &bytes[..4]).messages.len(), 0);
        assert_eq!(take(&mut streams, 10, &bytes[..4]), Told::default());
        assert_eq!(take(&mut streams, 12, &bytes[2..]).messages, [b"message"]);
        let told = take(&mut streams, 900, &framed(&[b"next"]));
        assert!(told.gap);
        assert_eq!(told.messages, [b"next"]);
    }

    #[test]
    fn a_segment_that_was_not_kept_whole_ends_its_message_where_it_was_cut() {
        let mut streams = Streams::default();
        let bytes = framed(&[b"a long message"]);
        let told = streams.take(Duration::ZERO, WAY, 1, &bytes[..8], 16);
        assert_eq!(told.messages, [b"a long"]);
        let told = take(&mut streams, 17, &framed(&[b"next"]));
        assert_eq!(told.messages, [b"next"]);
    }

    #[test]
    fn streams_are_bounded_and_forgotten_when_they_are_silent() {
        let mut streams = Streams::default();
        for cookie in 0..10_000 {
            let way = Way {
                cookie,
                sent: false,
            };
            streams.take(Duration::from_millis(cookie), way, 0, b"\0\x09x", 3);
        }
        assert_eq!(streams.streams.len(), STREAMS);
        assert_eq!(streams.order.len(), STREAMS);
        streams.take(Duration::from_secs(100), WAY, 0, b"\0", 1);
        assert_eq!(streams.streams.len(), 1);
    }

    proptest! {
        #[test]
        fn messages_come_out_as_they_went_in_however_they_are_cut_into_segments(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..6),
            cuts in prop::collection::vec(1_usize..30, 1..40),
            begin: u32,
        ) {
            let slices: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
            let bytes = framed(&slices);
            let (mut streams, mut at, mut told) = (Streams::default(), 0, Vec::new());
            for cut in cuts.iter().cycle() {
                let end = (at + cut).min(bytes.len());
                let seq = begin.wrapping_add(u32::try_from(at).unwrap());
                told.extend(take(&mut streams, seq, &bytes[at..end]).messages);
                at = end;
                if at == bytes.len() {
                    break;
                }
            }
            prop_assert_eq!(told, messages);
        }

        #[test]
        fn no_segments_make_the_streams_panic(
            segments in prop::collection::vec(
                (any::<u32>(), prop::collection::vec(any::<u8>(), 0..50), 0_u32..9000),
                0..30,
            ),
        ) {
            let mut streams = Streams::default();
            for (seq, bytes, more) in segments {
                let length = u32::try_from(bytes.len()).unwrap() + more;
                streams.take(Duration::ZERO, WAY, seq, &bytes, length);
            }
        }
    }
}
