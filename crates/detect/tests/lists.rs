//! Black and white lists: order and semantics per type (S10, S11).

mod support;

use support::{Values, engine, judge, list, rule, sources, values};
use yinglong_detect::{Engine, Sample};
use yinglong_model::{config::List, rule::Level};

const MD5: &str = "d41d8cd98f00b204e9800998ecf8427e";
const SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Whether the list, used as either list, matches the element; both must agree.
fn matches(list: &List, kind: &str, fields: &Values) -> bool {
    let none = List::default();
    let black = judge(&engine(&[], &none, list), kind, fields, None);
    let white = judge(&engine(&[], list, &none), kind, fields, None);
    assert_eq!(
        !black.detections.is_empty(),
        white.whitelisted.is_some(),
        "{kind} {fields:?}"
    );
    white.whitelisted.is_some()
}

#[test]
fn s11_each_type_is_compared_with_its_part_of_the_list_ignoring_case() {
    type Pairs<'p> = &'p [(&'p str, &'p str)];
    let process = |entry: &'static str| list(&[], &[], &[entry], &[]);
    let file = |entry: &'static str| list(&[entry], &[], &[], &[]);
    let ip = |entry: &'static str| list(&[], &[entry], &[], &[]);
    let other = |entry: &'static str| list(&[], &[], &[], &[entry]);
    let cases: Vec<(List, &str, Pairs<'_>, bool)> = vec![
        (
            process("^BACKUP$"),
            "process",
            &[("name", "/opt/Backup")],
            true,
        ),
        (
            process("^/OPT/back"),
            "process",
            &[("name", "/opt/Backup")],
            true,
        ),
        (
            process("--FULL"),
            "process",
            &[("command", "backup --full")],
            true,
        ),
        (
            process("^backup$"),
            "process",
            &[("name", "/opt/backup2")],
            false,
        ),
        (
            process("backup"),
            "process",
            &[("name", "/bin/x"), ("parentname", "backup")],
            false,
        ),
        (process("backup"), "userlist", &[("name", "backup")], false),
        (
            ip("192.0.2.7"),
            "connection",
            &[("remote_ip", "192.0.2.7")],
            true,
        ),
        (
            ip("192.0.2.0/24"),
            "connection",
            &[("remote_ip", "192.0.2.9")],
            true,
        ),
        (
            ip("192.0.2.0/24"),
            "connection",
            &[("remote_ip", "192.0.3.9")],
            false,
        ),
        (
            ip("192.0.2.7"),
            "connection",
            &[("remote_ip", "192.0.2.70")],
            false,
        ),
        (
            ip("192.0.2.7"),
            "connection",
            &[("remote_ip", "::ffff:192.0.2.7")],
            true,
        ),
        (
            ip("2001:DB8::/32"),
            "connection",
            &[("remote_ip", "2001:db8::1")],
            true,
        ),
        (
            ip("2001:DB8::/32"),
            "connection",
            &[("remote_ip", "2001:db9::1")],
            false,
        ),
        (ip("192.0.2.7"), "connection", &[("remote_ip", "")], false),
        (
            ip("10.0.0.0/8"),
            "loginlog",
            &[("remote", "10.1.2.3")],
            true,
        ),
        (
            ip("10.0.0.0/8"),
            "loginlog",
            &[("remote", "11.1.2.3")],
            false,
        ),
        (
            ip("10.0.0.0/8"),
            "loginlog",
            &[("remote", "console")],
            false,
        ),
        (
            file("^/TMP/.*\\.log$"),
            "file",
            &[("path", "/tmp/A.LOG")],
            true,
        ),
        (file("^/tmp/"), "file", &[("path", "/var/tmp/a")], false),
        (
            file(MD5),
            "file",
            &[("hash", "D41D8CD98F00B204E9800998ECF8427E")],
            true,
        ),
        (file(SHA256), "file", &[("sha256", SHA256)], true),
        (file(SHA256), "process", &[("sha256", SHA256)], true),
        (
            file(MD5),
            "process",
            &[("md5", "D41D8CD98F00B204E9800998ECF8427E")],
            true,
        ),
        // Paths of that list are those of files.
        (file("^/tmp/"), "process", &[("name", "/tmp/x")], false),
        (file(MD5), "syscall", &[("name", MD5)], false),
        (file(MD5), "file", &[("hash", ""), ("path", MD5)], false),
        (
            file(MD5),
            "file",
            &[("hash", "d41d8cd98f00b204e9800998ecf8427f")],
            false,
        ),
        (
            file("LOGROTATE"),
            "crontab",
            &[("command", "/usr/sbin/logrotate")],
            true,
        ),
        (
            file("logrotate"),
            "crontab",
            &[("command", "/bin/sh"), ("name", "logrotate")],
            false,
        ),
        (other("^SSHD?$"), "service", &[("name", "sshd")], true),
        (
            other("^ssh$"),
            "service",
            &[("name", "openssh"), ("caption", "ssh")],
            false,
        ),
        (other("^bob$"), "userlist", &[("name", "Bob")], true),
        (other("^bob$"), "userlist", &[("name", "bobby")], false),
        (other("nginx"), "listening", &[("name", "nginx")], true),
        (
            other("nginx"),
            "startup",
            &[("name", "Nginx.desktop")],
            true,
        ),
        (
            other("nginx"),
            "processlist",
            &[("name", "/usr/sbin/nginx")],
            true,
        ),
        (
            other("nginx"),
            "process",
            &[("name", "/usr/sbin/nginx")],
            false,
        ),
        (other("nginx"), "crontab", &[("command", "nginx")], false),
        (
            other("nginx"),
            "container",
            &[("name", "web"), ("image", "docker.io/library/nginx:1.27")],
            true,
        ),
        (
            other("^SHA256:AbC"),
            "sshkey",
            &[("fingerprint", "SHA256:AbC/x"), ("comment", "me")],
            true,
        ),
        (
            other("me"),
            "sshkey",
            &[("fingerprint", "SHA256:AbC/x"), ("comment", "me")],
            false,
        ),
        (other("^telnetd$"), "package", &[("name", "telnetd")], true),
    ];
    for (list, kind, pairs, expected) in cases {
        assert_eq!(
            matches(&list, kind, &values(pairs)),
            expected,
            "{list:?} {kind} {pairs:?}"
        );
    }
}

