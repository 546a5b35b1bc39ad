//! What was reported lately, as notes that outlive the agent. Pure, over bytes.
//!
//! The notes lie in a map beside the programs. A note is written before the commit of its report
//! and counts only if that commit's mark covers its number, so a kill between the two neither
//! loses nor repeats a report.
//!
//! Notes lie in pages, which are written as a whole: every write costs the kernel about as much as
//! all bytes of a page. A page is begun anew when its turn comes again; then what it had is gone.
//!
//! - **Format** of a note, 64 bytes: number (u64), expiry in nanoseconds since boot (u64), memory (u8),
//!   direction (u8, 0 for none), ports of local and remote side (u16 each), two bytes of nothing,
//!   initial sequence number (u32), four bytes of nothing, both addresses as IPv6.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use yinglong_model::event::Direction;

use super::join::{Key, Kind};

/// Pages, `JOURNAL_PAGES` of the programs.
const PAGES: u64 = 2048;
/// Notes of a page.
const PAGE_NOTES: u64 = 16;
/// Size of a note.
const BYTES: usize = 64;
/// Size of a page, `JOURNAL_PAGE_BYTES` of the programs.
pub(super) const PAGE_BYTES: usize = PAGE_NOTES as usize * BYTES;
/// Notes the journal has at least, once there were so many; older ones may be gone.
pub(super) const NOTES: u64 = (PAGES - 1) * PAGE_NOTES;

/// One report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Note {
    /// Counted from 0.
    pub(super) number: u64,
    /// What was reported.
    pub(super) known: Known,
}

/// Something that must not be reported again for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) key: Key,
    /// For which reason, and hence for how long.
    pub(super) kind: Kind,
    /// Time since boot.
    pub(super) until: Duration,
}

/// The page that is being filled.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// Complete notes, from the page's first on.
    bytes: Vec<u8>,
}

impl Page {
    /// Where the page with the note of that number lies.
    pub(super) fn slot(number: u64) -> u32 {
        u32::try_from(number / PAGE_NOTES % PAGES).unwrap_or_default()
    }

    /// The number of the first note of the next page.
    pub(super) const fn first_after(number: u64) -> u64 {
        (number / PAGE_NOTES + 1) * PAGE_NOTES
    }

    /// The page in which the note of that number comes next, as it was written.
    pub(super) fn resume(&mut self, number: u64, written: &[u8]) {
        let filled = usize::try_from(number % PAGE_NOTES).unwrap_or_default() * BYTES;
        self.bytes.clear();
        self.bytes.extend(written.iter().take(filled));
        self.bytes.resize(filled, 0);
    }

    /// Adds the note that comes next; says whether the page is full and the next note begins another.
    pub(super) fn add(&mut self, note: &Note) -> bool {
        if note.number.is_multiple_of(PAGE_NOTES) {
            self.bytes.clear();
        }
        note.encode_into(&mut self.bytes);
        self.bytes.len() >= PAGE_BYTES
    }

    /// Appends the whole page.
    pub(super) fn write_into(&self, pages: &mut Vec<u8>) {
        let end = pages.len() + PAGE_BYTES;
        pages.extend(&self.bytes);
        pages.resize(end, 0);
    }

    /// The notes of a page; places that were not written are passed over.
    pub(super) fn notes(page: &[u8]) -> impl Iterator<Item = Note> {
        let places = page.chunks_exact(BYTES).zip(0..PAGE_NOTES);
        places.filter_map(|(bytes, place)| {
            Note::decode(bytes).filter(|note| note.number % PAGE_NOTES == place)
        })
    }
}

