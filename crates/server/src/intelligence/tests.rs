use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU16, AtomicUsize},
    },
    time::Duration,
};

use yinglong_detect::Engine;
use yinglong_model::{
    AgentId, Alert, EventData, Observation,
    alert::Status,
    config::List,
    event::{Connection, Dns, File, Login, System},
    id::Epoch,
};
use yinglong_proto::encode_record;
use yinglong_spool::Spool;
use yinglong_store::{EventStore, StateStore, state_store::AlertFilter};
use yinglong_store_embedded::Embedded;

use super::*;
use crate::{
    live::Live,
    log::Entry,
    notify::Notifier,
    pipeline::{Outcome, Step},
    settings::{Actor, Settings},
    worker::{Progress, Worker},
};

/// Longest wait for something that must happen.
const PATIENCE: Duration = Duration::from_secs(20);
const AT: Timestamp = Timestamp::from_secs(1_764_000_000);
/// An address that may be asked about.
const BAD: &str = "8.8.4.4";

/// An intelligence API on a free port of this machine.
struct Mock {
    base: String,
    /// Targets of the requests, in order.
    requests: Arc<Mutex<Vec<String>>>,
    status: Arc<AtomicU16>,
    /// Answers are held back while this is set.
    slow: Arc<AtomicBool>,
    answering: Arc<AtomicUsize>,
}

impl Mock {
    /// Answers `black` about what contains one of these texts.
    fn start(black: &'static [&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let mock = Self {
            base,
            requests: Arc::default(),
            status: Arc::new(AtomicU16::new(200)),
            slow: Arc::default(),
            answering: Arc::default(),
        };
        let (requests, status) = (Arc::clone(&mock.requests), Arc::clone(&mock.status));
        let (slow, answering) = (Arc::clone(&mock.slow), Arc::clone(&mock.answering));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let (requests, status) = (Arc::clone(&requests), Arc::clone(&status));
                let (slow, answering) = (Arc::clone(&slow), Arc::clone(&answering));
                std::thread::spawn(move || {
                    let mut bytes = Vec::new();
                    let mut part = [0; 1024];
                    while !bytes.windows(4).any(|end| end == b"\r\n\r\n") {
                        match stream.read(&mut part) {
                            Ok(n @ 1..) => bytes.extend_from_slice(&part[..n]),
                            _ => return,
                        }
                    }
                    let text = String::from_utf8_lossy(&bytes);
                    let target = text.split(' ').nth(1).unwrap_or_default().to_owned();
                    let is_black = black.iter().any(|known| target.contains(known));
                    requests.lock().unwrap().push(target);
                    answering.fetch_add(1, Ordering::SeqCst);
                    while slow.load(Ordering::SeqCst) {
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    let body = if is_black {
                        "{\"verdict\": \"Black\", \"tag\": \"c2\"}"
                    } else {
                        "{}"
                    };
                    let status = status.load(Ordering::SeqCst);
                    let answer = format!(
                        "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                        body.len()
                    );
                    let _ = stream.write_all(answer.as_bytes());
                });
            }
        });
        mock
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

/// What a server has of it all, with a clock of its own.
struct Bench {
    intelligence: Intelligence,
    settings: Arc<Settings>,
    state: Arc<dyn StateStore>,
    seconds: Arc<AtomicU64>,
    dir: tempfile::TempDir,
    position: Mutex<u64>,
}

impl Bench {
    fn new(config: serde_json::Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (_, state) = Embedded::open(dir.path()).unwrap();
        let state: Arc<dyn StateStore> = Arc::new(state);
        let settings = Arc::new(Settings::open(Arc::clone(&state)).unwrap());
        let seconds = Arc::new(AtomicU64::new(0));
        let intelligence = open(&dir, &state, &settings, &seconds);
        let bench = Self {
            intelligence,
            settings,
            state,
            seconds,
            dir,
            position: Mutex::new(0),
        };
        bench.put("server", serde_json::json!({ "learn": false }));
        bench.put("intelligence", config);
        bench
    }

