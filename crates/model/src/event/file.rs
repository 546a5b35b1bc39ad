//! A change to a file.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{FieldValue as _, Mode};

/// A change to a file.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct File {
    /// `CREATE`, `WRITE`, `REMOVE`, `RENAME`, `CHMOD`, joined by a bar; or `SCAN`, when the scanner
    /// found something in the file; or `TAMPER|` and what was done to a record of logins: `SHORTENED`,
    /// `ERASED`, `REWRITTEN`, `BACKDATED`, `REPLACED`, `GONE`.
    pub action: String,
    /// Absolute path; bytes that are not UTF-8 as `\xNN`.
    pub path: String,
    /// MD5 in lower-case hex; empty when the file is not regular, gone or above the limit.
    pub hash: String,
    /// Owner of the file.
    pub user: String,
    /// SHA-256 in lower-case hex, when `hash` is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Size in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Why `hash` is empty: `too_large`, `not_regular`, `gone`, `unreadable`, `busy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash_skipped: Option<String>,
    /// Process that made the change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor_pid: Option<u32>,
    /// Executable of that process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor_name: Option<String>,
    /// User name of that process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor_user: Option<String>,
    /// The path lies in a web root of this host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub web: Option<bool>,
    /// Permission bits, four octal digits; the first tells setuid, setgid and sticky.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Capabilities the file gives to who executes it, as `getcap` writes them: `cap_net_raw=ep`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<String>,
    /// Name the file had before, on the `CREATE` of a rename.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old_path: Option<String>,
    /// Name the file has now, on a `RENAME`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_path: Option<String>,
    /// Other name of the same file (a hard link) through which it was changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link_path: Option<String>,
    /// YARA rules that matched the file, joined by bars.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub yara: Option<String>,
    /// Tags of those rules, joined by bars, and how grave the gravest is: `danger`, `suspicious` or
    /// `hint`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub yara_tags: Option<String>,
}

fields!(File: action, path, hash, user, sha256, size, hash_skipped, actor_pid, actor_name,
    actor_user, web, mode, capabilities, old_path, new_path, link_path, yara, yara_tags;
    derived: hashes);
