//! Facts about the host for the agent's report (A13, A14).

use std::path::PathBuf;

use super::{Root, processes, processes::Process, webroot};

/// Base names of programs that make a host a web server, contract section 2.
const WEB: [&str; 10] = [
    "nginx",
    "openresty",
    "httpd",
    "apache2",
    "w3wp",
    "tomcat",
    "weblogic",
    "jboss",
    "jetty",
    "catalina",
];

/// Base names of programs that make a host a database server, contract section 2.
const DB: [&str; 12] = [
    "mysqld",
    "mongod",
    "sqlservr",
    "oracle",
    "elasticsearch",
    "postgres",
    "redis-server",
    "cassandra",
    "mariadbd",
    "solr",
    "hbase",
    "cassandradaemon",
];

/// Properties by which Java servers are told where they live.
const JAVA_HOMES: [(&str, &str); 9] = [
    ("catalina.", "web"),
    ("jetty.", "web"),
    ("jboss.home.", "web"),
    ("weblogic.Name", "web"),
    ("es.path.", "db"),
    ("cassandra.config", "db"),
    ("solr.solr.home", "db"),
    ("solr.install.dir", "db"),
    ("hbase.home.dir", "db"),
];

/// What the host record holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostFacts {
    /// Name of the host.
    pub hostname: String,
    /// Distribution and kernel, one line.
    pub system: String,
    /// Addresses of every interface, loopback left out.
    pub addresses: Vec<String>,
    /// `web` and `db`, from what runs.
    pub tags: Vec<String>,
    /// Web roots of the configured web servers.
    pub web_roots: Vec<PathBuf>,
}

/// Looks at the host. What cannot be found out is left empty.
pub fn facts(root: &Root) -> HostFacts {
    HostFacts {
        hostname: hostname(root),
        system: system(root),
        addresses: addresses(),
        tags: tags(&processes::scan(root).unwrap_or_default()),
        web_roots: webroot::collect(root),
    }
}

fn kernel_line(root: &Root, path: &str) -> String {
    root.peek(path, 4096)
        .map(|bytes| one_line(&String::from_utf8_lossy(&bytes)))
        .unwrap_or_default()
}

/// Name of this host.
pub(crate) fn hostname(root: &Root) -> String {
    kernel_line(root, "/proc/sys/kernel/hostname")
}

fn system(root: &Root) -> String {
    let release = ["/etc/os-release", "/usr/lib/os-release"]
        .iter()
        .find_map(|path| root.text(path).ok().flatten())
        .and_then(|text| pretty_name(&text))
        .unwrap_or_else(|| "Linux".to_owned());
    let kernel = kernel_line(root, "/proc/sys/kernel/osrelease");
    one_line(&format!("{release} {kernel}"))
}

/// `PRETTY_NAME` of os-release(5).
fn pretty_name(text: &str) -> Option<String> {
    let value = text
        .lines()
        .rev()
        .find_map(|line| line.trim().strip_prefix("PRETTY_NAME="))?;
    let name = one_line(value.trim_matches(['"', '\'']));
    (!name.is_empty()).then_some(name)
}

/// Without line breaks, other control characters and repeated blanks; at most 256 characters.
fn one_line(text: &str) -> String {
    let words: Vec<&str> = text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
        .collect();
    words.join(" ").chars().take(256).collect()
}

fn addresses() -> Vec<String> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else {
        return Vec::new();
    };
    let mut addresses: Vec<String> = interfaces
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address
                .as_sockaddr_in()
                .map(|a| std::net::IpAddr::V4(a.ip()));
            let v6 = address
                .as_sockaddr_in6()
                .map(|a| std::net::IpAddr::V6(a.ip()));
            v4.or(v6)
        })
        .filter(|ip| !ip.is_loopback())
        .map(|ip| ip.to_canonical().to_string())
        .collect();
    addresses.sort();
    addresses.dedup();
    addresses
}

