//! A thread that inspects files, so that a large one delays no notification.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
};

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::inspect::{Facts, Inspector};

/// A file to inspect.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) number: u64,
    pub(super) path: Arc<Path>,
    pub(super) limit_bytes: u64,
}

/// An inspected file.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) number: u64,
    pub(super) path: Arc<Path>,
    pub(super) facts: Facts,
}

/// Takes jobs and answers them in order.
#[derive(Debug)]
pub(super) struct Worker {
    jobs: Option<SyncSender<Job>>,
    done: Receiver<Done>,
    ready: Arc<EventFd>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Jobs that may wait; one more and the file goes out unhashed, rather than hold up the
    /// reading of notifications.
    pub(super) const MOST_WAITING: usize = 4_096;

    pub(super) fn start() -> io::Result<Self> {
        let (jobs, todo) = sync_channel::<Job>(Self::MOST_WAITING);
        // As many answers as jobs, those waiting and the one in hand, plus room to never block.
        let (answer, done) = sync_channel(2 * Self::MOST_WAITING);
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        let ready = Arc::new(EventFd::from_flags(flags)?);
        let stop = Arc::new(AtomicBool::new(false));
        let (ready_too, stop_too) = (Arc::clone(&ready), Arc::clone(&stop));
        let thread = thread::Builder::new()
            .name("file-inspector".to_owned())
            .spawn(move || {
                let mut inspector = Inspector::new();
                while let Ok(job) = todo.recv() {
                    let facts = inspector.inspect(&job.path, job.limit_bytes, &stop_too);
                    let done = Done {
                        number: job.number,
                        path: job.path,
                        facts,
                    };
                    if answer.send(done).is_err() {
                        return;
                    }
                    // It only fails when the counter is full, and then the reader is awake anyway.
                    let _ = ready_too.write(1);
                }
            })?;
        Ok(Self {
            jobs: Some(jobs),
            done,
            ready,
            stop,
            thread: Some(thread),
        })
    }

    /// Readable when there are answers.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.ready.as_fd()
    }

    /// Hands a job over; `false` when too many wait.
    pub(super) fn submit(&self, job: Job) -> bool {
        self.jobs
            .as_ref()
            .is_some_and(|jobs| jobs.try_send(job).is_ok())
    }

    /// The next answer.
    pub(super) fn answer(&self) -> Option<Done> {
        self.done.try_recv().ok()
    }

    /// Makes [`Worker::fd`] unreadable until the next answer. To be called before the answers
    /// are taken.
    pub(super) fn rest(&self) {
        let _ = self.ready.read();
    }

    /// Stops hashing: what waits is answered at once, without hashes.
    pub(super) fn hurry(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.hurry();
        self.jobs = None;
        while self.done.try_recv().is_ok() {}
        if let Some(thread) = self.thread.take() {
            // A panic was already reported by its hook.
            let _ = thread.join();
        }
    }
}
