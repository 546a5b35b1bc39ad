//! Which records tell of the same attempt.
//!
//! What programs send, as seen with OpenSSH 9.2 and Linux-PAM 1.5, and in their sources since:
//!
//! - One wrong password is a USER_AUTH of PAM, sent *before* PAM lets the client wait for some two seconds, and
//!   then a USER_LOGIN of sshd; some systems add a USER_AUTH of sshd itself. For an answer at a prompt, sshd
//!   asks PAM in a process of its own.
//! - A key that is refused is a USER_LOGIN alone. A client that has several offers one after the other: no
//!   failure if one is taken in the end, one failure if none is. Without PAM a wrong password looks the
//!   same; three of them are then one failure here, and three in btmp and the log.
//! - One login is a USER_START of the session and, with a terminal, a USER_LOGIN, which sshd sends
//!   from another process of the same audit session.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use yinglong_model::Timestamp;

use super::record::{Record, USER_AUTH, USER_END, USER_LOGIN, USER_START};
use crate::{accounts::Accounts, logins::told::is_unknown, text::base_name};

/// Processes, sessions and failures remembered, of each.
const REMEMBERED: usize = 2048;

/// How long a connection may last until somebody is logged in: sshd gives a client two minutes.
const GRACE: Duration = Duration::from_secs(130);

/// How much later than PAM others tell of a failure: pam_unix waits for up to 2.5 seconds.
const DELAY: Duration = Duration::from_secs(3);

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

/// An outcome that records tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) username: String,
    pub(super) success: bool,
    pub(super) at: Timestamp,
    /// The earliest and the latest another witness may have seen it.
    pub(super) within: Option<(Timestamp, Timestamp)>,
    pub(super) remote: String,
    pub(super) terminal: String,
}

/// What was told lately, and what waits for its end.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    /// Failures at PAM, by process and by what the program was at, and how many were told.
    processes: HashMap<u32, Process>,
    /// Failures that were told and that a USER_LOGIN may repeat.
    told: VecDeque<Failure>,
    /// Connections that failed, by process, until it is known that nobody got in.
    refused: HashMap<u32, Refused>,
    /// Logins that were told, the newest last.
    logins: VecDeque<Login>,
}

#[derive(Debug)]
struct Process {
    last: Timestamp,
    failures: HashMap<String, u32>,
    told: u32,
}

#[derive(Debug)]
struct Failure {
    at: Timestamp,
    pid: u32,
    remote: String,
}

#[derive(Debug)]
struct Refused {
    first: Timestamp,
    outcome: Outcome,
}

/// What makes a login one.
#[derive(Debug, PartialEq, Eq)]
enum Login {
    /// The session that the audit subsystem gave it: sshd's.
    Session(u32),
    /// The process: that of su has the session of whoever started it.
    Process(u32),
}

impl Login {
    fn of(record: &Record, program: &str) -> Self {
        match record.session {
            Some(session) if program.starts_with("sshd") => Self::Session(session),
            _ => Self::Process(record.pid),
        }
    }
}

impl Attempts {
    /// The outcome a record tells, if it tells one that no record before it did.
    pub(super) fn outcome(&mut self, record: &Record, accounts: &Accounts) -> Option<Outcome> {
        let program = base_name(&record.exe);
        if record.kind == USER_END {
            let login = Login::of(record, program);
            self.logins.retain(|known| *known != login);
            return None;
        }
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
        let outcome = Outcome {
            username: match is_unknown(&username) {
                true => "(unknown)".to_owned(),
                false => username,
            },
            success,
            at: record.at,
            within: None,
            remote: record.remote.clone(),
            terminal: record.terminal.clone(),
        };
        if success {
            return self.logged_in(record, program).then_some(outcome);
        }
        if record.kind == USER_LOGIN {
            if !self.is_repeated(record) {
                self.refuse(record, outcome);
            }
            return None;
        }
        self.is_news(record).then_some(Outcome {
            within: Some((record.at, record.at.plus(DELAY))),
            ..outcome
        })
    }

    /// Connections that failed and can no longer succeed.
    pub(super) fn ended(&mut self, now: Timestamp) -> Vec<Outcome> {
        let ended = self.refused.extract_if(|_, refused| {
            let last = refused.outcome.at;
            // A clock that was set back would keep them for long.
            now.since(last) > GRACE || last.since(now) > GRACE
        });
        ended
            .map(|(_, refused)| Outcome {
                within: Some((refused.first, refused.outcome.at.plus(GRACE))),
                ..refused.outcome
            })
            .collect()
    }