/// Tags of a host on which these processes run.
fn tags(processes: &[Process]) -> Vec<String> {
    let (mut web, mut db) = (false, false);
    for process in processes {
        let base = process.base_name().to_ascii_lowercase();
        web |= WEB.contains(&base.as_str());
        db |= DB.contains(&base.as_str());
        if base == "java" {
            for tag in java_tags(&process.arguments) {
                web |= tag == "web";
                db |= tag == "db";
            }
        }
    }
    let found = [(web, "web"), (db, "db")];
    found
        .into_iter()
        .filter(|(is, _)| *is)
        .map(|(_, tag)| tag.to_owned())
        .collect()
}

/// A Java server is known by its home properties, its main class or its archive; other arguments
/// may name servers it is only a client of.
fn java_tags(arguments: &[String]) -> Vec<&'static str> {
    let mut tags = Vec::new();
    let mut rest = arguments.iter().skip(1).map(String::as_str);
    while let Some(argument) = rest.next() {
        if let Some(property) = argument.strip_prefix("-D") {
            let home = JAVA_HOMES
                .iter()
                .find(|(name, _)| property.starts_with(name));
            tags.extend(home.map(|(_, tag)| *tag));
            continue;
        }
        let main = match argument {
            "-cp" | "-classpath" | "--class-path" | "-p" | "--module-path" | "--add-opens"
            | "--add-exports" | "--add-modules" => {
                rest.next();
                continue;
            }
            "-jar" | "-m" | "--module" => rest.next().unwrap_or_default(),
            option if option.starts_with('-') || option.starts_with('@') => continue,
            main => main,
        };
        let main = main
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .to_ascii_lowercase();
        for word in main.split(|c: char| !c.is_ascii_alphanumeric()) {
            if WEB.contains(&word) {
                tags.push("web");
            } else if DB.contains(&word) {
                tags.push("db");
            }
        }
        break;
    }
    tags
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::fixture;

    fn process(exe: &str, arguments: &str) -> Process {
        Process {
            exe: exe.to_owned(),
            arguments: arguments.split(' ').map(str::to_owned).collect(),
            ..Process::default()
        }
    }

    #[test]
    fn tags_come_from_what_runs_a14() {
        let check = |running: &[(&str, &str)], expected: &[&str]| {
            let processes: Vec<_> = running.iter().map(|(e, a)| process(e, a)).collect();
            assert_eq!(tags(&processes), expected, "{running:?}");
        };
        check(&[("/usr/bin/bash", "bash nginx")], &[]);
        check(&[("/usr/sbin/nginx", "")], &["web"]);
        check(
            &[("/usr/bin/redis-server", ""), ("/usr/sbin/apache2", "")],
            &["web", "db"],
        );
        check(
            &[(
                "/opt/jre/bin/java",
                "java -Dcatalina.base=/opt/t -cp a:b org.apache.catalina.startup.Bootstrap start",
            )],
            &["web"],
        );
        check(
            &[(
                "/opt/jre/bin/java",
                "java -cp /l/elasticsearch-client.jar com.shop.Main --db jdbc:oracle:x",
            )],
            &[],
        );
        check(
            &[(
                "/opt/jre/bin/java",
                "java -Xmx1g org.apache.cassandra.service.CassandraDaemon",
            )],
            &["db"],
        );
        check(
            &[(
                "/opt/jre/bin/java",
                "java -jar /opt/jboss/jboss-modules.jar",
            )],
            &["web"],
        );
        check(&[("/opt/jre/bin/java", "java")], &[]);
    }

    #[test]
    fn the_system_is_one_line_with_distribution_and_kernel_a13() {
        let dir = fixture(&[
            (
                "etc/os-release",
                "NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12\u{7}  (bookworm)\"\n",
            ),
            ("proc/sys/kernel/osrelease", "6.1.0-9-amd64\n"),
            ("proc/sys/kernel/hostname", "box\n"),
        ]);
        let facts = facts(&Root::at(dir.path()));
        assert_eq!(facts.system, "Debian GNU/Linux 12 (bookworm) 6.1.0-9-amd64");
        assert_eq!(facts.hostname, "box");
    }
}
