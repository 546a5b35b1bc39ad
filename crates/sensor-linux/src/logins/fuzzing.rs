//! A door for made-up input: every parser of this module, for the fuzzer in `fuzz`, outside the crate.

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the fuzzer begins with, one for each parser.
    const SEEDS: [&[u8]; 5] = [
        include_bytes!("../../../../fuzz/seeds/logins/utmp"),
        include_bytes!("../../../../fuzz/seeds/logins/syslog"),
        include_bytes!("../../../../fuzz/seeds/logins/journal"),
        include_bytes!("../../../../fuzz/seeds/logins/audit"),
        include_bytes!("../../../../fuzz/seeds/logins/database"),
    ];

    #[test]
    fn every_seed_reaches_its_parser() {
        for (choice, seed) in (0..).zip(SEEDS) {
            assert_eq!(seed[0], choice);
        }
        let rest = |choice: usize| &SEEDS[choice][1..];
        assert_eq!(utmp::parse(rest(0)).unwrap().user, "probe1");
        let mut messages = Messages::default();
        let text = std::str::from_utf8(rest(1)).unwrap();
        for line in text.lines() {
            let line = syslog::parse(line, NOW);
            let outcome = messages.outcome(line.program, line.message);
            assert!(outcome.is_some(), "{line:?}");
        }
        for line in rest(2).trim_ascii().split(|byte| *byte == b'\n') {
            let entry = journal::entry::parse(line).unwrap();
            assert_eq!(journal::told(&entry, &mut messages, NOW).len(), 1);
        }
        for line in rest(3).trim_ascii().split(|byte| *byte == b'\n') {
            assert!(audit::record::parse(audit::record::USER_LOGIN, line).is_some());
        }
        assert_eq!(database::try_all(&rest(4)[2..], None), 12);
    }

    proptest! {
        #[test]
        fn seeds_with_bytes_changed_end_no_parser(
            seed in 0..SEEDS.len(),
            changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..16),
            cut in any::<usize>(),
        ) {
            let mut bytes = SEEDS[seed].to_vec();
            for (place, value) in changes {
                let place = 1 + place % (bytes.len() - 1);
                bytes[place] = value;
            }
            if cut % 4 == 0 {
                bytes.truncate(1 + cut / 4 % bytes.len());
            }
            read(&bytes);
        }
    }
}
