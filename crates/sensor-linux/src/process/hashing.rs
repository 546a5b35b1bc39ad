//! Hashes of executed images, made by a thread of their own.
//!
//! - **Guarantees**: what is told is the hash of the very content that was executed, or a reason
//!   why there is none. A content is hashed once, as long as it is remembered; nobody waits for
//!   a hash longer than asked.
//! - **Invariants**: content is identified by device, inode, size and time of change, as the
//!   kernel saw them when it executed it. A file that is opened by its path is hashed only if all of
//!   them are the same. That of a running process may have lost its name or got another since, which
//!   moves the time of change as well, but nobody can have written to it. Every change moves the time of change, but two within one tick of the kernel's
//!   clock do not: what was changed just before it was executed counts only while the process
//!   runs, because until then the kernel lets nobody write to it, and is not remembered.
//! - **Not here**: which event waits for which hash (see [`batch`](super::batch)).

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File, Metadata, OpenOptions},
    io,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use yinglong_model::event::Process;

use super::record::Image;
use crate::files::{Generations, Hashes, Skipped, digest};

/// Hashes, or why there are none.
pub(super) type Answer = Result<Hashes, Skipped>;

/// Contents remembered: about 300 bytes each, twice as many at most.
const MOST_REMEMBERED: usize = 4_096;
/// Contents that may wait to be hashed. One more and its event goes without.
const MOST_WAITING: usize = 1_024;
/// The kernel's clock for files moves every 10 ms at the latest.
const SETTLED_AFTER: Duration = Duration::from_millis(20);
/// How often a wait is looked at again.
const LOOK: Duration = Duration::from_millis(10);

/// A content to hash, and where it may be found.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) image: Image,
    /// Process that executes it.
    pub(super) pid: u32,
    /// Its parent, whose root directory may be the same.
    pub(super) ppid: u32,
    /// Path as the process sees it.
    pub(super) path: PathBuf,
    /// It is in a container: the path is one of its own file system.
    pub(super) inside: bool,
    /// When it was executed, by the time of day.
    pub(super) executed: Duration,
}

impl Wanted {
    /// What a process executes that `/proc` still shows, or showed.
    pub(super) fn live(process: &Process, image: Option<Image>, executed: Duration) -> Self {
        Self {
            image: image.unwrap_or_default(),
            pid: process.pid,
            ppid: process.ppid,
            path: PathBuf::from(&process.name),
            inside: process.container_id.is_some(),
            executed,
        }
    }
}

impl Image {
    /// The content that a file has now.
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size_bytes: metadata.size(),
            ctime: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether the kernel told which content it is.
    pub(super) const fn is_known(&self) -> bool {
        self.ctime.0 != 0
    }

    /// Whether a file has this content.
    fn is_in(&self, metadata: &Metadata) -> bool {
        self.is_of(metadata) && Self::of(metadata).ctime == self.ctime
    }

    /// Whether it is the file that had this content, and is as large. Some file systems without a
    /// device of their own, such as btrfs and overlayfs, tell programs another number than the
    /// kernel has.
    fn is_of(&self, metadata: &Metadata) -> bool {
        let found = Self::of(metadata);
        let device = found.device == self.device || libc::major(self.device) == 0;
        device && (found.inode, found.size_bytes) == (self.inode, self.size_bytes)
    }

    /// Whether any change since it was executed shows in the time of change.
    fn is_settled(&self, executed: Duration) -> bool {
        let (secs, nanos) = self.ctime;
        let changed = Duration::new(
            u64::try_from(secs).unwrap_or_default(),
            u32::try_from(nanos).unwrap_or_default(),
        );
        executed.abs_diff(changed) > SETTLED_AFTER
    }
}

/// Remembers hashes and has new ones made.
#[derive(Debug)]
pub(super) struct Hashing {
    known: Generations<Image, Hashes>,
    /// Answers of this batch: also those that are not remembered.
    fresh: HashMap<Image, Answer>,
    asked: HashSet<Image>,
    jobs: SyncSender<Wanted>,
    done: Receiver<Done>,
    stop: Arc<AtomicBool>,
    patience: Duration,
    /// The last wait was in vain, and no answer came since.
    late: bool,
}

