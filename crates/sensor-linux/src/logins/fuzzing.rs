//! A door for made-up input: every parser of this module, for a fuzzer that is outside the crate.

use yinglong_model::Timestamp;

use super::{audit, database, duplicates::Duplicates, journal, message::Messages, syslog, utmp};

/// Moment at which lines without a year are read.
const NOW: Timestamp = Timestamp::from_secs(1_790_000_000);

/// Reads bytes as each kind of source would. The first byte chooses which.
pub fn read(data: &[u8]) {
    let Some((choice, bytes)) = data.split_first() else {
        return;
    };
    match choice % 5 {
        0 => {
            for record in bytes.chunks(utmp::RECORD_BYTES) {
                let _ = utmp::parse(record);
            }
        }
        1 => {
            let text = String::from_utf8_lossy(bytes);
            let mut messages = Messages::default();
            for line in text.lines() {
                let line = syslog::parse(line, NOW);
                let outcome = messages.outcome(line.program, line.message);
                assert!(outcome.is_none_or(|outcome| outcome.times > 0));
            }
        }
        2 => {
            let mut messages = Messages::default();
            let mut duplicates = Duplicates::default();
            for line in bytes.split(|byte| *byte == b'\n') {
                let Some(entry) = journal::entry::parse(line) else {
                    continue;
                };
                for told in journal::told(&entry, &mut messages, NOW) {
                    duplicates.is_first(&told, NOW);
                }
            }
            let saved = duplicates.save();
            assert_eq!(Duplicates::restore(&saved, NOW).save(), saved);
        }
        3 => {
            for line in bytes.split(|byte| *byte == b'\n') {
                for kind in [audit::record::USER_AUTH, audit::record::USER_LOGIN] {
                    let _ = audit::record::parse(kind, line);
                }
            }
        }
        _ => {
            // Behind the length of the database a write-ahead log.
            let (length, files) = bytes.split_at(bytes.len().min(2));
            let length = length
                .iter()
                .fold(0, |n: usize, byte| n << 8 | usize::from(*byte));
            let (file, wal) = files.split_at(files.len().min(length));
            database::try_all(file, Some(wal).filter(|wal| !wal.is_empty()));
        }
    }
}