    fn asking(mock: &Mock) -> Self {
        Self::new(serde_json::json!({
            "switch": true,
            "ipapi": format!("{}/ip?q={{$ip}}", mock.base),
            "fileapi": format!("{}/file?q={{$hash}}", mock.base),
        }))
    }

    fn put(&self, document: &str, value: serde_json::Value) {
        let value = merged(self.settings.documents().get(document), value);
        self.settings
            .put_document(document, &value, &Actor::system(), AT)
            .unwrap();
    }

    /// One step over events of a host, as the pipeline's thread takes it.
    fn step(&self, data: &[EventData]) -> Outcome {
        let engine = Engine::new(
            [],
            &self.settings.current().config.whitelist,
            &List::default(),
            &yinglong_detect::Sample::default(),
        )
        .0;
        let mut scratch = yinglong_detect::Scratch::default();
        let settings = self.settings.current();
        let mut step = Step::new(
            &engine,
            &mut scratch,
            self.state.as_ref(),
            settings.config.server.learn,
        )
        .consulting(self.intelligence.consultation(&settings));
        let mut position = self.position.lock().unwrap();
        *position += 1;
        step.take(*position, &entry(data)).unwrap();
        let mut outcome = step.finish();
        self.state.apply(&outcome.changes).unwrap();
        for question in outcome.questions.drain(..) {
            self.intelligence.ask(question);
        }
        outcome
    }

    fn alerts(&self) -> Vec<Alert> {
        let filter = AlertFilter {
            limit: 100,
            ..AlertFilter::default()
        };
        self.state.alerts(&filter).unwrap().0
    }

    fn pass(&self, seconds: u64) {
        self.seconds.fetch_add(seconds, Ordering::SeqCst);
    }

    fn api(&self, name: &str) -> Api<'_> {
        self.intelligence
            .apis()
            .into_iter()
            .find(|api| api.name == name)
            .unwrap()
    }

    /// Requests sent, and requests that are over.
    fn requests(&self, name: &str) -> (u64, u64) {
        let api = self.api(name);
        let load = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
        let over = load(&api.counters.answered) + load(&api.counters.failed);
        (load(&api.counters.asked), over)
    }

    fn upload(&self, name: &str, text: &str) {
        let mut file = self.intelligence.feeds().upload().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        self.intelligence
            .feeds()
            .put(name, &Wanted::default(), file, AT)
            .unwrap();
    }
}

fn open(
    dir: &tempfile::TempDir,
    state: &Arc<dyn StateStore>,
    settings: &Arc<Settings>,
    seconds: &Arc<AtomicU64>,
) -> Intelligence {
    let answers = Answers {
        state: Arc::downgrade(state),
        settings: Arc::downgrade(settings),
        live: Live::default(),
        notifier: Notifier::start(Arc::clone(settings)),
        progress: Arc::<Progress>::default(),
        writing: Arc::default(),
    };
    let (start, seconds) = (Instant::now(), Arc::clone(seconds));
    let clock = Arc::new(move || start + Duration::from_secs(seconds.load(Ordering::SeqCst)));
    Intelligence::with(dir.path(), answers, fetch::over_http(), clock).unwrap()
}

fn merged(old: Option<&serde_json::Value>, new: serde_json::Value) -> serde_json::Value {
    let mut all = old.cloned().unwrap_or_default();
    for (key, value) in new.as_object().unwrap() {
        all[key] = value.clone();
    }
    all
}

fn entry(data: &[EventData]) -> Entry {
    let record = |data: &EventData| {
        let observation = Observation::Event {
            occurred_at: AT,
            data: data.clone(),
        };
        encode_record(AT, &observation)
    };
    Entry {
        agent: AgentId::from_bits(7),
        epoch: Epoch(1),
        first_seq: 1,
        ingested_at: AT,
        ip: "10.0.0.7".into(),
        hostname: "web-7".into(),
        system: System::Linux,
        records: data.iter().map(record).collect(),
    }
}

