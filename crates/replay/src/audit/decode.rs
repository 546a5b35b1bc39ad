//! One line: its type, time, serial and values.

use std::collections::BTreeMap;

use yinglong_model::Timestamp;

use crate::limits;

/// What one line says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Raw {
    /// For example `SYSCALL`.
    pub(crate) kind: String,
    /// Host that forwarded it.
    pub(crate) node: Option<String>,
    /// When the event happened, in milliseconds.
    pub(crate) millis: i64,
    /// Number of the event; unique until the host starts again.
    pub(crate) serial: u64,
    /// Values by name, decoded, in the order written.
    pub(crate) values: Vec<(String, String)>,
    /// Parts of arguments that were too long for one value: argument, part, as written.
    pub(crate) parts: Vec<(usize, usize, String)>,
}

impl Raw {
    /// First value of that name.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let mut values = self.values.iter();
        values.find_map(|(known, value)| (known == name).then_some(value.as_str()))
    }

    /// When it happened.
    pub(crate) fn time(&self) -> Timestamp {
        Timestamp::from_nanos(self.millis.saturating_mul(1_000_000))
    }
}

/// Reads a line; `None` when it is not an audit record.
pub(crate) fn record(line: &str) -> Option<Raw> {
    let mut raw = Raw::default();
    let mut rest = line.trim_end();
    if let Some(forwarded) = rest.strip_prefix("node=") {
        let (node, after) = forwarded.split_once(' ')?;
        raw.node = Some(node.to_owned());
        rest = after;
    }
    let (kind, rest) = rest.strip_prefix("type=")?.split_once(' ')?;
    raw.kind = kind.to_owned();
    let (stamp, rest) = rest.strip_prefix("msg=audit(")?.split_once(')')?;
    let (time, serial) = stamp.split_once(':')?;
    let (seconds, millis) = time.split_once('.').unwrap_or((time, "0"));
    let seconds: i64 = seconds.parse().ok()?;
    raw.millis = seconds
        .checked_mul(1000)?
        .checked_add(millis.parse().ok()?)?;
    raw.serial = serial.parse().ok()?;
    let rest = rest.strip_prefix(':').unwrap_or(rest);
    let (kernel, enriched) = rest.split_once('\u{1d}').unwrap_or((rest, ""));
    raw.assign(kernel);
    raw.assign(enriched);
    raw.join_parts();
    Some(raw)
}

impl Raw {
    fn assign(&mut self, text: &str) {
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            let Some((name, after)) = rest.split_once('=') else {
                return;
            };
            // Words without a value may stand before a name: `avc:  denied  { read } for  pid=1`.
            let name = name.rsplit(' ').next().unwrap_or(name);
            let (value, after) = value(after);
            rest = after.trim_start();
            self.add(name, value);
        }
    }

    fn add(&mut self, name: &str, value: Written<'_>) {
        if self.values.len() + self.parts.len() >= limits::FIELDS || name.is_empty() {
            return;
        }
        match value {
            // What a program reported is in quotes of its own, with values of its own.
            Written::Single(text) if name == "msg" => self.assign(text),
            Written::Single(text) | Written::Double(text) => {
                self.values.push((name.to_owned(), text.to_owned()));
            }
            Written::Bare("(null)") => {}
            Written::Bare(text) => {
                if let Some((argument, part)) = part(name) {
                    self.parts.push((argument, part, text.to_owned()));
                } else if is_encoded(&self.kind, name) {
                    let text = unhex(text).unwrap_or_else(|| text.to_owned());
                    self.values.push((name.to_owned(), text));
                } else {
                    self.values.push((name.to_owned(), text.to_owned()));
                }
            }
        }
    }

    fn join_parts(&mut self) {
        for (argument, text) in joined(&self.parts) {
            self.values.push((format!("a{argument}"), text));
        }
    }
}

/// Arguments put together from their parts, decoded.
pub(super) fn joined(parts: &[(usize, usize, String)]) -> BTreeMap<usize, String> {
    let mut ordered: Vec<&(usize, usize, String)> = parts.iter().collect();
    ordered.sort_by_key(|(argument, part, _)| (*argument, *part));
    let mut written: BTreeMap<usize, String> = BTreeMap::new();
    for (argument, _, text) in ordered {
        written.entry(*argument).or_default().push_str(text);
    }
    for text in written.values_mut() {
        if let Some(decoded) = unhex(text) {
            *text = decoded;
        }
    }
    written
}

