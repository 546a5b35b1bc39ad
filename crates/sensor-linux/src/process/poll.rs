//! Executions by looking at `/proc` again and again: the last resort, for hosts that have neither BPF
//! nor audit nor the process connector.
//!
//! - **Seen**: who runs at the time of a look. A process that ends between two looks is missed; how many
//!   processes and threads came and went is known from the kernel's count of forks, and entered in the
//!   books as [`DropReason::Unseen`], an upper bound of what was executed unseen.
//! - **An execution** is a new process that does not run what its parent runs, or a process that runs
//!   something else under another short name than at the last look. When exactly is not known.
//! - **Cost** is bounded: looks are at least [`LOOK_EVERY`] apart, and at least twenty times as far apart
//!   as they take long.

use std::{
    collections::{HashMap, HashSet},
    fs,
    time::{Duration, Instant},
};

use yinglong_model::{DropReason, Observation, ProcessKey};
use yinglong_sensor::{Context, Error, Outlet};

use super::{
    Options,
    batch::Batch,
    books::parse_forks,
    clock::since_boot_ns,
    convert::Converter,
    hashing::{Hashing, Wanted},
    lesser::{Lesser, Rounds},
    record::Image,
    snapshot::{Snapshot, key, take},
    start_hashing,
};
use crate::{
    accounts::Accounts,
    tree::{Stat, Tree, read_stat},
};

/// Shortest time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// A look takes at most this share of the time.
const SHARE: u32 = 20;
/// Processes looked at, at most; Linux numbers them up to 4,194,304.
const PROCESSES_MAX: usize = 65_536;

/// Looks at `/proc`.
#[derive(Debug)]
pub(super) struct Poll {
    converter: Converter,
    hashing: Hashing,
    excluded: HashSet<u32>,
    known: HashMap<u32, Known>,
    /// The kernel's count at the last look.
    forks: Option<u64>,
    /// Until the next look.
    pause: Duration,
}

/// A process at the last look.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    start_boottime_ns: u64,
    comm: String,
    name: String,
    command: String,
    threads: u64,
}

impl Poll {
    pub(super) fn open(
        tree: Tree,
        accounts: Accounts,
        options: &Options,
        reason: &str,
    ) -> Result<Lesser<Self>, Error> {
        tree.scan(since_boot_ns());
        let mut poll = Self {
            converter: Converter::new(tree, accounts),
            hashing: start_hashing(options)?,
            excluded: options.excluded_pids.iter().copied().collect(),
            known: HashMap::new(),
            forks: None,
            pause: LOOK_EVERY,
        };
        // Who runs already has not been executed before our eyes.
        let look = poll.look();
        if look.processes == 0 {
            return Err(Error::Unavailable {
                source_name: Self::SOURCE,
                reason: "/proc shows no processes; it must be mounted".to_owned(),
            });
        }
        let reason = format!(
            "{reason}; processes that end within {} ms are missed",
            LOOK_EVERY.as_millis()
        );
        Ok(Lesser::new(poll, reason))
    }

    /// Compares `/proc` with the last look.
    fn look(&mut self) -> Look {
        // Before the look: who comes meanwhile belongs to the next one, or to this one and is then not
        // counted as missing there.
        let forks = fs::read_to_string("/proc/stat")
            .ok()
            .and_then(|text| parse_forks(&text));
        let mut look = Look::default();
        let mut known = HashMap::with_capacity(self.known.len());
        let (mut pids, mut tasks) = (Vec::new(), 0);
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let name = entry.file_name();
            pids.extend(name.to_str().and_then(|name| name.parse::<u32>().ok()));
        }
        // Parents before their children, mostly.
        pids.sort_unstable();
        pids.truncate(PROCESSES_MAX);
        for pid in pids {
            let Some(stat) = read_stat(pid) else {
                continue;
            };
            look.processes += 1;
            let before = self.known.remove(&pid);
            let before = before.filter(|known| known.start_boottime_ns == stat.start_boottime_ns);
            let threads = before.as_ref().map_or(0, |known| known.threads);
            tasks += stat.threads.saturating_sub(threads);
            let now = match before {
                Some(before) if before.comm == stat.comm => Known {
                    threads: stat.threads,
                    ..before
                },
                before => self.examine(pid, &stat, before, &mut look),
            };
            known.insert(pid, now);
        }
        let now_ns = since_boot_ns();
        for pid in self.known.keys() {
            self.excluded.remove(pid);
            let key = ProcessKey {
                pid: *pid,
                start_boottime_ns: 0,
            };
            self.converter.tree.exited(key, now_ns);
        }
        self.known = known;
        if let Some((before, now)) = self.forks.zip(forks) {
            look.unseen = now.saturating_sub(before).saturating_sub(tasks);
        }
        self.forks = forks;
        look
    }

    /// A process that is new, or has another short name than before.
    fn examine(&mut self, pid: u32, stat: &Stat, before: Option<Known>, look: &mut Look) -> Known {
        let mut now = Known {
            start_boottime_ns: stat.start_boottime_ns,
            comm: stat.comm.clone(),
            name: String::new(),
            command: String::new(),
            threads: stat.threads,
        };
        // A kernel thread has no image.
        let Some(Snapshot {
            parent,
            process,
            image,
            ..
        }) = take(pid)
        else {
            return now;
        };
        now.name.clone_from(&process.name);
        now.command.clone_from(&process.command);
        let excluded = self.excluded.contains(&pid) || self.excluded.contains(&parent.pid);
        // At the first look nothing is new.
        if self.forks.is_none() || excluded {
            return now;
        }
        let same = |name: &str, command: &str| name == now.name && command == now.command;
        let identity = key(pid, stat);
        match before {
            // Only called something else.
            Some(before) if same(&before.name, &before.command) => return now,
            Some(_) => {}
            None => {
                let found = self.converter.tree.find(parent.pid);
                if let Some(found) = found.filter(|found| same(&found.name, &found.command)) {
                    // A copy of its parent.
                    let tree = &self.converter.tree;
                    tree.forked(identity, found.key, process.uid.unwrap_or(found.uid));
                    return now;
                }
            }
        }
        let at = since_boot_ns();
        let wanted = Wanted::live(&process, image, self.converter.since_epoch(at));
        let event = self.converter.complete(process, identity, parent, at);
        look.executions.push((event, image, wanted));
        now
    }
}

impl Rounds for Poll {
    const SOURCE: &'static str = "proc-poll";

    fn round(&mut self, context: &Context, outlet: &mut dyn Outlet) -> Result<bool, Error> {
        let woken = Instant::now() + self.pause;
        while !context.stopping() {
            let left = woken.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            std::thread::sleep(left.min(LOOK_EVERY));
        }
        let began = Instant::now();
        self.converter.refresh();
        let look = self.look();
        let news = !look.executions.is_empty() || look.unseen > 0;
        let limit_bytes = context.config().client.hash_limit_bytes;
        let mut batch = Batch::new(outlet, &mut self.hashing, limit_bytes);
        for (event, image, wanted) in look.executions {
            batch.execution(event, image, |_| wanted);
        }
        batch.finish(|| false);
        outlet.lose(DropReason::Unseen, look.unseen);
        self.pause = LOOK_EVERY.max(began.elapsed() * SHARE);
        Ok(news)
    }
}

/// What a look found.
#[derive(Debug, Default)]
struct Look {
    processes: usize,
    /// With the content that was executed, and where it may be found.
    executions: Vec<(Observation, Option<Image>, Wanted)>,
    /// Processes and threads that came and went.
    unseen: u64,
}
