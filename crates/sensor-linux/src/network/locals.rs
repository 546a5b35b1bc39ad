//! Addresses of this host, read again when an unknown one turns up.

use std::{collections::HashSet, net::IpAddr, time::Duration};

use nix::{ifaddrs::getifaddrs, sys::socket::SockaddrStorage};

/// Shortest time between two readings.
const INTERVAL: Duration = Duration::from_secs(1);

/// The addresses of all interfaces.
#[derive(Debug, Default)]
pub(crate) struct Locals {
    addresses: HashSet<IpAddr>,
    read: Option<Duration>,
}

impl Locals {
    /// Whether packets to that address are for this host: one of its own, or a group.
    pub(crate) fn contains(&mut self, now: Duration, ip: IpAddr) -> bool {
        if ip.is_loopback() || ip.is_multicast() || is_broadcast(ip) || self.addresses.contains(&ip)
        {
            return true;
        }
        if self.read.is_none_or(|read| now >= read + INTERVAL) {
            self.read = Some(now);
            self.addresses = read();
        }
        self.addresses.contains(&ip)
    }
}

fn is_broadcast(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(ip) if ip.is_broadcast())
}

/// Own and broadcast addresses; none when the kernel does not answer.
fn read() -> HashSet<IpAddr> {
    let interfaces = getifaddrs().into_iter().flatten();
    interfaces
        .flat_map(|interface| [interface.address, interface.broadcast])
        .filter_map(|address| ip(&address?))
        .collect()
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    if let Some(four) = address.as_sockaddr_in() {
        return Some(four.ip().into());
    }
    address.as_sockaddr_in6().map(|six| six.ip().into())
}
