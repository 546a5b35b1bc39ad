//! `listening`: TCP and UDP sockets that other hosts can reach (A03).
//!
//! UDP has no state of listening: whoever sends by it receives by it, too. A UDP socket is listed when
//! it is not bound to one peer, and, in the range of ports the kernel hands out, when it lasts: a
//! question to a name server is no service.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::RangeInclusive,
    time::Duration,
};

use yinglong_model::inventory::Element;

use super::{Error, Root, element, processes, root::file_name};

/// Listening sockets come first in the kernel's tables, so this holds some 100,000 of them.
const TABLE_LIMIT_BYTES: u64 = 16 << 20;

/// State of a listening TCP socket, `TCP_LISTEN` of the kernel's tcp_states.h.
const LISTEN: &str = "0A";

/// State of a UDP socket without a peer, `TCP_CLOSE`.
const UNCONNECTED: &str = "07";

/// Ports the kernel hands out when it does not say, ip-sysctl of its documentation.
const HANDED_OUT: RangeInclusive<u16> = 32_768..=60_999;

/// Before the first list, how long a UDP socket must be there to be one that lasts. Resolvers give up
/// on an answer sooner than that.
const FIRST_LOOK: Duration = Duration::from_secs(2);

/// UDP sockets of handed-out ports, by inode, that were there at the last look.
#[derive(Debug, Default)]
pub struct Lasting(Option<HashSet<u64>>);

/// Collects the sockets of this network namespace, each with the process that holds it. The first call
/// may take [`FIRST_LOOK`], so that a restart of the agent does not shorten the list.
///
/// # Errors
/// `/proc` cannot be read.
pub fn collect(root: &Root, lasting: &mut Lasting) -> Result<Vec<Element>, Error> {
    let mut sockets = Vec::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        sockets.extend(read(root, table, LISTEN).map(|socket| ("tcp", socket)));
    }
    let handed_out = handed_out(root);
    if lasting.0.is_none() {
        let seen = passing(&datagrams(root), &handed_out);
        if !seen.is_empty() {
            std::thread::sleep(FIRST_LOOK);
        }
        lasting.0 = Some(seen);
    }
    let datagrams = datagrams(root);
    let seen = lasting
        .0
        .replace(passing(&datagrams, &handed_out))
        .unwrap_or_default();
    let lasts = |s: &Socket| !handed_out.contains(&s.address.port()) || seen.contains(&s.inode);
    sockets.extend(
        datagrams
            .into_iter()
            .filter(lasts)
            .map(|socket| ("udp", socket)),
    );
    sockets.retain(|(_, socket)| !socket.address.ip().is_loopback());
    sockets.sort_by_key(|(proto, socket)| (*proto, socket.address, socket.inode));
    let holders = holders(root, &sockets.iter().map(|(_, s)| s.inode).collect())?;
    Ok(sockets
        .iter()
        .map(|(proto, socket)| {
            let (pid, name) = holders
                .get(&socket.inode)
                .map_or((0, ""), |(pid, name)| (*pid, name.as_str()));
            element([
                ("proto", (*proto).to_owned()),
                ("address", socket.address.to_string()),
                ("pid", pid.to_string()),
                ("name", name.to_owned()),
            ])
        })
        .collect())
}

fn read(root: &Root, table: &str, state: &str) -> impl Iterator<Item = Socket> {
    let bytes = root.peek(table, TABLE_LIMIT_BYTES).unwrap_or_default();
    parse(&String::from_utf8_lossy(&bytes), state).into_iter()
}

fn datagrams(root: &Root) -> Vec<Socket> {
    let tables = ["/proc/net/udp", "/proc/net/udp6"];
    tables
        .into_iter()
        .flat_map(|table| read(root, table, UNCONNECTED))
        .collect()
}

/// Those that may be gone in a moment.
fn passing(sockets: &[Socket], handed_out: &RangeInclusive<u16>) -> HashSet<u64> {
    sockets
        .iter()
        .filter(|socket| handed_out.contains(&socket.address.port()))
        .map(|socket| socket.inode)
        .collect()
}

