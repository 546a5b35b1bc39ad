//! An execution as `/proc` still shows it, for the fallback source.

use std::{fs, os::unix::fs::MetadataExt};

use yinglong_model::{ProcessKey, event::Process};

use super::{
    container::{Group, of_process},
    environ,
    record::Image,
};
use crate::{
    text::{command_line, printable},
    tree::{Stat, read_stat},
};

/// Longest command line kept, as in the kernel side.
const COMMAND_MAX: usize = 32 << 10;
const UNSET: u32 = u32::MAX;

/// A process as it was seen.
pub(super) struct Snapshot {
    pub(super) key: ProcessKey,
    pub(super) parent: ProcessKey,
    pub(super) process: Process,
    pub(super) image: Option<Image>,
}

/// What `/proc` tells about the process; `None` when it is gone.
pub(super) fn take(pid: u32) -> Option<Snapshot> {
    // What ends first is read first.
    let exe = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let block = read(pid, "cmdline");
    let environment = read(pid, "environ");
    let stat = read_stat(pid)?;
    let status = read(pid, "status");
    let status = Ids::parse(&String::from_utf8_lossy(&status));
    let group = of_process(pid).map(Group::of).unwrap_or_default();
    let image = fs::metadata(format!("/proc/{pid}/exe")).ok();
    let unlinked = image.as_ref().is_some_and(|image| image.nlink() == 0);

    let exe = printable(exe.as_os_str().as_encoded_bytes());
    let name = if unlinked {
        exe.strip_suffix(" (deleted)").unwrap_or(&exe).to_owned()
    } else {
        exe
    };
    let cwd = fs::read_link(format!("/proc/{pid}/cwd")).ok();
    let number = |file| {
        let text = String::from_utf8(read(pid, file)).ok()?;
        text.trim().parse().ok().filter(|&number| number != UNSET)
    };
    let process = Process {
        exe: Some(name.clone()),
        name,
        command: command_line(block.get(..COMMAND_MAX).unwrap_or(&block)),
        pid,
        ppid: stat.ppid,
        info: environ::extract(&environment),
        uid: status.uid,
        euid: status.euid,
        gid: status.gid,
        cwd: cwd.map(|path| printable(path.as_os_str().as_encoded_bytes())),
        session: number("sessionid"),
        loginuid: number("loginuid"),
        container_id: group.container_id,
        cgroup: group.path,
        memfd: unlinked.then_some(true),
        truncated: (block.len() > COMMAND_MAX || block.is_empty()).then_some(true),
        ..Process::default()
    };
    Some(Snapshot {
        key: key(pid, &stat),
        parent: parent(&stat),
        process,
        image: image.as_ref().map(Image::of),
    })
}

/// Identity of a process with that stat line.
pub(super) fn key(pid: u32, stat: &Stat) -> ProcessKey {
    ProcessKey {
        pid,
        start_boottime_ns: stat.start_boottime_ns,
    }
}

/// Its parent, whose start time the stat line does not tell.
pub(super) fn parent(stat: &Stat) -> ProcessKey {
    ProcessKey {
        pid: stat.ppid,
        start_boottime_ns: 0,
    }
}

fn read(pid: u32, file: &str) -> Vec<u8> {
    fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default()
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Ids {
    uid: Option<u32>,
    euid: Option<u32>,
    gid: Option<u32>,
}

impl Ids {
    fn parse(status: &str) -> Self {
        let field = |name: &str, column: usize| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_ascii_whitespace().nth(column)?.parse().ok()
        };
        Self {
            uid: field("Uid:", 0),
            euid: field("Uid:", 1),
            gid: field("Gid:", 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_process_is_described() {
        let seen = take(std::process::id()).expect("we run");
        let Snapshot {
            key,
            parent,
            process,
            image,
        } = seen;
        let me = std::env::current_exe().unwrap();
        assert_eq!(Some(process.name.as_str()), me.to_str());
        assert_eq!((key.pid, parent.pid), (process.pid, process.ppid));
        assert!(process.ppid > 0 && key.start_boottime_ns > 0);
        assert_eq!(process.memfd, None);
        let found = fs::metadata(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(image, Some(Image::of(&found)));
        assert!(take(u32::MAX).is_none());
    }

    #[test]
    fn ids_are_read_from_the_status() {
        let ids = Ids::parse("Name:\tx\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\n");
        let expected = Ids {
            uid: Some(1),
            euid: Some(2),
            gid: Some(5),
        };
        assert_eq!(ids, expected);
        assert_eq!(Ids::parse("Uid:\n"), Ids::default());
    }
}
