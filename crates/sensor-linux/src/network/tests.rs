//! The sensor on the real kernel: loopback, and a network namespace of its own. Needs root.

mod killed;

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsRawFd as _,
    process::{Child, Command, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    sys::socket::{
        AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket,
    },
    unistd::geteuid,
};
use yinglong_model::{
    DropReason, EventData, Observation,
    config::AgentConfig,
    event::{Connection, Direction, Protocol},
};
use yinglong_sensor::{Context, Outlet};

use super::{
    books::{Mark, RING},
    *,
};

const PATIENCE: Duration = Duration::from_secs(20);
/// Longer than any event is held back: what has not come by then does not come.
const SETTLED: Duration = Duration::from_millis(700);

#[derive(Debug, Default)]
struct Books {
    /// Committed.
    events: Vec<Connection>,
    lost: u64,
    filtered: u64,
    commits: u64,
}

#[derive(Default)]
struct Shared {
    books: Mutex<Books>,
    changed: Condvar,
}

struct Collector {
    shared: Arc<Shared>,
    open: Vec<Connection>,
}

impl Outlet for Collector {
    fn emit(&mut self, observation: Observation) {
        match observation {
            Observation::Event {
                data: EventData::Connection(connection),
                ..
            } => self.open.push(connection),
            other => panic!("not a connection: {other:?}"),
        }
    }

    fn lose(&mut self, _reason: DropReason, count: u64) {
        self.shared.books.lock().unwrap().lost += count;
    }

    fn filtered(&mut self, count: u64) {
        self.shared.books.lock().unwrap().filtered += count;
    }

    fn mark(&mut self, _name: &str, _value: String) {}

    fn marked(&self, _name: &str) -> Option<String> {
        None
    }

    fn commit(&mut self) -> Result<(), Error> {
        let mut books = self.shared.books.lock().unwrap();
        books.events.append(&mut self.open);
        books.commits += 1;
        self.shared.changed.notify_all();
        Ok(())
    }
}

/// A running sensor.
struct Observed {
    context: Context,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    source: String,
}

impl Observed {
    /// `None`, loudly, where the capability is missing.
    fn start(test: &str, source: Source) -> Option<Self> {
        Self::start_with(test, source, |config| config.client.lan = true)
    }

    fn start_with(
        test: &str,
        source: Source,
        change: impl FnOnce(&mut AgentConfig),
    ) -> Option<Self> {
        if !geteuid().is_root() {
            eprintln!("SKIPPED {test}: needs root");
            return None;
        }
        let context = Context::default();
        set(&context, change);
        let options = Options {
            source,
            adopt: None,
        };
        let mut sensor = match open(Tree::default(), Accounts::default(), options) {
            Ok(opened) => opened.sensor,
            Err(error) => {
                eprintln!("SKIPPED {test}: {error}");
                return None;
            }
        };
        let status = sensor.status();
        assert_eq!(status.stream, "connection");
        let shared = Arc::new(Shared::default());
        let mut outlet = Collector {
            shared: Arc::clone(&shared),
            open: Vec::new(),
        };
        let thread = {
            let context = context.clone();
            thread::spawn(move || sensor.run(&context, &mut outlet).unwrap())
        };
        Some(Self {
            context,
            shared,
            thread: Some(thread),
            source: status.source,
        })
    }

