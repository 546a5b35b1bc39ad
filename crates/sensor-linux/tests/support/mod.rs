//! An outlet that remembers, and a sensor on a thread.

pub(crate) mod gate;
pub(crate) mod group;
pub(crate) mod processes;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use yinglong_model::{
    DropReason, EventData, Observation,
    config::AgentConfig,
    event::{Exit, Process, Syscall},
    host::SensorStatus,
    ledger::Origin,
};
use yinglong_sensor::{Context, Error, Outlet, Sensor};

/// What a sensor committed, and what it did not yet.
#[derive(Default)]
pub(crate) struct Books {
    pub(crate) committed: Vec<Observation>,
    pub(crate) lost: BTreeMap<DropReason, u64>,
    /// Losses of ends of processes.
    pub(crate) lost_ends: BTreeMap<DropReason, u64>,
    /// The part of it whose origin was told.
    pub(crate) lost_of: BTreeMap<Origin, u64>,
    pub(crate) filtered: u64,
    pub(crate) marks: HashMap<String, String>,
    pub(crate) status: Option<SensorStatus>,
    /// The next commit fails, as if the process were killed in it.
    pub(crate) killed: Option<Killed>,
}

/// When the process is killed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Killed {
    BeforeCommit,
    AfterCommit,
}

#[derive(Clone, Default)]
pub(crate) struct Recorder {
    pub(crate) books: Arc<Mutex<Books>>,
    pending: Vec<Observation>,
    losses: Vec<(DropReason, u64)>,
    end_losses: Vec<(DropReason, u64)>,
    origins: Vec<(Origin, u64)>,
    left_out: u64,
    marks: Vec<(String, String)>,
}

impl Outlet for Recorder {
    fn emit(&mut self, observation: Observation) {
        self.pending.push(observation);
    }

    fn lose(&mut self, reason: DropReason, count: u64) {
        self.losses.push((reason, count));
    }

    fn lose_in(&mut self, stream: &'static str, reason: DropReason, count: u64) {
        match stream {
            "exit" => self.end_losses.push((reason, count)),
            _ => self.lose(reason, count),
        }
    }

    fn lose_of(&mut self, reason: DropReason, origin: &Origin, count: u64) {
        self.lose(reason, count);
        self.origins.push((origin.clone(), count));
    }

    fn filtered(&mut self, count: u64) {
        self.left_out += count;
    }

    fn status(&mut self, status: SensorStatus) {
        self.books.lock().unwrap().status = Some(status);
    }

    fn mark(&mut self, name: &str, value: String) {
        self.marks.push((name.into(), value));
    }

    fn marked(&self, name: &str) -> Option<String> {
        self.books.lock().unwrap().marks.get(name).cloned()
    }

    fn commit(&mut self) -> Result<(), Error> {
        let mut books = self.books.lock().unwrap();
        let dead = || Err(Error::Spool("killed".into()));
        if books.killed == Some(Killed::BeforeCommit) {
            return dead();
        }
        books.committed.append(&mut self.pending);
        for (reason, count) in self.losses.drain(..).filter(|(_, count)| *count > 0) {
            *books.lost.entry(reason).or_default() += count;
        }
        for (reason, count) in self.end_losses.drain(..).filter(|(_, count)| *count > 0) {
            *books.lost_ends.entry(reason).or_default() += count;
        }
        for (origin, count) in self.origins.drain(..) {
            *books.lost_of.entry(origin).or_default() += count;
        }
        books.filtered += std::mem::take(&mut self.left_out);
        books.marks.extend(self.marks.drain(..));
        if books.killed == Some(Killed::AfterCommit) && !books.committed.is_empty() {
            return dead();
        }
        Ok(())
    }
}

impl Recorder {
    /// The same books, with nothing pending: what a new process finds.
    pub(crate) fn reopened(&self) -> Self {
        self.books.lock().unwrap().killed = None;
        Self {
            books: Arc::clone(&self.books),
            ..Self::default()
        }
    }

