//! What configuration leaves out at the source, for every stream: the `filter` document.
//!
//! Switches that need a sensor's own knowledge (private peers, ports, directories) are applied by
//! the sensor; this is the list part, decided on the finished event.

use std::net::IpAddr;

use ipnet::IpNet;
use regex::{RegexSet, RegexSetBuilder};
use yinglong_model::{EventData, config};

/// A compiled `filter` document.
#[derive(Debug, Default)]
pub struct Filter {
    process: RegexSet,
    file: RegexSet,
    networks: Vec<IpNet>,
}

impl Filter {
    /// Compiles a document. Entries that do not compile are left out and returned, so that one bad
    /// entry neither hides events nor disables the others; the server refuses such documents.
    pub fn new(document: &config::Filter) -> (Self, Vec<String>) {
        let mut refused = Vec::new();
        let process = compile(&document.process, &mut refused);
        let file = compile(&document.file, &mut refused);
        let mut networks = Vec::new();
        for text in &document.ip {
            match text
                .parse::<IpNet>()
                .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
            {
                Ok(network) => networks.push(network),
                Err(_) => refused.push(text.clone()),
            }
        }
        (
            Self {
                process,
                file,
                networks,
            },
            refused,
        )
    }

    /// Whether an event is left out.
    pub fn excludes(&self, data: &EventData) -> bool {
        match data {
            EventData::Process(process) => self.process.is_match(&process.name),
            EventData::File(file) => {
                self.file.is_match(&file.path)
                    || (!file.hash.is_empty() && self.file.is_match(&file.hash))
            }
            EventData::Connection(connection) => connection
                .remote_ip
                .parse::<IpAddr>()
                .is_ok_and(|ip| self.networks.iter().any(|network| network.contains(&ip))),
            EventData::Dns(dns) => self.process.is_match(&dns.name),
            EventData::Syscall(call) => self.process.is_match(&call.name),
            EventData::Exit(exit) => self.process.is_match(&exit.name),
            EventData::Loginlog(_) | EventData::Loss(_) => false,
        }
    }
}

fn compile(patterns: &[String], refused: &mut Vec<String>) -> RegexSet {
    let build = |patterns: &[&String]| {
        RegexSetBuilder::new(patterns)
            .case_insensitive(true)
            .size_limit(10 << 20)
            .build()
    };
    let (good, bad): (Vec<_>, Vec<_>) = patterns.iter().partition(|p| build(&[p]).is_ok());
    refused.extend(bad.into_iter().cloned());
    build(&good).unwrap_or_else(|_| {
        // Each compiles alone, all together are too large: nothing is filtered rather than hidden.
        refused.extend(good.into_iter().cloned());
        RegexSet::empty()
    })
}

#[cfg(test)]
mod tests {
    use yinglong_model::event::{Connection, File, Process};

    use super::*;

    fn filter(process: &[&str], file: &[&str], ip: &[&str]) -> (Filter, Vec<String>) {
        let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        Filter::new(&config::Filter {
            process: owned(process),
            file: owned(file),
            ip: owned(ip),
        })
    }

    fn process(name: &str) -> EventData {
        EventData::Process(Box::new(Process {
            name: name.into(),
            ..Process::default()
        }))
    }

    fn file(path: &str) -> EventData {
        EventData::File(Box::new(File {
            path: path.into(),
            ..File::default()
        }))
    }

    fn peer(ip: &str) -> EventData {
        EventData::Connection(Connection {
            remote_ip: ip.into(),
            ..Connection::default()
        })
    }

    #[test]
    fn m06_leaves_out_the_named_process_every_time_and_no_other() {
        let (filter, refused) = filter(&["^/usr/bin/true$"], &[], &[]);
        assert!(refused.is_empty());
        for _ in 0..10 {
            assert!(filter.excludes(&process("/usr/bin/true")));
        }
        assert!(filter.excludes(&process("/USR/bin/true")));
        assert!(!filter.excludes(&process("/usr/bin/id")));
        assert!(!filter.excludes(&process("/usr/bin/truename")));
    }

    #[test]
    fn m21_leaves_out_pictures_but_not_scripts() {
        let (filter, _) = Filter::new(&config::Filter::default());
        assert!(filter.excludes(&file("/var/www/x.png")));
        assert!(!filter.excludes(&file("/var/www/x.php")));
    }

    #[test]
    fn m13_leaves_out_the_named_peers() {
        let (filter, _) = filter(&[], &[], &["10.1.0.0/16", "2001:db8::1"]);
        assert!(filter.excludes(&peer("10.1.2.3")));
        assert!(filter.excludes(&peer("2001:db8::1")));
        assert!(!filter.excludes(&peer("10.2.0.1")));
        assert!(!filter.excludes(&peer("")));
    }

    #[test]
    fn a_bad_entry_is_named_and_disables_no_other() {
        let (filter, refused) = filter(&["(", "^/bin/a$"], &["["], &["300.1.1.1"]);
        assert_eq!(refused, ["(", "[", "300.1.1.1"]);
        assert!(filter.excludes(&process("/bin/a")));
        assert!(!filter.excludes(&process("/bin/(")));
    }
}
