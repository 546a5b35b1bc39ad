//! The loop of the file sensor: sources in, groups, inspection, events out.

use std::{
    collections::HashSet,
    fs::{self, File},
    io,
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use yinglong_model::{DropReason, Observation, config::AgentConfig, host::SensorStatus};
use yinglong_sensor::{Context, Error, Outlet, Sensor};

use super::{
    Options, WebRoots,
    actors::Actors,
    change::Batch,
    coalesce::{Coalescer, Group},
    deep::MOST_BYTES,
    deliver::{Delivery, Setting},
    fanotify::Fanotify,
    inotify::Inotify,
    mounts::{self, Mount},
    scan::Scanner,
    scope::{Look, Root, Scope, real_path},
    worker::Worker,
};
use crate::{accounts::Accounts, precedence::Precedence, standing::Standing};

/// How often configuration, web roots and the file system are compared with what is watched.
const TICK: Duration = Duration::from_millis(500);
/// Longest time an event waits for a commit; the port asks for 50 ms.
const COMMIT_AFTER: Duration = Duration::from_millis(40);
/// Events that are committed without waiting.
const COMMIT_MANY: usize = 2_048;
/// Wake-ups closer than this mean that somebody is busy, a compiler perhaps,
const BUSY: Duration = Duration::from_millis(2);
/// and then notifications are let gather for so long, which costs a fraction.
const GATHER: Duration = Duration::from_millis(10);
/// How long files are still hashed after a stop.
const FAREWELL: Duration = Duration::from_millis(500);

/// The sensor.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) fanotify: Option<Fanotify>,
    pub(super) inotify: Option<Inotify>,
    /// Why fanotify is not used.
    pub(super) fallback: String,
    /// File systems fanotify cannot watch.
    pub(super) refused: Vec<String>,
    pub(super) actors: Actors,
    pub(super) accounts: Accounts,
    pub(super) web_roots: WebRoots,
    pub(super) options: Options,
    /// From the opening of its sources to the end of the loop.
    pub(super) running: bool,
}

impl Sensor for Service {
    fn stream(&self) -> &'static str {
        "file"
    }

    fn status(&self) -> SensorStatus {
        let mut reasons = Vec::new();
        if !self.fallback.is_empty() {
            reasons.push(self.fallback.clone());
        }
        if !self.refused.is_empty() {
            let places = self.refused.join(", ");
            reasons.push(format!(
                "inotify is used where fanotify cannot be: {places}"
            ));
        }
        let unwatched = self.inotify.as_ref().map_or(0, Inotify::unwatched);
        if unwatched > 0 {
            reasons.push(format!(
                "{unwatched} directories are not watched, the limit of watches is reached: \
                 raise fs.inotify.max_user_watches"
            ));
        }
        let source = match self.fanotify {
            Some(_) => "fanotify",
            None => "inotify",
        };
        SensorStatus {
            stream: self.stream().to_owned(),
            source: source.to_owned(),
            running: self.running,
            reason: reasons.join("; "),
        }
    }

    fn run(&mut self, context: &Context, outlet: &mut dyn Outlet) -> Result<(), Error> {
        let worker = Worker::start().map_err(os("start the thread that hashes files"))?;
        let answer = Run::new(worker).and_then(|run| run.until_stopped(self, context, outlet));
        self.running = false;
        answer
    }
}

impl Service {
    /// Watches `scope`, each part with the source that can.
    fn watch(&mut self, scope: &Arc<Scope>, mounts: &[Mount]) -> Result<(), Error> {
        let Some(fanotify) = &mut self.fanotify else {
            if let Some(inotify) = &mut self.inotify {
                inotify.watch(scope.roots().to_vec(), HashSet::new());
            }
            return Ok(());
        };
        let refused = fanotify.watch(scope, mounts);
        self.refused = refused
            .iter()
            .map(|(point, error)| format!("{} ({error})", point.display()))
            .collect();
        if !self.refused.is_empty() {
            let places = self.refused.join(", ");
            tracing::warn!(
                places,
                "fanotify is refused here, using inotify without actors"
            );
        }
        let points: Vec<_> = refused.into_iter().map(|(point, _)| point).collect();
        if points.is_empty() {
            self.inotify = None;
            return Ok(());
        }
        let inotify = match &mut self.inotify {
            Some(inotify) => inotify,
            None => self
                .inotify
                .insert(Inotify::open().map_err(os("open inotify"))?),
        };
        let foreign = mounts::touched(mounts, scope)
            .iter()
            .filter(|point| !points.contains(point))
            .filter_map(|point| Some(fs::metadata(point).ok()?.dev()))
            .collect();
        inotify.watch(left_over(scope, mounts, &points), foreign);
        Ok(())
    }

