//! The sensor on the real kernel: name servers of the test in network namespaces of its own. Needs
//! root.

mod server;

use std::{
    collections::{BTreeMap, HashSet},
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    process::Command,
    sync::{Arc, Condvar, Mutex},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::unistd::geteuid;
use yinglong_model::{
    DropReason, EventData, Observation,
    config::AgentConfig,
    event::{Dns, Protocol},
};
use yinglong_sensor::{Context, Outlet};

use self::server::{Behaviour, Server};
use super::{mark::RING, message::tests::message, *};
use crate::namespace::in_namespace;

const PATIENCE: Duration = Duration::from_secs(20);
/// Longer than any event is held back once its answer has come.
const SETTLED: Duration = Duration::from_millis(300);

#[derive(Debug, Default)]
struct Books {
    /// Committed.
    events: Vec<Dns>,
    lost: BTreeMap<DropReason, u64>,
    filtered: u64,
    marks: BTreeMap<String, String>,
}

#[derive(Default)]
struct Shared {
    books: Mutex<Books>,
    changed: Condvar,
}

#[derive(Default)]
struct Collector {
    shared: Arc<Shared>,
    open: Vec<Dns>,
    marks: Vec<(String, String)>,
}

impl Outlet for Collector {
    fn emit(&mut self, observation: Observation) {
        match observation {
            Observation::Event {
                data: EventData::Dns(dns),
                ..
            } => self.open.push(*dns),
            other => panic!("not a question: {other:?}"),
        }
    }

    fn lose(&mut self, reason: DropReason, count: u64) {
        let mut books = self.shared.books.lock().unwrap();
        *books.lost.entry(reason).or_default() += count;
        self.shared.changed.notify_all();
    }

    fn filtered(&mut self, count: u64) {
        self.shared.books.lock().unwrap().filtered += count;
        self.shared.changed.notify_all();
    }

    fn mark(&mut self, name: &str, value: String) {
        self.marks.push((name.to_owned(), value));
    }

    fn marked(&self, name: &str) -> Option<String> {
        self.shared.books.lock().unwrap().marks.get(name).cloned()
    }

    fn commit(&mut self) -> Result<(), Error> {
        let mut books = self.shared.books.lock().unwrap();
        books.events.append(&mut self.open);
        books.marks.extend(self.marks.drain(..));
        self.shared.changed.notify_all();
        Ok(())
    }
}

/// A running sensor.
struct Observed {
    context: Context,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    ids: Option<BpfIds>,
}

impl Observed {
    /// `None`, loudly, where the capability is missing.
    fn start(test: &str, change: impl FnOnce(&mut AgentConfig)) -> Option<Self> {
        Self::start_with(test, Options::default(), Arc::default(), change)
    }

    fn start_with(
        test: &str,
        options: Options,
        shared: Arc<Shared>,
        change: impl FnOnce(&mut AgentConfig),
    ) -> Option<Self> {
        if !geteuid().is_root() {
            eprintln!("SKIPPED {test}: needs root");
            return None;
        }
        let context = Context::default();
        let mut config = AgentConfig::clone(&context.config());
        config.revision += 1;
        change(&mut config);
        let wanted = config.client.dns && options.source.hooks();
        let options_source = options.source;
        context.set_config(config);
        let mut opened = match open(Tree::default(), Accounts::default(), options) {
            Ok(opened) => opened,
            Err(error) => {
                eprintln!("SKIPPED {test}: {error}");
                return None;
            }
        };
        if options_source.hooks() {
            assert_eq!(opened.sensor.status().reason, "");
        }
        let mut outlet = Collector {
            shared: Arc::clone(&shared),
            ..Collector::default()
        };
        let ids = opened.ids.clone();
        let thread = {
            let context = context.clone();
            thread::spawn(move || opened.sensor.run(&context, &mut outlet).unwrap())
        };
        let observed = Self {
            context,
            shared,
            thread: Some(thread),
            ids,
        };
        if wanted {
            observed.probe();
        }
        Some(observed)
    }

    /// Waits until the switch is in force: asks until a question is told.
    fn probe(&self) {
        in_namespace(|| {
            let _server = Server::start("127.0.0.1", Behaviour::default());
            let end = Instant::now() + PATIENCE;
            loop {
                ask_over_udp("127.0.0.1:53", 1, "probe.test");
                thread::sleep(Duration::from_millis(50));
                let books = self.shared.books.lock().unwrap();
                if books.events.iter().any(|dns| dns.query == "probe.test") || books.filtered > 0 {
                    return;
                }
                drop(books);
                assert!(Instant::now() < end, "the sensor tells nothing");
            }
        });
    }

    /// Events about names that end so, once there are `count` of them, and after nothing more can
    /// come.
    #[track_caller]
    fn expect(&self, count: usize, suffix: &str) -> Vec<Dns> {
        let wanted = |dns: &&Dns| dns.query.ends_with(suffix);
        self.until(|books| books.events.iter().filter(wanted).count() >= count);
        thread::sleep(SETTLED);
        let books = self.shared.books.lock().unwrap();
        let events: Vec<_> = books.events.iter().filter(wanted).cloned().collect();
        assert_eq!(events.len(), count, "{events:#?}");
        events
    }

    fn until(&self, reached: impl Fn(&Books) -> bool) {
        let end = Instant::now() + PATIENCE;
        let mut books = self.shared.books.lock().unwrap();
        while !reached(&books) && Instant::now() < end {
            let left = end.saturating_duration_since(Instant::now());
            books = self.shared.changed.wait_timeout(books, left).unwrap().0;
        }
    }

    fn books<T>(&self, read: impl Fn(&Books) -> T) -> T {
        read(&self.shared.books.lock().unwrap())
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        self.context.stop();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(
                ended.is_ok() || thread::panicking(),
                "the sensor ended early"
            );
        }
    }
}

