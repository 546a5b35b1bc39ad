//! Bounds of what is read.

/// Bytes of a line of a text format. Longer lines are counted and left out. The kernel cuts audit
/// records below 9 KiB, syslog daemons below 64 KiB.
pub const LINE_BYTES: usize = 256 << 10;

/// Bytes of a JSON document. Larger ones are counted and left out.
pub const DOCUMENT_BYTES: usize = 4 << 20;

/// Fields of a view. The rest is left out.
pub const FIELDS: usize = 1024;

/// Audit events that are put together at the same time. The kernel writes the records of an event
/// together, but those of several processors mix.
pub const OPEN_AUDIT_EVENTS: usize = 64;

/// Records of an audit event. The rest makes an event of its own.
pub const AUDIT_RECORDS: usize = 256;

/// Bytes of all records of audit events that are put together.
pub const OPEN_AUDIT_BYTES: usize = 16 << 20;

/// Processes of an audit log that are remembered as parents of others, twice over.
pub const PARENTS: usize = 4096;

/// Bytes of the command line of a process that is remembered.
pub const PARENT_COMMAND_BYTES: usize = 4096;
