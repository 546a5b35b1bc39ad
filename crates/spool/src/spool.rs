//! The queue: segments in order, one of them open for writing.

use std::{
    collections::VecDeque,
    fs::{self, File},
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nix::fcntl::{Flock, FlockArg};

use crate::{
    Error, frame,
    segment::{self, HEADER_BYTES, Segment, failed},
};

/// How a spool is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// Epoch of a spool that does not exist yet; an existing one keeps its own.
    pub new_epoch: u128,
    /// Size at which a new segment is begun, in bytes.
    pub segment_bytes: u64,
    /// Size at which records are refused, in bytes.
    pub max_bytes: u64,
}

/// What opening found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovery {
    /// Newest note, when there is one.
    pub note: Option<Vec<u8>>,
    /// Bytes of a torn frame that were cut off.
    pub torn_bytes: u64,
    /// The spool was made just now.
    pub created: bool,
}

/// How much a spool holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Records that are not released.
    pub records: u64,
    /// Bytes on disk.
    pub bytes: u64,
}

/// How much more a spool can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Room {
    /// Bytes on disk, with those that a note like the last one will take.
    pub used_bytes: u64,
    /// What it can have altogether: the size limit, or less when the disk has less.
    pub limit_bytes: u64,
}

/// Size at which a segment that holds notes only is replaced, in bytes; less in a small spool.
const NOTES_BYTES: u64 = 256 << 10;

/// Cheap to clone; all clones are the same queue.
#[derive(Debug, Clone)]
pub struct Spool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    epoch: u128,
    options: Options,
    state: Mutex<State>,
    /// Held while syncing: who waits for it finds most of the work done.
    syncing: Mutex<()>,
    appended: Condvar,
    released_file: File,
    _lock: Flock<File>,
}

#[derive(Debug)]
struct State {
    /// Oldest first; the last one is written to. Never empty.
    segments: VecDeque<Segment>,
    released: u64,
    note: Vec<u8>,
    /// Encoded frame, kept for its capacity.
    scratch: Vec<u8>,
    /// Everything up to it survives a power cut.
    synced_seq: u64,
    /// Sealed since the last sync, oldest first.
    unsynced: Vec<(Arc<File>, PathBuf)>,
}

impl State {
    fn active(&mut self) -> &mut Segment {
        self.segments
            .back_mut()
            .expect("a spool always has a segment to write to")
    }

    fn next_seq(&self) -> u64 {
        self.segments.back().map_or(1, |segment| segment.next_seq)
    }

    /// Whether the newest segment holds notes only.
    fn holds_notes_only(&self) -> bool {
        self.segments
            .back()
            .is_some_and(|segment| segment.first_seq == segment.next_seq)
    }

    fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.length).sum()
    }
}