#[derive(Debug)]
struct Done {
    image: Image,
    answer: Answer,
    /// The content of that image is always this one.
    lasting: bool,
}

/// What is known of a content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Look {
    /// This.
    Known(Answer),
    /// Nothing yet.
    Waiting,
    /// Nothing, and nobody was asked.
    Unknown,
}

impl Hashing {
    /// Starts the thread.
    pub(super) fn start(patience: Duration) -> io::Result<Self> {
        let (jobs, todo) = sync_channel::<Wanted>(MOST_WAITING);
        // As many answers as jobs, those waiting and the one in hand, plus room to never block.
        let (answer, done) = sync_channel(2 * MOST_WAITING);
        let stop = Arc::new(AtomicBool::new(false));
        let stop_too = Arc::clone(&stop);
        // Nobody waits for its end: it may hang in a read of a file system that is away.
        thread::Builder::new()
            .name("image-hasher".to_owned())
            .spawn(move || {
                while let Ok(wanted) = todo.recv() {
                    if answer.send(hash(&wanted, &stop_too)).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Self::with(jobs, done, stop, patience))
    }

    fn with(
        jobs: SyncSender<Wanted>,
        done: Receiver<Done>,
        stop: Arc<AtomicBool>,
        patience: Duration,
    ) -> Self {
        Self {
            known: Generations::new(MOST_REMEMBERED),
            fresh: HashMap::new(),
            asked: HashSet::new(),
            jobs,
            done,
            stop,
            patience,
            late: false,
        }
    }

    /// Begins a batch: what was answered meanwhile is known from now on.
    pub(super) fn begin(&mut self) {
        while let Ok(done) = self.done.try_recv() {
            self.take(done);
        }
        // What is not remembered was for the events of then.
        self.fresh.clear();
    }

    /// What is known of a content, of which at most `limit_bytes` are hashed.
    pub(super) fn look(&mut self, image: &Image, limit_bytes: u64) -> Look {
        if image.size_bytes > limit_bytes {
            return Look::Known(Err(Skipped::TooLarge));
        }
        if let Some(hashes) = self.known.get(image) {
            return Look::Known(Ok(hashes.clone()));
        }
        match self.fresh.get(image) {
            Some(answer) => Look::Known(answer.clone()),
            None if self.asked.contains(image) => Look::Waiting,
            None => Look::Unknown,
        }
    }

    /// Has a content hashed; `false` when too many wait.
    pub(super) fn ask(&mut self, wanted: Wanted) -> bool {
        let image = wanted.image;
        let taken = self.jobs.try_send(wanted).is_ok();
        if taken {
            self.asked.insert(image);
        }
        taken
    }

    /// Waits until everything asked is answered, at most as long as told at the start, and no longer than
    /// `hurried` allows. Not at all while the last wait was in vain: one file that cannot be read in
    /// time delays events once, not each time.
    pub(super) fn wait(&mut self, hurried: impl Fn() -> bool) {
        let until = Instant::now() + self.patience;
        while !self.asked.is_empty() && !self.late {
            let left = until.saturating_duration_since(Instant::now());
            match self.done.recv_timeout(left.min(LOOK)) {
                Ok(done) => self.take(done),
                Err(RecvTimeoutError::Timeout) if left.is_zero() => self.late = true,
                Err(RecvTimeoutError::Timeout) if hurried() => return,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// The answer for an event that waited for it.
    pub(super) fn answer(&mut self, image: &Image) -> Answer {
        match self.look(image, u64::MAX) {
            Look::Known(answer) => answer,
            Look::Waiting | Look::Unknown => Err(Skipped::Busy),
        }
    }

    fn take(&mut self, done: Done) {
        self.late = false;
        self.asked.remove(&done.image);
        if let (Ok(hashes), true) = (&done.answer, done.lasting) {
            self.known.insert(done.image, hashes.clone());
        } else {
            self.fresh.insert(done.image, done.answer);
        }
    }
}

impl Drop for Hashing {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Finds the content and hashes it.
fn hash(wanted: &Wanted, stop: &AtomicBool) -> Done {
    let image = &wanted.image;
    let settled = image.is_settled(wanted.executed);
    let by_process = PathBuf::from(format!("/proc/{}/exe", wanted.pid));
    // Nobody can write to what runs, but for Linux 6.11 and 6.12, where the time of the last writing
    // tells.
    let is_run = |file: &Metadata| {
        let written = Duration::new(
            u64::try_from(file.mtime()).unwrap_or_default(),
            u32::try_from(file.mtime_nsec()).unwrap_or_default(),
        );
        image.is_of(file) && written < wanted.executed
    };
    let is_in = |file: &Metadata| image.is_in(file);
    // If it ends while it is read, the file may be changed before it is read to its end.
    let still_runs = || fs::metadata(&by_process).is_ok_and(|file| image.is_of(&file));
    let mut answer = of_file(open(&by_process, 0), image, is_in, stop);
    if answer == Err(Skipped::Changed) {
        answer = of_file(open(&by_process, 0), image, is_run, stop)
            .and_then(|hashes| still_runs().then_some(hashes).ok_or(Skipped::Changed));
    } else if answer.is_ok() && !settled && !still_runs() {
        answer = Err(Skipped::Changed);
    }
    if let Err(first) = answer {
        let by_path = of_file(open_by_path(wanted), image, is_in, stop);
        answer = match (by_path, first) {
            (Ok(_), _) if !settled => Err(Skipped::Changed),
            (Err(Skipped::Gone), first) => Err(first),
            (by_path, _) => by_path,
        };
    }
    Done {
        image: wanted.image,
        lasting: settled,
        answer,
    }
}

fn open_by_path(wanted: &Wanted) -> io::Result<File> {
    if !wanted.inside {
        return open(&wanted.path, libc::O_NOFOLLOW);
    }
    let relative = wanted.path.strip_prefix("/").unwrap_or(&wanted.path);
    let root = Path::new("/proc")
        .join(wanted.ppid.to_string())
        .join("root");
    // The first program of a container was started from outside, where the path means another file.
    let place = |path: &Path| fs::metadata(path).map(|root| (root.dev(), root.ino()));
    if place(&root)? == place(Path::new("/"))? {
        return Err(io::ErrorKind::NotFound.into());
    }
    open(&root.join(relative), libc::O_NOFOLLOW)
}

/// Without `O_NOATIME` where the file is not ours and `CAP_FOWNER` is missing.
fn open(path: &Path, flags: i32) -> io::Result<File> {
    let flags = flags | libc::O_NONBLOCK | libc::O_CLOEXEC | libc::O_NOCTTY;
    let open = |flags| OpenOptions::new().read(true).custom_flags(flags).open(path);
    match open(flags | libc::O_NOATIME) {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => open(flags),
        other => other,
    }
}

fn of_file(
    file: io::Result<File>,
    image: &Image,
    is_right: impl Fn(&Metadata) -> bool,
    stop: &AtomicBool,
) -> Answer {
    let skipped = |error: &io::Error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Skipped::Gone,
        _ => Skipped::Unreadable,
    };
    let mut file = file.map_err(|error| skipped(&error))?;
    let before = file.metadata().map_err(|error| skipped(&error))?;
    if !before.is_file() {
        return Err(Skipped::NotRegular);
    }
    if !is_right(&before) {
        return Err(Skipped::Changed);
    }
    let hashes = digest(&mut file, image.size_bytes, stop).map_err(|reason| match reason {
        // It has grown.
        Skipped::TooLarge => Skipped::Changed,
        other => other,
    })?;
    match file.metadata() {
        Ok(after) if is_right(&after) => Ok(hashes),
        _ => Err(Skipped::Changed),
    }
}

/// A path of the kernel as one to open.
pub(super) fn path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(std::ffi::OsStr::from_bytes(bytes))
}

#[cfg(test)]
mod tests;
