//! Regular expressions as rules and lists use them: case-insensitive, bounded, linear-time.

use regex::{Regex, RegexBuilder};

/// Bytes a compiled pattern may use; the limit that list entries are validated with as well.
pub const SIZE_LIMIT_BYTES: usize = 10 << 20;

/// Compiles a pattern that ignores case.
///
/// # Errors
/// The text is not a regular expression, or compiles to more than [`SIZE_LIMIT_BYTES`]. Look-around
/// and back-references are not supported, since they do not run in linear time.
pub fn compile(text: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(text)
        .case_insensitive(true)
        .size_limit(SIZE_LIMIT_BYTES)
        .build()
}
