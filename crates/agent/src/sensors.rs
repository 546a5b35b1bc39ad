//! The sensors of this host, each on a thread of its own, started again when it fails.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use yinglong_model::host::SensorStatus;
use yinglong_sensor::{Context, Error, Outlet as _, Sensor};
use yinglong_sensor_linux::{
    accounts::Accounts,
    dns,
    files::{self, WebRoots},
    inventory, logins, network,
    process::{self, BpfIds},
    syscall,
    tree::Tree,
};

use crate::books::{Books, losses};

/// Pause before a failed sensor is started again.
const RESTART_PAUSE: Duration = Duration::from_secs(10);

/// BPF programs by the sensor that loaded them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Loaded {
    /// Those of executions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<BpfIds>,
    /// Those of connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<BpfIds>,
    /// Those of questions to the domain name system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns: Option<BpfIds>,
    /// Those of system calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub syscall: Option<BpfIds>,
}

/// What sensors need to know at their start.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// BPF programs an earlier worker of the same daemon loaded.
    pub adopt: Loaded,
    /// Processes whose doings are not reported: the agent's own.
    pub excluded_pids: Vec<u32>,
}

/// Makes a sensor; called again after a failure.
type Open = Box<dyn FnMut() -> Result<Box<dyn Sensor>, Error> + Send>;

/// Running sensors.
pub struct Sensors {
    threads: Vec<JoinHandle<()>>,
    books: Books,
    /// Tells what was lost.
    teller: JoinHandle<()>,
    board: Board,
    roots: WebRoots,
}

/// State of every sensor, for reports. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Board {
    statuses: Arc<Mutex<Vec<SensorStatus>>>,
    changed: watch::Sender<u64>,
}

impl Default for Board {
    fn default() -> Self {
        Self {
            statuses: Arc::default(),
            changed: watch::channel(0).0,
        }
    }
}

impl Board {
    /// What every sensor uses and why, in the order they were started.
    pub fn statuses(&self) -> Vec<SensorStatus> {
        self.statuses
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Wakes when a status changes.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(crate) fn post(&self, status: SensorStatus) {
        let mut statuses = self.statuses.lock().unwrap_or_else(PoisonError::into_inner);
        match statuses
            .iter_mut()
            .find(|known| known.stream == status.stream)
        {
            Some(known) if *known == status => return,
            Some(known) => *known = status,
            None => statuses.push(status),
        }
        drop(statuses);
        self.changed.send_modify(|count| *count += 1);
    }
}

impl Sensors {
    /// Starts all of them. `loaded` is told, once per sensor that has any, what BPF programs to
    /// keep for the next worker.
    ///
    /// # Errors
    /// The operating system refuses a thread.
    pub fn start(
        context: &Context,
        books: &Books,
        options: &Options,
        loaded: impl Fn(&Loaded) + Clone + Send + 'static,
    ) -> std::io::Result<Self> {
        let (tree, accounts, roots) = (Tree::default(), Accounts::default(), WebRoots::default());
        let mut sensors = Self {
            threads: Vec::new(),
            books: books.clone(),
            teller: losses::tell(books)?,
            board: Board::default(),
            roots: roots.clone(),
        };

        let mut process_options = process::Options {
            adopt: options.adopt.process.clone(),
            excluded_pids: options.excluded_pids.clone(),
            ..process::Options::default()
        };
        let process_tree = (tree.clone(), accounts.clone());
        let process_loaded = loaded.clone();
        sensors.spawn(
            context,
            books,
            "process",
            Box::new(move || {
                let (tree, accounts) = process_tree.clone();
                let opened = process::open(tree, accounts, process_options.clone())?;
                if let Some(ids) = opened.ids {
                    process_options.adopt = Some(ids.clone());
                    process_loaded(&Loaded {
                        process: Some(ids),
                        ..Loaded::default()
                    });
                }
                Ok(opened.sensor)
            }),
        )?;
        let mut network_options = network::Options {
            adopt: options.adopt.network.clone(),
            ..network::Options::from_env()
        };
        let network_tree = (tree.clone(), accounts.clone());
        let network_loaded = loaded.clone();
        sensors.spawn(
            context,
            books,
            "connection",
            Box::new(move || {
                let (tree, accounts) = network_tree.clone();
                let opened = network::open(tree, accounts, network_options.clone())?;
                if let Some(ids) = opened.ids {
                    network_options.adopt = Some(ids.clone());
                    network_loaded(&Loaded {
                        network: Some(ids),
                        ..Loaded::default()
                    });
                }
                Ok(opened.sensor)
            }),
        )?;
        let mut dns_options = dns::Options {
            source: dns::Source::from_env(),
            adopt: options.adopt.dns.clone(),
            excluded_pids: options.excluded_pids.clone(),
        };
        let dns_tree = (tree.clone(), accounts.clone());
        let dns_loaded = loaded.clone();
        sensors.spawn(
            context,
            books,
            "dns",
            Box::new(move || {
                let (tree, accounts) = dns_tree.clone();
                let opened = dns::open(tree, accounts, dns_options.clone())?;
                if let Some(ids) = opened.ids {
                    dns_options.adopt = Some(ids.clone());
                    dns_loaded(&Loaded {
                        dns: Some(ids),
                        ..Loaded::default()
                    });
                }
                Ok(opened.sensor)
            }),
        )?;
        let mut syscall_options = syscall::Options {
            adopt: options.adopt.syscall.clone(),
            agent_pids: options.excluded_pids.clone(),
            ..syscall::Options::default()
        };
        let syscall_tree = (tree.clone(), accounts.clone());
        sensors.spawn(
            context,
            books,
            "syscall",
            Box::new(move || {
                let (tree, accounts) = syscall_tree.clone();
                let opened = syscall::open(tree, accounts, &syscall_options)?;
                syscall_options.adopt = Some(opened.ids.clone());
                loaded(&Loaded {
                    syscall: Some(opened.ids),
                    ..Loaded::default()
                });
                Ok(opened.sensor)
            }),
        )?;
        let file_options = files::Options {
            excluded_pids: options.excluded_pids.clone(),
            ..files::Options::default()
        };
        let file_roots = roots.clone();
        sensors.spawn(
            context,
            books,
            "file",
            Box::new(move || {
                files::open(
                    tree.clone(),
                    accounts.clone(),
                    file_roots.clone(),
                    file_options.clone(),
                )
            }),
        )?;
        sensors.spawn(
            context,
            books,
            "loginlog",
            Box::new(|| logins::open(logins::Options::of_host())),
        )?;
        sensors.spawn(
            context,
            books,
            "inventory",
            Box::new(move || {
                let roots = roots.clone();
                inventory::open(inventory::Options {
                    root: PathBuf::from("/"),
                    web_roots: Box::new(move |found| roots.set(found)),
                })
            }),
        )?;
        Ok(sensors)
    }

