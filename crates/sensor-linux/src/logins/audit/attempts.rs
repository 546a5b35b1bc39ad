//! Which records of one process tell of the same attempt.
//!
//! One wrong password at sshd is up to three records: PAM's, sshd's own, and one when the connection
//! ends without a login. One login is one of the session and one of the login. They come from one
//! process each, as the kernel says.

use std::{collections::HashMap, time::Duration};

use yinglong_model::Timestamp;

use super::record::{Record, USER_AUTH, USER_END, USER_LOGIN, USER_START};
use crate::{accounts::Accounts, logins::told::is_unknown, text::base_name};

/// Processes remembered.
const PROCESSES: usize = 4096;

/// How long a process is remembered after its last record: sshd gives a client two minutes.
const REMEMBERED: Duration = Duration::from_secs(300);

/// Programs whose sessions are logins. Those of sudo, cron and of systemd itself are not; what sudo
/// runs is told as an execution.
const SESSIONS: [&str; 10] = [
    "sshd",
    "sshd-session",
    "login",
    "su",
    "dropbear",
    "vsftpd",
    "gdm-session-worker",
    "lightdm",
    "sddm-helper",
    "xrdp-sesman",
];

/// What was told of a process.
#[derive(Debug)]
struct Attempts {
    last: Timestamp,
    /// Failures by what the program was at.
    failures: HashMap<String, u32>,
    told: u32,
    logged_in: bool,
}

/// What was told of each process lately.
#[derive(Debug, Default)]
pub(super) struct Processes(HashMap<u32, Attempts>);

/// An outcome that a record tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) username: String,
    pub(super) success: bool,
}

impl Processes {
    /// The outcome a record tells, if it tells one that no record before it did.
    pub(super) fn outcome(&mut self, record: &Record, accounts: &Accounts) -> Option<Outcome> {
        if record.kind == USER_END {
            self.0.remove(&record.pid);
            return None;
        }
        let program = base_name(&record.exe);
        let success = match (record.kind, record.success) {
            (USER_AUTH | USER_LOGIN, false) => false,
            (USER_LOGIN, true) => true,
            (USER_START, true) if SESSIONS.contains(&program) => true,
            _ => return None,
        };
        let username = match record.id {
            Some(uid) => accounts.name(uid),
            None => record.account.clone(),
        };
        // Somebody who connected and left without a name did not try to log in: scanners of ports do.
        if record.kind == USER_LOGIN && !success && username == "(unknown user)" {
            return None;
        }
        let username = match is_unknown(&username) {
            true => "(unknown)".to_owned(),
            false => username,
        };
        self.make_room(record.pid, record.at);
        let attempts = self.0.entry(record.pid).or_insert_with(|| Attempts {
            last: record.at,
            failures: HashMap::new(),
            told: 0,
            logged_in: false,
        });
        attempts.last = record.at;
        let is_news = if success {
            !std::mem::replace(&mut attempts.logged_in, true)
        } else {
            // Few words are ever used; the limit is for somebody who makes some up.
            let known = attempts.failures.len() < 16 || attempts.failures.contains_key(&record.op);
            let op = if known { record.op.as_str() } else { "" };
            let count = attempts.failures.entry(op.to_owned()).or_default();
            *count += 1;
            let is_news = *count > attempts.told;
            attempts.told = attempts.told.max(*count);
            is_news
        };
        is_news.then_some(Outcome { username, success })
    }