    /// Events that satisfy `wanted`, once there are `count` of them, and after nothing more can
    /// come.
    #[track_caller]
    fn expect(&self, count: usize, wanted: impl Fn(&Connection) -> bool) -> Vec<Connection> {
        let end = Instant::now() + PATIENCE;
        let found = |books: &Books| books.events.iter().filter(|event| wanted(event)).count();
        let mut books = self.shared.books.lock().unwrap();
        while found(&books) < count && Instant::now() < end {
            let left = end.saturating_duration_since(Instant::now());
            books = self.shared.changed.wait_timeout(books, left).unwrap().0;
        }
        drop(books);
        thread::sleep(SETTLED);
        let books = self.shared.books.lock().unwrap();
        let events: Vec<_> = books
            .events
            .iter()
            .filter(|event| wanted(event))
            .cloned()
            .collect();
        assert_eq!(events.len(), count, "{events:#?}");
        assert_eq!(books.lost, 0);
        events
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

/// The sources of which each must show all there is.
fn best_sources() -> Vec<Source> {
    match cfg!(feature = "pcap") {
        true => vec![Source::Best, Source::PcapEbpf],
        false => {
            eprintln!("SKIPPED pcap+ebpf: built without libpcap");
            vec![Source::Best]
        }
    }
}

/// Does the same over each of them.
fn over_best_sources(test: &str, run: impl Fn(&Observed)) {
    for source in best_sources() {
        if let Some(observed) = Observed::start(&format!("{test} ({source:?})"), source) {
            let expected = match source {
                Source::PcapEbpf => "pcap+ebpf",
                _ => "packet+ebpf",
            };
            assert_eq!(observed.source, expected);
            run(&observed);
        }
    }
}

fn set(context: &Context, change: impl FnOnce(&mut AgentConfig)) {
    let mut config = AgentConfig::clone(&context.config());
    config.revision += 1;
    change(&mut config);
    context.set_config(config);
}

/// A port of that address where nobody listens.
fn closed_port(ip: &str) -> SocketAddr {
    let ip: IpAddr = ip.parse().unwrap();
    let listener = TcpListener::bind((ip, 0)).unwrap();
    listener.local_addr().unwrap()
}

fn concerns(event: &Connection, end: SocketAddr) -> bool {
    event.local == end.to_string() || event.remote == end.to_string()
}

#[track_caller]
fn is_mine(event: &Connection, attribution: &str) {
    let me = std::env::current_exe().unwrap();
    assert_eq!(event.attribution.as_deref(), Some(attribution), "{event:?}");
    assert_eq!(event.pid, std::process::id(), "{event:?}");
    assert_eq!(event.name, me.to_str().unwrap());
    assert_eq!(event.user.as_deref(), Some("root"));
}

#[test]
fn m08_m09_a_refused_connect_is_one_outgoing_event_of_its_process() {
    over_best_sources("refused connect", |observed| {
        for ip in ["127.0.0.1", "::1"] {
            let end = closed_port(ip);
            TcpStream::connect(end).unwrap_err();
            let events = observed.expect(1, |event| concerns(event, end));
            is_mine(&events[0], "kernel");
            assert_eq!(events[0].dir, Direction::Out);
            assert_eq!(events[0].remote_ip, ip);
            assert_eq!(events[0].state.as_deref(), Some("refused"));
        }
    });
}

fn accepted_on(observed: &Observed, ip: &str, attribution: &str) {
    let listener = TcpListener::bind((ip.parse::<IpAddr>().unwrap(), 0)).unwrap();
    let end = listener.local_addr().unwrap();
    let client = TcpStream::connect(end).unwrap();
    let accepted = listener.accept().unwrap();
    let events = observed.expect(2, |event| concerns(event, end));
    let here = client.local_addr().unwrap().to_string();
    for event in &events {
        is_mine(event, attribution);
        assert_eq!(event.state.as_deref(), Some("established"));
        match event.dir {
            Direction::Out => {
                assert_eq!((&event.local, &event.remote), (&here, &end.to_string()));
            }
            Direction::In => {
                assert_eq!((&event.local, &event.remote), (&end.to_string(), &here));
            }
        }
    }
    assert_ne!(events[0].dir, events[1].dir);
    drop(accepted);
}

#[test]
fn m08_m15_an_accepted_connection_is_one_event_for_each_side_on_both_families() {
    over_best_sources("accepted connection", |observed| {
        accepted_on(observed, "127.0.0.1", "kernel");
        accepted_on(observed, "::1", "kernel");
    });
}

#[test]
fn without_capture_the_kernel_alone_reports_both_sides() {
    let Some(observed) = Observed::start("kernel alone", Source::Ebpf) else {
        return;
    };
    assert_eq!(observed.source, "ebpf");
    accepted_on(&observed, "127.0.0.1", "kernel");
}

#[test]
fn without_the_kernel_packets_and_lookups_report_both_sides() {
    for (source, name) in [(Source::Packet, "packet"), (Source::Pcap, "pcap")] {
        let Some(observed) = Observed::start(&format!("{name} alone"), source) else {
            continue;
        };
        assert_eq!(observed.source, name);
        accepted_on(&observed, "127.0.0.1", "lookup");
        accepted_on(&observed, "::1", "lookup");
        let end = closed_port("127.0.0.1");
        TcpStream::connect(end).unwrap_err();
        let events = observed.expect(1, |event| concerns(event, end));
        assert_eq!(events[0].attribution.as_deref(), Some("none"));
        assert_eq!(events[0].state.as_deref(), Some("refused"));
    }
}

#[cfg(not(feature = "pcap"))]
#[test]
fn a_source_this_program_was_built_without_is_told_and_not_replaced() {
    let Some(observed) = Observed::start("missing libpcap", Source::PcapEbpf) else {
        return;
    };
    assert_eq!(observed.source, "ebpf");
}

#[test]
fn m09_a_connection_accepted_by_a_socket_for_both_families_has_plain_addresses() {
    let Some(observed) = Observed::start("socket for both families", Source::Best) else {
        return;
    };
    let listener = TcpListener::bind("[::]:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let end = SocketAddr::from(([127, 0, 0, 1], port));
    let client = TcpStream::connect(end).unwrap();
    let accepted = listener.accept().unwrap();
    let events = observed.expect(2, |event| {
        event.local.ends_with(&format!(":{port}")) || event.remote.ends_with(&format!(":{port}"))
    });
    for event in &events {
        is_mine(event, "kernel");
        assert!(concerns(event, end));
    }
    drop((client, accepted));
}

#[test]
fn a_connection_that_waits_in_the_backlog_is_reported_once() {
    let Some(observed) = Observed::start("late accept", Source::Best) else {
        return;
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let end = listener.local_addr().unwrap();
    let client = TcpStream::connect(end).unwrap();
    let events = observed.expect(2, |event| concerns(event, end));
    let incoming = events
        .iter()
        .find(|event| event.dir == Direction::In)
        .unwrap();
    is_mine(incoming, "lookup");
    let accepted = listener.accept().unwrap();
    observed.expect(2, |event| concerns(event, end));
    drop((client, accepted));
}

#[test]
fn m08_m09_two_thousand_connects_are_all_reported_and_attributed() {
    over_best_sources("two thousand connects", two_thousand_connects);
}

fn two_thousand_connects(observed: &Observed) {
    const COUNT: usize = 2000;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let end = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        for _ in 0..COUNT {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1]);
        }
    });
    let mut ports = Vec::with_capacity(COUNT);
    for _ in 0..COUNT {
        let mut stream = TcpStream::connect(end).unwrap();
        ports.push(stream.local_addr().unwrap().to_string());
        stream.write_all(b"x").unwrap();
        // Or else the backlog overflows, and some requests are answered a second later.
        assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
    }
    server.join().unwrap();
    let events = observed.expect(2 * COUNT, |event| concerns(event, end));
    for event in &events {
        is_mine(event, "kernel");
        assert_eq!(event.state.as_deref(), Some("established"));
    }
    ports.sort();
    for dir in [Direction::Out, Direction::In] {
        let mut seen: Vec<_> = events
            .iter()
            .filter(|event| event.dir == dir)
            .map(|event| {
                if dir == Direction::Out {
                    &event.local
                } else {
                    &event.remote
                }
            })
            .cloned()
            .collect();
        seen.sort();
        assert_eq!(seen, ports, "{dir:?}");
    }
}