impl Note {
    /// Appends the note.
    fn encode_into(&self, bytes: &mut Vec<u8>) {
        let Known { key, kind, until } = self.known;
        let nanos = u64::try_from(until.as_nanos()).unwrap_or(u64::MAX);
        bytes.reserve(BYTES);
        bytes.extend(self.number.to_ne_bytes());
        bytes.extend(nanos.to_ne_bytes());
        bytes.push(match kind {
            Kind::Answered => 0,
            Kind::Unanswered => 1,
            Kind::Flow => 2,
        });
        bytes.push(match key.dir {
            None => 0,
            Some(Direction::In) => 1,
            Some(Direction::Out) => 2,
        });
        bytes.extend(key.local.port().to_ne_bytes());
        bytes.extend(key.remote.port().to_ne_bytes());
        bytes.extend([0; 2]);
        bytes.extend(key.isn.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(wide(key.local.ip()));
        bytes.extend(wide(key.remote.ip()));
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let number = u64::from_ne_bytes(take(&mut rest)?);
        let until = Duration::from_nanos(u64::from_ne_bytes(take(&mut rest)?));
        let [kind, dir] = take(&mut rest)?;
        let local_port = u16::from_ne_bytes(take(&mut rest)?);
        let remote_port = u16::from_ne_bytes(take(&mut rest)?);
        let _: [u8; 2] = take(&mut rest)?;
        let isn = u32::from_ne_bytes(take(&mut rest)?);
        let _: [u8; 4] = take(&mut rest)?;
        let local = Ipv6Addr::from(take::<16>(&mut rest)?).to_canonical();
        let remote = Ipv6Addr::from(take::<16>(&mut rest)?).to_canonical();
        let kind = match kind {
            0 => Kind::Answered,
            1 => Kind::Unanswered,
            2 => Kind::Flow,
            _ => return None,
        };
        let dir = match dir {
            0 => None,
            1 => Some(Direction::In),
            2 => Some(Direction::Out),
            _ => return None,
        };
        let key = Key {
            dir,
            local: SocketAddr::new(local, local_port),
            remote: SocketAddr::new(remote, remote_port),
            isn,
        };
        let known = Known { key, kind, until };
        Some(Self { number, known })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

fn wide(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_note_is_read_as_it_was_written() {
        for (dir, kind, local, remote) in [
            (
                Some(Direction::In),
                Kind::Answered,
                "192.0.2.1:80",
                "198.51.100.7:999",
            ),
            (
                Some(Direction::Out),
                Kind::Unanswered,
                "0.0.0.0:5",
                "203.0.113.1:443",
            ),
            (None, Kind::Flow, "[::]:53", "[2001:db8::1]:53"),
        ] {
            let key = Key {
                dir,
                local: local.parse().unwrap(),
                remote: remote.parse().unwrap(),
                isn: 0xdead_beef,
            };
            let until = Duration::from_nanos(1_234_567_890_123);
            let number = 40_000;
            let known = Known { key, kind, until };
            let note = Note { number, known };
            let mut bytes = Vec::new();
            note.encode_into(&mut bytes);
            assert_eq!(bytes.len(), BYTES);
            assert_eq!(Note::decode(&bytes), Some(note));
        }
    }

    #[test]
    fn a_page_that_is_taken_up_again_has_what_it_had() {
        let note = |number| Note {
            number,
            known: Known {
                key: Key {
                    dir: Some(Direction::Out),
                    local: "0.0.0.0:1".parse().unwrap(),
                    remote: "192.0.2.1:80".parse().unwrap(),
                    isn: u32::try_from(number).unwrap(),
                },
                kind: Kind::Answered,
                until: Duration::from_secs(number),
            },
        };
        let first = PAGES * PAGE_NOTES + 16;
        assert_eq!((Page::slot(first - 1), Page::slot(first)), (0, 1));
        let (mut page, mut written) = (Page::default(), Vec::new());
        assert!((first..first + 5).all(|number| !page.add(&note(number))));
        page.write_into(&mut written);
        assert_eq!(written.len(), PAGE_BYTES);

        let (mut page, mut rewritten) = (Page::default(), Vec::new());
        page.resume(first + 5, &written);
        assert!((first + 5..first + 15).all(|number| !page.add(&note(number))));
        assert!(page.add(&note(first + 15)));
        page.write_into(&mut rewritten);
        let notes: Vec<_> = Page::notes(&rewritten).collect();
        assert_eq!(notes, (first..first + 16).map(note).collect::<Vec<_>>());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Note::decode(&bytes);
        }
    }
}
