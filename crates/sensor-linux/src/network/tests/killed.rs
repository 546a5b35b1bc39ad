//! Agents that are killed, and their successors.

use std::collections::{BTreeMap, HashMap, HashSet};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, connect, getsockname, listen,
    socket,
};

use super::*;
use crate::process::boot_id;

/// When the sensor's process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Killed {
    BeforeCommit,
    AfterCommit,
}

/// What outlives the process: the spool.
#[derive(Debug, Default)]
struct Spool {
    events: Vec<Connection>,
    lost: BTreeMap<DropReason, u64>,
    marks: HashMap<String, String>,
    killed: Option<Killed>,
}

/// An outlet that can die.
#[derive(Debug, Clone, Default)]
struct Mortal {
    spool: Arc<Mutex<Spool>>,
    open: Vec<Connection>,
    losses: Vec<(DropReason, u64)>,
    marks: Vec<(String, String)>,
}

impl Outlet for Mortal {
    fn emit(&mut self, observation: Observation) {
        match observation {
            Observation::Event {
                data: EventData::Connection(connection),
                ..
            } => self.open.push(connection),
            other => panic!("not a connection: {other:?}"),
        }
    }

    fn lose(&mut self, reason: DropReason, count: u64) {
        self.losses.push((reason, count));
    }

    fn filtered(&mut self, _: u64) {}

    fn mark(&mut self, name: &str, value: String) {
        self.marks.push((name.to_owned(), value));
    }

    fn marked(&self, name: &str) -> Option<String> {
        self.spool.lock().unwrap().marks.get(name).cloned()
    }

    fn commit(&mut self) -> Result<(), Error> {
        let mut spool = self.spool.lock().unwrap();
        let dead = || Err(Error::Spool("killed".into()));
        if spool.killed == Some(Killed::BeforeCommit) {
            return dead();
        }
        let any = !self.open.is_empty();
        spool.events.append(&mut self.open);
        for (reason, count) in self.losses.drain(..) {
            *spool.lost.entry(reason).or_default() += count;
        }
        spool.marks.extend(self.marks.drain(..));
        if any && spool.killed == Some(Killed::AfterCommit) {
            return dead();
        }
        Ok(())
    }
}

impl Mortal {
    /// What a new process finds.
    fn reopened(&self) -> Self {
        self.spool.lock().unwrap().killed = None;
        Self {
            spool: Arc::clone(&self.spool),
            ..Self::default()
        }
    }

    fn of(&self, end: SocketAddr) -> Vec<Connection> {
        let spool = self.spool.lock().unwrap();
        let events = spool.events.iter();
        events.filter(|e| concerns(e, end)).cloned().collect()
    }