    pub(crate) fn lost(&self) -> BTreeMap<DropReason, u64> {
        self.books.lock().unwrap().lost.clone()
    }

    /// Committed executions whose command line contains the text.
    pub(crate) fn executions(&self, marker: &str) -> Vec<Process> {
        let books = self.books.lock().unwrap();
        let all = books
            .committed
            .iter()
            .filter_map(|observation| match observation {
                Observation::Event {
                    data: EventData::Process(process),
                    ..
                } => Some(process),
                _ => None,
            });
        all.filter(|process| process.command.contains(marker))
            .map(|process| (**process).clone())
            .collect()
    }

    /// Waits until that many executions with the marker are there.
    pub(crate) fn wait(&self, marker: &str, count: usize) -> Vec<Process> {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let seen = self.executions(marker);
            if seen.len() >= count || Instant::now() > deadline {
                return seen;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Recorder {
    /// Committed ends of processes whose command line contains the text.
    pub(crate) fn ends(&self, marker: &str) -> Vec<Exit> {
        let books = self.books.lock().unwrap();
        let all = books
            .committed
            .iter()
            .filter_map(|observation| match observation {
                Observation::Event {
                    data: EventData::Exit(exit),
                    ..
                } => Some(exit),
                _ => None,
            });
        all.filter(|exit| exit.command.contains(marker))
            .map(|exit| (**exit).clone())
            .collect()
    }

    /// Committed system calls of a process, in their order.
    pub(crate) fn syscalls(&self, pid: u32) -> Vec<Syscall> {
        let books = self.books.lock().unwrap();
        let all = books
            .committed
            .iter()
            .filter_map(|observation| match observation {
                Observation::Event {
                    data: EventData::Syscall(call),
                    ..
                } => Some(call),
                _ => None,
            });
        all.filter(|call| call.pid == pid)
            .map(|call| (**call).clone())
            .collect()
    }
}

/// Waits until something holds, half a minute at most; answers whether it does.
pub(crate) fn until(mut holds: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

/// How many executions a test makes: fewer than usual on an emulated machine, which says so in
/// `YINGLONG_TEST_EXECUTIONS`.
pub(crate) fn executions(usual: usize) -> usize {
    let most = std::env::var("YINGLONG_TEST_EXECUTIONS").ok();
    let most = most.and_then(|most| most.parse().ok());
    usual.min(most.unwrap_or(usual))
}

/// A sensor at work.
pub(crate) struct Running {
    context: Context,
    thread: JoinHandle<(Box<dyn Sensor>, Result<(), Error>)>,
}

pub(crate) fn start(sensor: Box<dyn Sensor>, outlet: &Recorder) -> Running {
    start_with(sensor, outlet.clone(), AgentConfig::default())
}

/// The same, with a configuration.
pub(crate) fn start_with(
    mut sensor: Box<dyn Sensor>,
    mut outlet: impl Outlet + Send + 'static,
    config: AgentConfig,
) -> Running {
    let context = Context::default();
    context.set_config(config);
    let theirs = context.clone();
    let thread = std::thread::spawn(move || {
        let result = sensor.run(&theirs, &mut outlet);
        (sensor, result)
    });
    Running { context, thread }
}

impl Running {
    /// Puts a configuration in force.
    pub(crate) fn configure(&self, config: AgentConfig) {
        self.context.set_config(config);
    }

    /// Ends it and gives it back.
    pub(crate) fn stop(self) -> (Box<dyn Sensor>, Result<(), Error>) {
        self.context.stop();
        self.thread.join().unwrap()
    }

    /// Waits for the end that the outlet caused.
    pub(crate) fn failed(self) -> Box<dyn Sensor> {
        let (sensor, result) = self.thread.join().unwrap();
        assert!(result.is_err());
        sensor
    }

    /// The same, and the sensor goes with its process.
    pub(crate) fn killed(self) {
        drop(self.failed());
    }
}
