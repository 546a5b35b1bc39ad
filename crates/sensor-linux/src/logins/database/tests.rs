use proptest::prelude::*;
use rusqlite::Connection;

use super::*;

const NOW: i64 = 1_800_000_000;

const WTMPDB: &str = "CREATE TABLE IF NOT EXISTS wtmp(ID INTEGER PRIMARY KEY, Type INTEGER, User TEXT NOT NULL, \
    Login INTEGER, Logout INTEGER, TTY TEXT, RemoteHost TEXT, Service TEXT) STRICT;";
/// Of wtmpdb 0.1.
const OLDER: &str = "CREATE TABLE IF NOT EXISTS wtmp(Type INTEGER, User TEXT NOT NULL, PID INTEGER, \
    Login INTEGER, Logout INTEGER, TTY TEXT, RemoteHost TEXT, Service TEXT) STRICT;";
const LASTLOG2: &str = "CREATE TABLE IF NOT EXISTS Lastlog2(Name TEXT PRIMARY KEY, Time INTEGER, \
    TTY TEXT, RemoteHost TEXT, Service TEXT);";

struct Bench {
    dir: tempfile::TempDir,
    form: Form,
    sqlite: Connection,
    database: Database,
}

impl Bench {
    fn new(form: Form, table: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wtmp.db");
        let sqlite = Connection::open(&path).unwrap();
        sqlite.execute_batch(table).unwrap();
        let database = Database::new(&path, form, None);
        let mut bench = Self {
            dir,
            form,
            sqlite,
            database,
        };
        bench.read();
        bench
    }

    fn login(&self, user: &str, secs: i64) {
        match self.form {
            Form::Wtmpdb => {
                let row = "INSERT INTO wtmp (Type, User, Login, TTY, RemoteHost, Service) \
                    VALUES (3, ?, ?, 'pts/0', '192.0.2.1', 'sshd')";
                self.sqlite.execute(row, (user, secs * 1_000_000))
            }
            Form::Lastlog2 => {
                let row = "REPLACE INTO Lastlog2 VALUES (?, ?, 'pts/0', '192.0.2.1', 'sshd')";
                self.sqlite.execute(row, (user, secs))
            }
        }
        .unwrap();
    }

    /// Accounts and times that are news, and what was done to the database.
    fn read(&mut self) -> (Vec<String>, Vec<Kind>) {
        let mut batch = Batch::default();
        self.database.read(Timestamp::from_secs(NOW), &mut batch);
        assert_eq!(self.database.failing, None);
        let shown = |told: &Told| format!("{} {}", told.login.username, told.at.secs() - NOW);
        let kinds = batch.tampered.iter().map(|finding| finding.kind);
        (batch.told.iter().map(shown).collect(), kinds.collect())
    }

    fn restart(&mut self) {
        let mark = self.database.mark();
        self.database = Database::new(&self.database.path, self.form, mark.as_deref());
    }
}

fn news(users: &[&str]) -> (Vec<String>, Vec<Kind>) {
    (
        users.iter().map(|user| (*user).to_owned()).collect(),
        vec![],
    )
}

#[test]
fn every_login_is_told_once_in_either_form_and_journal_a11() {
    for (form, table) in [
        (Form::Wtmpdb, WTMPDB),
        (Form::Wtmpdb, OLDER),
        (Form::Lastlog2, LASTLOG2),
    ] {
        for mode in ["DELETE", "WAL", "TRUNCATE", "PERSIST"] {
            let mut bench = Bench::new(form, table);
            let pragma = format!("PRAGMA journal_mode={mode}");
            bench.sqlite.query_row(&pragma, [], |_| Ok(())).unwrap();
            bench.read();
            bench.login("a", NOW);
            bench.login("b", NOW + 1);
            assert_eq!(bench.read(), news(&["a 0", "b 1"]), "{form:?} {mode}");
            assert_eq!(bench.read(), news(&[]));
            bench.login("a", NOW + 2);
            bench.restart();
            assert_eq!(bench.read(), news(&["a 2"]), "{form:?} {mode}");
            bench.login("a", NOW + 3);
            assert_eq!(bench.read(), news(&["a 3"]), "{form:?} {mode}");
            bench.restart();
            assert_eq!(bench.read(), news(&[]));
        }
    }
}

#[test]
fn boots_logouts_and_sessions_of_sudo_are_no_logins() {
    let mut bench = Bench::new(Form::Wtmpdb, WTMPDB);
    bench.login("a", NOW);
    bench
        .sqlite
        .execute_batch(
            "INSERT INTO wtmp (Type, User, Login) VALUES (1, 'reboot', 1);
             INSERT INTO wtmp (Type, User, Login, Service) VALUES (3, 'root', 1, 'sudo');
             INSERT INTO wtmp (Type, User, Login, RemoteHost) VALUES (3, 'b', 1, ':0');",
        )
        .unwrap();
    let mut batch = Batch::default();
    bench.database.read(Timestamp::from_secs(NOW), &mut batch);
    let remotes: Vec<&str> = batch.told.iter().map(|told| &*told.login.remote).collect();
    assert_eq!(remotes, ["192.0.2.1", ""]);
    bench
        .sqlite
        .execute("UPDATE wtmp SET Logout = 9", [])
        .unwrap();
    assert_eq!(bench.read(), news(&[]));
}