    fn read(&mut self, batch: &mut Batch) -> Result<bool, Error> {
        let mut more = false;
        if let Some(fanotify) = &mut self.fanotify {
            more |= fanotify
                .read(&mut self.actors, &self.options.excluded_pids, batch)
                .map_err(os("read fanotify"))?;
        }
        if let Some(inotify) = &mut self.inotify {
            more |= inotify.read(batch).map_err(os("read inotify"))?;
        }
        Ok(more)
    }
}

/// The part of `scope` that lies on the file systems mounted at `points`.
fn left_over(scope: &Scope, mounts: &[Mount], points: &[PathBuf]) -> Vec<Root> {
    let mut roots = Vec::new();
    for root in scope.roots() {
        let holder = mounts::holder(mounts, &root.path);
        if holder.is_some_and(|mount| points.contains(&mount.point)) {
            roots.push(root.clone());
        }
        let below = points.iter().filter(|point| {
            root.recursive && **point != root.path && point.starts_with(&root.path)
        });
        roots.extend(below.map(|point| Root {
            path: point.clone(),
            recursive: true,
        }));
    }
    roots
}

/// What lives as long as the loop runs.
#[derive(Debug)]
struct Run {
    worker: Worker,
    coalescer: Coalescer,
    delivery: Delivery,
    scanner: Scanner,
    table: File,
    mounts: Vec<Mount>,
    scope: Arc<Scope>,
    config: Arc<AgentConfig>,
    standing: Standing,
    ticked: Option<Instant>,
    out: Vec<Observation>,
    uncommitted: usize,
    /// Set while something is not committed.
    commit_by: Option<Instant>,
}

impl Run {
    fn new(worker: Worker) -> Result<Self, Error> {
        Ok(Self {
            worker,
            coalescer: Coalescer::default(),
            delivery: Delivery::default(),
            scanner: Scanner::default(),
            table: File::open("/proc/self/mountinfo").map_err(os("open the mount table"))?,
            mounts: Vec::new(),
            scope: Arc::default(),
            config: Arc::default(),
            standing: Standing::default(),
            ticked: None,
            out: Vec::new(),
            uncommitted: 0,
            commit_by: None,
        })
    }

    fn until_stopped(
        mut self,
        service: &mut Service,
        context: &Context,
        outlet: &mut dyn Outlet,
    ) -> Result<(), Error> {
        let mut last_read = None::<Instant>;
        let mut more = false;
        let mut precedence = Precedence::take("file");
        while !context.stopping() {
            precedence.round();
            let mut batch = Batch::default();
            if self.ticked.is_none_or(|ticked| ticked.elapsed() >= TICK) {
                self.tick(service, context, &mut batch)?;
                self.standing.tell(service, outlet);
            }
            let busy = !more && last_read.is_some_and(|read| read.elapsed() < BUSY);
            let eager = more || !self.scanner.is_idle();
            let readable = self.wait(service, busy, eager)?;
            if readable || more {
                more = service.read(&mut batch)?;
                // Nothing after a gathering: whoever was busy is so no more.
                last_read = (batch.reads > 0).then(Instant::now);
            }
            if let Some(fanotify) = &mut service.fanotify {
                fanotify.tick(Instant::now(), &mut batch);
            }
            self.take(batch, service, outlet);
            let due = self.coalescer.due(Instant::now());
            self.give(due, false, service);
            self.put(outlet)?;
        }
        self.farewell(service, outlet)
    }

    /// Compares what is to be watched with what is.
    fn tick(
        &mut self,
        service: &mut Service,
        context: &Context,
        batch: &mut Batch,
    ) -> Result<(), Error> {
        self.ticked = Some(Instant::now());
        self.config = context.config();
        let entries = &self.config.client.monitor_path;
        let scope = Scope::new(entries, &service.web_roots.get(), real_path);
        let moved = self.mount_table_changed();
        if moved || scope != *self.scope {
            if moved {
                let table = fs::read("/proc/self/mountinfo").map_err(os("read the mount table"))?;
                self.mounts = mounts::parse(&table);
            }
            self.scope = Arc::new(scope);
            service.watch(&self.scope, &self.mounts)?;
        }
        if let Some(inotify) = &mut service.inotify {
            let before = batch.overflowed;
            inotify.tick(batch);
            if batch.overflowed > before {
                let reason = service.status().reason;
                tracing::warn!(reason, "some directories are not watched");
            }
        }
        Ok(())
    }