    /// State of every sensor.
    pub fn board(&self) -> Board {
        self.board.clone()
    }

    /// Whether every sensor has said how it stands: observing, or why not.
    pub fn all_told(&self) -> bool {
        self.board.statuses().len() >= self.threads.len()
    }

    /// Web roots found so far.
    pub fn roots(&self) -> WebRoots {
        self.roots.clone()
    }

    /// Waits until every sensor has ended, after [`Context::stop`].
    pub fn join(self) {
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a sensor ended badly");
            }
        }
        self.books.close();
        if self.teller.join().is_err() {
            tracing::error!("losses are not told any more");
        }
    }

    fn spawn(
        &mut self,
        context: &Context,
        books: &Books,
        stream: &'static str,
        open: Open,
    ) -> std::io::Result<()> {
        let keeper = Keeper {
            stream,
            open,
            context: context.clone(),
            books: books.clone(),
            board: self.board.clone(),
        };
        let thread = thread::Builder::new()
            .name(stream.to_owned())
            .spawn(move || keeper.run())?;
        self.threads.push(thread);
        Ok(())
    }
}

/// Keeps one sensor going.
struct Keeper {
    stream: &'static str,
    open: Open,
    context: Context,
    books: Books,
    board: Board,
}

impl Keeper {
    fn run(mut self) {
        while !self.context.stopping() {
            let failure = match (self.open)() {
                Ok(mut sensor) => {
                    // Open is as good as running: nothing is missed from here on.
                    let status = SensorStatus {
                        running: true,
                        ..sensor.status()
                    };
                    tracing::info!(
                        stream = self.stream,
                        source = status.source,
                        reason = status.reason,
                        "observing"
                    );
                    self.board.post(status);
                    let mut outlet = self.books.outlet(self.stream, self.board.clone());
                    let ended = sensor.run(&self.context, &mut outlet);
                    // What was emitted before a failure is still worth keeping.
                    let kept = outlet.commit();
                    match ended.and(kept) {
                        Ok(()) if self.context.stopping() => return,
                        Ok(()) => "it ended by itself".to_owned(),
                        Err(error) => chain(&error),
                    }
                }
                Err(error) => chain(&error),
            };
            tracing::error!(
                stream = self.stream,
                failure,
                "not observing; trying again soon"
            );
            self.board.post(SensorStatus {
                stream: self.stream.to_owned(),
                source: "none".to_owned(),
                running: false,
                reason: failure,
            });
            self.pause();
        }
    }

    fn pause(&self) {
        let slice = Context::PATIENCE.min(RESTART_PAUSE);
        let mut left = RESTART_PAUSE;
        while !left.is_zero() && !self.context.stopping() {
            thread::sleep(slice.min(left));
            left = left.saturating_sub(slice);
        }
    }
}

/// An error with all its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