    #[track_caller]
    fn wait(&self, end: SocketAddr, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.of(end).len() < count {
            let seen = self.of(end);
            assert!(Instant::now() < deadline, "{} of {count}", seen.len());
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A sensor on a thread, which ends with its outlet.
struct Worker {
    context: Context,
    thread: JoinHandle<Result<(), Error>>,
}

impl Worker {
    fn start(opened: Opened, outlet: &Mortal) -> Self {
        let context = Context::default();
        set(&context, |config| config.client.lan = true);
        let (theirs, mut outlet) = (context.clone(), outlet.clone());
        let mut sensor = opened.sensor;
        let thread = thread::spawn(move || sensor.run(&theirs, &mut outlet));
        Self { context, thread }
    }

    fn stop(self) {
        self.context.stop();
        self.thread.join().unwrap().unwrap();
    }

    fn killed(self) {
        assert!(self.thread.join().unwrap().is_err());
    }
}

fn opened(test: &str, adopt: Option<BpfIds>) -> Option<Opened> {
    if !geteuid().is_root() {
        eprintln!("SKIPPED {test}: needs root");
        return None;
    }
    let options = Options {
        source: Source::Best,
        adopt,
    };
    match open(Tree::default(), Accounts::default(), options) {
        Ok(opened) if opened.ids.is_some() => Some(opened),
        Ok(_) => {
            eprintln!("SKIPPED {test}: the programs cannot be held");
            None
        }
        Err(error) => {
            eprintln!("SKIPPED {test}: {error}");
            None
        }
    }
}

/// Connections that are accepted at once.
struct Server(TcpListener);

impl Server {
    fn new() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    fn end(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    fn connect(&self, count: usize) {
        for _ in 0..count {
            let client = TcpStream::connect(self.end()).unwrap();
            drop((client, self.0.accept().unwrap()));
        }
    }
}

/// A port whose queue is full, so that requests are neither answered nor refused.
struct Deaf {
    end: SocketAddr,
    _open: Vec<std::os::fd::OwnedFd>,
}

impl Deaf {
    fn new() -> Self {
        use std::os::fd::AsRawFd;
        let plain = || {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            socket(AddressFamily::Inet, SockType::Stream, flags, None).unwrap()
        };
        let listener = plain();
        bind(listener.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).unwrap();
        listen(&listener, Backlog::new(0).unwrap()).unwrap();
        let name: SockaddrIn = getsockname(listener.as_raw_fd()).unwrap();
        let mut open = vec![listener];
        // The first is queued; the others' requests are dropped, and repeated after a second.
        for _ in 0..4 {
            let client = plain();
            let _ = connect(client.as_raw_fd(), &name);
            open.push(client);
        }
        Self {
            end: SocketAddr::from((name.ip(), name.port())),
            _open: open,
        }
    }
}

/// Kills the sensor in the given moment, connects on, and lets a successor adopt the programs.
fn killed(test: &str, when: Killed) {
    let Some(opened) = opened(test, None) else {
        return;
    };
    let (outlet, server) = (Mortal::default(), Server::new());
    let end = server.end();
    let ids = opened.ids.clone().unwrap();
    let held = hold(&ids).unwrap();
    let worker = Worker::start(opened, &outlet);
    server.connect(100);
    let reported = Deaf::new();
    outlet.wait(end, 200);
    outlet.wait(reported.end, 5);

    let waiting = Deaf::new();
    outlet.spool.lock().unwrap().killed = Some(when);
    server.connect(100);
    worker.killed();
    server.connect(100);
    let unseen = Deaf::new();

    let successor = super::killed::opened(test, Some(ids.clone())).unwrap();
    assert_eq!(successor.ids.as_ref(), Some(&ids));
    drop(held);
    let outlet = outlet.reopened();
    let worker = Worker::start(successor, &outlet);
    server.connect(100);
    outlet.wait(end, 800);
    // Until requests without answer were repeated on the wire.
    thread::sleep(Duration::from_millis(1_500));
    worker.stop();

    let seen = outlet.of(end);
    let distinct: HashSet<_> = seen.iter().map(|e| (&e.local, &e.remote)).collect();
    assert_eq!((seen.len(), distinct.len()), (800, 800), "{seen:#?}");
    for event in &seen {
        assert_eq!(event.state.as_deref(), Some("established"), "{event:?}");
        assert_eq!(event.attribution.as_deref(), Some("kernel"), "{event:?}");
        assert_eq!(event.pid, std::process::id());
    }
    for deaf in [&reported, &waiting, &unseen] {
        let mut seen = outlet.of(deaf.end);
        seen.sort_by(|one, other| one.local.cmp(&other.local));
        // Four requests, one of which was taken into the queue.
        assert_eq!(seen.len(), 5, "{seen:#?}");
    }
    assert_eq!(outlet.spool.lock().unwrap().lost, BTreeMap::new());
}

#[test]
fn nothing_is_lost_or_doubled_when_the_sensor_is_killed_before_its_commit() {
    killed("killed before commit", Killed::BeforeCommit);
}

#[test]
fn nothing_is_lost_or_doubled_when_the_sensor_is_killed_after_its_commit() {
    killed("killed after commit", Killed::AfterCommit);
}

#[test]
fn a_connection_accepted_by_a_successor_is_not_reported_again() {
    let test = "accepted by a successor";
    let Some(opened) = opened(test, None) else {
        return;
    };
    let (outlet, server) = (Mortal::default(), Server::new());
    let ids = opened.ids.clone();
    let _held = hold(ids.as_ref().unwrap()).unwrap();
    let worker = Worker::start(opened, &outlet);
    let client = TcpStream::connect(server.end()).unwrap();
    outlet.wait(server.end(), 2);
    worker.stop();

    let outlet = outlet.reopened();
    let worker = Worker::start(super::killed::opened(test, ids).unwrap(), &outlet);
    let accepted = server.0.accept().unwrap();
    let other = Server::new();
    other.connect(1);
    outlet.wait(other.end(), 2);
    thread::sleep(SETTLED);
    worker.stop();
    assert_eq!(outlet.of(server.end()).len(), 2);
    drop((client, accepted));
}

#[test]
fn observations_that_an_earlier_reader_took_without_securing_them_are_counted() {
    let test = "lost marks";
    let Some(opened) = opened(test, None) else {
        return;
    };
    let (outlet, server) = (Mortal::default(), Server::new());
    let ids = opened.ids.clone();
    let _held = hold(ids.as_ref().unwrap()).unwrap();
    let worker = Worker::start(opened, &outlet);
    server.connect(50);
    outlet.wait(server.end(), 100);
    worker.stop();
    let mark: Mark = outlet.marked(RING).unwrap().parse().unwrap();
    assert_eq!(mark.boot, boot_id());

    // The spool is lost, and with it the marks.
    let outlet = Mortal::default();
    let worker = Worker::start(super::killed::opened(test, ids).unwrap(), &outlet);
    let deadline = Instant::now() + PATIENCE;
    while outlet.spool.lock().unwrap().lost.is_empty() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(10));
    }
    worker.stop();
    let lost = outlet.spool.lock().unwrap().lost.clone();
    assert_eq!(lost, [(DropReason::AgentKilled, mark.accounted)].into());
    assert!(mark.accounted >= 100);
}
