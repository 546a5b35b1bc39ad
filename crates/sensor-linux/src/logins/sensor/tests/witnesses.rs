//! Several witnesses of the same logins.

use super::*;
use crate::logins::told::Witness;

fn told(witness: Witness, user: &str, forged: bool) -> Told {
    Told {
        at: Timestamp::from_secs(NOW),
        within: None,
        login: Login {
            username: user.to_owned(),
            remote: "192.0.2.1".to_owned(),
            ..Login::default()
        },
        witness,
        forged,
    }
}

fn users(kept: &Kept) -> Vec<String> {
    let events = kept.take();
    events
        .iter()
        .map(|(_, login)| login.username.clone())
        .collect()
}

#[test]
fn a_folded_line_and_the_records_of_btmp_are_the_same_failures_a10() {
    let files = Files::new();
    let kept = Kept::default();
    let mut reader = files.reader(&kept);
    again(&mut reader, &kept);
    let failed = "Failed password for a from 192.0.2.1 port 7 ssh2";
    // PAM lets the client wait; rsyslog folds what is equal, with the time of the last.
    files.login("btmp", "a", NOW - 30);
    files.append("auth.log", &line(NOW - 30, failed));
    assert_eq!(again(&mut reader, &kept).len(), 1);
    for secs in [NOW - 26, NOW - 22] {
        files.login("btmp", "a", secs);
        assert_eq!(again(&mut reader, &kept).len(), 1);
    }
    let folded = format!("message repeated 2 times: [ {failed}]");
    files.append("auth.log", &line(NOW - 22, &folded));
    let closed = "Connection closed by authenticating user a 192.0.2.1 port 7 [preauth]";
    files.append("auth.log", &line(NOW - 20, closed));
    assert_eq!(again(&mut reader, &kept), Vec::<String>::new());
}

#[test]
fn what_the_journal_knows_to_be_forged_is_believed_nowhere() {
    let files = Files::new();
    let kept = Kept::default();
    let mut reader = files.reader(&kept);
    let mut outlet = kept.clone();
    let now = Timestamp::from_secs(NOW);
    let forged = told(Witness::JOURNAL, "a", true);
    reader.report(vec![forged], &mut outlet, now, false);
    reader.report(
        vec![told(Witness::log(0), "a", false)],
        &mut outlet,
        now,
        false,
    );
    outlet.commit().unwrap();
    assert!(users(&kept).is_empty());
    reader.report(
        vec![told(Witness::log(0), "a", false)],
        &mut outlet,
        now,
        false,
    );
    outlet.commit().unwrap();
    assert_eq!(users(&kept), ["a"], "another one");
}

#[test]
fn who_does_not_know_the_account_waits_for_who_does() {
    let files = Files::new();
    let kept = Kept::default();
    let mut reader = files.reader(&kept);
    let mut outlet = kept.clone();
    let now = Timestamp::from_secs(NOW);
    let unknown = || told(Witness::AUDIT, "(unknown)", false);
    reader.report(vec![unknown(), unknown()], &mut outlet, now, false);
    reader.report(
        vec![told(Witness::BTMP, "probe", false)],
        &mut outlet,
        now,
        false,
    );
    for (until, _) in &mut reader.waiting {
        *until = Instant::now();
    }
    reader.report(Vec::new(), &mut outlet, now, false);
    outlet.commit().unwrap();
    assert_eq!(users(&kept), ["probe", "(unknown)"]);
    assert!(reader.waiting.is_empty());
}

#[test]
fn logins_of_databases_are_read_beside_the_files_and_told_once_a09() {
    let files = Files::new();
    let kept = Kept::default();
    let mut reader = files.reader(&kept);
    let wtmpdb = rusqlite::Connection::open(files.path("wtmp.db")).unwrap();
    let table = "CREATE TABLE wtmp(ID INTEGER PRIMARY KEY, Type INTEGER, User TEXT NOT NULL, \
        Login INTEGER, Logout INTEGER, TTY TEXT, RemoteHost TEXT, Service TEXT) STRICT";
    wtmpdb.execute(table, []).unwrap();
    assert!(again(&mut reader, &kept).is_empty());
    let row = "INSERT INTO wtmp (Type, User, Login, TTY, RemoteHost, Service) VALUES (3, 'a', ?, 'pts/0', '192.0.2.1', 'sshd')";
    wtmpdb.execute(row, [NOW * 1_000_000]).unwrap();
    files.login("wtmp", "a", NOW);
    let expected = format!("{NOW} a 192.0.2.1 true wtmpdb");
    assert_eq!(again(&mut reader, &kept), [expected]);
    let status = reader.status();
    assert_eq!(status.source, "wtmp+wtmp.db");
    drop(reader);
    wtmpdb.execute(row, [(NOW + 9) * 1_000_000]).unwrap();
    assert_eq!(files.read(&kept).len(), 1, "also when no agent ran");
    assert!(files.read(&kept).is_empty());
    assert!(kept.tampered().is_empty());
}