    fn make_room(&mut self, pid: u32, now: Timestamp) {
        let is_old = |known: &Attempts| now.since(known.last) > REMEMBERED;
        if self.0.get(&pid).is_some_and(is_old) {
            // A number that was given to another process has no past.
            self.0.remove(&pid);
        }
        if self.0.len() >= PROCESSES {
            self.0.retain(|_, known| !is_old(known));
        }
        if self.0.len() >= PROCESSES {
            let oldest = self.0.iter().min_by_key(|(_, known)| known.last);
            if let Some(pid) = oldest.map(|(pid, _)| *pid) {
                self.0.remove(&pid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u16, op: &str, exe: &str, success: bool) -> Record {
        Record {
            kind,
            at: Timestamp::from_secs(100),
            pid: 7,
            op: op.to_owned(),
            account: "a".to_owned(),
            id: None,
            exe: exe.to_owned(),
            remote: String::new(),
            terminal: String::new(),
            success,
        }
    }

    fn told(records: &[Record]) -> usize {
        let mut processes = Processes::default();
        let accounts = Accounts::default();
        let told = records
            .iter()
            .filter_map(|record| processes.outcome(record, &accounts));
        told.count()
    }

    #[test]
    fn three_wrong_passwords_are_three_however_many_records_tell_of_them_a10() {
        let pam = record(USER_AUTH, "PAM:authentication", "/usr/sbin/sshd", false);
        let own = record(USER_AUTH, "password", "/usr/sbin/sshd", false);
        let end = record(USER_LOGIN, "login", "/usr/sbin/sshd", false);
        let one = [pam.clone(), own.clone()];
        assert_eq!(told(&[one.as_slice(); 3].concat()), 3);
        assert_eq!(told(&[pam.clone(), own, end.clone()]), 1);
        assert_eq!(told(&[end.clone()]), 1);
        let other = Record { pid: 8, ..end };
        assert_eq!(told(&[pam, other]), 2, "another connection");
    }

    #[test]
    fn one_login_is_one_and_sessions_of_other_programs_are_none_a09() {
        let session = |exe| record(USER_START, "PAM:session_open", exe, true);
        let login = record(USER_LOGIN, "login", "/usr/sbin/sshd", true);
        let sshd = session("/usr/sbin/sshd");
        assert_eq!(told(&[sshd.clone(), login.clone(), sshd.clone()]), 1);
        assert_eq!(told(&[login, sshd.clone()]), 1);
        assert_eq!(told(&[session("/usr/bin/su")]), 1);
        for exe in [
            "/usr/bin/sudo",
            "/usr/sbin/cron",
            "/usr/lib/systemd/systemd",
            "",
        ] {
            assert_eq!(told(&[session(exe)]), 0, "{exe}");
        }
        let end = record(USER_END, "PAM:session_close", "/usr/sbin/sshd", true);
        assert_eq!(told(&[sshd.clone(), end, sshd.clone()]), 2);
        let later = Record {
            at: Timestamp::from_secs(500),
            ..sshd.clone()
        };
        assert_eq!(told(&[sshd, later]), 2, "the number of another process");
    }

    #[test]
    fn a_scan_of_ports_is_no_login_and_numbers_of_accounts_are_names() {
        let scan = Record {
            account: "(unknown user)".to_owned(),
            ..record(USER_LOGIN, "login", "/usr/sbin/sshd", false)
        };
        assert_eq!(told(&[scan]), 0);
        let mut processes = Processes::default();
        let mut name = |record: &Record| {
            let outcome = processes.outcome(record, &Accounts::default());
            outcome.unwrap().username
        };
        let root = Record {
            account: String::new(),
            id: Some(0),
            ..record(USER_LOGIN, "login", "/usr/sbin/sshd", true)
        };
        assert_eq!(name(&root), "root");
        let unknown = Record {
            account: "?".to_owned(),
            pid: 8,
            ..record(USER_AUTH, "PAM:authentication", "/usr/sbin/sshd", false)
        };
        assert_eq!(name(&unknown), "(unknown)");
    }

    #[test]
    fn processes_that_are_remembered_are_bounded() {
        let mut processes = Processes::default();
        let accounts = Accounts::default();
        for pid in 0..PROCESSES as u32 + 9 {
            let record = Record {
                pid,
                op: format!("op{pid}"),
                ..record(USER_AUTH, "", "/x", false)
            };
            assert!(processes.outcome(&record, &accounts).is_some());
        }
        assert!(processes.0.len() <= PROCESSES);
    }
}
