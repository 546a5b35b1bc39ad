//! What the agent costs this machine, and what it misses under load: the same storm of executions,
//! file changes or connections again and again, alternately without and with something that watches.
//!
//! - **Guarantees**: every operation of a storm has a mark of its own, and marks are counted, so a
//!   loss is a number. The storm runs in a process of its own, one worker per processor and pinned to
//!   it: unpinned, schedulers make a storm faster when something wakes up beside it.
//! - **What is measured** of the agent is sensors, filter, books and the spool on disk; not the line
//!   to a server, and no server is told.
//! - **Not here**: other products' settings; they are given one rule and put back as they were.

mod audit;
pub mod churn;
pub mod idle;
mod listener;
pub mod machine;
mod observer;
pub mod report;
mod seen;
pub mod storm;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::Context as _;

pub use self::observer::serve;
use self::{
    audit::Audit,
    listener::Listener,
    machine::Peak,
    observer::Observer,
    report::{Report, Run, Series},
    storm::{Kind, Order},
};

/// Shortest time between the end of one storm and the next, so that one does not pay for the other.
const PAUSE: Duration = Duration::from_millis(300);

/// What watches a storm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Watcher {
    /// Nobody.
    None,
    /// The sensors of this agent.
    Agent,
    /// auditd with one rule.
    Auditd,
    /// bpftrace with one probe.
    Bpftrace,
    /// fatrace: fanotify, printed.
    Fatrace,
    /// tcpdump: requests for connections, by libpcap into a file.
    Tcpdump,
}

impl Watcher {
    /// Name in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Agent => "agent",
            Self::Auditd => "auditd",
            Self::Bpftrace => "bpftrace",
            Self::Fatrace => "fatrace",
            Self::Tcpdump => "tcpdump",
        }
    }
}

/// What to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Kind of storm.
    pub kind: Kind,
    /// Operations per storm.
    pub count: u32,
    /// Storms per watcher.
    pub runs: u32,
    /// Workers.
    pub workers: usize,
    /// Who watches, in the order of each round.
    pub watchers: Vec<Watcher>,
}

/// Runs the storms until they are done or `stop` is set. `tell` hears of progress.
///
/// # Errors
/// The storm cannot be run, or the agent's sensors do not start. A peer that is not there is a note.
pub fn run(plan: &Plan, stop: &AtomicBool, tell: &dyn Fn(&str)) -> anyhow::Result<Report> {
    let mut report = Report::new(plan);
    for round in 0..plan.runs {
        for (place, watcher) in plan.watchers.iter().enumerate() {
            if stop.load(Ordering::Acquire) {
                report.notes.push("ended early".to_owned());
                report.finish();
                return Ok(report);
            }
            let token = format!("{:08x}", rand::random::<u32>());
            let run = match watched(plan, *watcher, &token) {
                Ok(run) => run,
                Err(error) if !matches!(watcher, Watcher::None | Watcher::Agent) => {
                    if round == 0 {
                        let name = watcher.as_str();
                        report.notes.push(format!("{name} was left out: {error:#}"));
                    }
                    continue;
                }
                Err(error) => return Err(error),
            };
            tell(&format!(
                "round {} of {}: {} {:.2} s",
                round + 1,
                plan.runs,
                watcher.as_str(),
                run.wall_ms / 1000.0
            ));
            for blind in &run.blind {
                let note = format!("not observed here, so at no cost: {blind}");
                if !report.notes.contains(&note) {
                    report.notes.push(note);
                }
            }
            if let Some(Series { runs, .. }) = report.series.get_mut(place) {
                runs.push(run);
            }
            thread::sleep(PAUSE);
        }
    }
    report.finish();
    Ok(report)
}

/// One storm with its watcher.
fn watched(plan: &Plan, watcher: Watcher, token: &str) -> anyhow::Result<Run> {
    let folder = tempfile::tempdir().context("no temporary folder can be made")?;
    let order = Order {
        kind: plan.kind,
        count: plan.count,
        workers: plan.workers,
        token: token.to_owned(),
        folder: folder.path().to_owned(),
    };
    match watcher {
        Watcher::None => Ok(Run::new(&order, &storm::spawn(&order)?)),
        Watcher::Agent => {
            let mut observer = Observer::start(folder.path(), &[plan.kind.stream()])?;
            let before = observer.ask()?;
            let peak = Peak::watch(observer.pid());
            let figures = storm::spawn(&order)?;
            let after = observer.settled(&order)?;
            let peak = peak.end();
            let last = observer.end()?;
            let mut run = Run::new(&order, &figures);
            run.agent(&order, &before, &after, &last, peak);
            run.captured(seen::in_spool(observer.state(), &order)?);
            run.blind = observer.blind().to_vec();
            Ok(run)
        }
        Watcher::Auditd => {
            let audit = Audit::start(&order)?;
            let peak = audit.pid().map(Peak::watch);
            let before = audit.pid().map_or(0, machine::cpu_ms);
            let figures = storm::spawn(&order)?;
            let mut run = Run::new(&order, &figures);
            audit.settle();
            if let Some(pid) = audit.pid() {
                run.watcher_cpu_ms = Some(machine::cpu_ms(pid).saturating_sub(before));
            }
            run.memory(peak.map(Peak::end));
            audit.tell(&order, &mut run)?;
            Ok(run)
        }
        Watcher::Bpftrace | Watcher::Fatrace | Watcher::Tcpdump => {
            let mut listener = Listener::start(watcher, &order)?;
            let peak = Peak::watch(listener.pid());
            let before = machine::cpu_ms(listener.pid());
            let figures = storm::spawn(&order)?;
            let mut run = Run::new(&order, &figures);
            thread::sleep(Duration::from_secs(1));
            run.watcher_cpu_ms = Some(machine::cpu_ms(listener.pid()).saturating_sub(before));
            run.memory(Some(peak.end()));
            run.captured(listener.end(&order)?);
            Ok(run)
        }
    }
}
