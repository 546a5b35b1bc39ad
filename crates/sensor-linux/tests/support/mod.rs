//! An outlet that remembers, and a sensor on a thread.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use yinglong_model::{DropReason, EventData, Observation, event::Process};
use yinglong_sensor::{Context, Error, Outlet, Sensor};

/// What a sensor committed, and what it did not yet.
#[derive(Default)]
pub(crate) struct Books {
    pub(crate) committed: Vec<Observation>,
    pub(crate) lost: BTreeMap<DropReason, u64>,
    pub(crate) marks: HashMap<String, String>,
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
    marks: Vec<(String, String)>,
}

impl Outlet for Recorder {
    fn emit(&mut self, observation: Observation) {
        self.pending.push(observation);
    }

    fn lose(&mut self, reason: DropReason, count: u64) {
        self.losses.push((reason, count));
    }

    fn filtered(&mut self, _: u64) {}

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

/// A sensor at work.
pub(crate) struct Running {
    context: Context,
    thread: JoinHandle<(Box<dyn Sensor>, Result<(), Error>)>,
}

pub(crate) fn start(mut sensor: Box<dyn Sensor>, outlet: &Recorder) -> Running {
    let context = Context::default();
    let (theirs, mut outlet) = (context.clone(), outlet.clone());
    let thread = std::thread::spawn(move || {
        let result = sensor.run(&theirs, &mut outlet);
        (sensor, result)
    });
    Running { context, thread }
}

impl Running {
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
