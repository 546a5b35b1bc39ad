//! From a record of the kernel to the event of the contract.

use std::{
    collections::HashMap,
    fs,
    time::{Duration, Instant},
};

use yinglong_model::{EventData, Observation, ProcessKey, event::Process};

use super::{
    clock::Clock,
    container::Groups,
    end, environ,
    hashing::{self, Wanted},
    record::{End, Exec, Image, absolute},
};
use crate::{
    accounts::Accounts,
    text::{command_line, printable},
    tree::{Entry, Tree},
};

/// How long a user name is used before the account file is looked at again.
const NAMES_KEPT_SECS: u64 = 1;

/// What a conversion looks things up in.
#[derive(Debug)]
pub(super) struct Converter {
    pub(super) tree: Tree,
    pub(super) clock: Clock,
    pub(super) groups: Groups,
    names: Names,
    page_bytes: u64,
}

impl Converter {
    pub(super) fn new(tree: Tree, accounts: Accounts) -> Self {
        Self {
            tree,
            clock: Clock::read(),
            groups: Groups::open(),
            names: Names::new(accounts),
            page_bytes: page_bytes(),
        }
    }

    /// To be called before each batch.
    pub(super) fn refresh(&mut self) {
        self.clock = Clock::read();
        self.names.refresh();
    }

    /// The event of a record of the kernel.
    pub(super) fn execution(&mut self, exec: &Exec<'_>) -> Observation {
        let cwd = printable(&absolute(exec.cwd));
        let mut name = printable(&absolute(exec.path));
        if (exec.flags.path_cut() || name.is_empty()) && !exec.flags.script() {
            name = within(&cwd, exec.filename);
        }
        let mut truncated = exec.flags.cut();
        let command = if exec.flags.args_missing() {
            let block = fs::read(format!("/proc/{}/cmdline", exec.key.pid)).unwrap_or_default();
            truncated |= block.is_empty();
            command_line(&block)
        } else {
            command_line(exec.args)
        };
        let group = self.groups.find(exec.group, exec.key.pid);
        let process = Process {
            exe: Some(name.clone()).filter(|path| !path.is_empty()),
            name,
            command,
            pid: exec.key.pid,
            ppid: exec.parent.pid,
            parentname: printable(exec.parent_comm),
            info: environ::extract(exec.env),
            uid: Some(exec.uid),
            euid: Some(exec.euid),
            gid: Some(exec.gid),
            session: exec.session,
            loginuid: exec.loginuid,
            tty: terminal(exec.tty),
            container_id: group.container_id,
            cgroup: group.path,
            script: exec.flags.script().then(|| within(&cwd, exec.filename)),
            memfd: (exec.nlink == 0).then_some(true),
            setuid: exec.flags.setuid().then_some(true),
            truncated: truncated.then_some(true),
            cwd: Some(cwd).filter(|path| !path.is_empty()),
            ..Process::default()
        };
        self.complete(process, exec.key, exec.parent, exec.ts_boot_ns)
    }

    /// The content that was executed, if it can be told.
    pub(super) fn image(exec: &Exec<'_>) -> Option<Image> {
        if exec.image.is_known() {
            return Some(exec.image);
        }
        let running = fs::metadata(format!("/proc/{}/exe", exec.key.pid)).ok()?;
        Some(Image::of(&running)).filter(|image| image.inode == exec.image.inode)
    }

    /// Where that content may be found.
    pub(super) fn wanted(&mut self, exec: &Exec<'_>, image: Image) -> Wanted {
        let group = self.groups.find(exec.group, exec.key.pid);
        Wanted {
            image,
            pid: exec.key.pid,
            ppid: exec.parent.pid,
            path: hashing::path(&absolute(exec.path)),
            inside: group.container_id.is_some(),
            executed: self.since_epoch(exec.ts_boot_ns),
        }
    }

    /// The time of day, `ns` after boot.
    pub(super) fn since_epoch(&self, ns: u64) -> Duration {
        let nanos = self.clock.at(ns).nanos();
        Duration::from_nanos(u64::try_from(nanos).unwrap_or_default())
    }

    /// The event of an end that is told. To be asked before the tree learns of the end.
    pub(super) fn end(&mut self, end: &End<'_>) -> Observation {
        let group = self.groups.find(end.group, end.key.pid);
        let known = self.tree.known(end.key);
        let (entry, parentname) = known.map_or((None, String::new()), |(entry, parent)| {
            (Some(entry), parent)
        });
        let mut exit = end::event(end, entry.as_deref(), self.page_bytes);
        exit.parentname = parentname;
        exit.user = Some(self.names.find(end.uid));
        let started = entry.map_or(end.key, |entry| entry.key).start_boottime_ns;
        exit.start_time = (started > 0).then(|| self.clock.at(started));
        exit.container_id = group.container_id;
        exit.cgroup = group.path;
        Observation::Event {
            occurred_at: self.clock.at(end.ts_boot_ns),
            data: EventData::Exit(Box::new(exit)),
        }
    }