#[track_caller]
fn is_mine(dns: &Dns) {
    let me = std::env::current_exe().unwrap();
    assert_eq!(dns.attribution.as_deref(), Some("kernel"), "{dns:?}");
    assert_eq!(dns.pid, std::process::id(), "{dns:?}");
    assert_eq!(dns.name, me.to_str().unwrap());
    assert_eq!(dns.user.as_deref(), Some("root"));
    assert!(dns.parentname.is_some(), "{dns:?}");
}

/// Asks from a new socket, and waits for the answer.
fn ask_over_udp(server: &str, id: u16, name: &str) {
    let server: SocketAddr = server.parse().unwrap();
    let socket = socket_for(server.ip());
    socket
        .send_to(&message(id, 0x0100, name, 1, &[]), server)
        .unwrap();
    socket.recv(&mut [0; 4096]).unwrap();
}

fn socket_for(ip: IpAddr) -> UdpSocket {
    let socket = if ip.is_ipv4() {
        UdpSocket::bind("0.0.0.0:0").unwrap()
    } else {
        UdpSocket::bind("[::]:0").unwrap()
    };
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

#[test]
fn a_thousand_questions_of_both_families_are_all_told_and_attributed() {
    const COUNT: usize = 1000;
    let Some(observed) = Observed::start("a thousand questions", |_| {}) else {
        return;
    };
    in_namespace(|| {
        let _four = Server::start("127.0.0.1", Behaviour::default());
        let _six = Server::start("::1", Behaviour::default());
        for number in 0..COUNT {
            let (server, name) = (["127.0.0.1:53", "[::1]:53"][number % 2], number / 2);
            let id = u16::try_from(number).unwrap();
            let name = format!("Q{name}.{}.Thousand.Test", number % 2);
            if number % 4 < 2 {
                ask_over_udp(server, id, &name);
                continue;
            }
            let server: SocketAddr = server.parse().unwrap();
            let socket = socket_for(server.ip());
            socket.connect(server).unwrap();
            socket.send(&message(id, 0x0100, &name, 1, &[])).unwrap();
            socket.recv(&mut [0; 4096]).unwrap();
        }
    });
    let events = observed.expect(COUNT, ".thousand.test");
    let names: HashSet<&str> = events.iter().map(|dns| dns.query.as_str()).collect();
    assert_eq!(names.len(), COUNT);
    for dns in &events {
        is_mine(dns);
        let server = if dns.query.contains(".0.") {
            "127.0.0.1:53"
        } else {
            "[::1]:53"
        };
        assert_eq!(dns.server, server);
        assert_eq!((dns.qtype.as_str(), dns.rcode.as_str()), ("A", "NOERROR"));
        assert_eq!(dns.answers, ["192.0.2.7"]);
        assert_eq!(dns.protocol, Protocol::Udp);
    }
    let ring_full = observed.books(|books| books.lost.get(&DropReason::RingFull).copied());
    assert_eq!(ring_full, None);
}

#[test]
fn a_question_over_tcp_is_told_with_an_answer_that_came_in_pieces() {
    let Some(observed) = Observed::start("tcp", |_| {}) else {
        return;
    };
    in_namespace(|| {
        let _server = Server::start("127.0.0.1", Behaviour::default());
        let mut stream = TcpStream::connect("127.0.0.1:53").unwrap();
        stream.set_nodelay(true).unwrap();
        let question = message(9, 0x0100, "Over.TCP.Test", 1, &[]);
        let length = u16::try_from(question.len()).unwrap();
        for part in [&length.to_be_bytes()[..], &question[..7], &question[7..]] {
            stream.write_all(part).unwrap();
            thread::sleep(Duration::from_millis(20));
        }
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut answer).unwrap();
    });
    let events = observed.expect(1, ".tcp.test");
    is_mine(&events[0]);
    assert_eq!(events[0].protocol, Protocol::Tcp);
    assert_eq!(events[0].query, "over.tcp.test");
    assert_eq!(events[0].answers, ["192.0.2.7"]);
}