#[test]
fn history_is_no_news_nor_is_what_a_new_database_took_from_an_old_wtmp() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("wtmp.db");
    let mut bench = Bench::new(Form::Wtmpdb, WTMPDB);
    bench.login("old", NOW - 99);
    bench.database = Database::new(&bench.database.path, bench.form, None);
    assert_eq!(bench.read(), news(&[]));

    bench.database = Database::new(&path, Form::Wtmpdb, None);
    assert_eq!(bench.read(), news(&[]));
    let mark = bench.database.mark();
    assert_eq!(bench.read(), news(&[]));
    assert_eq!(bench.database.mark(), mark, "no mark without news");
    assert!(!bench.database.is_there());
    bench.sqlite = Connection::open(&path).unwrap();
    bench.sqlite.execute_batch(WTMPDB).unwrap();
    bench.login("imported", NOW - 99);
    bench.login("new", NOW + 1);
    assert_eq!(bench.read(), news(&["new 1"]));
    assert!(bench.database.is_there());
}

#[test]
fn rows_that_were_taken_out_or_changed_are_told_once_and_newer_ones_still_read() {
    for (change, kind) in [
        ("DELETE FROM wtmp WHERE User = 'b'", Kind::Rewritten),
        (
            "UPDATE wtmp SET User = 'x' WHERE User = 'b'",
            Kind::Rewritten,
        ),
        // Its key is given to the next.
        ("DELETE FROM wtmp WHERE User = 'c'", Kind::Rewritten),
        ("DELETE FROM wtmp", Kind::Shortened),
    ] {
        let mut bench = Bench::new(Form::Wtmpdb, WTMPDB);
        for (secs, user) in (0..).zip(["a", "b", "c"]) {
            bench.login(user, NOW + secs);
        }
        assert_eq!(bench.read().0.len(), 3);
        bench.sqlite.execute(change, []).unwrap();
        bench.login("d", NOW + 9);
        let told = (vec!["d 9".to_owned()], vec![kind]);
        assert_eq!(bench.read(), told, "{change}");
        bench.login("e", NOW + 10);
        assert_eq!(bench.read(), news(&["e 10"]), "{change}");
    }
    let mut bench = Bench::new(Form::Wtmpdb, WTMPDB);
    bench.login("a", NOW);
    bench.read();
    fs::remove_file(bench.dir.path().join("wtmp.db")).unwrap();
    assert_eq!(bench.read(), (vec![], vec![Kind::Gone]));
    assert_eq!(bench.read(), news(&[]));
}

#[test]
fn rows_that_went_into_an_archive_are_not_tampered_with() {
    let mut bench = Bench::new(Form::Wtmpdb, WTMPDB);
    // The mark has the time of the clock that files have.
    bench.login("a", NOW - 9);
    bench.read();
    if let Some(position) = &mut bench.database.position {
        position.read = 0;
    }
    fs::write(bench.dir.path().join("wtmp_20260131.db"), b"").unwrap();
    bench.sqlite.execute("DELETE FROM wtmp", []).unwrap();
    bench.login("b", NOW + 1);
    assert_eq!(bench.read(), news(&["b 1"]));
}

#[test]
fn nothing_is_told_while_somebody_writes() {
    let mut bench = Bench::new(Form::Wtmpdb, WTMPDB);
    bench
        .sqlite
        .execute_batch("PRAGMA cache_size=1; PRAGMA cache_spill=1; BEGIN IMMEDIATE")
        .unwrap();
    // More than the cache holds, so that pages reach the file before the end.
    for n in 0..2000 {
        bench.login(&format!("u{n}"), NOW + n);
    }
    assert!(bench.database.is_written());
    assert_eq!(bench.read(), news(&[]));
    bench.sqlite.execute_batch("ROLLBACK").unwrap();
    bench.login("a", NOW);
    assert_eq!(bench.read(), news(&["a 0"]));
}

#[test]
fn many_rows_are_read_from_the_place_of_the_last() {
    let mut bench = Bench::new(Form::Wtmpdb, WTMPDB);
    bench.sqlite.execute_batch("BEGIN").unwrap();
    for n in 0..5000 {
        bench.login(&format!("u{n}"), NOW + n);
    }
    bench.sqlite.execute_batch("COMMIT").unwrap();
    assert_eq!(bench.read().0.len(), 5000);
    bench.login("last", NOW + 5000);
    assert_eq!(bench.read(), news(&["last 5000"]));
    let rows = bench.database.rows(5001 - ROWS).unwrap().unwrap();
    assert_eq!(rows.len(), 32);
}

proptest! {
    #[test]
    fn no_database_can_stop_the_sensor(
        flips in proptest::collection::vec((0_usize..8192, any::<u8>()), 0..12),
        cut in 0_usize..8193,
    ) {
        static FILE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
        let mut bytes = FILE
            .get_or_init(|| {
                let bench = Bench::new(Form::Wtmpdb, WTMPDB);
                for n in 0..40 {
                    bench.login(&format!("u{n}"), NOW + n);
                }
                fs::read(&bench.database.path).unwrap()
            })
            .clone();
        for (place, value) in flips {
            if let Some(byte) = bytes.get_mut(place) {
                *byte = value;
            }
        }
        bytes.truncate(cut);
        try_all(&bytes, None);
    }
}