    fn logged_in(&mut self, record: &Record, program: &str) -> bool {
        self.refused.remove(&record.pid);
        let login = Login::of(record, program);
        if self.logins.contains(&login) {
            return false;
        }
        if self.logins.len() >= REMEMBERED {
            self.logins.pop_front();
        }
        self.logins.push_back(login);
        true
    }

    /// Whether a failure at PAM is one that its process has not told in other words.
    fn is_news(&mut self, record: &Record) -> bool {
        let is_old = |known: &Process| record.at.since(known.last) > GRACE;
        if self.processes.len() >= REMEMBERED {
            self.processes.retain(|_, known| !is_old(known));
        }
        if self.processes.len() >= REMEMBERED {
            let oldest = self.processes.iter().min_by_key(|(_, known)| known.last);
            if let Some(pid) = oldest.map(|(pid, _)| *pid) {
                self.processes.remove(&pid);
            }
        }
        if self.processes.get(&record.pid).is_some_and(is_old) {
            // A number that was given to another process has no past.
            self.processes.remove(&record.pid);
        }
        let process = self.processes.entry(record.pid).or_insert_with(|| Process {
            last: record.at,
            failures: HashMap::new(),
            told: 0,
        });
        process.last = record.at;
        // Few words are ever used; the limit is for somebody who makes some up.
        let known = process.failures.len() < 16 || process.failures.contains_key(&record.op);
        let op = if known { record.op.as_str() } else { "" };
        let count = process.failures.entry(op.to_owned()).or_default();
        *count += 1;
        if *count <= process.told {
            return false;
        }
        process.told = *count;
        if self.told.len() >= REMEMBERED {
            self.told.pop_front();
        }
        self.told.push_back(Failure {
            at: record.at,
            pid: record.pid,
            remote: record.remote.clone(),
        });
        true
    }

    /// Whether a USER_LOGIN repeats a failure at PAM: of its process, or else of the same address.
    fn is_repeated(&mut self, record: &Record) -> bool {
        self.told
            .retain(|failure| record.at.since(failure.at) <= GRACE);
        let own = |failure: &Failure| failure.pid == record.pid;
        let same = |failure: &Failure| !record.remote.is_empty() && failure.remote == record.remote;
        let place = self
            .told
            .iter()
            .position(own)
            .or_else(|| self.told.iter().position(same));
        place.is_some_and(|place| self.told.remove(place).is_some())
    }

