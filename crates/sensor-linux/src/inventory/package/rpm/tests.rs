use std::fs;

use proptest::prelude::*;
use rusqlite::Connection;

use super::*;
use crate::inventory::{fixture, package, rows};

/// Made by rpm 4.18 (`rpm --root ... --justdb -i`), its indexes dropped and the file vacuumed.
const REAL: &[u8] = include_bytes!("../../../../testdata/rpmdb.sqlite");

fn of_database(bytes: &[u8], folder: &str, name: &str) -> Result<Collected, Error> {
    let dir = fixture(&[]);
    let folder = dir.path().join(folder);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(name), bytes).unwrap();
    package::collect(&Root::at(dir.path()))
}

fn headers_of(bytes: &[u8], wal: Option<&[u8]>) -> io::Result<Vec<Vec<u8>>> {
    let mut found = Vec::new();
    headers(bytes, wal, |header| found.push(header.to_vec()))?;
    Ok(found)
}

#[test]
fn packages_of_a_real_database_are_listed() {
    for folder in PLACES.map(|place| place.trim_start_matches('/')) {
        let list = of_database(REAL, folder, "rpmdb.sqlite").unwrap();
        assert_eq!((list.left_out, list.unreadable), (0, 0));
        let fields = ["name", "version", "arch", "vendor", "source", "manager"];
        let rows = rows(&list.elements, &fields);
        // As `rpm -qa` listed them.
        let known = [
            ("1", "1.1"),
            ("10", "1.10"),
            ("2", "1.2"),
            ("3", "2:1.3"),
            ("4", "1.4"),
            ("5", "1.5"),
        ];
        let mut expected = Vec::new();
        for (n, version) in known {
            let rest = format!("{version}-1.el9|noarch|Example {n}");
            expected.push(format!("probe{n}|{rest}||rpm"));
            expected.push(format!("probe{n}-libs|{rest}|probe{n}|rpm"));
        }
        assert_eq!(rows, expected);
        for element in &list.elements {
            assert_eq!(element["installtime"], "2026-11-25T23:27:59Z");
        }
    }
}

#[test]
fn what_is_not_read_is_said_plainly() {
    let list = of_database(b"anything", "var/lib/rpm", "Packages").unwrap();
    assert!(list.elements.is_empty());
    assert!(
        list.notes[0].contains("/var/lib/rpm/Packages is a Berkeley DB"),
        "{:?}",
        list.notes
    );

    let error = of_database(b"no database", "var/lib/rpm", "rpmdb.sqlite").unwrap_err();
    assert!(
        error.to_string().contains("/var/lib/rpm/rpmdb.sqlite"),
        "{error}"
    );
}

#[test]
fn what_is_committed_to_a_write_ahead_log_counts_and_nothing_else_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let writer = Connection::open(&path).unwrap();
    writer
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0;
             CREATE TABLE 'Packages' (hnum INTEGER PRIMARY KEY AUTOINCREMENT,blob BLOB NOT NULL);
             INSERT INTO Packages(blob) VALUES (x'01'); PRAGMA wal_checkpoint;
             INSERT INTO Packages(blob) VALUES (zeroblob(20000));",
        )
        .unwrap();
    let (main, log) = (
        fs::read(&path).unwrap(),
        fs::read(dir.path().join("db-wal")).unwrap(),
    );
    let both: Vec<usize> = headers_of(&main, Some(&log))
        .unwrap()
        .iter()
        .map(Vec::len)
        .collect();
    assert_eq!(both, [1, 20_000]);
    // A log that ends inside the transaction has not committed it.
    let cut = &log[..log.len() - 1];
    assert_eq!(headers_of(&main, Some(cut)).unwrap(), [[1]]);
    let mut flipped = log.clone();
    flipped[40] ^= 1;
    assert_eq!(headers_of(&main, Some(&flipped)).unwrap(), [[1]]);
    assert_eq!(headers_of(&main, Some(&[])).unwrap(), [[1]]);
}

