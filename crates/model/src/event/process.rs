//! An execution of a program.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::FieldValue as _;
use crate::Timestamp;

/// An execution.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Process {
    /// Linux: absolute path of the executable as the kernel resolved it. Windows: image name.
    pub name: String,
    /// Full command line, arguments separated by spaces; at least 32 KiB are kept.
    pub command: String,
    /// Process id in the host's own pid namespace.
    pub pid: u32,
    /// Parent's process id; 0 when the kernel has none.
    pub ppid: u32,
    /// Parent's executable: base name of the image.
    pub parentname: String,
    /// `PWD`, `LOGNAME`, `USER` and friends as `K=V` separated by spaces.
    pub info: String,
    /// Numeric real user id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Numeric effective user id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub euid: Option<u32>,
    /// User name of `uid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Numeric real group id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    /// Working directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Path of the image. Linux: the same as `name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exe: Option<String>,
    /// MD5 of the image, lower-case hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub md5: Option<String>,
    /// SHA-256 of the image, lower-case hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Why there are no hashes: `too_large`, `gone`, `changed`, `unreadable`, `not_regular`, `busy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash_skipped: Option<String>,
    /// When the process (not the image) started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Timestamp>,
    /// Session id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<u32>,
    /// Login uid of the audit subsystem; absent when unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loginuid: Option<u32>,
    /// Controlling terminal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tty: Option<String>,
    /// Identity of the container, when the control group names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_id: Option<String>,
    /// Control group path, version 2 hierarchy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// Parent's command line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_command: Option<String>,
    /// Executables of the ancestors, nearest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ancestors: Vec<String>,
    /// Not used: the end of a process is an event of its own, `exit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Script that the image interprets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub script: Option<String>,
    /// The image has no name in any directory (memfd, deleted file).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memfd: Option<bool>,
    /// Execution changed the effective user or group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub setuid: Option<bool>,
    /// Command line or environment is shorter than the real one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub truncated: Option<bool>,
}

fields!(Process: name, command, pid, ppid, parentname, info, uid, euid, user, gid, cwd, exe,
    md5, sha256, hash_skipped, start_time, session, loginuid, tty, container_id, cgroup, parent_command, ancestors,
    exit_code, script, memfd, setuid, truncated;
    derived: parent_exe, hashes);
