//! The way from what agents send to alerts, with many of them at once.

use std::{collections::HashMap, path::Path, sync::Barrier, thread};

use yinglong_model::{
    AgentId, EventData, Observation, Timestamp,
    event::{Process, System},
    id::Epoch,
};
use yinglong_proto::encode_record;
use yinglong_store::state_store::AlertFilter;
use yinglong_store_embedded::Embedded;

use super::*;
use crate::{intake::Intake, intelligence::Answers, settings::Actor};

/// Longest wait for something that must happen.
const PATIENCE: Duration = Duration::from_secs(30);
const AT: Timestamp = Timestamp::from_secs(1_764_000_000);
const PROGRAM: &str = "/opt/new/program";

/// A server without its network.
struct Node {
    intake: Intake,
    state: Arc<dyn StateStore>,
    stop: Arc<AtomicBool>,
    worker: Option<thread::JoinHandle<()>>,
    writer: Option<thread::JoinHandle<()>>,
}

impl Node {
    fn start(folder: &Path) -> Self {
        let (events, state) = Embedded::open(folder).unwrap();
        let state: Arc<dyn StateStore> = Arc::new(state);
        let settings = Arc::new(Settings::open(Arc::clone(&state)).unwrap());
        let mut server = settings.documents()["server"].clone();
        server["learn"] = false.into();
        settings
            .put_document("server", &server, &Actor::system(), AT)
            .unwrap();
        let notifier = Notifier::start(Arc::clone(&settings));
        let writing = Arc::<Mutex<()>>::default();
        let progress = Arc::<Progress>::default();
        let answers = Answers {
            state: Arc::downgrade(&state),
            settings: Arc::downgrade(&settings),
            live: Live::default(),
            notifier: notifier.clone(),
            progress: Arc::clone(&progress),
            writing: Arc::clone(&writing),
        };
        let options = yinglong_spool::Options {
            new_epoch: 1,
            segment_bytes: 1 << 20,
            max_bytes: 8 << 20,
        };
        let (log, _) = Spool::open(&folder.join("log"), options).unwrap();
        let acked = state.acked().unwrap().into_iter();
        let acked: HashMap<_, _> = acked
            .map(|(agent, epoch, seq)| ((agent, epoch), seq))
            .collect();
        let (intake, writer) = Intake::start(log.clone(), acked);
        let stop = Arc::new(AtomicBool::new(false));
        let worker = Worker {
            folder: folder.to_owned(),
            log,
            events: Arc::new(events),
            state: Arc::clone(&state),
            settings,
            live: Live::default(),
            notifier,
            intelligence: Intelligence::open(folder, answers).unwrap(),
            writing,
            progress,
            stop: Arc::clone(&stop),
        };
        Self {
            intake,
            state,
            stop,
            worker: Some(thread::spawn(move || worker.run())),
            writer: Some(writer),
        }
    }

    fn stop(mut self) {
        self.stop.store(true, Ordering::Release);
        self.worker.take().unwrap().join().unwrap();
        let writer = self.writer.take();
        drop(self);
        writer.unwrap().join().unwrap();
    }

    /// Sends an execution of [`PROGRAM`] as an agent does, until it is durable.
    fn send(&self, agent: u128, epoch: u128, seq: u64) {
        let process = Process {
            name: PROGRAM.into(),
            command: format!("{PROGRAM} --serve"),
            pid: 4,
            ..Process::default()
        };
        let observation = Observation::Event {
            occurred_at: AT,
            data: EventData::Process(Box::new(process)),
        };
        let entry = Entry {
            agent: AgentId::from_bits(agent),
            epoch: Epoch(epoch),
            first_seq: seq,
            ingested_at: AT,
            ip: "192.0.2.7".into(),
            hostname: format!("web-{agent}"),
            system: System::Linux,
            records: vec![encode_record(AT, &observation)],
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async {
            let durable = self.intake.queue(entry, false).await.unwrap();
            assert_eq!(durable.await.unwrap().unwrap(), seq);
        });
    }

    /// All hosts at the same moment.
    fn send_all(&self, hosts: u128, epoch: u128, seq: u64) {
        let barrier = Barrier::new(usize::try_from(hosts).unwrap());
        thread::scope(|scope| {
            for agent in 1..=hosts {
                let barrier = &barrier;
                scope.spawn(move || {
                    barrier.wait();
                    self.send(agent, epoch, seq);
                });
            }
        });
    }

    /// Waits until so many reports of the program were judged, of so many hosts.
    fn judged(&self, reports: u64, hosts: u64) {
        let until = Instant::now() + PATIENCE;
        loop {
            let counted = self.state.statistic("process", PROGRAM).unwrap();
            let counted = counted.map(|s| (s.count, s.exist_count));
            if counted == Some((reports, hosts)) {
                return;
            }
            assert!(Instant::now() < until, "{counted:?}, not {reports}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// How often the program was called new: alerts, and repetitions counted on them.
    fn firsts(&self) -> u64 {
        let filter = AlertFilter {
            text: Some(PROGRAM.to_owned()),
            limit: 1000,
            ..AlertFilter::default()
        };
        let (alerts, _) = self.state.alerts(&filter).unwrap();
        let firsts = alerts
            .iter()
            .filter(|alert| alert.rule_id == "yl-process-first-seen");
        firsts.map(|alert| alert.count).sum()
    }
}

#[test]
fn s15_of_fifty_hosts_that_report_a_new_program_at_once_one_is_the_first_and_nothing_is_later() {
    const HOSTS: u128 = 50;
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path());
    node.send_all(HOSTS, 1, 1);
    node.judged(50, 50);
    assert_eq!(node.firsts(), 1);

    // The answer was lost on the way, so they send the same again.
    node.send_all(HOSTS, 1, 1);
    // The agents were restarted, and see the program again.
    node.send_all(HOSTS, 1, 2);
    node.judged(100, 50);
    // An agent was installed anew: its numbers begin again in a spool of its own.
    node.send_all(HOSTS, 2, 1);
    node.judged(150, 50);
    assert_eq!(node.firsts(), 1);
    node.stop();

    // The server was restarted, and a host that it did not know reports it as well.
    let node = Node::start(folder.path());
    node.send_all(HOSTS, 2, 1);
    node.send(51, 1, 1);
    node.judged(151, 51);
    assert_eq!(node.firsts(), 1);
    node.stop();
}
