//! The behaviours: each is real, harmless, carries a mark of its own, and is undone afterwards.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::Context as _;

use super::{
    login,
    traces::{Traces, succeed},
};

/// What decides whether a behaviour can be seen on this host.
#[derive(Debug, Clone, Default)]
pub(crate) struct Host {
    /// Web roots the agent watches.
    pub(crate) web_roots: Vec<PathBuf>,
    /// Peers with private addresses are reported.
    pub(crate) lan: bool,
    /// Questions to the domain name system are reported.
    pub(crate) dns: bool,
    /// Directories the agent watches.
    pub(crate) monitored: Vec<String>,
}

/// Mark of one behaviour in one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mark {
    /// One word of letters and digits, found by search wherever it occurs.
    pub(crate) word: String,
    /// An address of this machine's own loopback network nobody else uses.
    pub(crate) address: Ipv4Addr,
}

impl Mark {
    /// Mark of the `number`th behaviour of the run `run`.
    pub(crate) fn new(run: u32, number: u8) -> Self {
        let [a, b, c, _] = run.to_be_bytes();
        // 127.0.x.y is left alone: services of the host may listen there.
        let address = Ipv4Addr::new(127, a | 1, b, c.wrapping_add(number) | 1);
        Self {
            word: format!("ylst{run:08x}{number:02}"),
            address,
        }
    }
}