fn handed_out(root: &Root) -> RangeInclusive<u16> {
    let range = || {
        let text = root.peek("/proc/sys/net/ipv4/ip_local_port_range", 64)?;
        let text = String::from_utf8_lossy(&text);
        let mut ports = text.split_ascii_whitespace();
        let (first, last) = (ports.next()?.parse().ok()?, ports.next()?.parse().ok()?);
        Some(first..=last)
    };
    range().unwrap_or(HANDED_OUT)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Socket {
    address: SocketAddr,
    inode: u64,
}

/// Sockets in a state, of a table in the format of proc_net_tcp: `sl local remote state ... inode`.
fn parse(table: &str, state: &str) -> Vec<Socket> {
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut columns = line.split_ascii_whitespace();
            let local = columns.nth(1)?;
            if columns.nth(1)? != state {
                return None;
            }
            Some(Socket {
                address: parse_address(local)?,
                inode: columns.nth(5)?.parse().ok()?,
            })
        })
        .collect()
}

/// `0100007F:1F90`: words of four bytes in host order, the port in network order.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let mut bytes = Vec::with_capacity(16);
    let mut rest = address;
    while let Some((word, tail)) = rest.split_at_checked(8) {
        bytes.extend(u32::from_str_radix(word, 16).ok()?.to_ne_bytes());
        rest = tail;
    }
    let ip = match (bytes.as_slice(), rest) {
        (short, "") if short.len() == 4 => {
            IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(short).ok()?))
        }
        (long, "") => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(long).ok()?)).to_canonical(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

/// Lowest pid, with its name, of those that hold each socket: servers open it before they fork.
fn holders(root: &Root, sockets: &HashSet<u64>) -> Result<HashMap<u64, (u32, String)>, Error> {
    let mut holders = HashMap::new();
    for process in processes::scan(root)? {
        if holders.len() == sockets.len() {
            break;
        }
        if process.exe.is_empty() && process.arguments.is_empty() {
            continue;
        }
        // A process that ended meanwhile, or is not ours to read, has no sockets to show.
        let descriptors = root
            .list(format!("/proc/{}/fd", process.pid))
            .unwrap_or_default();
        for descriptor in descriptors {
            let inode = root.link(&descriptor).and_then(|target| {
                file_name(&target)
                    .strip_prefix("socket:[")?
                    .strip_suffix(']')?
                    .parse::<u64>()
                    .ok()
            });
            if let Some(inode) = inode
                && sockets.contains(&inode)
            {
                holders
                    .entry(inode)
                    .or_insert_with(|| (process.pid, process.name().to_owned()));
            }
        }
    }
    Ok(holders)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::{fixture, rows};
    use proptest::prelude::*;
    use std::net::{TcpListener, UdpSocket};

    #[test]
    fn addresses_are_read_in_the_kernels_own_form() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(
                parse_address(text).map(|a| a.to_string()).as_deref(),
                expected
            );
        };
        check("00000000:1770", Some("0.0.0.0:6000"));
        check("0100007F:0016", Some("127.0.0.1:22"));
        check("00000000000000000000000000000000:0050", Some("[::]:80"));
        check(
            "0000000000000000FFFF00000100007F:0050",
            Some("127.0.0.1:80"),
        );
        check(
            "0000000000000000FFFF00000101A8C0:0050",
            Some("192.168.1.1:80"),
        );
        check("00:50", None);
        check("0000000:50", None);
        check("éééé:50", None);
        check("", None);
    }

    #[test]
    fn sockets_of_the_host_are_listed_but_not_on_loopback_a03() {
        let open = TcpListener::bind("0.0.0.0:0").unwrap();
        let local = TcpListener::bind("127.0.0.1:0").unwrap();
        let list = collect(&Root::host(), &mut Lasting::default()).unwrap();
        let find = |listener: &TcpListener| {
            let port = listener.local_addr().unwrap().port();
            list.iter()
                .find(|e| e["address"].ends_with(&format!(":{port}")))
                .cloned()
        };
        assert_eq!(find(&local), None);
        let found = find(&open).unwrap();
        assert_eq!(found["pid"], std::process::id().to_string());
        let own = std::env::current_exe().unwrap();
        assert_eq!(found["name"], own.to_string_lossy());
        assert!(found["address"].starts_with("0.0.0.0:"));
    }

    /// A table as proc_net_udp has it: address, state and inode of each socket.
    fn table(sockets: &[(&str, &str, u64)]) -> String {
        let mut table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n".to_owned();
        for (local, state, inode) in sockets {
            table.push_str(&format!(
                "  42: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 {inode} 2 0 0\n"
            ));
        }
        table
    }

    #[test]
    fn udp_sockets_are_listed_but_not_questions_that_wait_for_an_answer_a03() {
        let dir = fixture(&[(
            "proc/net/udp",
            &table(&[
                ("00000000:0035", UNCONNECTED, 1),
                ("0100007F:0143", UNCONNECTED, 2),
                ("0A00000A:8000", "01", 3),
                ("00000000:CA6C", UNCONNECTED, 4),
                ("00000000:A000", UNCONNECTED, 5),
            ]),
        )]);
        let root = Root::at(dir.path());
        let addresses =
            |lasting: &mut Lasting| rows(&collect(&root, lasting).unwrap(), &["proto", "address"]);
        let mut lasting = Lasting(Some(HashSet::from([4])));
        assert_eq!(
            addresses(&mut lasting),
            ["udp|0.0.0.0:53", "udp|0.0.0.0:51820"]
        );
        // The one that was new the last time has lasted; a new socket of an old port is new.
        let sockets = [
            ("00000000:CA6C", UNCONNECTED, 6),
            ("00000000:A000", UNCONNECTED, 5),
        ];
        std::fs::write(dir.path().join("proc/net/udp"), table(&sockets)).unwrap();
        assert_eq!(addresses(&mut lasting), ["udp|0.0.0.0:40960"]);
    }

    #[test]
    fn a_restart_of_the_agent_does_not_shorten_the_list_a16() {
        let dir = fixture(&[(
            "proc/net/udp6",
            &table(&[("00000000000000000000000000000000:CA6C", UNCONNECTED, 4)]),
        )]);
        let list = collect(&Root::at(dir.path()), &mut Lasting::default()).unwrap();
        assert_eq!(
            rows(&list, &["proto", "address", "pid"]),
            ["udp|[::]:51820|0"]
        );
    }

    #[test]
    fn a_udp_socket_of_this_very_host_is_listed_with_its_process_a03() {
        let Ok(table) = std::fs::read_to_string("/proc/net/udp") else {
            eprintln!("SKIPPED a_udp_socket_of_this_very_host: no /proc/net/udp");
            return;
        };
        let open = UdpSocket::bind("0.0.0.0:0").unwrap();
        let peer = UdpSocket::bind("0.0.0.0:0").unwrap();
        peer.connect("127.0.0.1:9").unwrap();
        if std::fs::read_to_string("/proc/net/udp").unwrap().len() == table.len() {
            eprintln!(
                "SKIPPED a_udp_socket_of_this_very_host: this kernel does not list its UDP sockets"
            );
            return;
        }
        let list = collect(&Root::host(), &mut Lasting::default()).unwrap();
        let find = |socket: &UdpSocket| {
            let end = format!(":{}", socket.local_addr().unwrap().port());
            list.iter()
                .find(|e| e["proto"] == "udp" && e["address"].ends_with(&end))
        };
        assert_eq!(find(&open).unwrap()["pid"], std::process::id().to_string());
        assert_eq!(find(&peer), None, "it is bound to one peer");
    }

    proptest! {
        #[test]
        fn no_table_of_sockets_can_stop_the_collector_a17(
            noise in any::<String>(),
            like in "x\n( ?[0-9]: [0-9A-F:]{0,14} [0-9:]{0,9} (07|0A)( [0-9]{1,9}){0,9}\n){0,5}",
        ) {
            for text in [&noise, &like] {
                let _ = parse(text, LISTEN);
                let _ = parse(text, UNCONNECTED);
            }
        }
    }
}
