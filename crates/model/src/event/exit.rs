//! The end of a process.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::FieldValue as _;
use crate::Timestamp;

/// A process that ended, by itself or by a signal.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Exit {
    /// Path of the executable; its short name when the path is not known.
    pub name: String,
    /// Command line, arguments separated by spaces; at most 1 KiB of it.
    pub command: String,
    /// Process id in the host's own pid namespace.
    pub pid: u32,
    /// Process id of who started it; 0 when the kernel has none.
    pub ppid: u32,
    /// Parent's executable: base name of the image.
    pub parentname: String,
    /// Exit status, 0 to 255; that of a process ended by a signal is 128 and the signal's number, as
    /// shells tell it.
    pub exit_code: i32,
    /// Name of the signal that ended it, `SIGSEGV` for example; absent when it ended by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// The kernel wrote a core dump.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub core_dumped: Option<bool>,
    /// Numeric real user id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// User name of `uid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// When the process (not the image) started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Timestamp>,
    /// Milliseconds from its start to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// Milliseconds of processor time in its own code, all threads together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_ms: Option<u64>,
    /// Milliseconds of processor time in the kernel, all threads together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_ms: Option<u64>,
    /// Most memory it had resident, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_rss_bytes: Option<u64>,
    /// Identity of the container, when the control group names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_id: Option<String>,
    /// Control group path, version 2 hierarchy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
}

fields!(Exit: name, command, pid, ppid, parentname, exit_code, signal, core_dumped, uid, user,
    start_time, duration_ms, user_ms, system_ms, max_rss_bytes, container_id, cgroup;
    derived: exit_name);

impl Exit {
    /// How it ended and what ended, joined by a bar: what statistics count. Codes are left out,
    /// because programs have them for their own purposes.
    fn exit_name(&self) -> Option<Cow<'_, str>> {
        let how = match (&self.signal, self.exit_code) {
            (Some(signal), _) => signal.as_str(),
            (None, 0) => "success",
            (None, _) => "failure",
        };
        (!self.name.is_empty()).then(|| Cow::Owned(format!("{how}|{}", self.name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_counted_by_how_and_what() {
        let check = |signal: Option<&str>, exit_code, expected: &str| {
            let exit = Exit {
                name: "/bin/a".into(),
                exit_code,
                signal: signal.map(str::to_owned),
                ..Exit::default()
            };
            assert_eq!(exit.field("exit_name").as_deref(), Some(expected));
        };
        check(None, 0, "success|/bin/a");
        check(None, 7, "failure|/bin/a");
        check(Some("SIGSEGV"), 139, "SIGSEGV|/bin/a");
        assert_eq!(Exit::default().field("exit_name"), None);
    }
}
