//! Entries of the journal in its JSON format, one a line.
//!
//! A value is a text, an array of bytes when it is not printable UTF-8, an array of values when the
//! field is there several times, or null when it is too long. Fields that begin with an underscore are
//! what journald itself knows of the process that wrote; nobody else can set them.
//! (systemd.journal-fields(7), <https://systemd.io/JOURNAL_EXPORT_FORMATS/>)

use serde::{Deserialize, de::IgnoredAny};
use yinglong_model::Timestamp;

use crate::text::base_name;

/// Where programs are that only an administrator can put there.
const FOLDERS: [&str; 6] = [
    "/usr/bin/",
    "/usr/sbin/",
    "/bin/",
    "/sbin/",
    "/usr/lib/",
    "/usr/libexec/",
];

/// An entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its place in the journal.
    pub(super) cursor: String,
    pub(super) at: Option<Timestamp>,
    /// What the program calls itself.
    pub(super) program: String,
    pub(super) message: String,
    uid: Option<u32>,
    comm: String,
    exe: String,
}

/// A value in any of its forms.
#[derive(Debug, Default, Deserialize)]
#[serde(untagged)]
enum Field {
    Text(String),
    Bytes(Vec<u8>),
    /// Null, or several values: what journald adds itself is there once.
    Other(IgnoredAny),
    #[default]
    Absent,
}

impl Field {
    fn text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Self::Other(_) | Self::Absent => String::new(),
        }
    }
}

#[derive(Debug, Deserialize)]
struct Line {
    #[serde(rename = "__CURSOR")]
    cursor: String,
    #[serde(default, rename = "__REALTIME_TIMESTAMP")]
    received: Field,
    #[serde(default, rename = "_SOURCE_REALTIME_TIMESTAMP")]
    sent: Field,
    #[serde(default, rename = "SYSLOG_IDENTIFIER")]
    identifier: Field,
    #[serde(default, rename = "MESSAGE")]
    message: Field,
    #[serde(default, rename = "_UID")]
    uid: Field,
    #[serde(default, rename = "_COMM")]
    comm: Field,
    #[serde(default, rename = "_EXE")]
    exe: Field,
}

/// Reads a line; `None` when it is no entry.
pub(crate) fn parse(line: &[u8]) -> Option<Entry> {
    let line: Line = serde_json::from_slice(line).ok()?;
    let micros = |field: Field| field.text().parse::<i64>().ok();
    let received = micros(line.received);
    let micros = micros(line.sent).or(received);
    Some(Entry {
        cursor: line.cursor,
        at: micros.map(|micros| Timestamp::from_nanos(micros.saturating_mul(1000))),
        program: line.identifier.text(),
        message: line.message.text(),
        uid: line.uid.text().parse().ok(),
        comm: line.comm.text(),
        exe: line.exe.text(),
    })
}

impl Entry {
    /// Name of the program, as the journal knows it when the program does not say.
    pub(super) fn program(&self) -> &str {
        let said = base_name(&self.program);
        if said.is_empty() { &self.comm } else { said }
    }

    /// Whether the program that wrote can have logged somebody in: it ran as root, or it is the one
    /// with rights of root that it says it is. Those who start su and sudo keep their own number
    /// until it is decided whether they may; anybody can write with logger(1).
    pub(super) fn is_trusted(&self) -> bool {
        let installed = || {
            let folder = FOLDERS.iter().any(|folder| self.exe.starts_with(folder));
            let program = self.program();
            folder && base_name(&self.exe) == program && ["su", "sudo"].contains(&program)
        };
        match self.uid {
            Some(0) => true,
            Some(_) => installed(),
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_entry_is_read_with_what_journald_knows() {
        let entry = parse(
            br#"{"__CURSOR":"s=1;i=2","__REALTIME_TIMESTAMP":"1364475353159000","_SOURCE_REALTIME_TIMESTAMP":"1364475353158001",
            "SYSLOG_IDENTIFIER":"sshd","MESSAGE":"Accepted x","_UID":"0","_COMM":"sshd","_EXE":"/usr/sbin/sshd","PRIORITY":"6"}"#,
        )
        .unwrap();
        assert_eq!(entry.cursor, "s=1;i=2");
        assert_eq!(entry.at.unwrap().to_string(), "2013-03-28T12:55:53.158001Z");
        assert_eq!(
            (entry.program(), entry.message.as_str()),
            ("sshd", "Accepted x")
        );
        assert!(entry.is_trusted());

        let entry = parse(br#"{"__CURSOR":"c","MESSAGE":[65,255,66],"_COMM":"su","SYSLOG_IDENTIFIER":["a","b"],"_UID":null}"#)
            .unwrap();
        assert_eq!(
            (entry.program(), entry.message.as_str()),
            ("su", "A\u{fffd}B")
        );
        assert_eq!(entry.at, None);
        assert!(!entry.is_trusted());
        for line in [
            "",
            "{}",
            "[]",
            "{\"__CURSOR\":7}",
            "-- cursor: x",
            "{\"__CURSOR\":\"c\"",
        ] {
            assert_eq!(parse(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn a_line_of_an_ordinary_user_is_no_login() {
        for (uid, identifier, exe, trusted) in [
            ("0", "sshd", "/usr/bin/logger", true),
            ("1000", "sshd", "/usr/bin/logger", false),
            ("1000", "sshd", "/usr/sbin/sshd", false),
            ("1000", "su", "/usr/bin/su", true),
            ("1000", "sudo", "/usr/bin/sudo", true),
            ("1000", "su", "/usr/bin/logger", false),
            ("1000", "su", "/home/a/su", false),
            ("1000", "su", "/home/a/usr/bin/su", false),
            ("1000", "su", "", false),
            ("", "su", "/usr/bin/su", false),
        ] {
            let line = format!(
                r#"{{"__CURSOR":"c","_UID":"{uid}","SYSLOG_IDENTIFIER":"{identifier}","_EXE":"{exe}"}}"#
            );
            let entry = parse(line.as_bytes()).unwrap();
            assert_eq!(entry.is_trusted(), trusted, "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_entry_can_stop_the_sensor(
            value in "(\"[a-z0-9\\\\\"]{0,8}\"?|[0-9]{1,30}|\\[[0-9,\"]{0,9}\\]|null|\\{\\}|-1e999)",
            field in "(__CURSOR|MESSAGE|_UID|__REALTIME_TIMESTAMP|SYSLOG_IDENTIFIER)",
            bytes in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let _ = parse(&bytes);
            let line = format!("{{\"__CURSOR\":\"c\",\"{field}\":{value}}}");
            if let Some(entry) = parse(line.as_bytes()) {
                let _ = (entry.program().len(), entry.is_trusted());
            }
        }
    }
}