/// A `Packages.db` as `rpmpkg.c` of rpm lays it out.
fn ndb(headers: &[&[u8]]) -> Vec<u8> {
    let words = |words: [u32; 4]| words.map(u32::to_le_bytes).concat();
    let magic = |text: &[u8; 4]| u32::from_le_bytes(*text);
    let mut file = words([magic(b"RpmP"), 0, 7, 1]);
    file.extend(words([headers.len() as u32 + 1, 0, 0, 0]));
    let mut blocks = Vec::new();
    for (number, header) in (1..).zip(headers) {
        let first = (4096 + blocks.len()) / 16;
        file.extend(words([magic(b"Slot"), number, first as u32, 0]));
        blocks.extend(words([magic(b"BlbS"), number, 7, header.len() as u32]));
        blocks.extend(*header);
        blocks.extend(words([0, 0, header.len() as u32, magic(b"BlbE")]));
        blocks.resize(blocks.len().next_multiple_of(16), 0);
    }
    while file.len() < 4096 {
        file.extend(words([magic(b"Slot"), 0, 0, 0]));
    }
    file.extend(blocks);
    file
}

#[test]
fn packages_of_the_container_suse_uses_are_listed() {
    let real = headers_of(REAL, None).unwrap();
    let headers: Vec<&[u8]> = real.iter().map(Vec::as_slice).collect();
    let list = of_database(&ndb(&headers), "usr/lib/sysimage/rpm", "Packages.db").unwrap();
    assert_eq!(
        list.elements,
        of_database(REAL, "var/lib/rpm", "rpmdb.sqlite")
            .unwrap()
            .elements
    );

    let mut broken = ndb(&headers);
    broken[4096] = b'x';
    let error = of_database(&broken, "var/lib/rpm", "Packages.db").unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_record_sqlite_wrote_is_read_as_it_was_written(
        lengths in prop::collection::vec(prop_oneof![0..50_usize, 400..600_usize, 900..40_000_usize], 0..60),
        page_bytes in prop::sample::select(vec![512, 1024, 4096, 65_536]),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let mut writer = Connection::open(&path).unwrap();
        writer.execute_batch(&format!(
            "PRAGMA page_size = {page_bytes}; CREATE TABLE other(a);
             CREATE TABLE 'Packages' (hnum INTEGER PRIMARY KEY AUTOINCREMENT,blob BLOB NOT NULL);"
        )).unwrap();
        let blobs: Vec<Vec<u8>> = (0_u8..).zip(&lengths).map(|(n, length)| vec![n; *length]).collect();
        let transaction = writer.transaction().unwrap();
        for blob in &blobs {
            transaction.execute("INSERT INTO Packages(blob) VALUES (?)", [blob]).unwrap();
        }
        transaction.commit().unwrap();
        prop_assert_eq!(headers_of(&fs::read(&path).unwrap(), None).unwrap(), blobs);
    }
}

proptest! {
    #[test]
    fn no_damaged_database_can_stop_the_collector_a17(
        noise in prop::collection::vec(any::<u8>(), 0..200),
        hits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40),
        cut in any::<prop::sample::Index>(),
    ) {
        let check = |bytes: &[u8]| {
            let _ = headers_of(bytes, Some(&noise));
            let _ = headers_of(bytes, Some(bytes));
            let _ = ndb::headers(bytes, |header| {
                let _ = header::parse(header);
            });
        };
        check(&noise);
        let mut bytes = REAL.to_vec();
        for (place, byte) in hits {
            // Half of the hits go where the structure is: heads of the file and of pages.
            let at = place.index(bytes.len());
            let at = if byte % 2 == 0 { at } else { at / 4096 * 4096 + at % 64 };
            bytes[at] = byte;
        }
        check(&bytes);
        check(&bytes[..cut.index(bytes.len())]);
        let mut bytes = ndb(&[&noise, &[1; 100]]);
        bytes[place_of(&noise)] ^= 0xff;
        check(&bytes);
    }
}

fn place_of(noise: &[u8]) -> usize {
    noise.iter().map(|byte| usize::from(*byte)).sum::<usize>() % 4200
}