/// A value as it is written.
enum Written<'l> {
    Single(&'l str),
    Double(&'l str),
    Bare(&'l str),
}

/// The value at the start of a text, and what follows. A quote that is not closed ends the line.
fn value(text: &str) -> (Written<'_>, &str) {
    if let Some(quoted) = text.strip_prefix('"') {
        let (value, rest) = quoted.split_once('"').unwrap_or((quoted, ""));
        return (Written::Double(value), rest);
    }
    if let Some(quoted) = text.strip_prefix('\'') {
        // The report of a program may have apostrophes in it: the last quote closes it.
        let (value, rest) = quoted.rsplit_once('\'').unwrap_or((quoted, ""));
        return (Written::Single(value), rest);
    }
    let (value, rest) = text.split_once(' ').unwrap_or((text, ""));
    (Written::Bare(value), rest)
}

/// Argument and part of a name such as `a1[0]`.
fn part(name: &str) -> Option<(usize, usize)> {
    let (argument, part) = name.strip_prefix('a')?.split_once('[')?;
    Some((
        argument.parse().ok()?,
        part.strip_suffix(']')?.parse().ok()?,
    ))
}

/// Names whose values are written in hexadecimal when they need it, as in the field dictionary of
/// the audit project.
const ENCODED: [&str; 22] = [
    "proctitle",
    "cmd",
    "name",
    "exe",
    "comm",
    "cwd",
    "path",
    "data",
    "acct",
    "dir",
    "key",
    "file",
    "watch",
    "vm",
    "device",
    "new-disk",
    "old-disk",
    "cgroup",
    "ocomm",
    "grp",
    "invalid_context",
    "sw",
];

fn is_encoded(kind: &str, name: &str) -> bool {
    if ENCODED.contains(&name) {
        return true;
    }
    // The arguments of a system call are numbers, those of an execution texts.
    let argument = || {
        name.strip_prefix('a').is_some_and(|number| {
            !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
        })
    };
    kind == "EXECVE" && argument()
}

/// The text that upper-case hexadecimal digits stand for. Ends of strings between arguments become
/// blanks, other bytes that are not UTF-8 are replaced.
fn unhex(text: &str) -> Option<String> {
    if text.is_empty() || !text.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    };
    let mut bytes = text.as_bytes().chunks_exact(2).map(|pair| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    });
    let mut decoded = bytes.by_ref().collect::<Option<Vec<u8>>>()?;
    while decoded.last() == Some(&0) {
        decoded.pop();
    }
    for byte in &mut decoded {
        if *byte == 0 {
            *byte = b' ';
        }
    }
    Some(String::from_utf8_lossy(&decoded).into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(line: &str, expected: &[(&str, &str)]) -> Raw {
        let raw = record(line).unwrap();
        for (name, value) in expected {
            assert_eq!(raw.get(name), Some(*value), "{name}");
        }
        raw
    }

    #[test]
    fn a_record_has_type_time_serial_and_values() {
        let raw = check(
            "node=web type=SYSCALL msg=audit(1700000000.123:77): arch=c000003e syscall=59 a0=5566AA \
             comm=\"id\" exe=\"/usr/bin/id\" key=(null)",
            &[("a0", "5566AA"), ("comm", "id"), ("exe", "/usr/bin/id")],
        );
        assert_eq!(raw.kind, "SYSCALL");
        assert_eq!(raw.node.as_deref(), Some("web"));
        assert_eq!((raw.millis, raw.serial), (1_700_000_000_123, 77));
        assert_eq!(raw.get("key"), None);
    }

    #[test]
    fn encoded_values_are_decoded() {
        check(
            "type=EXECVE msg=audit(1.0:1): argc=3 a0=\"sh\" a1=2D63 a2=6563686F20226122",
            &[("a1", "-c"), ("a2", "echo \"a\"")],
        );
        check(
            "type=PROCTITLE msg=audit(1.0:1): proctitle=6C73002D6C00",
            &[("proctitle", "ls -l")],
        );
        check(
            "type=PATH msg=audit(1.0:1): name=2F746D702F612062 nametype=CREATE",
            &[("name", "/tmp/a b"), ("nametype", "CREATE")],
        );
    }

    #[test]
    fn a_quoted_value_that_looks_encoded_is_not() {
        check(
            "type=EXECVE msg=audit(1.0:1): argc=1 a0=\"CAFE\"",
            &[("a0", "CAFE")],
        );
    }

    #[test]
    fn a_long_argument_is_joined_from_its_parts() {
        check(
            "type=EXECVE msg=audit(1.0:1): argc=2 a0=\"x\" a1_len=6 a1[1]=63 a1[0]=6162",
            &[("a0", "x"), ("a1", "abc")],
        );
    }

    #[test]
    fn what_a_program_reported_has_values_of_its_own() {
        check(
            "type=USER_LOGIN msg=audit(1.0:1): pid=7 uid=0 msg='op=login acct=\"it's\" \
             exe=\"/usr/sbin/sshd\" res=failed'",
            &[("pid", "7"), ("acct", "it's"), ("res", "failed")],
        );
        check(
            "type=USER_CMD msg=audit(1.0:1): pid=7 msg='cwd=\"/\" cmd=6964202D75 res=success'",
            &[("cmd", "id -u")],
        );
    }

    #[test]
    fn names_added_by_the_daemon_follow_a_separator() {
        check(
            "type=SYSCALL msg=audit(1.0:1): syscall=59 uid=0\u{1d}SYSCALL=execve UID=\"root\"",
            &[("syscall", "59"), ("SYSCALL", "execve"), ("UID", "root")],
        );
    }

    #[test]
    fn words_without_a_value_are_passed_over() {
        check(
            "type=AVC msg=audit(1.0:1): avc:  denied  { read } for  pid=7 comm=\"x\"",
            &[("pid", "7"), ("comm", "x")],
        );
    }

    #[test]
    fn other_lines_are_no_records() {
        for line in [
            "",
            "type=",
            "type=X msg=audit(1.0)",
            "type=X msg=audit(a:b): c=d",
            "type=X msg=audit(99999999999999999999.0:1): c=d",
            "Nov  5 10:00:00 web sshd: x",
        ] {
            assert_eq!(record(line), None, "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_line_panics(line in "\\PC*") {
            let _ = record(&line);
        }

        #[test]
        fn no_values_panic(values in "[a-f0-9A-F\\[\\]=\"' \u{1d}]{0,200}") {
            let _ = record(&format!("type=EXECVE msg=audit(1.0:1): {values}"));
        }

        #[test]
        fn every_text_is_read_back_from_its_encoding(text in "[^\\x00]{1,40}") {
            let hex: String = text.bytes().map(|byte| format!("{byte:02X}")).collect();
            let raw = record(&format!("type=EXECVE msg=audit(1.0:1): a0={hex}")).unwrap();
            prop_assert_eq!(raw.get("a0"), Some(text.as_str()));
        }
    }
}
