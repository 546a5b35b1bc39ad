use yinglong_replay::Format;

use crate::{
    check,
    evtx_writer::{Written, file},
    read, view,
};

const SYSMON: &str = "Microsoft-Windows-Sysmon/Operational";

pub(crate) fn process(image: &'static str) -> Written<'static> {
    let data: &'static [(&'static str, &'static str)] = match image {
        "a" => &[
            ("Image", "C:\\a.exe"),
            ("CommandLine", "a /x"),
            ("ProcessId", "7"),
        ],
        _ => &[
            ("Image", "C:\\b.exe"),
            ("CommandLine", "b \u{4e2d}"),
            ("ProcessId", "8"),
        ],
    };
    Written {
        channel: SYSMON,
        provider: "Microsoft-Windows-Sysmon",
        id: 1,
        data,
    }
}

#[test]
fn every_record_of_every_chunk_is_read_in_order() {
    let bytes = file(&[&[process("a"), process("b")], &[process("a")]]);
    let (format, records, tally) = read(&bytes);
    assert_eq!(format, Format::Evtx);
    assert_eq!((tally.records, tally.damaged), (3, 0));
    let numbers: Vec<u64> = records.iter().map(|record| record.number).collect();
    assert_eq!(numbers, [1, 2, 3]);
    assert_eq!(records[0].host.as_deref(), Some("pc-1"));
    check(
        view(&records[1], "process"),
        &[
            ("exe", "C:\\b.exe"),
            ("name", "b.exe"),
            ("command", "b \u{4e2d}"),
            ("pid", "8"),
            ("Provider_Name", "Microsoft-Windows-Sysmon"),
            ("Computer", "pc-1"),
        ],
    );
    check(
        view(&records[1], "windows/sysmon"),
        &[("EventID", "1"), ("Image", "C:\\b.exe")],
    );
    let time = view(&records[0], "process").time.unwrap();
    assert_eq!(time.to_string(), "2026-01-01T00:00:00Z");
}

#[test]
fn data_without_names_are_lines() {
    let start = Written {
        channel: "Windows PowerShell",
        provider: "PowerShell",
        id: 400,
        data: &[
            ("", "Available"),
            ("", "None"),
            ("", "\tHostApplication=powershell -nop"),
        ],
    };
    let (_, records, _) = read(&file(&[&[start]]));
    check(
        view(&records[0], "windows/ps_classic_start"),
        &[
            ("HostApplication", "powershell -nop"),
            ("Data", "Available\nNone\n\tHostApplication=powershell -nop"),
        ],
    );
}

#[test]
fn a_damaged_chunk_costs_that_chunk() {
    let mut bytes = file(&[&[process("a")], &[process("a")], &[process("b")]]);
    bytes[4096 + 65_536] = b'X';
    let (_, records, tally) = read(&bytes);
    let numbers: Vec<u64> = records.iter().map(|record| record.number).collect();
    assert_eq!(numbers, [1, 3]);
    assert_eq!(tally.damaged, 1);
}

#[test]
fn a_file_without_a_sound_head_is_refused() {
    assert!(crate::open(b"ElfFile\0short").is_err());
}