fn connection(remote_ip: &str) -> EventData {
    EventData::Connection(Connection {
        remote: format!("{remote_ip}:443"),
        remote_ip: remote_ip.into(),
        ..Connection::default()
    })
}

fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !reached() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn s20_a_black_answer_raises_an_alert_and_is_asked_for_once() {
    let mock = Mock::start(&[BAD, "d41d8cd98f00b204e9800998ecf8427e"]);
    let bench = Bench::asking(&mock);
    let md5 = "d41d8cd98f00b204e9800998ecf8427e";
    let file = EventData::File(Box::new(File {
        hash: md5.into(),
        ..File::default()
    }));
    let login = EventData::Loginlog(Login {
        remote: BAD.into(),
        ..Login::default()
    });
    bench.step(&[connection(BAD), connection("9.9.9.9"), file]);
    until("alerts", || bench.alerts().len() == 2);
    until("all answers", || bench.requests("ip") == (2, 2));
    let mut found: Vec<_> = bench
        .alerts()
        .into_iter()
        .map(|a| (a.kind, a.info, a.level, a.status))
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(
        found,
        [
            (
                "connection".to_owned(),
                BAD.to_owned(),
                Level::Danger,
                Status::Open
            ),
            (
                "file".to_owned(),
                md5.to_owned(),
                Level::Danger,
                Status::Open
            ),
        ]
    );
    let alert = bench
        .alerts()
        .into_iter()
        .find(|alert| alert.kind == "connection")
        .unwrap();
    assert_eq!(alert.source, INTELLIGENCE);
    assert_eq!((alert.hostname.as_str(), alert.time), ("web-7", AT));
    assert_eq!(alert.raw["data"]["remote_ip"], BAD);
    assert!(
        alert.matched[0].condition.contains("\"Black\""),
        "{:?}",
        alert.matched
    );

    // Within a minute nobody is asked again; the alert is counted, and a login is its own alert.
    bench.pass(59);
    let outcome = bench.step(&[connection(BAD), login, connection("9.9.9.9")]);
    assert!(outcome.questions.is_empty());
    assert_eq!(bench.requests("ip"), (2, 2));
    let mut requests = mock.requests();
    requests.sort();
    assert_eq!(
        requests,
        [
            format!("/file?q={md5}"),
            format!("/ip?q={BAD}"),
            "/ip?q=9.9.9.9".to_owned()
        ]
    );
    let counted = bench
        .alerts()
        .into_iter()
        .find(|alert| alert.kind == "connection")
        .unwrap();
    assert_eq!(counted.count, 2);
    assert_eq!(bench.alerts().len(), 3);

    bench.pass(3600);
    bench.step(&[connection("9.9.9.9")]);
    until("the old answer is not believed for ever", || {
        bench.requests("ip") == (3, 3)
    });
}

#[test]
fn s20_private_addresses_and_the_white_list_are_nobodys_business() {
    let mock = Mock::start(&[""]);
    let bench = Bench::asking(&mock);
    bench.put("whitelist", serde_json::json!({ "ip": ["9.9.9.0/24"] }));
    bench.step(
        &[
            "10.1.2.3",
            "127.0.0.1",
            "192.168.0.9",
            "fe80::1",
            "100.64.0.1",
            "9.9.9.9",
        ]
        .map(connection),
    );
    bench.step(&[connection("1.1.1.1")]);
    until("the one that may be asked about", || {
        bench.requests("ip") == (1, 1)
    });
    assert_eq!(mock.requests(), ["/ip?q=1.1.1.1"]);
}

