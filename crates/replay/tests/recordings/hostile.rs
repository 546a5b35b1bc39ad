//! Content that nobody meant to be read.

use proptest::prelude::*;
use yinglong_replay::limits;

use crate::{evtx::process, evtx_writer::file, open};

/// Reads to the end. Whatever comes is within the limits.
fn survive(bytes: &[u8]) {
    let Ok(reader) = open(bytes) else {
        return;
    };
    for record in reader {
        let record = record.expect("bytes in memory can be read");
        assert!(!record.views.is_empty());
        assert!(
            record
                .views
                .iter()
                .all(|view| view.fields.len() <= limits::FIELDS)
        );
    }
}

fn evtx() -> Vec<u8> {
    file(&[&[process("a"), process("b"), process("a")], &[process("b")]])
}

#[test]
fn an_event_log_cut_anywhere_is_read_up_to_there() {
    let whole = evtx();
    for cut in (0..2048).chain((4096..5600).step_by(7)).chain([
        whole.len() - 1,
        whole.len() - 65_536,
        whole.len() - 70_000,
    ]) {
        survive(&whole[..cut]);
    }
}

#[test]
fn an_event_log_with_any_bit_of_its_first_record_flipped_is_read() {
    let mut bytes = evtx();
    // Heads of file and chunk, the first record and part of the second.
    for at in (0..128).chain(4096..4096 + 512).chain(4608..5400) {
        let bit = 1 << (at % 8);
        bytes[at] ^= bit;
        survive(&bytes);
        bytes[at] ^= bit;
    }
}

#[test]
fn a_document_nested_too_deeply_is_damaged() {
    let nested = format!("{{\"a\":1}}\n{}\n", "{\"a\":".repeat(100_000));
    let (_, records, tally) = crate::read(nested.as_bytes());
    assert_eq!((records.len(), tally.damaged, tally.unknown), (0, 1, 1));
}

#[test]
fn a_record_of_too_many_fields_is_cut() {
    use std::fmt::Write;
    let mut line = String::from("type=EXECVE msg=audit(1.0:1):");
    for number in 0..5000 {
        let _ = write!(line, " a{number}=\"x\"");
    }
    survive(line.as_bytes());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_after_the_head_of_a_chunk_panic(
        changes in prop::collection::vec((4608_usize..5600, any::<u8>()), 1..40),
    ) {
        let mut bytes = evtx();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        survive(&bytes);
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,400}") {
        survive(text.as_bytes());
        survive(format!("type=X msg=audit(1.0:1): a=b\n{text}").as_bytes());
        survive(format!("Nov  5 10:00:00 web a: b\n{text}").as_bytes());
        survive(format!("{{\"a\":1}}\n{text}").as_bytes());
        survive(format!("[{{\n{text}").as_bytes());
    }

    #[test]
    fn no_windows_document_panics(
        id in any::<u16>(),
        name in "[A-Za-z #@]{0,8}",
        value in prop_oneof![Just("null"), Just("[1,[2],{}]"), Just("{\"#text\":[1]}"), Just("\"0x\"")],
    ) {
        for channel in ["Security", "Windows PowerShell", "Microsoft-Windows-Sysmon/Operational"] {
            survive(format!(
                "{{\"Event\":{{\"System\":{{\"EventID\":{id},\"Channel\":\"{channel}\",\"{name}\":{value}}},\
                 \"EventData\":{{\"{name}\":{value},\"Data\":{value},\"Hashes\":{value}}},\
                 \"UserData\":{{\"{name}\":{value}}}}}}}\n"
            ).as_bytes());
        }
    }
}
