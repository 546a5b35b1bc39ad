//! A record of logins that somebody changed.

use super::*;

/// Records of the accounts, a minute apart.
fn records(users: &[&str]) -> Vec<u8> {
    let record = |(place, user): (usize, &&str)| {
        let at = Timestamp::from_secs(NOW - 6000 + 60 * place as i64);
        utmp::record(utmp::USER_PROCESS, user, "192.0.2.1", at)
    };
    users.iter().enumerate().flat_map(record).collect()
}

/// Files in which the logins of a, b and c were read.
fn read(kept: &Kept) -> (Files, Reader) {
    let files = Files::new();
    let mut reader = files.reader(kept);
    again(&mut reader, kept);
    files.append("wtmp", &records(&["a", "b", "c"]));
    assert_eq!(again(&mut reader, kept).len(), 3);
    assert!(kept.tampered().is_empty());
    (files, reader)
}

#[test]
fn a_wiped_wtmp_is_told_once_and_what_follows_is_read() {
    for restarted in [false, true] {
        let kept = Kept::default();
        let (files, mut reader) = read(&kept);
        if restarted {
            reader = files.reader(&kept);
        }
        fs::write(files.path("wtmp"), b"").unwrap();
        assert!(again(&mut reader, &kept).is_empty());
        let changes = kept.committed.lock().unwrap().changes.clone();
        assert_eq!(changes.len(), 1, "{changes:?}");
        assert_eq!(changes[0].action, "TAMPER|SHORTENED");
        assert_eq!(changes[0].path, files.path("wtmp").to_str().unwrap());
        assert_eq!(changes[0].size, Some(0));
        let owner = Accounts::default().name(nix::unistd::geteuid().as_raw());
        assert_eq!(changes[0].user, owner);
        let status = reader.status();
        assert!(
            status.reason.contains("wtmp was tampered with"),
            "{status:?}"
        );
        kept.tampered();
        files.login("wtmp", "d", NOW);
        assert_eq!(again(&mut reader, &kept).len(), 1);
        assert!(kept.tampered().is_empty());
    }
}

#[test]
fn logins_that_stay_in_a_wtmp_from_which_one_was_taken_are_not_told_again_a11() {
    let kept = Kept::default();
    let (files, mut reader) = read(&kept);
    let mut left = records(&["a", "b", "c"]);
    left.drain(utmp::RECORD_BYTES..2 * utmp::RECORD_BYTES);
    fs::write(files.path("wtmp"), &left).unwrap();
    assert!(again(&mut reader, &kept).is_empty());
    assert_eq!(kept.tampered(), ["TAMPER|SHORTENED wtmp"]);

    // The same by a new file in its place.
    left.drain(..utmp::RECORD_BYTES);
    fs::write(files.path("new"), &left).unwrap();
    fs::rename(files.path("new"), files.path("wtmp")).unwrap();
    assert!(again(&mut reader, &kept).is_empty());
    assert_eq!(kept.tampered(), ["TAMPER|REPLACED wtmp"]);
    files.login("wtmp", "d", NOW);
    assert_eq!(again(&mut reader, &kept).len(), 1);
}

#[test]
fn a_record_that_was_overwritten_is_told() {
    for (content, action) in [(0, "TAMPER|ERASED wtmp"), (7, "TAMPER|REWRITTEN wtmp")] {
        let kept = Kept::default();
        let (files, mut reader) = read(&kept);
        let mut bytes = records(&["a", "b", "c"]);
        bytes[utmp::RECORD_BYTES..2 * utmp::RECORD_BYTES].fill(content);
        let file = OpenOptions::new().write(true).open(files.path("wtmp"));
        file.unwrap().write_all(&bytes).unwrap();
        assert!(again(&mut reader, &kept).is_empty());
        assert_eq!(kept.tampered(), [action]);
        assert!(again(&mut reader, &kept).is_empty());
        assert!(kept.tampered().is_empty(), "told once");
    }
}

#[test]
fn a_copy_beside_a_file_that_is_changed_does_not_make_its_logins_news_a11() {
    let kept = Kept::default();
    let (files, mut reader) = read(&kept);
    fs::copy(files.path("wtmp"), files.path("wtmp.bak")).unwrap();
    let mut bytes = records(&["a", "x", "c"]);
    bytes.extend(records(&["a", "b", "c", "d"]).split_off(bytes.len()));
    fs::write(files.path("wtmp"), &bytes).unwrap();
    let expected = format!("{} d 192.0.2.1 true wtmp", NOW - 6000 + 180);
    assert_eq!(again(&mut reader, &kept), [expected]);
    // A clock that was set back a little later is no reason to leave logins out.
    files.login("wtmp", "e", NOW - 6000);
    assert_eq!(again(&mut reader, &kept).len(), 1);
}

#[test]
fn a_record_with_a_time_long_before_the_others_is_told_but_not_a_clock_that_was_set() {
    let kept = Kept::default();
    let (files, mut reader) = read(&kept);
    files.login("wtmp", "d", NOW - 90_000);
    assert_eq!(again(&mut reader, &kept).len(), 1);
    assert_eq!(kept.tampered(), ["TAMPER|BACKDATED wtmp"]);
    files.login("wtmp", "d", NOW - 60);
    again(&mut reader, &kept);
    // A boot with a wrong clock, and one that is set back to now.
    let boot = utmp::record(2, "reboot", "", Timestamp::from_secs(NOW - 900_000));
    files.append("wtmp", &boot);
    files.login("wtmp", "e", NOW - 900_000);
    files.login("wtmp", "f", NOW + 900_000);
    files.login("wtmp", "g", NOW);
    assert_eq!(again(&mut reader, &kept).len(), 3);
    assert!(kept.tampered().is_empty());
}

#[test]
fn rotation_is_no_tampering() {
    let kept = Kept::default();
    let (files, mut reader) = read(&kept);
    fs::rename(files.path("wtmp"), files.path("wtmp.1")).unwrap();
    files.append("wtmp", b"");
    files.login("wtmp.1", "late", NOW - 9);
    assert_eq!(again(&mut reader, &kept).len(), 1);
    files.login("wtmp", "d", NOW - 5);
    assert_eq!(again(&mut reader, &kept).len(), 1);
    fs::copy(files.path("wtmp"), files.path("wtmp.1")).unwrap();
    fs::write(files.path("wtmp"), b"").unwrap();
    files.login("wtmp", "e", NOW);
    assert_eq!(again(&mut reader, &kept).len(), 1);
    assert!(kept.tampered().is_empty());
    assert!(!reader.status().reason.contains("tampered"));
}

#[test]
fn a_lastlog_that_shrinks_and_a_log_that_is_removed_are_told() {
    let kept = Kept::default();
    let (files, mut reader) = read(&kept);
    files.append("lastlog", &[7; 292 * 3]);
    files.append("auth.log", &line(NOW - 9, "Server listening"));
    again(&mut reader, &kept);
    fs::write(files.path("lastlog"), [7; 292]).unwrap();
    fs::remove_file(files.path("auth.log")).unwrap();
    again(&mut reader, &kept);
    assert_eq!(
        kept.tampered(),
        ["TAMPER|SHORTENED lastlog", "TAMPER|GONE auth.log"]
    );
    again(&mut reader, &kept);
    assert!(kept.tampered().is_empty());
}
