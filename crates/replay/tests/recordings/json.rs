use yinglong_model::{
    AgentId, Event, EventData, EventId, Timestamp,
    event::{Direction, Process, System},
    id::Epoch,
};
use yinglong_replay::{Format, limits};

use crate::{check, read, view};

fn exported(data: EventData) -> String {
    let agent_id = AgentId::from_bits(1);
    let time = Timestamp::from_secs(1_764_000_000);
    let event = Event {
        id: EventId::derive(&agent_id, Epoch(1), 9),
        agent_id,
        ip: "192.0.2.1".into(),
        hostname: "web-1".into(),
        system: System::Linux,
        seq: 9,
        time,
        observed_at: time,
        ingested_at: time,
        data,
    };
    serde_json::to_string(&event).expect("every event is a document")
}

fn process() -> String {
    exported(EventData::Process(Box::new(Process {
        name: "/usr/bin/id".into(),
        command: "id -u".into(),
        ancestors: vec!["/usr/bin/bash".into()],
        ..Process::default()
    })))
}

#[test]
fn exported_questions_and_system_calls_read_back() {
    use yinglong_model::event::{Dns, Syscall};

    let dns = exported(EventData::Dns(Box::new(Dns {
        query: "a.example".into(),
        rcode: "NXDOMAIN".into(),
        answers: vec!["b.example".into(), "192.0.2.1".into()],
        ..Dns::default()
    })));
    let call = exported(EventData::Syscall(Box::new(Syscall {
        call: "ptrace".into(),
        success: true,
        target_pid: Some(7),
        name: "/usr/bin/gdb".into(),
        ..Syscall::default()
    })));
    let (_, records, tally) = read(format!("{dns}\n{call}\n").as_bytes());
    assert_eq!((tally.records, tally.unknown), (2, 0));
    check(
        view(&records[0], "dns"),
        &[
            ("query", "a.example"),
            ("answers", "b.example|192.0.2.1"),
            ("query_status", "9003"),
        ],
    );
    check(
        view(&records[1], "syscall"),
        &[
            ("success", "true"),
            ("record", "SYSCALL"),
            ("target_pid", "7"),
            ("call_name", "ptrace|/usr/bin/gdb"),
        ],
    );
}

#[test]
fn exported_events_read_back_with_stored_and_derived_fields() {
    let connection = exported(EventData::Connection(yinglong_model::event::Connection {
        dir: Direction::Out,
        local: "10.0.0.1:5".into(),
        remote: "192.0.2.7:443".into(),
        ..Default::default()
    }));
    let (format, records, tally) = read(format!("{}\n\n{connection}\n", process()).as_bytes());
    assert_eq!((format, tally.records), (Format::JsonLines, 2));
    let first = view(&records[0], "process");
    check(
        first,
        &[
            ("name", "/usr/bin/id"),
            ("command", "id -u"),
            ("parent_exe", "/usr/bin/bash"),
        ],
    );
    assert_eq!(first.system, System::Linux);
    assert_eq!(first.time, Some(Timestamp::from_secs(1_764_000_000)));
    assert_eq!(records[0].host.as_deref(), Some("web-1"));
    assert_eq!(records[1].number, 3);
    check(
        view(&records[1], "connection"),
        &[("destination_port", "443"), ("initiated", "true")],
    );
}

#[test]
fn a_classic_document_is_read_as_well() {
    let document = r#"{"type":"file","ip":"192.0.2.1","time":"2026-11-05T10:00:00Z",
        "data":{"action":"CREATE","path":"/etc/x","hash":"","user":"root"}}"#;
    let wrapped = format!("{{\"_source\":{document}}}");
    for text in [document, &wrapped] {
        let (format, records, _) = read(text.as_bytes());
        assert_eq!(format, Format::JsonDocuments);
        check(view(&records[0], "file"), &[("path", "/etc/x")]);
        assert_eq!(records[0].host.as_deref(), Some("192.0.2.1"));
    }
}

#[test]
fn documents_in_an_array_and_over_several_lines_are_found() {
    let event = r#"{"Event": {"System": {"EventID": 22,
        "Channel": "Microsoft-Windows-Sysmon/Operational", "Computer": "pc"},
        "EventData": {"QueryName": "a}\"{b"}}}"#;
    let array = format!("[\n{event},\n{event}]\n");
    let numbered = format!("Record 1\n{event}\nRecord 2\n{event}\n");
    for text in [array, numbered] {
        let (format, records, tally) = read(text.as_bytes());
        assert_eq!((format, tally.records), (Format::JsonDocuments, 2));
        assert_eq!(tally.damaged, 0);
        check(
            view(&records[1], "windows/dns_query"),
            &[("QueryName", "a}\"{b")],
        );
        assert_eq!(records[1].host.as_deref(), Some("pc"));
    }
}

#[test]
fn a_damaged_line_costs_that_line() {
    let text = format!("{0}\n{{\"type\":\n{{\"other\":1}}\n[]\n{0}\n", process());
    let (_, records, tally) = read(text.as_bytes());
    assert_eq!(records.len(), 2);
    assert_eq!((tally.damaged, tally.unknown), (2, 1));
}

#[test]
fn an_oversized_document_is_left_out_and_the_next_is_read() {
    let huge = format!("{{\"a\":\"{}\"}}", "x".repeat(limits::DOCUMENT_BYTES));
    let small = process();
    let lines = format!("{small}\n{huge}\n{small}\n");
    let array = format!("[\n{small},{huge},{small}]");
    for text in [lines, array] {
        let (_, records, tally) = read(text.as_bytes());
        assert_eq!((records.len(), tally.oversized), (2, 1));
    }
}
