//! Segment files: a header, then frames.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{Error, frame};

const MAGIC: &[u8; 8] = b"YLSPOOL1";
pub(crate) const HEADER_BYTES: u64 = 36;

/// Distance between two remembered frame positions: short enough to find a record quickly, long
/// enough that a full spool of a gigabyte is remembered in 256 KiB.
const INDEX_STRIDE_BYTES: u64 = 64 << 10;

/// A segment. Its file is shared with readers, which never need the spool's lock to read it.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<File>,
    pub(crate) first_seq: u64,
    /// Sequence number after its last record.
    pub(crate) next_seq: u64,
    /// Bytes that hold whole frames.
    pub(crate) length: u64,
    /// Some frame positions, ascending: (first sequence, offset).
    index: Vec<(u64, u64)>,
}

/// What scanning a segment found.
pub(crate) struct Scan {
    pub(crate) segment: Segment,
    pub(crate) epoch: u128,
    /// Note of the last frame that has one.
    pub(crate) note: Option<Vec<u8>>,
    /// Bytes after the last whole frame.
    pub(crate) torn_bytes: u64,
}

pub(crate) fn path_of(dir: &Path, first_seq: u64) -> PathBuf {
    dir.join(format!("{first_seq:020}.seg"))
}

impl Segment {
    /// Makes a new segment file with its header.
    pub(crate) fn create(dir: &Path, epoch: u128, first_seq: u64) -> Result<Self, Error> {
        Self::create_at(path_of(dir, first_seq), epoch, first_seq)
    }

    /// What it is synced with.
    pub(crate) fn handle(&self) -> (Arc<File>, PathBuf) {
        (Arc::clone(&self.file), self.path.clone())
    }

    /// The same as [`Segment::create`], in a file of any name.
    pub(crate) fn create_at(path: PathBuf, epoch: u128, first_seq: u64) -> Result<Self, Error> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed("create", &path))?;
        let mut header = Vec::with_capacity(HEADER_BYTES as usize);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&epoch.to_le_bytes());
        header.extend_from_slice(&first_seq.to_le_bytes());
        header.extend_from_slice(&crc32c::crc32c(&header).to_le_bytes());
        file.write_all_at(&header, 0)
            .map_err(failed("write", &path))?;
        Ok(Self {
            path,
            file: Arc::new(file),
            first_seq,
            next_seq: first_seq,
            length: HEADER_BYTES,
            index: Vec::new(),
        })
    }

    /// Opens a segment and reads it through; `None` when it has no valid header, which is what a
    /// crash during [`Segment::create`] leaves.
    pub(crate) fn scan(path: &Path) -> Result<Option<Scan>, Error> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(failed("open", path))?;
        let size = file.metadata().map_err(failed("read", path))?.len();
        let mut header = [0; HEADER_BYTES as usize];
        let whole = size >= HEADER_BYTES && file.read_exact_at(&mut header, 0).is_ok();
        let Some((epoch, first_seq)) = whole.then(|| decode_header(&header)).flatten() else {
            return Ok(None);
        };
        let mut segment = Self {
            path: path.to_owned(),
            file: Arc::new(file),
            first_seq,
            next_seq: first_seq,
            length: HEADER_BYTES,
            index: Vec::new(),
        };
        let mut note = None;
        let mut body = Vec::new();
        while let Some(read) = read_frame(&segment.file, segment.length, size, &mut body) {
            // A frame out of order was written by nobody: treat it like a torn one.
            if read.first_seq != segment.next_seq {
                break;
            }
            if !read.note.is_empty() {
                note = Some(read.note.to_vec());
            }
            let (count, body_bytes) = (read.count, body.len());
            segment.advance(count, body_bytes);
        }
        let torn_bytes = size - segment.length;
        Ok(Some(Scan {
            segment,
            epoch,
            note,
            torn_bytes,
        }))
    }

    /// Notes that a frame of `count` records and `body_bytes` was written at the end.
    pub(crate) fn advance(&mut self, count: u32, body_bytes: usize) {
        let due = self
            .index
            .last()
            .is_none_or(|(_, at)| self.length - at >= INDEX_STRIDE_BYTES);
        if count > 0 && due {
            self.index.push((self.next_seq, self.length));
        }
        self.next_seq += u64::from(count);
        self.length += (frame::PREFIX_BYTES + body_bytes) as u64;
    }

    /// Offset at which to start looking for a record.
    pub(crate) fn offset_before(&self, seq: u64) -> u64 {
        let after = self.index.partition_point(|(first, _)| *first <= seq);
        after
            .checked_sub(1)
            .map_or(HEADER_BYTES, |at| self.index[at].1)
    }
}

/// Reads the frame at `offset` into `body`; `None` when there is no whole one below `end`.
pub(crate) fn read_frame<'b>(
    file: &File,
    offset: u64,
    end: u64,
    body: &'b mut Vec<u8>,
) -> Option<frame::Frame<'b>> {
    let body_at = offset.checked_add(frame::PREFIX_BYTES as u64)?;
    if body_at > end {
        return None;
    }
    let mut prefix = [0; frame::PREFIX_BYTES];
    file.read_exact_at(&mut prefix, offset).ok()?;
    let (length, checksum) = frame::decode_prefix(&prefix)?;
    if body_at.checked_add(length as u64)? > end {
        return None;
    }
    body.resize(length, 0);
    file.read_exact_at(body, body_at).ok()?;
    frame::decode_body(body, checksum)
}

fn decode_header(header: &[u8; HEADER_BYTES as usize]) -> Option<(u128, u64)> {
    let (fields, checksum) = header.split_at(32);
    let valid = fields.starts_with(MAGIC)
        && crc32c::crc32c(fields) == u32::from_le_bytes(checksum.try_into().ok()?);
    let epoch = u128::from_le_bytes(fields.get(8..24)?.try_into().ok()?);
    let first_seq = u64::from_le_bytes(fields.get(24..32)?.try_into().ok()?);
    valid.then_some((epoch, first_seq))
}

/// Turns an operating system's answer into our error.
pub(crate) fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::Io {
        action,
        path,
        source,
    }
}