    /// The kernel signals a change of the table as an exceptional condition, once.
    fn mount_table_changed(&self) -> bool {
        let mut fds = [PollFd::new(self.table.as_fd(), PollFlags::POLLPRI)];
        let changed = poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0);
        changed || self.mounts.is_empty()
    }

    /// Waits for something to do. Answers whether a source has something.
    fn wait(&self, service: &Service, busy: bool, eager: bool) -> Result<bool, Error> {
        let now = Instant::now();
        let mut wait = TICK.min(Context::PATIENCE);
        if let Some(ticked) = self.ticked {
            wait = wait.min((ticked + TICK).saturating_duration_since(now));
        }
        let fanotify = service.fanotify.as_ref();
        let links = fanotify.and_then(|fanotify| fanotify.deadline(now));
        let deadlines = [
            self.coalescer.deadline(),
            self.delivery.deadline(),
            self.commit_by,
            links,
        ];
        for deadline in deadlines.into_iter().flatten() {
            wait = wait.min(deadline.saturating_duration_since(now));
        }
        if busy {
            wait = wait.min(GATHER);
        }
        if eager {
            wait = Duration::ZERO;
        }
        let wanted = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut fds = vec![wanted(self.worker.fd())];
        fds.extend(fanotify.and_then(Fanotify::search).map(wanted));
        let others = fds.len();
        if !busy {
            let sources = [
                fanotify.map(Fanotify::fd),
                service.inotify.as_ref().map(Inotify::fd),
            ];
            fds.extend(sources.into_iter().flatten().map(wanted));
        }
        // Rounded up: a deadline a fraction of a millisecond away is not waited for in circles.
        let millis = wait.as_nanos().div_ceil(1_000_000);
        let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(os("wait for file changes")(error.into())),
        }
        let ready = |fd: &PollFd<'_>| fd.any().unwrap_or(false);
        Ok(busy || fds.iter().skip(others).any(ready))
    }

    /// Takes what sources reported, and what arrived directories hold.
    fn take(&mut self, mut batch: Batch, service: &mut Service, outlet: &mut dyn Outlet) {
        self.scanner.add(batch.arrivals.drain(..));
        if !self.scanner.is_idle() {
            let scope = Arc::clone(&self.scope);
            let mut enter = |path: &Path| {
                if let Some(inotify) = &mut service.inotify {
                    inotify.enter(path);
                }
                path.as_os_str().len() <= MOST_BYTES && scope.look(path) == Look::All
            };
            self.scanner.step(&mut enter, &mut batch.notes);
        }
        let now = Instant::now();
        for note in batch.notes {
            self.coalescer.note(now, note);
        }
        for (reason, count) in [
            (DropReason::QueueOverflow, batch.overflowed),
            (DropReason::Malformed, batch.malformed),
            (DropReason::TooLarge, batch.too_deep),
        ] {
            if count > 0 {
                outlet.lose(reason, count);
                self.commit_by.get_or_insert(now + COMMIT_AFTER);
            }
        }
    }

    fn give(&mut self, groups: Vec<Group>, hurry: bool, service: &Service) {
        let setting = Setting {
            worker: &self.worker,
            actors: &service.actors,
            accounts: &service.accounts,
            scope: &self.scope,
            limit_bytes: self.config.client.hash_limit_bytes,
        };
        for group in groups {
            self.delivery.accept(group, setting, &mut self.out);
        }
        self.worker.rest();
        while let Some(done) = self.worker.answer() {
            self.delivery.answered(done, setting, &mut self.out);
        }
        let now = Instant::now();
        self.delivery.settle(now, hurry, setting, &mut self.out);
    }

    /// Hands events over, and commits when it is time.
    fn put(&mut self, outlet: &mut dyn Outlet) -> Result<(), Error> {
        if !self.out.is_empty() {
            self.commit_by
                .get_or_insert_with(|| Instant::now() + COMMIT_AFTER);
        }
        self.uncommitted += self.out.len();
        for observation in self.out.drain(..) {
            outlet.emit(observation);
        }
        let now = Instant::now();
        if self.commit_by.is_some_and(|by| by <= now) || self.uncommitted >= COMMIT_MANY {
            self.commit_by = None;
            self.uncommitted = 0;
            outlet.commit()?;
        }
        Ok(())
    }

    /// Reports what is still in hand; what cannot be hashed in time goes out unhashed.
    fn farewell(mut self, service: &mut Service, outlet: &mut dyn Outlet) -> Result<(), Error> {
        let mut batch = Batch::default();
        service.read(&mut batch)?;
        self.take(batch, service, outlet);
        let all = self.coalescer.all();
        self.give(all, false, service);
        let started = Instant::now();
        while !self.delivery.is_idle() {
            let hurry = started.elapsed() >= FAREWELL;
            if hurry {
                self.worker.hurry();
            }
            let mut fds = [PollFd::new(self.worker.fd(), PollFlags::POLLIN)];
            let _ = poll(&mut fds, PollTimeout::from(50_u8));
            self.give(Vec::new(), hurry, service);
        }
        for observation in self.out.drain(..) {
            outlet.emit(observation);
        }
        outlet.commit()
    }
}

fn os(what: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Os {
        what: format!("cannot {what}"),
        source,
    }
}