    /// Adds what only the process tree, the account file and the clock know; the tree learns of
    /// the execution. `parentname` stays if the parent is not in the tree.
    pub(super) fn complete(
        &mut self,
        mut process: Process,
        key: ProcessKey,
        parent: ProcessKey,
        ts_boot_ns: u64,
    ) -> Observation {
        let from = self.tree.executed(Entry {
            key,
            ppid: parent.pid,
            name: process.name.clone(),
            command: process.command.clone(),
            uid: process.uid.unwrap_or_default(),
            parent,
        });
        if !from.parent_name.is_empty() {
            process.parentname = from.parent_name;
        }
        process.parent_command = from.parent_command;
        process.ancestors = from.ancestors;
        process.user = process.uid.map(|uid| self.names.find(uid));
        if key.start_boottime_ns > 0 {
            process.start_time = Some(self.clock.at(key.start_boottime_ns));
        }
        Observation::Event {
            occurred_at: self.clock.at(ts_boot_ns),
            data: EventData::Process(Box::new(process)),
        }
    }
}

fn page_bytes() -> u64 {
    let bytes = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
    let bytes = bytes
        .ok()
        .flatten()
        .and_then(|bytes| u64::try_from(bytes).ok());
    bytes.unwrap_or(4096)
}

/// User names, for a moment.
#[derive(Debug)]
pub(crate) struct Names {
    accounts: Accounts,
    known: HashMap<u32, String>,
    since: Instant,
}

impl Names {
    pub(crate) fn new(accounts: Accounts) -> Self {
        Self {
            accounts,
            known: HashMap::new(),
            since: Instant::now(),
        }
    }

    /// To be called before each batch.
    pub(crate) fn refresh(&mut self) {
        if self.since.elapsed().as_secs() >= NAMES_KEPT_SECS {
            self.known.clear();
            self.since = Instant::now();
        }
    }

    pub(crate) fn find(&mut self, uid: u32) -> String {
        let accounts = &self.accounts;
        let name = self.known.entry(uid);
        name.or_insert_with(|| accounts.name(uid)).clone()
    }
}

/// A path as given to the kernel, made absolute.
fn within(cwd: &str, path: &[u8]) -> String {
    let path = printable(path);
    if path.is_empty() || path.starts_with('/') {
        return path;
    }
    let relative = path.strip_prefix("./").unwrap_or(&path);
    format!("{}/{relative}", cwd.trim_end_matches('/'))
}

/// The kernel says `pts0`, everybody else `pts/0`.
pub(crate) fn terminal(name: &[u8]) -> Option<String> {
    let name = printable(name);
    match name.strip_prefix("pts") {
        _ if name.is_empty() => None,
        Some(number) if number.starts_with(|c: char| c.is_ascii_digit()) => {
            Some(format!("pts/{number}"))
        }
        _ => Some(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_paths_are_seen_from_the_working_directory() {
        for (cwd, path, absolute) in [
            ("/tmp", &b"./x.sh"[..], "/tmp/x.sh"),
            ("/", b"x", "/x"),
            ("/a", b"../x", "/a/../x"),
            ("/a", b"/bin/x", "/bin/x"),
            ("", b"", ""),
        ] {
            assert_eq!(within(cwd, path), absolute);
        }
    }

    #[test]
    fn terminals_have_their_usual_names() {
        for (kernel, usual) in [
            (&b"pts12"[..], Some("pts/12")),
            (b"tty1", Some("tty1")),
            (b"ptsx", Some("ptsx")),
            (b"", None),
        ] {
            assert_eq!(terminal(kernel).as_deref(), usual);
        }
    }

    #[test]
    fn a_parent_nobody_knows_goes_by_its_short_name() {
        let mut converter = Converter::new(Tree::default(), Accounts::default());
        let exec = Exec {
            key: ProcessKey {
                pid: u32::MAX - 5,
                start_boottime_ns: 1,
            },
            parent: ProcessKey {
                pid: u32::MAX - 6,
                start_boottime_ns: 1,
            },
            path: b"modprobe\0sbin\0",
            parent_comm: b"kworker/0:1",
            args: b"modprobe\0-q\0x\0",
            nlink: 1,
            ..Exec::default()
        };
        let Observation::Event { data, .. } = converter.execution(&exec) else {
            panic!("not an event");
        };
        let EventData::Process(event) = data else {
            panic!("not a process");
        };
        assert_eq!(event.name, "/sbin/modprobe");
        assert_eq!(event.command, "modprobe -q x");
        assert_eq!(event.parentname, "kworker/0:1");
        assert_eq!(
            (event.memfd, event.setuid, event.truncated),
            (None, None, None)
        );
        assert_eq!(event.user.as_deref(), Some("root"));
    }
}
