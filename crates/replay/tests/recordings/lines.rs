use yinglong_replay::{Format, limits};

use crate::{check, read, view};

#[test]
fn an_audit_log_gives_events_of_records() {
    let log = "\
type=DAEMON_START msg=audit(1763000000.000:1): op=start ver=3.0 res=success
node=web type=SYSCALL msg=audit(1763000000.100:7): arch=c000003e syscall=59 success=yes exit=0 \
ppid=1 pid=7 auid=1000 uid=0 gid=0 euid=0 tty=pts0 ses=2 comm=\"sh\" exe=\"/usr/bin/sh\" key=\"exec\"
node=web type=EXECVE msg=audit(1763000000.100:7): argc=2 a0=\"sh\" a1=\"x.sh\"
node=web type=CWD msg=audit(1763000000.100:7): cwd=\"/root\"
node=web type=PROCTITLE msg=audit(1763000000.100:7): proctitle=7368
node=web type=EOE msg=audit(1763000000.100:7):
not a record
node=web type=SYSCALL msg=audit(1763000000.200:8): arch=c000003e syscall=59 success=yes ppid=7 \
pid=8 exe=\"/usr/bin/id\"
node=web type=EXECVE msg=audit(1763000000.200:8): argc=1 a0=\"id\"
";
    let (format, records, tally) = read(log.as_bytes());
    assert_eq!(format, Format::Audit);
    assert_eq!((tally.records, tally.damaged), (3, 1));
    let numbers: Vec<u64> = records.iter().map(|record| record.number).collect();
    assert_eq!(numbers, [1, 2, 8]);
    assert_eq!(records[1].views.len(), 5);
    assert_eq!(records[1].host.as_deref(), Some("web"));
    check(
        view(&records[1], "process"),
        &[
            ("name", "/usr/bin/sh"),
            ("command", "sh x.sh"),
            ("cwd", "/root"),
        ],
    );
    check(
        view(&records[1], "linux/auditd"),
        &[("type", "SYSCALL"), ("key", "exec"), ("SYSCALL", "execve")],
    );
    check(
        view(&records[2], "process"),
        &[("parent_exe", "/usr/bin/sh"), ("parent_command", "sh x.sh")],
    );
}

#[test]
fn a_text_log_gives_its_lines() {
    let long = "x".repeat(limits::LINE_BYTES);
    let log = format!(
        "Nov  5 10:00:00 web sshd[7]: Failed password for ann\n\
         Nov  5 10:00:00 web kernel: {long}\n\
         --- MARK ---\n\
         Nov  5 10:00:01 web CRON[8]: (root) CMD (true)\n"
    );
    let (format, records, tally) = read(log.as_bytes());
    assert_eq!(format, Format::Text);
    assert_eq!((tally.records, tally.oversized, tally.damaged), (2, 1, 1));
    check(
        view(&records[0], "linux/sshd"),
        &[("message", "Failed password for ann"), ("pid", "7")],
    );
    assert_eq!(records[1].number, 4);
    let time = view(&records[1], "linux/cron").time.unwrap();
    assert_eq!(time.to_string(), "2026-11-05T10:00:01Z");
}

#[test]
fn an_empty_file_has_no_records() {
    assert_eq!(read(b"").1, []);
}