#[test]
fn nothing_is_asked_while_the_switch_is_off() {
    let mock = Mock::start(&[BAD]);
    let bench = Bench::asking(&mock);
    bench.put("intelligence", serde_json::json!({ "switch": false }));
    assert!(bench.step(&[connection(BAD)]).questions.is_empty());
    bench.put("intelligence", serde_json::json!({ "switch": true }));
    bench.step(&[connection(BAD)]);
    until("an alert once it is on", || bench.alerts().len() == 1);
    // What another pattern makes of the answer is another question.
    bench.put("intelligence", serde_json::json!({ "regex": "white" }));
    bench.step(&[connection(BAD)]);
    until("a second request", || bench.requests("ip") == (2, 2));
    assert_eq!(bench.alerts()[0].count, 1);
}

#[test]
fn s20_a_slow_api_holds_nothing_up_and_is_asked_once_about_one_thing() {
    let mock = Mock::start(&[BAD]);
    mock.slow.store(true, Ordering::SeqCst);
    let bench = Bench::asking(&mock);
    bench.step(&[connection(BAD)]);
    until("the request is there", || {
        mock.answering.load(Ordering::SeqCst) == 1
    });
    // The API answers nothing, and yet these steps are taken and the queue stays bounded.
    for n in 0..40_u32 {
        let many: Vec<EventData> = (0..50)
            .map(|m| connection(&std::net::Ipv4Addr::from(0x0900_0000 + n * 50 + m).to_string()))
            .chain([connection(BAD)])
            .collect();
        assert_eq!(bench.step(&many).events.len(), 51);
    }
    let api = bench.api("ip");
    assert!(api.queued <= 1024, "{}", api.queued);
    assert!(api.counters.dropped(Dropped::QueueFull) >= 2000 - 1024 - 4);
    mock.slow.store(false, Ordering::SeqCst);
    until("one alert, counted", || {
        bench
            .alerts()
            .first()
            .is_some_and(|alert| alert.count == 41)
    });
    assert_eq!(
        mock.requests()
            .iter()
            .filter(|target| target.contains(BAD))
            .count(),
        1
    );
}

#[test]
fn learned_answers_open_nothing() {
    let mock = Mock::start(&[BAD]);
    let bench = Bench::asking(&mock);
    bench.put("server", serde_json::json!({ "learn": true }));
    bench.step(&[connection(BAD)]);
    until("an alert", || bench.alerts().len() == 1);
    assert_eq!(bench.alerts()[0].status, Status::Learned);
}

#[test]
fn an_api_that_fails_is_left_alone_and_asked_again_later() {
    let mock = Mock::start(&[BAD]);
    mock.status.store(500, Ordering::SeqCst);
    let bench = Bench::asking(&mock);
    for n in 1..=5_u64 {
        bench.step(&[connection(&format!("9.9.9.{n}"))]);
        until("a failure", || bench.requests("ip") == (n, n));
    }
    until("it is open", || {
        bench.api("ip").breaker == BreakerState::Open
    });
    bench.step(&[connection(BAD)]);
    assert_eq!(bench.api("ip").counters.dropped(Dropped::BreakerOpen), 1);
    // What failed is not asked again at once.
    bench.step(&[connection("9.9.9.1")]);
    assert!(bench.api("ip").counters.dropped(Dropped::Unanswered) > 5);

    mock.status.store(200, Ordering::SeqCst);
    bench.pass(31);
    bench.step(&[connection(BAD)]);
    until("the trial brings an alert", || bench.alerts().len() == 1);
    assert_eq!(bench.api("ip").breaker, BreakerState::Closed);
    assert_eq!(bench.requests("ip"), (6, 6));
    assert_eq!(
        bench.api("file").breaker,
        BreakerState::Closed,
        "each API has its own"
    );
}

#[test]
fn too_many_requests_is_taken_for_what_it_is() {
    let mock = Mock::start(&[]);
    mock.status.store(429, Ordering::SeqCst);
    let bench = Bench::asking(&mock);
    bench.step(&[connection(BAD)]);
    until("it is left alone", || {
        bench.api("ip").breaker == BreakerState::Open
    });
    bench.pass(59);
    bench.step(&[connection("9.9.9.9")]);
    assert_eq!(bench.requests("ip"), (1, 1));
}

