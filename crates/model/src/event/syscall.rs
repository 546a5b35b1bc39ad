//! A system call that matters for security.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::FieldValue as _;

/// A security-relevant system call, and who made it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Syscall {
    /// Name of the call: `ptrace`, `init_module`, `bpf`, `mount`, `setns` ...
    pub call: String,
    /// Whether it succeeded.
    pub success: bool,
    /// Name of its error, `EPERM` for example; empty when it succeeded.
    pub errno: String,
    /// What it was applied to, as text: a path, a module, a process, a namespace.
    pub target: String,
    /// Process it was applied to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_pid: Option<u32>,
    /// What more there is to say: the request, the flags, the command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Path of the executable that called.
    pub name: String,
    /// Its process id.
    pub pid: u32,
    /// Its parent's process id; 0 when the kernel has none.
    pub ppid: u32,
    /// Parent's executable: base name of the image.
    pub parentname: String,
    /// Path of the image when it differs from `name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exe: Option<String>,
    /// Full command line, arguments separated by spaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// User name of `uid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Numeric real user id, before the call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Numeric effective user id, before the call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub euid: Option<u32>,
    /// Login uid of the audit subsystem; absent when unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auid: Option<u32>,
    /// Identity of the container, when the control group names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_id: Option<String>,
    /// Control group path, version 2 hierarchy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// Session id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<u32>,
    /// Controlling terminal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tty: Option<String>,
}

fields!(Syscall: call, success, errno, target, target_pid, detail, name, pid, ppid, parentname, exe,
    command, user, uid, euid, auid, container_id, cgroup, session, tty;
    derived: call_name, record, outcome, comm);

/// Bytes of a command's name that the kernel keeps: `TASK_COMM_LEN` without its final zero.
const COMM_BYTES: usize = 15;

impl Syscall {
    /// The call and who made it, joined by a bar: what statistics count.
    fn call_name(&self) -> Option<Cow<'_, str>> {
        (!self.call.is_empty()).then(|| Cow::Owned(format!("{}|{}", self.call, self.name)))
    }

    /// Type of the record that the audit log would have of it.
    #[allow(clippy::unused_self, reason = "derived fields are methods of an event")]
    fn record(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed("SYSCALL"))
    }

    /// `success` in the words of the audit log: `yes` or `no`.
    fn outcome(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(if self.success { "yes" } else { "no" }))
    }

    /// Base name of the executable, as long as the kernel keeps the names of commands.
    fn comm(&self) -> Option<Cow<'_, str>> {
        let base = self.name.rsplit('/').next().unwrap_or_default();
        let kept = base.get(..base.floor_char_boundary(COMM_BYTES));
        super::derived::part(kept.unwrap_or(base))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_of_the_audit_log_find_their_words() {
        let call = Syscall {
            call: "ptrace".into(),
            errno: "EPERM".into(),
            name: "/usr/bin/a-rather-long-name-of-a-debugger".into(),
            ..Syscall::default()
        };
        let check = |name: &str, expected: Option<&str>| {
            assert_eq!(call.field(name).as_deref(), expected, "{name}");
        };
        check("record", Some("SYSCALL"));
        check("outcome", Some("no"));
        check("success", Some("false"));
        check("comm", Some("a-rather-long-n"));
        check(
            "call_name",
            Some("ptrace|/usr/bin/a-rather-long-name-of-a-debugger"),
        );
        assert_eq!(Syscall::default().field("call_name"), None);
    }
}