#[test]
fn m09_a_shell_that_connects_is_named_by_its_executable() {
    let Some(observed) = Observed::start("shell", Source::Best) else {
        return;
    };
    let end = closed_port("127.0.0.1");
    let script = format!("exec 3<>/dev/tcp/127.0.0.1/{}; read wait", end.port());
    let mut shell = Command::new("bash")
        .args(["-c", &script])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let pid = shell.id();
    let events = observed.expect(1, |event| concerns(event, end));
    drop(shell.stdin.take());
    shell.wait().unwrap();
    assert_eq!((events[0].dir, events[0].pid), (Direction::Out, pid));
    assert!(events[0].name.ends_with("/bash"), "{:?}", events[0]);
}

#[test]
fn m10_udp_is_reported_once_per_flow_while_its_switch_is_on() {
    let Some(observed) = Observed::start("udp", Source::Best) else {
        return;
    };
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let end = server.local_addr().unwrap();
    let exchange = |connected: bool| {
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..3 {
            if connected {
                client.connect(end).unwrap();
                client.send(b"ask").unwrap();
            } else {
                client.send_to(b"ask", end).unwrap();
            }
            let (_, from) = server.recv_from(&mut [0; 8]).unwrap();
            server.send_to(b"answer", from).unwrap();
            client.recv(&mut [0; 8]).unwrap();
        }
        client
    };
    let off = exchange(false);
    observed.expect(0, |event| concerns(event, end));

    set(&observed.context, |config| config.client.udp = true);
    let before = observed.books(|books| books.commits);
    let mut expected = 0;
    for connected in [false, true] {
        // The switch is in force within a round; until then a flow may pass unseen.
        let probe = Instant::now() + PATIENCE;
        while expected == 0
            && observed.books(|books| books.commits) == before
            && Instant::now() < probe
        {
            let other = UdpSocket::bind("127.0.0.1:0").unwrap();
            other.send_to(b"x", other.local_addr().unwrap()).unwrap();
            thread::sleep(Duration::from_millis(50));
        }
        let client = exchange(connected);
        expected += 2;
        let events = observed.expect(expected, |event| concerns(event, end));
        let here = client.local_addr().unwrap();
        let mine: Vec<_> = events
            .iter()
            .filter(|event| concerns(event, here))
            .collect();
        assert_eq!(mine.len(), 2);
        assert_ne!(mine[0].dir, mine[1].dir);
        for event in mine {
            assert_eq!(event.protocol, Protocol::Udp);
            is_mine(event, "kernel");
        }
    }
    drop(off);
}