/// Where the observation ends up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sight {
    /// An event, found by this field with the mark's word; `remote` fields hold its address.
    Event(&'static str),
    /// An element of an inventory, seen within a cycle.
    Inventory(&'static str),
}

/// Does the behaviour.
pub(crate) type Perform = fn(&Mark, &Host, &mut Traces) -> anyhow::Result<()>;

/// One thing an attacker might do.
pub(crate) struct Behaviour {
    /// Short name for people and scripts.
    pub(crate) name: &'static str,
    /// ATT&CK technique; empty where none fits.
    pub(crate) technique: &'static str,
    /// Default rule that has to raise an alert.
    pub(crate) rule: &'static str,
    /// Where it is seen.
    pub(crate) sight: Sight,
    /// Why this host cannot show it; `None` when it can.
    pub(crate) obstacle: fn(&Host) -> Option<String>,
    /// Does it.
    pub(crate) perform: Perform,
}

fn nothing(_: &Host) -> Option<String> {
    None
}

/// All of them.
pub(crate) const ALL: &[Behaviour] = &[
    Behaviour {
        name: "run a program never seen before",
        technique: "T1204.002",
        rule: "yl-process-first-seen",
        sight: Sight::Event("process"),
        obstacle: nothing,
        perform: unknown_program,
    },
    Behaviour {
        name: "open a connection from bash",
        technique: "T1059.004",
        rule: "yl-process-suspicious-command-linux",
        sight: Sight::Event("process"),
        obstacle: nothing,
        perform: |mark, _, _| {
            // Refused or not, the execution is what counts.
            let script = format!(": {}; exec 3<>/dev/tcp/127.0.0.1/9", mark.word);
            let mut command = Command::new("bash");
            command.args(["-c", &script]).stderr(Stdio::null());
            command.status().context("cannot start bash").map(drop)
        },
    },
    Behaviour {
        name: "name a hacking tool",
        technique: "T1046",
        rule: "yl-process-hacking-tools-linux",
        sight: Sight::Event("process"),
        obstacle: nothing,
        perform: |mark, _, _| succeed(Command::new("true").args(["nmap", &mark.word])),
    },
    Behaviour {
        name: "try to stop the agent",
        technique: "T1562.001",
        rule: "yl-process-agent-stopped",
        sight: Sight::Event("process"),
        obstacle: nothing,
        perform: |mark, _, _| {
            let words = ["systemctl", "stop", "yinglong-agent", &mark.word];
            succeed(Command::new("true").args(words))
        },
    },
    Behaviour {
        name: "start a program from a web server",
        technique: "T1505.003",
        rule: "yl-process-web-shell-linux",
        sight: Sight::Event("process"),
        obstacle: nothing,
        perform: |mark, _, traces| {
            let folder = traces.folder(&mark.word)?;
            child_of(&folder, "nginx", &mark.word)
        },
    },
    Behaviour {
        name: "start a program from Java middleware",
        technique: "T1190",
        rule: "yl-process-middleware-shell-linux",
        sight: Sight::Event("process"),
        obstacle: nothing,
        perform: |mark, _, traces| {
            let folder = traces.folder(&format!("tomcat-{}", mark.word))?;
            child_of(&folder, "java", &mark.word)
        },
    },
    Behaviour {
        name: "write a file with a deceptive name",
        technique: "T1036.007",
        rule: "yl-file-odd-name",
        sight: Sight::Event("file"),
        obstacle: |host| unwatched(host, "/etc"),
        perform: |mark, _, traces| {
            let path = PathBuf::from(format!("/etc/{}.php.txt", mark.word));
            traces.file(&path, "# made by yinglong selftest\n")
        },
    },
    Behaviour {
        name: "change how accounts are verified",
        technique: "T1556.003",
        rule: "yl-file-system-changed",
        sight: Sight::Event("file"),
        obstacle: |host| {
            unwatched(host, "/etc/pam.d").or_else(|| {
                let missing = !Path::new("/etc/pam.d").is_dir();
                missing.then(|| "this host has no /etc/pam.d".to_owned())
            })
        },
        perform: |mark, _, traces| {
            let path = PathBuf::from(format!("/etc/pam.d/{}", mark.word));
            traces.file(
                &path,
                "# made by yinglong selftest; no service has this name\n",
            )
        },
    },
    Behaviour {
        name: "drop a script into a web root",
        technique: "T1505.003",
        rule: "yl-file-web-script-linux",
        sight: Sight::Event("file"),
        obstacle: |host| {
            let none = host.web_roots.is_empty();
            none.then(|| "the agent has found no web root on this host".to_owned())
        },
        perform: |mark, host, traces| {
            let root = host.web_roots.first().context("there is no web root")?;
            let path = root.join(format!("{}.php", mark.word));
            traces.file(&path, "<?php /* made by yinglong selftest */\n")
        },
    },
    Behaviour {
        name: "connect to an address never seen before",
        technique: "T1071",
        rule: "yl-connection-first-seen",
        sight: Sight::Event("connection"),
        obstacle: |host| {
            let hidden = !host.lan;
            hidden.then(|| "private peers are not reported: client.lan is false".to_owned())
        },
        perform: |mark, _, _| {
            let peer = SocketAddr::from((mark.address, 9));
            // Nobody listens there; the attempt is what counts.
            let _ = TcpStream::connect_timeout(&peer, Duration::from_secs(2));
            Ok(())
        },
    },
    Behaviour {
        name: "ask for the name of a mining pool",
        technique: "T1496.001",
        rule: "b40be89e-8654-4f8e-9c23-37a66244071d",
        sight: Sight::Event("dns"),
        obstacle: |host| {
            let hidden = !host.dns;
            hidden.then(|| "DNS questions are not reported: client.dns is false".to_owned())
        },
        perform: |mark, _, _| {
            let question = question(&format!("{}.supportxmr.com", mark.word));
            let socket = UdpSocket::bind("127.0.0.1:0").context("cannot make a UDP socket")?;
            // Nobody answers there, and nothing leaves this machine.
            let server = SocketAddr::from((mark.address, 53));
            socket
                .send_to(&question, server)
                .context("cannot ask a question")?;
            Ok(())
        },
    },
    Behaviour {
        name: "log in from an address never seen before",
        technique: "T1021.004",
        rule: "yl-loginlog-first-seen",
        sight: Sight::Event("loginlog"),
        obstacle: |_| login::obstacle(),
        perform: |mark, _, traces| login::perform(mark, traces),
    },
    Behaviour {
        name: "create an account with a shell",
        technique: "T1136.001",
        rule: "yl-userlist-first-seen-linux",
        sight: Sight::Inventory("userlist"),
        obstacle: nothing,
        perform: |mark, _, traces| traces.account(&mark.word),
    },
    Behaviour {
        name: "add a scheduled job",
        technique: "T1053.003",
        rule: "yl-crontab-first-seen",
        sight: Sight::Inventory("crontab"),
        obstacle: |_| {
            let missing = !Path::new("/etc/cron.d").is_dir();
            missing.then(|| "this host has no /etc/cron.d".to_owned())
        },
        perform: |mark, _, traces| {
            // There is no 31 February: the job never runs.
            let path = PathBuf::from(format!("/etc/cron.d/{}", mark.word));
            traces.file(&path, &format!("0 0 31 2 * root /bin/true {}\n", mark.word))
        },
    },
];

/// A DNS question for the address of a name (RFC 1035, section 4).
fn question(name: &str) -> Vec<u8> {
    let mut bytes = vec![0x79, 0x6c, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap_or_default());
        bytes.extend(label.bytes());
    }
    bytes.extend([0, 0, 1, 0, 1]);
    bytes
}

