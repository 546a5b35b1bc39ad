//! Frames: batches of records as bytes, and back.

/// Largest body of a frame in bytes.
pub(crate) const MAX_BODY_BYTES: usize = 64 << 20;

/// Length and checksum in front of every body.
pub(crate) const PREFIX_BYTES: usize = 8;

/// First sequence, number of records, length of the note.
const BODY_HEADER_BYTES: usize = 16;

/// A frame as read back; everything borrows from the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) first_seq: u64,
    pub(crate) count: u32,
    pub(crate) note: &'a [u8],
    records: &'a [u8],
}

/// Size of the body that [`encode`] would make.
pub(crate) fn body_bytes<R: AsRef<[u8]>>(records: &[R], note: &[u8]) -> usize {
    let payload: usize = records.iter().map(|record| 4 + record.as_ref().len()).sum();
    BODY_HEADER_BYTES + note.len() + payload
}

/// Appends a frame to `out`. The caller keeps the body below [`MAX_BODY_BYTES`].
pub(crate) fn encode<R: AsRef<[u8]>>(
    out: &mut Vec<u8>,
    first_seq: u64,
    records: &[R],
    note: &[u8],
) {
    let start = out.len();
    out.extend_from_slice(&[0; PREFIX_BYTES]);
    out.extend_from_slice(&first_seq.to_le_bytes());
    out.extend_from_slice(&(records.len() as u32).to_le_bytes());
    out.extend_from_slice(&(note.len() as u32).to_le_bytes());
    out.extend_from_slice(note);
    for record in records {
        let record = record.as_ref();
        out.extend_from_slice(&(record.len() as u32).to_le_bytes());
        out.extend_from_slice(record);
    }
    let body = start + PREFIX_BYTES;
    let length = (out.len() - body) as u32;
    let checksum = crc32c::crc32c(&out[body..]);
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    out[start + 4..body].copy_from_slice(&checksum.to_le_bytes());
}

/// Length of the body that follows this prefix, and its checksum; `None` when it cannot be one.
pub(crate) fn decode_prefix(prefix: &[u8]) -> Option<(usize, u32)> {
    let length = read_u32(prefix, 0)? as usize;
    let checksum = read_u32(prefix, 4)?;
    (BODY_HEADER_BYTES..=MAX_BODY_BYTES)
        .contains(&length)
        .then_some((length, checksum))
}

/// Reads a body back; `None` when it is damaged.
pub(crate) fn decode_body(body: &[u8], checksum: u32) -> Option<Frame<'_>> {
    if crc32c::crc32c(body) != checksum {
        return None;
    }
    let first_seq = u64::from_le_bytes(body.get(..8)?.try_into().ok()?);
    let count = read_u32(body, 8)?;
    let note_end = BODY_HEADER_BYTES.checked_add(read_u32(body, 12)? as usize)?;
    let note = body.get(BODY_HEADER_BYTES..note_end)?;
    Some(Frame {
        first_seq,
        count,
        note,
        records: body.get(note_end..)?,
    })
}

impl<'a> Frame<'a> {
    /// Sequence number after its last record.
    pub(crate) fn next_seq(&self) -> u64 {
        self.first_seq.saturating_add(u64::from(self.count))
    }

    /// Its records in order.
    pub(crate) fn records(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut rest = self.records;
        std::iter::from_fn(move || {
            let length = read_u32(rest, 0)? as usize;
            let record = rest.get(4..4usize.checked_add(length)?)?;
            rest = &rest[4 + length..];
            Some(record)
        })
    }
}

fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(
        bytes.get(at..at.checked_add(4)?)?.try_into().ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_frame_reads_back(records: Vec<Vec<u8>>, note: Vec<u8>, first_seq in 1u64..1 << 60) {
            let mut bytes = Vec::new();
            encode(&mut bytes, first_seq, &records, &note);
            let (length, checksum) = decode_prefix(&bytes).unwrap();
            prop_assert_eq!(length, body_bytes(&records, &note));
            let frame = decode_body(&bytes[PREFIX_BYTES..], checksum).unwrap();
            prop_assert_eq!(frame.first_seq, first_seq);
            prop_assert_eq!(frame.note, &note[..]);
            prop_assert_eq!(frame.records().collect::<Vec<_>>(), records);
        }

        #[test]
        fn arbitrary_bytes_are_refused_or_read_but_never_panic(bytes: Vec<u8>) {
            decode_prefix(&bytes);
            if let Some(frame) = decode_body(&bytes, crc32c::crc32c(&bytes)) {
                frame.records().for_each(drop);
            }
        }
    }
}