/// A SYN as programs make it that do without sockets.
fn raw_syn(source: SocketAddr, destination: SocketAddr) {
    let (IpAddr::V4(from), IpAddr::V4(to)) = (source.ip(), destination.ip()) else {
        panic!("IPv4 only");
    };
    let mut packet = vec![0x45, 0, 0, 40, 0, 1, 0, 0, 64, 6, 0, 0];
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend(source.port().to_be_bytes());
    packet.extend(destination.port().to_be_bytes());
    packet.extend(0x1234_5678_u32.to_be_bytes());
    packet.extend([0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]);
    let flags = SockFlag::empty();
    let raw = socket(AddressFamily::Inet, SockType::Raw, flags, SockProtocol::Raw).unwrap();
    let address = SockaddrIn::from(std::net::SocketAddrV4::new(to, 0));
    sendto(raw.as_raw_fd(), &packet, &address, MsgFlags::empty()).unwrap();
}

#[test]
fn a_request_that_no_socket_made_is_told_as_such_and_one_of_a_socket_never() {
    over_best_sources("raw request", raw_request);
}

fn raw_request(observed: &Observed) {
    // Just after the start nothing is said about it.
    thread::sleep(Duration::from_millis(2500));
    let end = closed_port("127.0.0.1");
    let from = closed_port("127.0.0.1");
    raw_syn(from, end);
    let events = observed.expect(1, |event| event.remote == end.to_string());
    assert_eq!(events[0].dir, Direction::Out);
    assert_eq!(events[0].attribution.as_deref(), Some("raw"));
    assert_eq!((events[0].name.as_str(), events[0].pid), ("", 0));
    let other = closed_port("127.0.0.1");
    TcpStream::connect(other).unwrap_err();
    let events = observed.expect(1, |event| event.remote == other.to_string());
    is_mine(&events[0], "kernel");
}

#[test]
fn m10_m15_udp_over_ipv6_is_one_flow_of_its_process() {
    let udp = |config: &mut AgentConfig| {
        config.client.udp = true;
        config.client.lan = true;
    };
    for source in best_sources() {
        if let Some(observed) = Observed::start_with("udp over ipv6", source, udp) {
            // Until the first round the switch is not in force.
            thread::sleep(SETTLED);
            udp_over_ipv6(&observed);
        }
    }
}

fn udp_over_ipv6(observed: &Observed) {
    let server = UdpSocket::bind("[::1]:0").unwrap();
    let end = server.local_addr().unwrap();
    let client = UdpSocket::bind("[::1]:0").unwrap();
    for _ in 0..3 {
        client.send_to(b"ask", end).unwrap();
        let (_, from) = server.recv_from(&mut [0; 8]).unwrap();
        server.send_to(b"answer", from).unwrap();
        client.recv(&mut [0; 8]).unwrap();
    }
    let events = observed.expect(2, |event| concerns(event, end));
    assert_ne!(events[0].dir, events[1].dir);
    for event in &events {
        assert_eq!(event.protocol, Protocol::Udp);
        assert_eq!(event.remote_ip, "::1");
        is_mine(event, "kernel");
    }
}