/// Copies a program under a name nobody has used, and runs it.
fn unknown_program(mark: &Mark, _: &Host, traces: &mut Traces) -> anyhow::Result<()> {
    let folder = traces.folder(&mark.word)?;
    let program = folder.join(&mark.word);
    fs::copy("/bin/true", &program).context("cannot copy /bin/true")?;
    succeed(&mut Command::new(program))
}

/// Lets a shell that is called `parent` start a program whose path carries the mark.
fn child_of(folder: &Path, parent: &str, word: &str) -> anyhow::Result<()> {
    let shell = folder.join(parent);
    fs::copy("/bin/sh", &shell).context("cannot copy /bin/sh")?;
    fs::create_dir(folder.join("bin")).context("cannot create a folder")?;
    let program = folder.join("bin").join(word);
    fs::copy("/bin/true", &program).context("cannot copy /bin/true")?;
    // The last colon keeps the shell from becoming the program instead of starting it.
    let script = format!("{} {word}; :", program.display());
    succeed(
        Command::new(shell)
            .args(["-c", &script])
            .current_dir(folder)
            .env("PWD", folder),
    )
}

/// Why changes in `directory` are not seen, by the agent's `monitorPath`.
fn unwatched(host: &Host, directory: &str) -> Option<String> {
    let watched = host
        .monitored
        .iter()
        .any(|entry| match entry.strip_suffix('*') {
            Some(above) => directory.starts_with(above.trim_end_matches('/')),
            None => entry.trim_end_matches('/') == directory,
        });
    (!watched).then(|| format!("{directory} is not in client.monitorPath"))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_behaviour_of_a_run_has_its_own_mark_in_the_loopback_network() {
        for run in [0, 1, 0x1234_5678, u32::MAX] {
            let marks: Vec<Mark> = (0..ALL.len() as u8).map(|n| Mark::new(run, n)).collect();
            let words: HashSet<_> = marks.iter().map(|mark| &mark.word).collect();
            assert_eq!(words.len(), ALL.len());
            for mark in marks {
                assert!(mark.word.bytes().all(|b| b.is_ascii_alphanumeric()));
                assert!(mark.word.len() <= 32, "longer than an account name may be");
                assert!(mark.address.is_loopback() && mark.address.octets()[1] != 0);
            }
        }
    }

    #[test]
    fn every_rule_that_is_expected_is_a_default_rule() {
        let rules = yinglong_rules::load_default().0;
        for behaviour in ALL {
            assert!(
                rules.iter().any(|rule| rule.id == behaviour.rule),
                "{}",
                behaviour.rule
            );
        }
    }

    #[test]
    fn a_directory_is_watched_by_itself_or_by_a_recursive_entry_above() {
        let host = |entries: &[&str]| Host {
            monitored: entries.iter().map(|entry| (*entry).to_owned()).collect(),
            ..Host::default()
        };
        assert_eq!(unwatched(&host(&["/etc/"]), "/etc"), None);
        assert_eq!(unwatched(&host(&["/etc/*"]), "/etc/pam.d"), None);
        assert!(unwatched(&host(&["/etc/"]), "/etc/pam.d").is_some());
        assert!(unwatched(&host(&[]), "/etc").is_some());
    }
}
