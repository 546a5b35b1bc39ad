//! Finds the process of a socket after the fact: `/proc/net` names the socket, `/proc/*/fd` its
//! holder. The second best source, for attempts the kernel hooks did not tell.

use std::{
    collections::{HashMap, HashSet},
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use yinglong_model::event::{Direction, Protocol};

use super::join::{Attempt, Owner};

/// Shortest time between two walks over all processes.
const WALK_INTERVAL: Duration = Duration::from_millis(100);
/// Holders remembered; the table is emptied when it is full.
const REMEMBERED: usize = 4096;

/// `TCP_LISTEN` in `/proc/net/tcp`
const LISTEN: u8 = 0x0a;

/// A line of `/proc/net/{tcp,udp}{,6}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Socket {
    local: SocketAddr,
    remote: SocketAddr,
    state: u8,
    inode: u64,
}

/// Answers questions for owners, remembering which process holds which socket.
#[derive(Debug, Default)]
pub(crate) struct Lookup {
    /// Socket inode to the link that named it.
    holders: HashMap<u64, PathBuf>,
    walked: Option<Duration>,
}

impl Lookup {
    /// The owners of the attempts, each `None` when its socket or process is gone.
    pub(crate) fn owners(&mut self, now: Duration, attempts: &[Attempt]) -> Vec<Option<Owner>> {
        let mut tables: HashMap<Protocol, Sockets> = HashMap::new();
        let inodes: Vec<Option<u64>> = attempts
            .iter()
            .map(|attempt| {
                let sockets = tables
                    .entry(attempt.protocol)
                    .or_insert_with(|| read_sockets(attempt.protocol));
                sockets.find(attempt)
            })
            .collect();
        let missing: HashSet<u64> = inodes
            .iter()
            .flatten()
            .copied()
            .filter(|&inode| !self.still_holds(inode))
            .collect();
        let due = self
            .walked
            .is_none_or(|walked| now >= walked + WALK_INTERVAL);
        if !missing.is_empty() && due {
            self.walk(missing);
            self.walked = Some(now);
        }
        inodes
            .into_iter()
            .map(|inode| inode.and_then(|inode| owner(self.holders.get(&inode)?)))
            .collect()
    }

    fn still_holds(&mut self, inode: u64) -> bool {
        let Some(link) = self.holders.get(&inode) else {
            return false;
        };
        let holds = socket_inode(link) == Some(inode);
        if !holds {
            self.holders.remove(&inode);
        }
        holds
    }

    fn walk(&mut self, mut missing: HashSet<u64>) {
        if self.holders.len() >= REMEMBERED {
            self.holders.clear();
        }
        for process in entries(Path::new("/proc")) {
            if process
                .file_name()
                .and_then(|name| name.to_str())
                .is_none_or(|name| !name.bytes().all(|byte| byte.is_ascii_digit()))
            {
                continue;
            }
            for link in entries(&process.join("fd")) {
                let Some(inode) = socket_inode(&link) else {
                    continue;
                };
                if missing.remove(&inode) {
                    self.holders.insert(inode, link);
                    if missing.is_empty() {
                        return;
                    }
                }
            }
        }
    }
}

fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
}

/// Inode of `/proc/<pid>/fd/<n>` when it is a socket.
fn socket_inode(link: &Path) -> Option<u64> {
    let target = fs::read_link(link).ok()?;
    let inode = target
        .to_str()?
        .strip_prefix("socket:[")?
        .strip_suffix(']')?;
    inode.parse().ok()
}

/// The process of `/proc/<pid>/fd/<n>`.
fn owner(link: &Path) -> Option<Owner> {
    let process = link.parent()?.parent()?;
    let pid = process.file_name()?.to_str()?.parse().ok()?;
    let mut comm = [0; 16];
    let name = fs::read(process.join("comm")).ok()?;
    for (slot, byte) in comm.iter_mut().zip(name.trim_ascii_end()) {
        *slot = *byte;
    }
    Some(Owner {
        pid,
        uid: fs::metadata(process).ok()?.uid(),
        start_boottime_ns: 0,
        comm,
    })
}

fn read_sockets(protocol: Protocol) -> Sockets {
    let tables = match protocol {
        Protocol::Tcp => ["tcp", "tcp6"],
        Protocol::Udp => ["udp", "udp6"],
    };
    // `/proc/net` is the network of the process's first thread, which need not be ours.
    let texts = tables.map(|table| {
        fs::read_to_string(format!("/proc/thread-self/net/{table}")).unwrap_or_default()
    });
    texts
        .iter()
        .flat_map(|text| text.lines())
        .filter_map(socket)
        .collect()
}

/// Sockets that some process holds.
#[derive(Debug, Default)]
struct Sockets {
    /// By both ends.
    connected: HashMap<(SocketAddr, SocketAddr), u64>,
    /// Waiting for peers, by port.
    waiting: HashMap<u16, Vec<(IpAddr, u64)>>,
}

impl FromIterator<Socket> for Sockets {
    fn from_iter<I: IntoIterator<Item = Socket>>(sockets: I) -> Self {
        let mut index = Self::default();
        for socket in sockets {
            let Socket { local, remote, .. } = socket;
            if socket.inode == 0 {
                continue;
            }
            if socket.state == LISTEN || remote.port() == 0 {
                let same_port = index.waiting.entry(local.port()).or_default();
                same_port.push((local.ip(), socket.inode));
            } else {
                index.connected.insert((local, remote), socket.inode);
            }
        }
        index
    }
}