#[test]
fn a_question_that_is_not_answered_or_by_somebody_else_is_told_without_code() {
    let Some(observed) = Observed::start("lost answers", |_| {}) else {
        return;
    };
    let _sockets = in_namespace(|| {
        let silent = Behaviour {
            silent: true,
            ..Behaviour::default()
        };
        let _silent = Server::start("127.0.0.1", silent);
        let forger = UdpSocket::bind("127.0.0.2:53").unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let question = message(3, 0x0100, "a.unanswered.test", 1, &[]);
        // The second time is the same question.
        for _ in 0..2 {
            socket.send_to(&question, "127.0.0.1:53").unwrap();
        }
        let forged = message(3, 0x8180, "a.unanswered.test", 1, &[(1, &[6, 6, 6, 6])]);
        forger
            .send_to(&forged, socket.local_addr().unwrap())
            .unwrap();
        (socket, forger)
    });
    let events = observed.expect(1, ".unanswered.test");
    is_mine(&events[0]);
    assert_eq!(events[0].rcode, "");
    assert_eq!(events[0].answers, Vec::<String>::new());
}

#[test]
fn errors_and_cut_answers_are_told_as_they_are() {
    let Some(observed) = Observed::start("errors", |_| {}) else {
        return;
    };
    in_namespace(|| {
        let no = Behaviour {
            flags: 0x8183,
            ..Behaviour::default()
        };
        let _no = Server::start("127.0.0.1", no);
        ask_over_udp("127.0.0.1:53", 1, "no.errors.test");
        let cut = Behaviour {
            flags: 0x8380,
            ..Behaviour::default()
        };
        let _cut = Server::start("127.0.0.3", cut);
        ask_over_udp("127.0.0.3:53", 2, "cut.errors.test");
    });
    let mut events = observed.expect(2, ".errors.test");
    events.sort_by(|a, b| a.query.cmp(&b.query));
    assert_eq!(events[0].rcode, "NOERROR");
    assert_eq!(events[1].rcode, "NXDOMAIN");
}