#[test]
fn an_unknown_address_is_an_answer() {
    let mock = Mock::start(&[]);
    mock.status.store(404, Ordering::SeqCst);
    let bench = Bench::asking(&mock);
    bench.step(&[connection(BAD)]);
    until("an answer", || {
        bench.api("ip").counters.answered.load(Ordering::SeqCst) == 1
    });
    bench.step(&[connection(BAD)]);
    assert_eq!(bench.requests("ip"), (1, 1));
}

#[test]
fn feeds_match_at_once_survive_a_restart_and_stop_when_removed() {
    let mut bench = Bench::new(serde_json::json!({ "switch": false }));
    bench.upload("drop-list", "8.8.4.0/24 # botnet\n10.0.0.0/8\n");
    bench.upload("c2", "8.8.4.4 # loader\n");
    let outcome = bench.step(&[
        connection(BAD),
        connection("10.0.0.1"),
        connection("9.9.9.9"),
    ]);
    assert_eq!(outcome.raised.len(), 1, "{:?}", outcome.raised);
    let alert = &outcome.raised[0];
    assert_eq!(
        (alert.source.as_str(), alert.info.as_str(), alert.level),
        (INTELLIGENCE, BAD, Level::Danger)
    );
    assert!(
        alert.description.contains("c2, drop-list"),
        "{}",
        alert.description
    );
    let evidence: Vec<&str> = alert.matched.iter().map(|m| m.condition.as_str()).collect();
    assert_eq!(
        evidence,
        [
            "indicator 8.8.4.4 of feed c2: loader",
            "indicator 8.8.4.0/24 of feed drop-list: botnet"
        ]
    );
    assert_eq!(bench.intelligence.feed_hits(), 1);

    bench.intelligence = open(&bench.dir, &bench.state, &bench.settings, &bench.seconds);
    bench.step(&[connection(BAD)]);
    assert_eq!(bench.alerts()[0].count, 2);
    bench.intelligence.feeds().remove("c2").unwrap();
    bench.intelligence.feeds().remove("drop-list").unwrap();
    bench.step(&[connection(BAD)]);
    assert_eq!(bench.alerts()[0].count, 2);
}

#[test]
fn what_a_feed_knows_is_not_asked_about() {
    let mock = Mock::start(&[BAD]);
    let bench = Bench::asking(&mock);
    bench.upload("c2", "8.8.4.4\n");
    let outcome = bench.step(&[connection(BAD)]);
    assert_eq!((outcome.raised.len(), bench.requests("ip")), (1, (0, 0)));
    let found = bench.intelligence.look_up("8.8.4.4:443", AT).unwrap();
    assert_eq!(found.statements[0].feed, "c2");
    bench.upload(
        "names",
        "filename,label\nSetup.exe,dropper\nhelper.dll,dropper\n",
    );
    let found = bench.intelligence.look_up("setup.EXE", AT).unwrap();
    assert_eq!(found.statements[0].level, Level::Hint);
    assert!(bench.intelligence.look_up("no indicator", AT).is_err());
}

#[test]
fn files_are_found_by_hash_and_path_in_one_alert() {
    let bench = Bench::new(serde_json::json!({ "switch": false }));
    let sha256 = "ab".repeat(32);
    bench.upload("files", &format!("{sha256}\n/tmp/.x/miner\n"));
    let file = File {
        path: "/tmp/.x/miner".into(),
        sha256: Some(sha256.clone()),
        ..File::default()
    };
    let outcome = bench.step(&[EventData::File(Box::new(file))]);
    assert_eq!(outcome.raised.len(), 1);
    assert_eq!(outcome.raised[0].info, format!("/tmp/.x/miner|{sha256}"));
}