    fn refuse(&mut self, record: &Record, outcome: Outcome) {
        if let Some(refused) = self.refused.get_mut(&record.pid) {
            refused.outcome = outcome;
            return;
        }
        if self.refused.len() >= REMEMBERED {
            let oldest = self.refused.iter().min_by_key(|(_, known)| known.first);
            if let Some(pid) = oldest.map(|(pid, _)| *pid) {
                self.refused.remove(&pid);
            }
        }
        let first = record.at;
        self.refused.insert(record.pid, Refused { first, outcome });
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
            session: None,
            op: op.to_owned(),
            account: "a".to_owned(),
            id: None,
            exe: exe.to_owned(),
            remote: String::new(),
            terminal: String::new(),
            success,
        }
    }

    /// What is told at once, and what when all connections have ended.
    fn told(records: &[Record]) -> (usize, usize) {
        let mut attempts = Attempts::default();
        let accounts = Accounts::default();
        let told = records
            .iter()
            .filter_map(|record| attempts.outcome(record, &accounts))
            .count();
        assert!(attempts.ended(Timestamp::from_secs(150)).is_empty());
        (told, attempts.ended(Timestamp::from_secs(1000)).len())
    }

    fn pam() -> Record {
        record(USER_AUTH, "PAM:authentication", "/usr/sbin/sshd", false)
    }

    fn refused() -> Record {
        record(USER_LOGIN, "login", "/usr/sbin/sshd", false)
    }

    fn session(exe: &str) -> Record {
        record(USER_START, "PAM:session_open", exe, true)
    }

    #[test]
    fn three_wrong_passwords_are_three_however_many_records_tell_of_them_a10() {
        let own = record(USER_AUTH, "password", "/usr/sbin/sshd", false);
        let one = [pam(), own, refused()];
        assert_eq!(told(&[one.as_slice(); 3].concat()), (3, 0));
        let prompts = |pid| {
            let remote = "192.0.2.7".to_owned();
            let asked = Record {
                pid,
                remote: remote.clone(),
                ..pam()
            };
            [
                asked,
                Record {
                    remote,
                    ..refused()
                },
            ]
        };
        let three = [prompts(8), prompts(9), prompts(10)].concat();
        assert_eq!(told(&three), (3, 0), "each from another process");
        let another = Record {
            pid: 8,
            remote: "192.0.2.9".to_owned(),
            ..refused()
        };
        assert_eq!(told(&[pam(), another]), (1, 1), "another connection");
    }

    #[test]
    fn keys_that_are_refused_are_one_failure_unless_one_is_taken() {
        assert_eq!(told(&[refused(), refused(), refused()]), (0, 1));
        let login = session("/usr/sbin/sshd");
        assert_eq!(told(&[refused(), refused(), login]), (1, 0));
        let mut attempts = Attempts::default();
        let later = Record {
            at: Timestamp::from_secs(140),
            ..refused()
        };
        for record in [refused(), later] {
            assert_eq!(attempts.outcome(&record, &Accounts::default()), None);
        }
        assert!(attempts.ended(Timestamp::from_secs(260)).is_empty());
        let ended = attempts.ended(Timestamp::from_secs(271));
        let secs = ended[0].within.map(|(from, to)| (from.secs(), to.secs()));
        assert_eq!((ended[0].at.secs(), secs), (140, Some((100, 270))));
    }

    #[test]
    fn one_login_is_one_and_sessions_of_other_programs_are_none_a09() {
        let of = |record: Record, pid, session| Record {
            pid,
            session: Some(session),
            ..record
        };
        let sshd = || session("/usr/sbin/sshd");
        let login = || record(USER_LOGIN, "login", "/usr/sbin/sshd", true);
        let one = [of(sshd(), 7, 2), of(login(), 8, 2), of(sshd(), 7, 2)];
        assert_eq!(told(&one).0, 1);
        assert_eq!(told(&[of(login(), 8, 2), of(sshd(), 7, 2)]).0, 1);
        assert_eq!(told(&[of(sshd(), 7, 2), of(sshd(), 7, 3)]).0, 2);
        let su = || session("/usr/bin/su");
        let twice = [of(sshd(), 7, 2), of(su(), 8, 2), of(su(), 9, 2)];
        assert_eq!(told(&twice).0, 3, "su within that session, twice");
        for exe in [
            "/usr/bin/sudo",
            "/usr/sbin/cron",
            "/usr/lib/systemd/systemd",
            "",
        ] {
            assert_eq!(told(&[session(exe)]).0, 0, "{exe}");
        }
        let end = record(USER_END, "PAM:session_close", "/usr/bin/su", true);
        assert_eq!(
            told(&[su(), end, su()]).0,
            2,
            "the number of another process"
        );
    }

    #[test]
    fn a_scan_of_ports_is_no_login_and_numbers_of_accounts_are_names() {
        let scan = Record {
            account: "(unknown user)".to_owned(),
            ..refused()
        };
        assert_eq!(told(&[scan]), (0, 0));
        let mut attempts = Attempts::default();
        let mut name = |record: &Record| {
            let outcome = attempts.outcome(record, &Accounts::default());
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
            ..pam()
        };
        assert_eq!(name(&unknown), "(unknown)");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut attempts = Attempts::default();
        let accounts = Accounts::default();
        for n in 0..REMEMBERED as u32 + 9 {
            let op = format!("op{n}");
            for (kind, pid, success) in [
                (USER_AUTH, n, false),
                (USER_AUTH, 1 << 20, false),
                (USER_LOGIN, n + (1 << 21), false),
                (USER_LOGIN, n + (1 << 22), true),
            ] {
                let record = Record {
                    pid,
                    ..record(kind, &op, "/x", success)
                };
                let _ = attempts.outcome(&record, &accounts);
            }
        }
        assert!(attempts.processes.len() <= REMEMBERED);
        assert!(attempts.processes[&(1 << 20)].failures.len() <= 17);
        assert!(attempts.told.len() <= REMEMBERED);
        assert!(attempts.refused.len() <= REMEMBERED);
        assert!(attempts.logins.len() <= REMEMBERED);
    }
}