impl Spool {
    /// Opens the queue in `dir`, making it when it does not exist.
    ///
    /// # Errors
    /// The folder cannot be used, or another process uses it.
    pub fn open(dir: &Path, options: Options) -> Result<(Self, Recovery), Error> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(failed("create", dir))?;
        let lock = lock(dir)?;
        let released_path = dir.join("released");
        let released_file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&released_path)
            .map_err(failed("open", &released_path))?;

        let mut recovery = Recovery::default();
        let mut segments = VecDeque::new();
        let mut epoch = options.new_epoch;
        for path in segment_paths(dir)? {
            let Some(scan) = Segment::scan(&path)? else {
                recovery.torn_bytes += fs::metadata(&path).map_or(0, |m| m.len());
                fs::remove_file(&path).map_err(failed("remove", &path))?;
                continue;
            };
            epoch = scan.epoch;
            recovery.note = scan.note.or(recovery.note);
            recovery.torn_bytes = scan.torn_bytes;
            // What an older segment lacks is damage to be reported when it is read, not an end.
            if let Some(older) = segments.back_mut() {
                let older: &mut Segment = older;
                older.next_seq = scan.segment.first_seq;
                older.length = older
                    .file
                    .metadata()
                    .map_err(failed("read", &older.path))?
                    .len();
            }
            segments.push_back(scan.segment);
        }
        match segments.back() {
            Some(last) => last
                .file
                .set_len(last.length)
                .map_err(failed("truncate", &last.path))?,
            None => {
                recovery.created = true;
                segments.push_back(Segment::create(dir, epoch, 1)?);
                sync_dir(dir)?;
            }
        }
        let first = segments.front().map_or(1, |segment| segment.first_seq);
        let last = segments.back().map_or(0, |segment| segment.next_seq - 1);
        let state = State {
            released: read_released(&released_file).clamp(first - 1, last),
            synced_seq: 0,
            // The process before may have ended without syncing them.
            unsynced: segments
                .iter()
                .rev()
                .skip(1)
                .rev()
                .map(Segment::handle)
                .collect(),
            note: recovery.note.clone().unwrap_or_default(),
            scratch: Vec::new(),
            segments,
        };
        let shared = Shared {
            dir: dir.to_owned(),
            epoch,
            options,
            state: Mutex::new(state),
            syncing: Mutex::new(()),
            appended: Condvar::new(),
            released_file,
            _lock: lock,
        };
        Ok((Self(Arc::new(shared)), recovery))
    }

    /// Identity of this spool; a new one starts when the folder is made anew.
    pub fn epoch(&self) -> u128 {
        self.0.epoch
    }

    /// Appends records and a note as one atomic unit; returns the sequence number of the last
    /// record, or of the one before when there are none. An empty note keeps the previous one.
    /// The size limit does not hold for a note alone, so that losses can still be written down.
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::TooLarge`], or the disk refuses; nothing is appended then.
    pub fn append<R: AsRef<[u8]>>(&self, records: &[R], note: &[u8]) -> Result<u64, Error> {
        let body_bytes = frame::body_bytes(records, note);
        if body_bytes > frame::MAX_BODY_BYTES {
            return Err(Error::TooLarge { bytes: body_bytes });
        }
        let mut state = self.lock();
        let frame_bytes = (frame::PREFIX_BYTES + body_bytes) as u64;
        let used_bytes = state.bytes();
        if !records.is_empty() && used_bytes + frame_bytes > self.0.options.max_bytes {
            return Err(Error::Full {
                used_bytes,
                max_bytes: self.0.options.max_bytes,
            });
        }
        let length = state.active().length;
        let notes_bytes = self.notes_bytes();
        if records.is_empty() && state.holds_notes_only() {
            if length + frame_bytes > notes_bytes {
                self.renew(&mut state, note)?;
                return Ok(state.next_seq() - 1);
            }
        } else if records.is_empty()
            && used_bytes + frame_bytes + notes_bytes > self.limit_bytes(used_bytes)
        {
            // Full: what follows until there is room are notes, in a segment that can be replaced.
            self.rotate(&mut state)?;
        } else if length > HEADER_BYTES && length + frame_bytes > self.0.options.segment_bytes {
            self.rotate(&mut state)?;
        }
        self.write_frame(&mut state, records, note)?;
        if !note.is_empty() {
            state.note = note.to_vec();
        }
        let last = state.next_seq() - 1;
        drop(state);
        self.0.appended.notify_all();
        Ok(last)
    }

    /// Makes everything appended so far survive a power cut; returns the last sequence number it
    /// holds for. Appending goes on meanwhile.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn sync(&self) -> Result<u64, Error> {
        let _alone = self
            .0
            .syncing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (sealed, active, seq) = {
            let mut state = self.lock();
            let seq = state.next_seq() - 1;
            if seq == state.synced_seq {
                return Ok(seq);
            }
            let active = state.active().handle();
            (std::mem::take(&mut state.unsynced), active, seq)
        };
        let synced = self.sync_files(&sealed, &active);
        let mut state = self.lock();
        match synced {
            Ok(()) => state.synced_seq = state.synced_seq.max(seq),
            Err(error) => {
                state.unsynced.splice(0..0, sealed);
                return Err(error);
            }
        }
        Ok(seq)
    }

    /// The oldest first: what is synced has no hole before it.
    fn sync_files(
        &self,
        sealed: &[(Arc<File>, PathBuf)],
        active: &(Arc<File>, PathBuf),
    ) -> Result<(), Error> {
        for (file, path) in sealed.iter().chain([active]) {
            file.sync_data().map_err(failed("sync", path))?;
        }
        if sealed.is_empty() {
            Ok(())
        } else {
            sync_dir(&self.0.dir)
        }
    }

    /// Records from `from_seq` on (or from the first that exists), at most `max_records` and about
    /// `max_bytes` but at least one; empty when there are none yet.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the record at `from_seq` is damaged.
    pub fn read(
        &self,
        from_seq: u64,
        max_records: usize,
        max_bytes: usize,
    ) -> Result<Vec<(u64, Vec<u8>)>, Error> {
        let (segment, last_of_segment) = {
            let state = self.lock();
            let from_seq = from_seq.max(state.segments.front().map_or(1, |s| s.first_seq));
            let found = state.segments.iter().find(|s| s.next_seq > from_seq);
            let Some(segment) = found else {
                return Ok(Vec::new());
            };
            (segment.clone(), segment.next_seq - 1)
        };
        let from_seq = from_seq.max(segment.first_seq);
        let mut offset = segment.offset_before(from_seq);
        let (mut records, mut bytes, mut body) = (Vec::new(), 0, Vec::new());
        while offset < segment.length {
            let Some(frame) = segment::read_frame(&segment.file, offset, segment.length, &mut body)
            else {
                if records.is_empty() {
                    return Err(Error::Corrupt {
                        path: segment.path,
                        first_lost: from_seq,
                        last_lost: last_of_segment,
                    });
                }
                break;
            };
            if frame.next_seq() > from_seq {
                let skip = from_seq.saturating_sub(frame.first_seq) as usize;
                for (place, record) in frame.records().enumerate().skip(skip) {
                    let full = records.len() >= max_records || bytes + record.len() > max_bytes;
                    if full && !records.is_empty() {
                        return Ok(records);
                    }
                    bytes += record.len();
                    records.push((frame.first_seq + place as u64, record.to_vec()));
                }
            }
            offset += (frame::PREFIX_BYTES + body.len()) as u64;
        }
        Ok(records)
    }

    /// Gives up records up to and including `seq`; whole segments are deleted.
    ///
    /// # Errors
    /// The disk refuses; the records are then offered again after a restart.
    pub fn release(&self, seq: u64) -> Result<(), Error> {
        let mut state = self.lock();
        let seq = seq.min(state.next_seq() - 1);
        if seq <= state.released {
            return Ok(());
        }
        state.released = seq;
        while state.segments.len() > 1 && state.segments[0].next_seq <= seq + 1 {
            let path = state.segments[0].path.clone();
            fs::remove_file(&path).map_err(failed("remove", &path))?;
            state.segments.pop_front();
            state.unsynced.retain(|(_, sealed)| *sealed != path);
        }
        let mut cursor = seq.to_le_bytes().to_vec();
        cursor.extend_from_slice(&crc32c::crc32c(&cursor).to_le_bytes());
        let path = self.0.dir.join("released");
        self.0
            .released_file
            .write_all_at(&cursor, 0)
            .map_err(failed("write", &path))
    }

    /// Waits until there is a record after `seq` or the time is up; returns the last sequence number.
    pub fn wait_beyond(&self, seq: u64, timeout: Duration) -> u64 {
        let state = self.lock();
        let (state, _) = self
            .0
            .appended
            .wait_timeout_while(state, timeout, |state| state.next_seq() <= seq + 1)
            .unwrap_or_else(PoisonError::into_inner);
        state.next_seq() - 1
    }

    /// Last sequence number that was appended; 0 when none was.
    pub fn last_seq(&self) -> u64 {
        self.lock().next_seq() - 1
    }

    /// Last sequence number that was released.
    pub fn released_seq(&self) -> u64 {
        self.lock().released
    }

    /// How much more it can take. Asks the file system, which costs a microsecond.
    pub fn room(&self) -> Room {
        let (used_bytes, note_bytes) = {
            let state = self.lock();
            (state.bytes(), state.note.len())
        };
        let note_bytes = (frame::PREFIX_BYTES + frame::body_bytes::<&[u8]>(&[], &[])) + note_bytes;
        Room {
            used_bytes: used_bytes + note_bytes as u64,
            limit_bytes: self.limit_bytes(used_bytes),
        }
    }

    /// What a spool that has `used_bytes` can have altogether.
    fn limit_bytes(&self, used_bytes: u64) -> u64 {
        let free = nix::sys::statvfs::statvfs(&self.0.dir).map_or(u64::MAX, |disk| {
            disk.blocks_available().saturating_mul(disk.fragment_size())
        });
        self.0
            .options
            .max_bytes
            .min(used_bytes.saturating_add(free))
    }

    fn notes_bytes(&self) -> u64 {
        let Options {
            segment_bytes,
            max_bytes,
            ..
        } = self.0.options;
        NOTES_BYTES.min(segment_bytes).min(max_bytes / 64)
    }

    /// How much it holds.
    pub fn usage(&self) -> Usage {
        let state = self.lock();
        Usage {
            records: state.next_seq() - 1 - state.released,
            bytes: state.bytes(),
        }
    }

    /// Begins a new segment that starts with the newest note. Syncing the old one is left to
    /// [`Spool::sync`]: on a busy disk it takes seconds, in which nothing could be appended.
    fn rotate(&self, state: &mut State) -> Result<(), Error> {
        let next_seq = state.next_seq();
        let sealed = state.active();
        if next_seq == sealed.first_seq {
            return Ok(());
        }
        let sealed = sealed.handle();
        let segment = Segment::create(&self.0.dir, self.0.epoch, next_seq)?;
        state.segments.push_back(segment);
        state.unsynced.push(sealed);
        let note = std::mem::take(&mut state.note);
        let written = self.write_frame::<&[u8]>(state, &[], &note);
        state.note = note;
        if written.is_err()
            && let Some(segment) = state.segments.pop_back()
        {
            fs::remove_file(&segment.path).map_err(failed("remove", &segment.path))?;
        }
        written
    }

    /// Replaces the newest segment, which holds notes only, by one with this note, or the newest
    /// there is. A crash leaves one or the other.
    fn renew(&self, state: &mut State, note: &[u8]) -> Result<(), Error> {
        if !note.is_empty() {
            state.note = note.to_vec();
        }
        let next_seq = state.next_seq();
        let path = segment::path_of(&self.0.dir, next_seq);
        let new_path = path.with_extension("new");
        let segment = Segment::create_at(new_path.clone(), self.0.epoch, next_seq)?;
        let replaced = state.segments.pop_back();
        state.segments.push_back(segment);
        let newest = std::mem::take(&mut state.note);
        let written = self
            .write_frame::<&[u8]>(state, &[], &newest)
            .and_then(|()| {
                let active = state.active();
                active.file.sync_data().map_err(failed("sync", &new_path))?;
                fs::rename(&new_path, &path).map_err(failed("rename", &new_path))?;
                active.path = path;
                sync_dir(&self.0.dir)
            });
        state.note = newest;
        if written.is_err() && state.active().path == new_path {
            state.segments.pop_back();
            state.segments.extend(replaced);
            let _ = fs::remove_file(&new_path);
        }
        written
    }

    fn write_frame<R: AsRef<[u8]>>(
        &self,
        state: &mut State,
        records: &[R],
        note: &[u8],
    ) -> Result<(), Error> {
        let mut scratch = std::mem::take(&mut state.scratch);
        scratch.clear();
        frame::encode(&mut scratch, state.next_seq(), records, note);
        let active = state.active();
        let written = active.file.write_all_at(&scratch, active.length);
        let outcome = match written {
            Ok(()) => {
                active.advance(records.len() as u32, scratch.len() - frame::PREFIX_BYTES);
                Ok(())
            }
            Err(source) => {
                // What was written of the frame is cut off now, or as a torn one on opening.
                let _ = active.file.set_len(active.length);
                Err(failed("write", &active.path)(source))
            }
        };
        // One huge batch must not pin its memory for good.
        if scratch.capacity() <= 1 << 20 {
            state.scratch = scratch;
        }
        outcome
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lock(dir: &Path) -> Result<Flock<File>, Error> {
    let file = File::open(dir).map_err(failed("open", dir))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| Error::InUse {
        path: dir.to_owned(),
    })
}

/// Segment files in order of their names, which is the order of their sequence numbers.
fn segment_paths(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed("read", dir))? {
        let path = entry.map_err(failed("read", dir))?.path();
        if path.extension().is_some_and(|extension| extension == "seg") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn sync_dir(dir: &Path) -> Result<(), Error> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(failed("sync", dir))
}

fn read_released(file: &File) -> u64 {
    let mut cursor = [0; 12];
    if file.read_exact_at(&mut cursor, 0).is_err() {
        return 0;
    }
    let (seq, checksum) = cursor.split_at(8);
    match (<[u8; 8]>::try_from(seq), <[u8; 4]>::try_from(checksum)) {
        (Ok(bytes), Ok(sum)) if crc32c::crc32c(seq) == u32::from_le_bytes(sum) => {
            u64::from_le_bytes(bytes)
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