fn both_and_rule(white: &List, black: &List) -> (Vec<String>, Option<String>) {
    let rule = rule("process", true, &[("name", "string", "a")]);
    let engine = engine(&[rule], white, black);
    let verdict = judge(&engine, "process", &values(&[("name", "a")]), None);
    let sources = sources(&verdict).into_iter().map(str::to_owned).collect();
    (sources, verdict.whitelisted)
}

#[test]
fn s10_black_list_before_white_list_before_rules() {
    let none = List::default();
    let hit = list(&[], &[], &["^A$"], &[]);
    let (sources, white) = both_and_rule(&hit, &hit);
    assert_eq!(
        (sources, white),
        (vec!["blacklist".to_owned()], Some("^A$".to_owned()))
    );
    let (sources, white) = both_and_rule(&hit, &none);
    assert_eq!((sources, white), (vec![], Some("^A$".to_owned())));
    let (sources, white) = both_and_rule(&none, &hit);
    assert_eq!(
        (sources, white),
        (vec!["blacklist".to_owned(), "r".to_owned()], None)
    );
    let (sources, white) = both_and_rule(&none, &none);
    assert_eq!((sources, white), (vec!["r".to_owned()], None));
}

#[test]
fn s10_a_black_list_hit_is_one_danger_alert_however_many_entries_match() {
    let black = list(&[], &[], &["^miner$", "mine", "--pool"], &[]);
    let engine = engine(&[], &List::default(), &black);
    let fields = values(&[("name", "/tmp/miner"), ("command", "miner --pool x")]);
    let verdict = judge(&engine, "process", &fields, None);
    assert_eq!(verdict.detections.len(), 1);
    let detection = &verdict.detections[0];
    assert_eq!(detection.source, "blacklist");
    assert_eq!(detection.rule_id, "");
    assert_eq!(detection.level, Level::Danger);
    assert_eq!(detection.info, "/tmp/miner");
    assert_eq!(detection.matched[0].condition, "blacklist ^miner$");
}

#[test]
fn s14_an_invalid_entry_is_reported_and_the_others_work() {
    let black = list(
        &["[", "^/tmp/"],
        &["10.0.0.0/33", "192.0.2.7"],
        &["("],
        &[""],
    );
    let (engine, diagnostics) = Engine::new([], &List::default(), &black, &Sample::default());
    let mut paths: Vec<_> = diagnostics.iter().map(|d| d.path.as_str()).collect();
    paths.sort_unstable();
    let expected = [
        "blacklist.file[0]",
        "blacklist.ip[0]",
        "blacklist.other[0]",
        "blacklist.process[0]",
    ];
    assert_eq!(paths, expected);
    let hit = |kind, pairs: &[(&str, &str)]| {
        !judge(&engine, kind, &values(pairs), None)
            .detections
            .is_empty()
    };
    assert!(hit("file", &[("path", "/tmp/x")]));
    assert!(hit("connection", &[("remote_ip", "192.0.2.7")]));
    assert!(!hit("process", &[("name", "x")]));
}
