//! Regular expressions as rules and lists use them: bounded and linear-time, and case-insensitive but
//! for Sigma.

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

/// Bytes a compiled expression of a Sigma rule may use. Public rules repeat classes of Unicode
/// characters up to thousands of times, and one of them needs more than [`SIZE_LIMIT_BYTES`].
pub const SIGMA_SIZE_LIMIT_BYTES: usize = 50 << 20;

/// Compiles an expression with the flags of a Sigma rule.
///
/// # Errors
/// As [`compile`], with [`SIGMA_SIZE_LIMIT_BYTES`].
pub fn flagged(
    text: &str,
    ignore_case: bool,
    multi_line: bool,
    dot_all: bool,
) -> Result<Regex, regex::Error> {
    RegexBuilder::new(text)
        .case_insensitive(ignore_case)
        .multi_line(multi_line)
        .dot_matches_new_line(dot_all)
        .size_limit(SIGMA_SIZE_LIMIT_BYTES)
        .build()
}
