//! `listening`: TCP sockets that other hosts can reach (A03).

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use yinglong_model::inventory::Element;

use super::{Error, Root, element, processes, root::file_name};

/// Listening sockets come first in the kernel's tables, so this holds some 100,000 of them.
const TABLE_LIMIT_BYTES: u64 = 16 << 20;

/// State of a listening socket, `TCP_LISTEN` of the kernel's tcp_states.h.
const LISTEN: &str = "0A";

/// Collects the sockets of this network namespace, each with the process that holds it.
///
/// # Errors
/// `/proc` cannot be read.
pub fn collect(root: &Root) -> Result<Vec<Element>, Error> {
    let mut sockets = Vec::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        if let Some(bytes) = root.peek(table, TABLE_LIMIT_BYTES) {
            sockets.extend(parse(&String::from_utf8_lossy(&bytes)));
        }
    }
    sockets.retain(|socket| !socket.address.ip().is_loopback());
    sockets.sort_by_key(|socket| (socket.address, socket.inode));
    let holders = holders(root, &sockets)?;
    Ok(sockets
        .iter()
        .map(|socket| {
            let (pid, name) = holders
                .get(&socket.inode)
                .map_or((0, ""), |(pid, name)| (*pid, name.as_str()));
            element([
                ("proto", "tcp".to_owned()),
                ("address", socket.address.to_string()),
                ("pid", pid.to_string()),
                ("name", name.to_owned()),
            ])
        })
        .collect())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Socket {
    address: SocketAddr,
    inode: u64,
}

/// Listening sockets of a table in the format of proc_net_tcp: `sl local remote state ... inode`.
fn parse(table: &str) -> Vec<Socket> {
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut columns = line.split_ascii_whitespace();
            let local = columns.nth(1)?;
            if columns.nth(1)? != LISTEN {
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
fn holders(root: &Root, sockets: &[Socket]) -> Result<HashMap<u64, (u32, String)>, Error> {
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
                && sockets.iter().any(|socket| socket.inode == inode)
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
    use std::net::TcpListener;

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
        let list = collect(&Root::host()).unwrap();
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
}
