//! Programs beside the agent that write down what they see: bpftrace with one probe, fatrace for
//! plain fanotify, tcpdump for plain libpcap.

use std::{
    fs::{self, File},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    Watcher,
    seen::Seen,
    storm::{Kind, Order},
};

/// Time it may take to compile and attach.
const START: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(100);
/// What is printed first is not yet proof that everything is attached.
const ATTACH: Duration = Duration::from_secs(1);
/// Printed by our probe once it is attached.
const READY: &str = "ylready";

/// A running one.
pub(super) struct Listener {
    child: Child,
    watcher: Watcher,
    output: PathBuf,
    errors: PathBuf,
    /// Packets, which are read when everything is over.
    packets: Option<PathBuf>,
}

impl Listener {
    /// Starts the program and waits until it listens.
    ///
    /// # Errors
    /// It is not installed, has nothing to say about this kind of storm, or does not start.
    pub(super) fn start(watcher: Watcher, order: &Order) -> anyhow::Result<Self> {
        let packets = (watcher == Watcher::Tcpdump).then(|| order.folder.join("packets"));
        let arguments = match (watcher, order.kind) {
            (Watcher::Bpftrace, Kind::Exec) => {
                probe("tracepoint:syscalls:sys_enter_execve { join(args->argv); }")
            }
            (Watcher::Bpftrace, Kind::File) => probe(
                "tracepoint:syscalls:sys_enter_openat { printf(\"%s\\n\", str(args->filename)); }",
            ),
            (Watcher::Fatrace, Kind::File) => words("--current-mount --filter=W"),
            (Watcher::Tcpdump, Kind::Connect) => {
                let mut words = words("-i any -nn -B 16384 -s 96 -w");
                words.push(
                    packets
                        .as_deref()
                        .unwrap_or(Path::new("-"))
                        .display()
                        .to_string(),
                );
                words.push("tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn".to_owned());
                words
            }
            _ => bail!("it has nothing to say about a storm of this kind"),
        };
        let files = order.files();
        fs::create_dir_all(&files)?;
        let name = watcher.as_str();
        let (output, errors) = (
            order.folder.join(name),
            order.folder.join(format!("{name}-errors")),
        );
        let child = Command::new(name)
            .args(arguments)
            .current_dir(&files)
            .stdin(Stdio::null())
            .stdout(File::create(&output)?)
            .stderr(File::create(&errors)?)
            .spawn()
            .with_context(|| format!("it cannot be run; install {name}"))?;
        let mut listener = Self {
            child,
            watcher,
            output,
            errors,
            packets,
        };
        let until = Instant::now() + START;
        while !listener.listens(&files)? {
            if let Some(status) = listener.child.try_wait()? {
                let errors = text(&listener.errors);
                let last = errors.trim_end().lines().last().unwrap_or_default();
                bail!("it ended at once ({status}): {last}");
            }
            if Instant::now() >= until {
                bail!("it did not start within {START:?}");
            }
            thread::sleep(LOOK);
        }
        thread::sleep(ATTACH);
        Ok(listener)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it; which marks it wrote down.
    pub(super) fn end(&mut self, order: &Order) -> anyhow::Result<Seen> {
        self.stop();
        let mut seen = Seen::new(order);
        let Some(packets) = &self.packets else {
            for line in text(&self.output).lines() {
                seen.text(&order.mark(), line);
            }
            return Ok(seen);
        };
        let read = Command::new(self.watcher.as_str())
            .args(["-nn", "-r"])
            .arg(packets)
            .output()
            .context("the packets cannot be read")?;
        for line in String::from_utf8_lossy(&read.stdout).lines() {
            if let Some(number) = source(line).and_then(Order::number_of) {
                seen.mark(number);
            }
        }
        Ok(seen)
    }

    fn listens(&self, folder: &Path) -> anyhow::Result<bool> {
        Ok(match self.watcher {
            Watcher::Tcpdump => text(&self.errors).contains("listening on"),
            // It says nothing by itself.
            Watcher::Fatrace => {
                fs::write(folder.join(READY), READY)?;
                text(&self.output).contains(READY)
            }
            _ => text(&self.output).contains(READY),
        })
    }

    /// It writes what it still has when it is interrupted.
    fn stop(&mut self) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGINT);
        }
        let _ = self.child.wait();
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.stop();
        }
    }
}

fn probe(probe: &str) -> Vec<String> {
    vec![
        "-e".to_owned(),
        format!("BEGIN {{ printf(\"{READY}\\n\"); }} {probe}"),
    ]
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

fn text(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Source address in a line of tcpdump: `... IP 127.64.0.1.40000 > 127.0.0.1.80: ...`.
fn source(line: &str) -> Option<Ipv4Addr> {
    let (_, rest) = line.split_once(" IP ")?;
    let (address, _) = rest.split_once(" > ")?;
    address.rsplit_once('.')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_of_a_packet_is_read_from_its_line() {
        let line = "12:00:00.1 lo    In  IP 127.64.0.1.40000 > 127.0.0.1.80: Flags [S], seq 1";
        assert_eq!(source(line), Some(Ipv4Addr::new(127, 64, 0, 1)));
        assert_eq!(
            source("12:00:00.1 lo In IP6 ::1.1 > ::1.2: Flags [S]"),
            None
        );
        assert_eq!(source(""), None);
    }
}
