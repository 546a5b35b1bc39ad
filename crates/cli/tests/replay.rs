//! `yinglong replay` as people run it: recordings and rules in files, lines of JSON out.

#![allow(clippy::unwrap_used, reason = "what is missing in a test fails it")]

mod program;

use program::Folder;

const RULE: &str = "title: Reads the accounts\nid: 0d7f3c1e-5a0b-4f6e-9a51-1f4c2f0f4b01\n\
    name: accounts\nlogsource: {product: linux, category: process_creation}\n\
    detection:\n  selection:\n    CommandLine|contains: /etc/shadow\n  condition: selection\n\
    level: high\n";
const CORRELATION: &str = "title: Reads the accounts often\n\
    id: 0d7f3c1e-5a0b-4f6e-9a51-1f4c2f0f4b02\ncorrelation:\n  type: event_count\n  \
    rules: accounts\n  group-by: [User]\n  timespan: 5m\n  condition: {gte: 2}\nlevel: critical\n";
const CLASSIC: &str = r#"{"id":"classic-id","enabled":true,"and":true,"source":"process",
    "system":"linux","meta":{"name":"Runs id","author":"t","description":"d","level":2},
    "rules":{"name":{"type":"regex","data":"^id$"}}}"#;

fn process(second: u32, name: &str, command: &str) -> String {
    format!(
        r#"{{"type":"process","system":"linux","hostname":"web-1","time":"2026-11-25T10:00:{second:02}Z","data":{{"name":"{name}","command":"{command}","user":"ann"}}}}"#
    )
}

fn events() -> String {
    [
        process(1, "/usr/bin/cat", "cat /etc/shadow"),
        process(2, "/usr/bin/id", "id -u"),
        process(3, "/usr/bin/cat", "cat /etc/hosts"),
    ]
    .join("\n")
}

fn matched(file: &str, record: u64, of: [&str; 3]) -> String {
    let [rule, title, level] = of;
    format!(
        r#"{{"file":"{file}","record":{record},"rule":"{rule}","title":"{title}","level":"{level}"}}"#
    )
}

const ACCOUNTS: [&str; 3] = [
    "0d7f3c1e-5a0b-4f6e-9a51-1f4c2f0f4b01",
    "Reads the accounts",
    "high",
];

fn summary(records: u64, matches: u64, loaded: usize) -> String {
    format!(
        r#"{{"records":{records},"matches":{matches},"damaged":0,"unreadable":[],"rules":{{"loaded":{loaded},"refused":0}},"refused":[]}}"#
    )
}

#[test]
fn events_are_matched_by_rules_of_both_languages() {
    let folder = Folder::new();
    folder.write("events.ndjson", &events());
    folder.write("rules/deep/accounts.yml", RULE);
    folder.write("rules/id.json", CLASSIC);
    // What is no rule is not read as one.
    folder.write("rules/id.test.json", "{}");
    folder.write("rules/.hidden.yml", "title: [");
    folder.write("rules/README.md", "# Rules");
    let said = folder.succeed(&["replay", "events.ndjson", "--rules", "rules", "--json"]);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(
        lines,
        [
            matched("events.ndjson", 1, ACCOUNTS),
            matched("events.ndjson", 2, ["classic-id", "Runs id", "hint"]),
            summary(3, 2, 2),
        ]
    );
}

#[test]
fn an_audit_log_is_matched() {
    let folder = Folder::new();
    let log = [
        r#"type=SYSCALL msg=audit(1764064801.123:77): arch=c000003e syscall=59 success=yes exit=0 a0=1 a1=2 a2=3 a3=4 items=1 ppid=900 pid=901 auid=1000 uid=1000 gid=1000 euid=1000 suid=1000 fsuid=1000 egid=1000 sgid=1000 fsgid=1000 tty=pts0 ses=3 comm="cat" exe="/usr/bin/cat" key=(null)"#,
        r#"type=EXECVE msg=audit(1764064801.123:77): argc=2 a0="cat" a1="/etc/shadow""#,
        r#"type=EOE msg=audit(1764064801.123:77):"#,
    ];
    folder.write("audit.log", &(log.join("\n") + "\n"));
    folder.write("accounts.yml", RULE);
    let said = folder.succeed(&["replay", "audit.log", "--rules", "accounts.yml", "--json"]);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines, [matched("audit.log", 1, ACCOUNTS), summary(1, 1, 1)]);
}

#[test]
fn a_correlation_is_told_at_the_record_that_completes_it() {
    let folder = Folder::new();
    folder.write("events.ndjson", &[events(), events()].join("\n"));
    folder.write("set.yml", &[RULE, CORRELATION].join("---\n"));
    let said = folder.succeed(&["replay", "events.ndjson", "--rules", "set.yml", "--json"]);
    let lines: Vec<&str> = said.lines().collect();
    let often = [
        "0d7f3c1e-5a0b-4f6e-9a51-1f4c2f0f4b02",
        "Reads the accounts often",
        "critical",
    ];
    // The member is silent, since the correlation stands for it.
    assert_eq!(
        lines,
        [matched("events.ndjson", 4, often), summary(6, 1, 2)]
    );
}

#[test]
fn a_broken_rule_is_refused_with_its_place_and_the_others_run() {
    let folder = Folder::new();
    folder.write("events.ndjson", &events());
    folder.write("rules/accounts.yml", RULE);
    let broken = RULE
        .replace("4b01", "4b03")
        .replace("condition: selection", "condition: selektion");
    folder.write("rules/broken.yml", &broken);
    let output = folder.run(&["replay", "events.ndjson", "--rules", "rules", "--json"]);
    assert!(output.status.success());
    let said = String::from_utf8(output.stdout).unwrap();
    let mut lines = said.lines();
    assert_eq!(
        lines.next(),
        Some(matched("events.ndjson", 1, ACCOUNTS).as_str())
    );
    let summary: serde_json::Value = serde_json::from_str(lines.next().unwrap()).unwrap();
    assert_eq!(lines.next(), None);
    assert_eq!(
        summary["rules"],
        serde_json::json!({"loaded": 1, "refused": 1})
    );
    assert_eq!(summary["refused"][0]["file"], "rules/broken.yml");
    assert_eq!(
        summary["refused"][0]["rule"],
        "0d7f3c1e-5a0b-4f6e-9a51-1f4c2f0f4b03"
    );
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.starts_with("rules/broken.yml:8:"), "{errors}");
    assert!(errors.contains("selektion"), "{errors}");
}

#[test]
fn a_folder_of_recordings_is_read_in_the_order_of_names() {
    let folder = Folder::new();
    folder.write("day/b.ndjson", &events());
    folder.write("day/a/one.ndjson", &events());
    folder.write("accounts.yml", RULE);
    let said = folder.succeed(&["replay", "day", "--rules", "accounts.yml", "--json"]);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(
        lines,
        [
            matched("day/a/one.ndjson", 1, ACCOUNTS),
            matched("day/b.ndjson", 1, ACCOUNTS),
            summary(6, 2, 1),
        ]
    );
}

#[test]
fn a_file_that_is_no_recording_fails_after_the_others_were_read() {
    let folder = Folder::new();
    folder.write("day/a.bin", "\u{0}\u{1}\u{2}");
    folder.write("day/b.ndjson", &events());
    folder.write("accounts.yml", RULE);
    let output = folder.run(&["replay", "day", "--rules", "accounts.yml", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        said.lines().next(),
        Some(matched("day/b.ndjson", 1, ACCOUNTS).as_str())
    );
    assert!(said.contains(r#""unreadable":["day/a.bin"]"#), "{said}");
}
