//! What sources report: a step in the life of a path.

use std::{
    os::unix::ffi::OsStrExt,
    path::Path,
    sync::{Arc, atomic::AtomicBool},
};

use yinglong_model::Timestamp;

use super::scan::Arrival;

/// A kind of change, in the order changes of one moment are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    /// The name appeared: created, linked, or renamed to this.
    Create,
    /// The content changed.
    Write,
    /// Permissions, owner, times or extended attributes changed.
    Chmod,
    /// The name went away, the file lives on under another.
    Rename,
    /// The name went away.
    Remove,
}

impl Kind {
    /// Name in `data.action`.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Write => "WRITE",
            Self::Chmod => "CHMOD",
            Self::Rename => "RENAME",
            Self::Remove => "REMOVE",
        }
    }

    /// Whether nothing has this name afterwards.
    pub(super) const fn ends(self) -> bool {
        matches!(self, Self::Rename | Self::Remove)
    }
}

/// What a source saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// A change.
    Changed(Kind),
    /// Somebody who could write closed the file. The content may have changed through a memory
    /// mapping, which the kernel reports in no other way.
    Closed,
}

/// The process that acted.
#[derive(Debug, Default)]
pub(super) struct Actor {
    pub(super) pid: u32,
    pub(super) name: Option<String>,
    pub(super) user: Option<String>,
    /// File name of the program it had executed last, if that was seen.
    pub(super) program: Option<Box<[u8]>>,
    /// It was gone when the change was read.
    pub(super) gone: bool,
    /// It has become another program since, and `name` may be that of the other one.
    pub(super) superseded: Arc<AtomicBool>,
}

impl PartialEq for Actor {
    fn eq(&self, other: &Self) -> bool {
        self.pid == other.pid && self.name == other.name && self.user == other.user
    }
}

impl Eq for Actor {}

/// Another name of the file, besides the one a step is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Other {
    /// The name it had before it was renamed to this.
    Old(Arc<Path>),
    /// The name it was renamed to.
    New(Arc<Path>),
    /// A hard link, through which it was changed.
    Link(Arc<Path>),
}

/// A step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) path: Arc<Path>,
    pub(super) step: Step,
    pub(super) actor: Option<Arc<Actor>>,
    pub(super) at: Timestamp,
    pub(super) other: Option<Other>,
}

/// What a source hands over at once.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// How often the kernel had something; most of it may concern nobody.
    pub(super) reads: u64,
    /// In the order things happened.
    pub(super) notes: Vec<Note>,
    /// Directories that may hold files already.
    pub(super) arrivals: Vec<Arrival>,
    /// Notifications the kernel threw away; a lower bound.
    pub(super) overflowed: u64,
    /// Notifications that make no sense.
    pub(super) malformed: u64,
    /// Changes where paths are too long to be kept.
    pub(super) too_deep: u64,
}

/// The path as text; bytes that are not UTF-8 as `\xNN`.
pub(super) fn display(path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn bytes_that_are_not_text_are_shown_as_numbers() {
        let check = |bytes: &[u8], expected: &str| {
            assert_eq!(display(Path::new(OsStr::from_bytes(bytes))), expected);
        };
        check(b"/etc/passwd", "/etc/passwd");
        check("/srv/应龙".as_bytes(), "/srv/应龙");
        check(b"/a\xff\xfeb\xc3", "/a\\xff\\xfeb\\xc3");
        check(b"/new\nline", "/new\nline");
    }
}