#[test]
fn hostile_packets_are_counted_and_disturb_nobody() {
    let Some(observed) = Observed::start("hostile packets", |_| {}) else {
        return;
    };
    in_namespace(|| {
        let _server = Server::start("127.0.0.1", Behaviour::default());
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut looped = message(7, 0x0100, "", 1, &[]);
        looped.truncate(12);
        looped.extend([0xc0, 12, 0, 1, 0, 1]);
        let huge = vec![0xff; 60_000];
        let short: &[u8] = b"x";
        for bytes in [&looped[..], &huge[..], short] {
            socket.send_to(bytes, "127.0.0.1:53").unwrap();
        }
        // Nothing to read, and nothing to count.
        socket.send_to(b"", "127.0.0.1:53").unwrap();
        ask_over_udp("127.0.0.1:53", 1, "after.hostile.test");
    });
    observed.expect(1, ".hostile.test");
    let lost = observed.books(|books| books.lost.clone());
    // The huge one is no question of the domain name system by its code, and none to count.
    assert_eq!(lost.get(&DropReason::Malformed), Some(&2), "{lost:?}");
}

#[test]
fn a_program_and_the_resolver_it_asks_are_two_events_unless_the_second_is_left_out() {
    for resolvers in [true, false] {
        let change = |config: &mut AgentConfig| config.client.dns_resolvers = resolvers;
        let Some(observed) = Observed::start("resolvers", change) else {
            return;
        };
        let shell = in_namespace(|| {
            // This process is a resolver: it serves port 53, and asks another server.
            let _outside = Server::start("127.0.0.9", Behaviour::default());
            let stub = Behaviour {
                forward: Some("127.0.0.9:53"),
                ..Behaviour::default()
            };
            let _stub = Server::start("127.0.0.53", stub);
            let question: String = message(5, 0x0100, "a.stub.test", 1, &[])
                .iter()
                .map(|byte| format!("\\x{byte:02x}"))
                .collect();
            let script = format!(
                "exec 3<>/dev/udp/127.0.0.53/53; printf '{question}' >&3; \
                 timeout 5 head -c 12 <&3 >/dev/null; echo $$; sleep 1; :"
            );
            let output = Command::new("bash").args(["-c", &script]).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        });
        let events = observed.expect(if resolvers { 2 } else { 1 }, ".stub.test");
        let by_program = events
            .iter()
            .find(|dns| dns.server == "127.0.0.53:53")
            .unwrap();
        assert_eq!(by_program.pid.to_string(), shell.trim());
        assert!(by_program.name.ends_with("bash"), "{by_program:?}");
        assert_eq!(by_program.rcode, "NOERROR");
        let outside = events.iter().find(|dns| dns.server == "127.0.0.9:53");
        match outside {
            Some(outside) => is_mine(outside),
            None => assert!(observed.books(|books| books.filtered) > 0),
        }
    }
}

#[test]
fn nothing_is_told_while_the_switch_is_off() {
    let Some(observed) = Observed::start("switch", |config| config.client.dns = false) else {
        return;
    };
    let ask = |name: &str| {
        in_namespace(|| {
            let _server = Server::start("127.0.0.1", Behaviour::default());
            ask_over_udp("127.0.0.1:53", 1, name);
        });
    };
    // Until the first round another sensor's switch says what is wanted.
    thread::sleep(SETTLED);
    ask("off.switch.test");
    observed.expect(0, ".switch.test");
    let mut config = AgentConfig::clone(&observed.context.config());
    config.revision += 1;
    config.client.dns = true;
    observed.context.set_config(config);
    observed.probe();
    ask("on.switch.test");
    observed.expect(1, ".switch.test");
}