#[test]
fn a_question_for_a_known_domain_or_below_it_raises_an_alert_at_once() {
    let bench = Bench::new(serde_json::json!({ "switch": false }));
    let question = |query: &str| {
        EventData::Dns(Box::new(Dns {
            query: query.into(),
            qtype: "A".into(),
            name: "/usr/bin/curl".into(),
            pid: 7,
            ..Dns::default()
        }))
    };
    let raised = |outcome: &Outcome| -> Vec<(String, String, Level)> {
        let alerts = outcome.raised.iter();
        alerts
            .map(|alert| (alert.kind.clone(), alert.info.clone(), alert.level))
            .collect()
    };
    // Without any feed nothing is looked for.
    assert_eq!(raised(&bench.step(&[question("evil.example")])), []);
    bench.upload(
        "c2",
        "evil.example # loader\nhttp://whole.example/\nhttp://shared.example/user/x.sh\n",
    );
    let outcome = bench.step(&[
        question("evil.example"),
        question("a.b.evil.example"),
        question("notevil.example"),
        question("example"),
        question("."),
        question("_dmarc.\\001.evil-example"),
        question("whole.example"),
        question("shared.example"),
        question("other.shared.example"),
    ]);
    let expected = [
        ("evil.example", Level::Danger),
        ("a.b.evil.example", Level::Danger),
        ("whole.example", Level::Danger),
        ("shared.example", Level::Hint),
    ];
    assert_eq!(
        raised(&outcome),
        expected.map(|(query, level)| ("dns".to_owned(), query.to_owned(), level))
    );
    let alert = &outcome.raised[1];
    assert_eq!(alert.source, INTELLIGENCE);
    assert_eq!(alert.matched[0].field, "query");
    assert_eq!(
        alert.matched[0].condition,
        "indicator evil.example of feed c2: loader"
    );
    assert!(outcome.questions.is_empty());
}

#[test]
fn the_pipelines_thread_consults_feeds_and_asks_what_they_do_not_know() {
    let mock = Mock::start(&[BAD]);
    let bench = Bench::asking(&mock);
    bench.upload("c2", "9.9.9.9\n");
    let folder = tempfile::tempdir().unwrap();
    let (events, state) = Embedded::open(folder.path()).unwrap();
    let (events, state): (Arc<dyn EventStore>, Arc<dyn StateStore>) =
        (Arc::new(events), Arc::new(state));
    let (settings, intelligence) = {
        let settings = Arc::new(Settings::open(Arc::clone(&state)).unwrap());
        let documents = bench.settings.documents();
        for document in ["server", "intelligence"] {
            let value = documents.get(document).unwrap();
            settings
                .put_document(document, value, &Actor::system(), AT)
                .unwrap();
        }
        // Feeds of the bench, stores of this test.
        let intelligence = open(&bench.dir, &state, &settings, &bench.seconds);
        (settings, intelligence)
    };
    let options = yinglong_spool::Options {
        new_epoch: 1,
        segment_bytes: 1 << 20,
        max_bytes: 8 << 20,
    };
    let (log, _) = Spool::open(&folder.path().join("log"), options).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let worker = Worker {
        folder: folder.path().to_owned(),
        log: log.clone(),
        events,
        state: Arc::clone(&state),
        settings: Arc::clone(&settings),
        live: Live::default(),
        notifier: Notifier::start(Arc::clone(&settings)),
        intelligence,
        writing: Arc::default(),
        progress: Arc::default(),
        stop: Arc::clone(&stop),
    };
    let thread = std::thread::spawn(move || worker.run());
    let batch = entry(&[connection(BAD), connection("9.9.9.9")]);
    log.append(&[batch.encode()], b"").unwrap();
    log.sync().unwrap();
    let infos = || {
        let filter = AlertFilter {
            text: Some(INTELLIGENCE.to_owned()),
            limit: 10,
            ..AlertFilter::default()
        };
        let mut infos: Vec<String> = state
            .alerts(&filter)
            .unwrap()
            .0
            .into_iter()
            .map(|alert| alert.info)
            .collect();
        infos.sort();
        infos
    };
    until("both alerts", || infos() == [BAD, "9.9.9.9"]);
    stop.store(true, Ordering::Release);
    thread.join().unwrap();
    assert_eq!(mock.requests().len(), 1);
}
