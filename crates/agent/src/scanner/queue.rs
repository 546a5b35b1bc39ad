//! Files that wait to be scanned: put in by sensors, taken out by the keeper.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use yinglong_model::{
    EventData,
    event::{File, Process},
    scan::Reason,
};

/// Most files that wait. A path that waits already is not put in again.
pub(super) const MOST_WAITING: usize = 1024;
/// Changes after which a file holds something new.
const CHANGES: [&str; 3] = ["CREATE", "WRITE", "RENAME"];

/// A file to scan.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Wanted {
    /// Why.
    pub(super) reason: Reason,
    /// Path as this process can open it: the file may be another one inside a container.
    pub(super) open: String,
    /// It is in a container, where only this process may look.
    pub(super) inside: bool,
    /// The event of a match, complete but for what is found.
    pub(super) event: File,
}

/// What sensors report passes by here. Cheap to clone; all clones are one queue.
#[derive(Debug, Clone, Default)]
pub struct Feed(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    filled: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    files: VecDeque<Wanted>,
    paths: HashSet<(Reason, String)>,
    dropped: u64,
}

impl Feed {
    /// Looks at an event, and remembers the files in it that are to be scanned. Never waits for
    /// the scanner.
    pub fn see(&self, data: &EventData) {
        match data {
            EventData::File(file) => self.changed(file),
            EventData::Process(process) => self.executed(process),
            EventData::Connection(_)
            | EventData::Loginlog(_)
            | EventData::Dns(_)
            | EventData::Syscall(_)
            | EventData::Exit(_)
            | EventData::Loss(_) => {}
        }
    }

    fn changed(&self, file: &File) {
        let holds_new = file.action.split('|').any(|word| CHANGES.contains(&word));
        if file.web == Some(true) && holds_new {
            self.put(Reason::Web, file.path.clone(), false, || File {
                action: "SCAN".to_owned(),
                ..file.clone()
            });
        }
    }

    fn executed(&self, process: &Process) {
        // The program, and what it interprets.
        let paths = [Some(&process.name), process.script.as_ref()];
        for (index, path) in paths.into_iter().flatten().enumerate() {
            if !is_on_disk(path) || (index == 0 && process.memfd == Some(true)) {
                continue;
            }
            let open = match process.container_id {
                // As long as the process lives, this is its file system.
                Some(_) => format!("/proc/{}/root{path}", process.pid),
                None => path.clone(),
            };
            let inside = process.container_id.is_some();
            self.put(Reason::Exec, open, inside, || File {
                action: "SCAN".to_owned(),
                path: path.clone(),
                hash: process
                    .md5
                    .clone()
                    .filter(|_| index == 0)
                    .unwrap_or_default(),
                sha256: process.sha256.clone().filter(|_| index == 0),
                actor_pid: Some(process.pid),
                actor_name: Some(process.name.clone()),
                actor_user: process.user.clone(),
                ..File::default()
            });
        }
    }

    fn put(&self, reason: Reason, open: String, inside: bool, event: impl FnOnce() -> File) {
        let mut waiting = self.lock();
        let key = (reason, open);
        if waiting.paths.contains(&key) {
            return;
        }
        if waiting.files.len() >= MOST_WAITING {
            waiting.dropped += 1;
            return;
        }
        waiting.files.push_back(Wanted {
            reason,
            open: key.1.clone(),
            inside,
            event: event(),
        });
        waiting.paths.insert(key);
        drop(waiting);
        self.0.filled.notify_one();
    }

    /// The next file, waiting for it at most so long.
    pub(super) fn next(&self, patience: Duration) -> Option<Wanted> {
        let mut waiting = self
            .0
            .filled
            .wait_timeout_while(self.lock(), patience, |waiting| waiting.files.is_empty())
            .unwrap_or_else(PoisonError::into_inner)
            .0;
        let wanted = waiting.files.pop_front()?;
        // From here on a change is news again.
        waiting.paths.remove(&(wanted.reason, wanted.open.clone()));
        Some(wanted)
    }

    /// Files there was no room for since the last time this was asked.
    pub(super) fn dropped(&self) -> u64 {
        std::mem::take(&mut self.lock().dropped)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a path can be one of a file on a disk.
fn is_on_disk(path: &str) -> bool {
    path.starts_with('/')
        && !["/proc/", "/sys/", "/dev/fd/"]
            .iter()
            .any(|kernel| path.starts_with(kernel))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    fn change(action: &str, path: &str, web: Option<bool>) -> EventData {
        EventData::File(Box::new(File {
            action: action.into(),
            path: path.into(),
            hash: "0".repeat(32),
            actor_pid: Some(7),
            web,
            ..File::default()
        }))
    }

    #[test]
    fn files_that_hold_something_new_in_a_web_root_are_wanted_and_no_others() {
        let feed = Feed::default();
        for (action, web, wanted) in [
            ("CREATE|WRITE", Some(true), true),
            ("RENAME", Some(true), true),
            ("WRITE", None, false),
            ("WRITE", Some(false), false),
            ("CHMOD", Some(true), false),
            ("REMOVE", Some(true), false),
            ("SCAN", Some(true), false),
        ] {
            feed.see(&change(action, "/var/www/a.php", web));
            assert_eq!(feed.next(NOW).is_some(), wanted, "{action} {web:?}");
        }
    }

    #[test]
    fn the_event_of_a_match_has_what_the_change_had() {
        let feed = Feed::default();
        feed.see(&change("WRITE", "/var/www/a.php", Some(true)));
        let wanted = feed.next(NOW).unwrap();
        assert_eq!(wanted.event.action, "SCAN");
        assert_eq!(wanted.event.hash, "0".repeat(32));
        assert_eq!(wanted.event.actor_pid, Some(7));
        assert_eq!(wanted.open, "/var/www/a.php");
    }

    #[test]
    fn a_script_and_its_interpreter_are_both_wanted_from_their_own_container() {
        let feed = Feed::default();
        feed.see(&EventData::Process(Box::new(Process {
            name: "/bin/sh".into(),
            script: Some("/tmp/x.sh".into()),
            pid: 9,
            container_id: Some("c".into()),
            ..Process::default()
        })));
        let opened = [feed.next(NOW).unwrap().open, feed.next(NOW).unwrap().open];
        assert_eq!(opened, ["/proc/9/root/bin/sh", "/proc/9/root/tmp/x.sh"]);
        assert_eq!(feed.next(NOW), None);
    }

    #[test]
    fn programs_that_are_no_files_are_left_alone() {
        let feed = Feed::default();
        for name in ["", "memfd:x", "/proc/self/fd/3"] {
            feed.see(&EventData::Process(Box::new(Process {
                name: name.into(),
                ..Process::default()
            })));
        }
        feed.see(&EventData::Process(Box::new(Process {
            name: "/memfd:x (deleted)".into(),
            memfd: Some(true),
            ..Process::default()
        })));
        assert_eq!(feed.next(NOW), None);
    }

    #[test]
    fn a_path_waits_once_and_what_there_is_no_room_for_is_counted() {
        let feed = Feed::default();
        for number in 0..MOST_WAITING + 3 {
            for _ in 0..2 {
                feed.see(&change("WRITE", &format!("/w/{number}"), Some(true)));
            }
        }
        // Each of the three was reported twice, and there was no room either time.
        assert_eq!(feed.dropped(), 6);
        assert_eq!(feed.dropped(), 0);
        let waited = std::iter::from_fn(|| feed.next(NOW)).count();
        assert_eq!(waited, MOST_WAITING);
    }
}
