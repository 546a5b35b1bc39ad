//! Which attempts the configuration wants reported. Pure.
//!
//! The address filter (`filter.ip`) is not applied here but where all events of the agent pass.

use std::net::{IpAddr, SocketAddr};

use yinglong_model::{
    config::AgentConfig,
    event::{Direction, Protocol},
};

use super::join::Attempt;

/// The part of the configuration that concerns connections, ready to be asked often.
#[derive(Debug, Clone, Default)]
pub(super) struct Scope {
    udp: bool,
    lan: bool,
    inbound: bool,
    ignored_ports: Vec<u16>,
    /// A server with port, or all ports of an address.
    servers: Vec<(IpAddr, Option<u16>)>,
}

impl Scope {
    /// Reads the configuration; servers that are no addresses are passed over, names are not
    /// resolved here.
    pub(super) fn new(config: &AgentConfig) -> Self {
        let client = &config.client;
        let web = config
            .tags
            .iter()
            .any(|tag| tag.eq_ignore_ascii_case("web"));
        Self {
            udp: client.udp,
            lan: client.lan,
            inbound: !web || client.web_inbound,
            ignored_ports: client.ignored_ports.clone(),
            servers: config
                .servers
                .iter()
                .filter_map(|text| server(text))
                .collect(),
        }
    }

    /// Whether UDP flows are wanted at all.
    pub(super) fn udp(&self) -> bool {
        self.udp
    }

    /// Whether the attempt is to be reported.
    ///
    /// # Errors
    /// The name of the switch or list that leaves it out.
    pub(super) fn allows(&self, attempt: &Attempt) -> Result<(), &'static str> {
        let Attempt { local, remote, .. } = *attempt;
        if attempt.protocol == Protocol::Udp && !self.udp {
            return Err("udp");
        }
        if !self.inbound && attempt.dir == Direction::In {
            return Err("web_inbound");
        }
        // The server itself observed on its own host has the client's port as its peer.
        if self.is_server(remote) || (self.is_server(local) && local.ip() == remote.ip()) {
            return Err("servers");
        }
        let service = match attempt.dir {
            Direction::Out => remote,
            Direction::In => local,
        };
        if self.ignored_ports.contains(&remote.port())
            || self.ignored_ports.contains(&service.port())
        {
            return Err("ignored_ports");
        }
        if !self.lan && is_private(remote.ip()) {
            return Err("lan");
        }
        Ok(())
    }

    fn is_server(&self, end: SocketAddr) -> bool {
        self.servers
            .iter()
            .any(|&(ip, port)| ip == end.ip() && port.is_none_or(|port| port == end.port()))
    }
}

fn server(text: &str) -> Option<(IpAddr, Option<u16>)> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some((ip.to_canonical(), None));
    }
    let end = text.parse::<SocketAddr>().ok()?;
    Some((end.ip().to_canonical(), Some(end.port())))
}

/// Addresses that no packet from or to the internet can have: private, loopback, link-local,
/// and groups of the local network.
fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_unspecified()
                || ip.is_broadcast()
                || ip.is_multicast()
        }
        IpAddr::V6(ip) => {
            ip.is_loopback()
                || ip.is_unicast_link_local()
                || ip.is_unique_local()
                || ip.is_unspecified()
                || ip.is_multicast()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(change: impl FnOnce(&mut AgentConfig)) -> AgentConfig {
        let mut config = AgentConfig::default();
        change(&mut config);
        config
    }

    fn attempt(dir: Direction, protocol: Protocol, local: &str, remote: &str) -> Attempt {
        Attempt {
            protocol,
            dir,
            local: local.parse().unwrap(),
            remote: remote.parse().unwrap(),
            isn: 1,
        }
    }

    fn check(config: &AgentConfig, attempt: Attempt, expected: Result<(), &'static str>) {
        assert_eq!(Scope::new(config).allows(&attempt), expected, "{attempt:?}");
    }

    const HERE: &str = "192.0.2.1:50000";
    const THERE: &str = "198.51.100.7:443";

    #[test]
    fn m10_udp_is_reported_only_with_its_switch() {
        let flow = attempt(Direction::Out, Protocol::Udp, HERE, "198.51.100.7:53");
        check(&AgentConfig::default(), flow, Err("udp"));
        check(&config(|c| c.client.udp = true), flow, Ok(()));
    }

    #[test]
    fn m11_private_peers_are_reported_only_with_the_lan_switch() {
        for remote in [
            "10.0.0.1:80",
            "172.16.9.9:80",
            "192.168.1.1:80",
            "127.0.0.1:80",
            "169.254.1.1:80",
            "[::1]:80",
            "[fe80::1]:80",
            "[fd00::1]:80",
            "[::ffff:10.0.0.1]:80",
        ] {
            let near = attempt(Direction::Out, Protocol::Tcp, HERE, remote);
            check(&AgentConfig::default(), near, Err("lan"));
            check(&config(|c| c.client.lan = true), near, Ok(()));
        }
        for remote in ["172.32.0.1:80", "[2001:db8::7]:80", THERE] {
            let far = attempt(Direction::Out, Protocol::Tcp, HERE, remote);
            check(&AgentConfig::default(), far, Ok(()));
        }
    }

    #[test]
    fn m12_ignored_ports_are_left_out_whichever_side_has_them_and_can_be_changed() {
        for port in [137, 139, 445] {
            let remote = format!("198.51.100.7:{port}");
            let out = attempt(Direction::Out, Protocol::Tcp, HERE, &remote);
            check(&AgentConfig::default(), out, Err("ignored_ports"));
            check(&config(|c| c.client.ignored_ports.clear()), out, Ok(()));
        }
        let into = attempt(
            Direction::In,
            Protocol::Tcp,
            "192.0.2.1:445",
            "198.51.100.7:50000",
        );
        check(&AgentConfig::default(), into, Err("ignored_ports"));
        let from = attempt(Direction::Out, Protocol::Tcp, "192.0.2.1:445", THERE);
        check(&AgentConfig::default(), from, Ok(()));
    }

    #[test]
    fn m13_our_own_servers_are_never_reported() {
        let servers = config(|c| {
            c.servers = ["198.51.100.7:33433", "2001:db8::5", "name:1", ""]
                .map(str::to_owned)
                .to_vec();
        });
        for (remote, expected) in [
            ("198.51.100.7:33433", Err("servers")),
            (THERE, Ok(())),
            ("[2001:db8::5]:9", Err("servers")),
        ] {
            let out = attempt(Direction::Out, Protocol::Tcp, HERE, remote);
            check(&servers, out, expected);
        }
        let end = "198.51.100.7:33433";
        let same_host = attempt(Direction::In, Protocol::Tcp, end, "198.51.100.7:50000");
        check(&servers, same_host, Err("servers"));
        let other_host = attempt(Direction::In, Protocol::Tcp, end, "203.0.113.9:50000");
        check(&servers, other_host, Ok(()));
    }

    #[test]
    fn m14_inbound_on_web_hosts_is_reported_only_with_its_switch() {
        let web = |inbound| {
            config(move |c| {
                c.tags = vec!["Web".into()];
                c.client.web_inbound = inbound;
            })
        };
        let into = attempt(
            Direction::In,
            Protocol::Tcp,
            "192.0.2.1:80",
            "198.51.100.7:50000",
        );
        let out = attempt(Direction::Out, Protocol::Tcp, HERE, THERE);
        check(&web(false), into, Err("web_inbound"));
        check(&web(true), into, Ok(()));
        check(&web(false), out, Ok(()));
        check(&AgentConfig::default(), into, Ok(()));
    }
}
