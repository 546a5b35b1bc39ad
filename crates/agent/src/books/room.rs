//! Room in the spool: what is cheap gives way before it is full.

use std::collections::BTreeMap;

use yinglong_model::{DropReason, Worth};
use yinglong_spool::Room;

/// A record's own bytes in a frame, beside its content.
const LENGTH_BYTES: u64 = 4;

/// An encoded observation.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) stream: &'static str,
    pub(super) worth: Worth,
    pub(super) record: Vec<u8>,
}

impl AsRef<[u8]> for Entry {
    fn as_ref(&self) -> &[u8] {
        &self.record
    }
}

/// Leaves out what has no room by its class, and says how many of which stream that are.
pub(super) fn make(
    entries: &mut Vec<Entry>,
    room: Room,
) -> BTreeMap<(&'static str, DropReason), u64> {
    let mut used = room.used_bytes;
    let mut dropped = BTreeMap::new();
    entries.retain(|entry| {
        let after = used + entry.record.len() as u64 + LENGTH_BYTES;
        let fits = after <= limit(entry.worth, room.limit_bytes);
        if fits {
            used = after;
        } else {
            let kind = (entry.stream, reason(entry.worth));
            *dropped.entry(kind).or_default() += 1;
        }
        fits
    });
    dropped
}

/// Leaves out the cheapest of what there is, and says how many of which stream that are: there is
/// less room than it seemed.
pub(super) fn make_more(entries: &mut Vec<Entry>) -> BTreeMap<&'static str, u64> {
    let mut dropped = BTreeMap::new();
    if let Some(cheapest) = entries.iter().map(|entry| entry.worth).min() {
        entries.retain(|entry| {
            let stays = entry.worth > cheapest;
            if !stays {
                *dropped.entry(entry.stream).or_default() += 1;
            }
            stays
        });
    }
    dropped
}

fn limit(worth: Worth, bytes: u64) -> u64 {
    bytes / 100 * worth.limit_percent() + bytes % 100 * worth.limit_percent() / 100
}

/// What would have been kept at any fill but a full one was lost because it was full.
fn reason(worth: Worth) -> DropReason {
    match worth {
        Worth::Cheap | Worth::Middle => DropReason::Shed,
        Worth::Precious | Worth::Loss => DropReason::SpoolFull,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(worths: &[Worth]) -> Vec<Entry> {
        let entry = |&worth| Entry {
            stream: "file",
            worth,
            record: vec![0; 6],
        };
        worths.iter().map(entry).collect()
    }

    fn kept(used_bytes: u64) -> (Vec<Worth>, BTreeMap<(&'static str, DropReason), u64>) {
        let mut entries = entries(&Worth::ALL);
        let room = Room {
            used_bytes,
            limit_bytes: 1000,
        };
        let dropped = make(&mut entries, room);
        (entries.iter().map(|entry| entry.worth).collect(), dropped)
    }

    #[test]
    fn the_cheapest_gives_way_first_and_the_news_of_it_last() {
        assert_eq!(kept(0), (Worth::ALL.to_vec(), BTreeMap::new()));
        assert_eq!(kept(690).0, Worth::ALL);
        assert_eq!(
            kept(691),
            (
                Worth::ALL[1..].to_vec(),
                [(("file", DropReason::Shed), 1)].into()
            )
        );
        assert_eq!(
            kept(841),
            (
                Worth::ALL[2..].to_vec(),
                [(("file", DropReason::Shed), 2)].into()
            )
        );
        assert_eq!(
            kept(971),
            (
                vec![Worth::Loss],
                [
                    (("file", DropReason::Shed), 2),
                    (("file", DropReason::SpoolFull), 1)
                ]
                .into()
            )
        );
        assert_eq!(
            kept(991).1,
            [
                (("file", DropReason::Shed), 2),
                (("file", DropReason::SpoolFull), 2)
            ]
            .into()
        );
    }

    #[test]
    fn a_batch_takes_only_the_room_there_is() {
        let mut entries = entries(&[Worth::Cheap; 10]);
        let room = Room {
            used_bytes: 0,
            limit_bytes: 100,
        };
        assert_eq!(
            make(&mut entries, room),
            [(("file", DropReason::Shed), 3)].into()
        );
        assert_eq!(entries.len(), 7);
    }

    #[test]
    fn without_any_room_one_class_after_the_other_goes() {
        let mut entries = entries(&[
            Worth::Precious,
            Worth::Cheap,
            Worth::Precious,
            Worth::Middle,
        ]);
        assert_eq!(make_more(&mut entries), [("file", 1)].into());
        assert_eq!(make_more(&mut entries), [("file", 1)].into());
        assert_eq!(make_more(&mut entries), [("file", 2)].into());
        assert!(make_more(&mut entries).is_empty());
    }
}