#[test]
fn what_waits_when_an_agent_is_killed_is_counted_and_what_the_ring_holds_is_told() {
    let Some(observed) = Observed::start("killed", |_| {}) else {
        return;
    };
    let ids = observed.ids.clone().unwrap();
    let held = hold(&ids).unwrap();
    let shared = Arc::clone(&observed.shared);
    let (before, _socket) = in_namespace(|| {
        let silent = Behaviour {
            silent: true,
            ..Behaviour::default()
        };
        let _server = Server::start("127.0.0.1", silent);
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let question = message(3, 0x0100, "waiting.killed.test", 1, &[]);
        socket.send_to(&question, "127.0.0.1:53").unwrap();
        thread::sleep(SETTLED);
        let mark = observed.books(|books| books.marks.get(RING).cloned());
        (mark.unwrap(), socket)
    });
    // Those of other tests wait as well.
    let waiting: u64 = before.rsplit(':').nth(1).unwrap().parse().unwrap();
    assert!(waiting >= 1, "a question waits: {before}");
    drop(observed);
    // As if it had been killed instead: its last events and marks were never committed.
    let mut books = shared.books.lock().unwrap();
    books.marks.insert(RING.to_owned(), before);
    books.events.clear();
    books.lost.clear();
    drop(books);
    in_namespace(|| {
        let _server = Server::start("127.0.0.1", Behaviour::default());
        ask_over_udp("127.0.0.1:53", 4, "meanwhile.killed.test");
    });
    let options = Options {
        adopt: Some(ids),
        ..Options::default()
    };
    let Some(observed) = Observed::start_with("killed", options, shared, |_| {}) else {
        return;
    };
    let events = observed.expect(1, ".killed.test");
    assert_eq!(events[0].query, "meanwhile.killed.test");
    is_mine(&events[0]);
    let lost = observed.books(|books| books.lost.clone());
    assert_eq!(lost.get(&DropReason::AgentKilled), Some(&waiting));
    drop(held);
}

#[test]
fn without_hooks_packets_and_lookups_tell_what_the_own_namespace_asks() {
    for source in [Source::Packet, Source::Pcap] {
        packets_and_lookups_tell(source);
    }
}

fn packets_and_lookups_tell(source: Source) {
    in_namespace(|| {
        let options = Options {
            source,
            ..Options::default()
        };
        let test = format!("packets alone ({source:?})");
        let Some(observed) = Observed::start_with(&test, options, Arc::default(), |_| {}) else {
            return;
        };
        // Until the first round the switch is not in force.
        thread::sleep(SETTLED);
        let _four = Server::start("127.0.0.1", Behaviour::default());
        let _six = Server::start("::1", Behaviour::default());
        let client = socket_for("127.0.0.1".parse().unwrap());
        let question = message(5, 0x0100, "four.packets.test", 1, &[]);
        client.send_to(&question, "127.0.0.1:53").unwrap();
        client.recv(&mut [0; 4096]).unwrap();
        ask_over_udp("[::1]:53", 6, "six.packets.test");
        let mut stream = TcpStream::connect("127.0.0.1:53").unwrap();
        let question = message(9, 0x0100, "tcp.packets.test", 1, &[]);
        let length = u16::try_from(question.len()).unwrap().to_be_bytes();
        stream
            .write_all(&[&length[..], &question].concat())
            .unwrap();
        stream.read_exact(&mut [0; 40]).unwrap();

        let mut events = observed.expect(3, ".packets.test");
        events.sort_by(|a, b| a.query.cmp(&b.query));
        for dns in &events {
            assert_eq!(dns.rcode, "NOERROR", "{dns:?}");
            assert_eq!(dns.answers, ["192.0.2.7"]);
            // The process is found as long as the socket is there.
            if dns.attribution.as_deref() == Some("lookup") {
                assert_eq!(dns.pid, std::process::id());
            } else {
                assert_eq!((dns.attribution.as_deref(), dns.pid), (Some("none"), 0));
            }
        }
        assert_eq!(events[0].server, "127.0.0.1:53");
        assert_eq!(events[0].attribution.as_deref(), Some("lookup"));
        drop((client, stream));
    });
}