#[test]
fn m11_the_lan_switch_takes_effect_while_running_and_the_books_count_what_it_leaves_out() {
    let Some(observed) = Observed::start_with("lan switch", Source::Best, |_| {}) else {
        return;
    };
    let end = closed_port("127.0.0.1");
    TcpStream::connect(end).unwrap_err();
    observed.expect(0, |event| concerns(event, end));
    assert!(observed.books(|books| books.filtered) > 0);
    set(&observed.context, |config| config.client.lan = true);
    TcpStream::connect(end).unwrap_err();
    observed.expect(1, |event| concerns(event, end));
}

/// Another host: a network namespace at the end of a virtual cable.
struct Neighbour {
    holder: Child,
    cable: String,
    here: IpAddr,
}

impl Neighbour {
    fn new() -> Result<Self, String> {
        let id = std::process::id() % 10_000;
        let (cable, far) = (format!("yl{id}a"), format!("yl{id}b"));
        let holder = Command::new("unshare")
            .args(["-n", "sh", "-c", "echo ready; exec sleep 120"])
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("unshare: {error}"))?;
        let mut neighbour = Self {
            holder,
            cable: cable.clone(),
            here: "198.18.77.1".parse().unwrap(),
        };
        let mut ready = [0; 6];
        let stdout = neighbour.holder.stdout.as_mut().ok_or("no output")?;
        stdout
            .read_exact(&mut ready)
            .map_err(|error| format!("unshare: {error}"))?;
        let pid = neighbour.holder.id().to_string();
        run(&[
            "ip", "link", "add", &cable, "type", "veth", "peer", "name", &far,
        ])?;
        run(&["ip", "link", "set", &far, "netns", &pid])?;
        run(&["ip", "addr", "add", "198.18.77.1/30", "dev", &cable])?;
        run(&["ip", "link", "set", &cable, "up"])?;
        neighbour.run(&["ip", "addr", "add", "198.18.77.2/30", "dev", &far])?;
        neighbour.run(&["ip", "link", "set", &far, "up"])?;
        Ok(neighbour)
    }

    fn run(&self, command: &[&str]) -> Result<(), String> {
        let pid = self.holder.id().to_string();
        let mut whole = vec!["nsenter", "-t", &pid, "-n"];
        whole.extend(command);
        run(&whole)
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        let _ = run(&["ip", "link", "del", &self.cable]);
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

fn run(command: &[&str]) -> Result<(), String> {
    let output = Command::new(command[0])
        .args(&command[1..])
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(format!(
            "{command:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        ))
    }
}

#[test]
fn m08_m15_another_host_is_seen_over_a_second_interface_refused_and_accepted() {
    over_best_sources("another host", another_host);
}

fn another_host(observed: &Observed) {
    let neighbour = match Neighbour::new() {
        Ok(neighbour) => neighbour,
        Err(error) => {
            eprintln!("SKIPPED another host: {error}");
            return;
        }
    };
    let listener = TcpListener::bind((neighbour.here, 0)).unwrap();
    let open = listener.local_addr().unwrap();
    let closed = closed_port("198.18.77.1");
    let connect = |port: u16| {
        let script = format!("exec 3<>/dev/tcp/{}/{port}", neighbour.here);
        neighbour.run(&["bash", "-c", &script])
    };

    connect(closed.port()).unwrap_err();
    let refused = observed.expect(1, |event| event.local == closed.to_string());
    assert_eq!(refused[0].dir, Direction::In);
    assert_eq!(refused[0].remote_ip, "198.18.77.2");
    assert_eq!((refused[0].name.as_str(), refused[0].pid), ("", 0));
    assert_eq!(refused[0].state.as_deref(), Some("refused"));
    assert_eq!(refused[0].attribution.as_deref(), Some("none"));

    connect(open.port()).unwrap();
    let accepted = listener.accept().unwrap();
    let events = observed.expect(1, |event| event.local == open.to_string());
    assert_eq!(events[0].dir, Direction::In);
    is_mine(&events[0], "kernel");
    drop(accepted);
}