impl Sockets {
    /// The socket of the attempt itself, or the one that waits for such attempts.
    fn find(&self, attempt: &Attempt) -> Option<u64> {
        let Attempt { local, remote, .. } = *attempt;
        if let Some(&inode) = self.connected.get(&(local, remote)) {
            return Some(inode);
        }
        if attempt.protocol == Protocol::Tcp && attempt.dir == Direction::Out {
            return None;
        }
        let waiting = self.waiting.get(&local.port())?.iter();
        waiting
            .filter(|(bound, _)| serves(*bound, local.ip()))
            // Bound to the very address before bound to all of them.
            .min_by_key(|(bound, _)| bound.is_unspecified())
            .map(|&(_, inode)| inode)
    }
}

/// Whether a socket bound to `bound` gets packets for `address`; `::` serves both families.
fn serves(bound: IpAddr, address: IpAddr) -> bool {
    bound == address
        || bound == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        || (bound == IpAddr::V4(Ipv4Addr::UNSPECIFIED) && address.is_ipv4())
        || address.is_multicast()
}

fn socket(line: &str) -> Option<Socket> {
    let mut columns = line.split_ascii_whitespace();
    let local = end(columns.nth(1)?)?;
    let remote = end(columns.next()?)?;
    let state = u8::from_str_radix(columns.next()?, 16).ok()?;
    let inode = columns.nth(5)?.parse().ok()?;
    Some(Socket {
        local,
        remote,
        state,
        inode,
    })
}

/// `0100007F:0035`: words of 32 bits as the processor holds them, then the port.
fn end(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let digits = address.get(at * 8..at * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let ip = match address.len() {
        8 => IpAddr::from(word(0)?),
        32 => {
            let mut bytes = [0; 16];
            for (at, chunk) in bytes.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(at)?);
            }
            IpAddr::from(bytes).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use proptest::prelude::*;

    use super::*;

    #[cfg(target_endian = "little")]
    #[test]
    fn lines_of_the_kernel_tables_are_read() {
        let head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   \
                    uid  timeout inode";
        let four = "   0: 0100007F:0277 00000000:0000 0A 00000000:00000000 00:00000000 00000000 \
                    0 0 4711 1 0 100 0 0 10 0";
        let six = "   1: 00000000000000000000000001000000:0016 \
                   B80D0120000000000000000001000000:C350 01 00000000:00000000 00:00000000 \
                   00000000 33 0 99 1 0";
        assert_eq!(socket(head), None);
        let first = socket(four).unwrap();
        assert_eq!(first.local, "127.0.0.1:631".parse().unwrap());
        assert_eq!((first.state, first.inode), (LISTEN, 4711));
        let second = socket(six).unwrap();
        assert_eq!(second.local, "[::1]:22".parse().unwrap());
        assert_eq!(second.remote, "[2001:db8::1]:50000".parse().unwrap());
    }

    fn attempt(protocol: Protocol, dir: Direction, local: &str, remote: &str) -> Attempt {
        Attempt {
            protocol,
            dir,
            local: local.parse().unwrap(),
            remote: remote.parse().unwrap(),
            isn: 0,
        }
    }

    #[test]
    fn the_connection_itself_comes_before_the_listener_and_a_bound_one_before_all() {
        let listen = |local: &str, inode| Socket {
            local: local.parse().unwrap(),
            remote: "0.0.0.0:0".parse().unwrap(),
            state: LISTEN,
            inode,
        };
        let accepted = Socket {
            local: "192.0.2.1:80".parse().unwrap(),
            remote: "198.51.100.7:999".parse().unwrap(),
            state: 1,
            inode: 5,
        };
        let sockets: Sockets = [
            listen("0.0.0.0:80", 1),
            listen("192.0.2.1:80", 2),
            listen("[::]:81", 3),
            accepted,
        ]
        .into_iter()
        .collect();
        for (dir, local, remote, expected) in [
            (Direction::In, "192.0.2.1:80", "198.51.100.7:999", Some(5)),
            (Direction::In, "192.0.2.1:80", "198.51.100.7:1", Some(2)),
            (Direction::In, "192.0.2.2:80", "198.51.100.7:1", Some(1)),
            (Direction::In, "192.0.2.2:81", "198.51.100.7:1", Some(3)),
            (Direction::In, "[2001:db8::1]:80", "[2001:db8::2]:1", None),
            (Direction::Out, "192.0.2.1:80", "198.51.100.7:1", None),
        ] {
            let wanted = attempt(Protocol::Tcp, dir, local, remote);
            assert_eq!(sockets.find(&wanted), expected, "{wanted:?}");
        }
    }

    #[test]
    fn m09_this_process_is_found_behind_its_own_sockets() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (here, there) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
        let (here, there) = (here.to_string(), there.to_string());
        let udp = udp.local_addr().unwrap().to_string();
        let wanted = [
            attempt(Protocol::Tcp, Direction::Out, &here, &there),
            attempt(Protocol::Tcp, Direction::In, &there, &here),
            attempt(Protocol::Udp, Direction::In, &udp, "127.0.0.1:9"),
            attempt(Protocol::Tcp, Direction::Out, "127.0.0.1:1", "127.0.0.1:2"),
        ];
        let owners = Lookup::default().owners(Duration::ZERO, &wanted);
        let pids: Vec<_> = owners
            .iter()
            .map(|owner| owner.map(|owner| owner.pid))
            .collect();
        let me = Some(std::process::id());
        assert_eq!(pids, [me, me, me, None]);
    }

    proptest! {
        #[test]
        fn no_line_makes_the_reader_panic(line: String) {
            let _ = socket(&line);
            let _ = end(&line);
        }
    }
}
