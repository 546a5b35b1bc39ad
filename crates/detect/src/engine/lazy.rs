//! Regular expressions that are compiled when they are first needed.
//!
//! Most expressions of a long list never are: another text announces them, and it never comes. A
//! compiled expression takes tens of kilobytes, its text tens of bytes. What could fail is found out
//! at once: expressions that are not surely small are compiled to see.

use std::sync::OnceLock;

use regex::{Regex, RegexBuilder};
use regex_syntax::{
    ParserBuilder,
    hir::{Class, Hir, HirKind},
};

use super::gate::Gate;

/// Bytes the compiled form of one expression may take. Public rules have expressions that need
/// more than the default of 10 MiB when Unicode classes are repeated.
pub(crate) const REGEX_BYTES: usize = 50 << 20;
/// Bytes of cached states one expression may take while it runs; beyond, it runs slower.
pub(crate) const REGEX_CACHE_BYTES: usize = 1 << 20;
/// An expression whose bound is no larger cannot exceed the limit of any rule language.
const SURELY_SMALL_BYTES: usize = 4 << 20;

/// An expression, compiled or not yet. Texts that lack what it needs do not reach it.
pub(crate) struct Lazy {
    pattern: Box<str>,
    flags: Flags,
    gate: Gate,
    compiled: OnceLock<Option<Regex>>,
}

/// How the letters and dots of an expression are read.
#[derive(Clone, Copy, Default)]
pub(crate) struct Flags {
    pub(crate) ignore_case: bool,
    pub(crate) multi_line: bool,
    pub(crate) dot_all: bool,
}

impl Lazy {
    /// Checks an expression.
    ///
    /// # Errors
    /// Says why it cannot be compiled.
    pub(crate) fn new(pattern: &str, flags: Flags) -> Result<Self, String> {
        let compiled = OnceLock::new();
        let hir = parse(pattern, flags)?;
        if !is_small(&hir) {
            let regex = build(pattern, flags, REGEX_BYTES).map_err(|error| error.to_string())?;
            compiled.get_or_init(|| Some(regex));
        }
        Ok(Self {
            pattern: Box::from(pattern),
            flags,
            gate: Gate::of(&hir),
            compiled,
        })
    }

    /// Its text.
    pub(crate) fn as_str(&self) -> &str {
        &self.pattern
    }

    pub(crate) fn is_match(&self, value: &str) -> bool {
        self.gate.lets_through(value.as_bytes())
            && self.regex().is_some_and(|regex| regex.is_match(value))
    }

    /// First and last byte of what is found first.
    pub(crate) fn find(&self, value: &str) -> Option<(usize, usize)> {
        let found = self.regex()?.find(value)?;
        Some((found.start(), found.end()))
    }

    fn regex(&self) -> Option<&Regex> {
        let compile = || build(&self.pattern, self.flags, REGEX_BYTES).ok();
        self.compiled.get_or_init(compile).as_ref()
    }
}

fn build(pattern: &str, flags: Flags, limit_bytes: usize) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern)
        .case_insensitive(flags.ignore_case)
        .multi_line(flags.multi_line)
        .dot_matches_new_line(flags.dot_all)
        .size_limit(limit_bytes)
        .dfa_size_limit(REGEX_CACHE_BYTES)
        .build()
}

/// The syntax tree, read as the `regex` crate reads it.
pub(crate) fn parse(pattern: &str, flags: Flags) -> Result<Hir, String> {
    ParserBuilder::new()
        .case_insensitive(flags.ignore_case)
        .multi_line(flags.multi_line)
        .dot_matches_new_line(flags.dot_all)
        .build()
        .parse(pattern)
        .map_err(|error| error.to_string())
}

/// Whether an expression compiles without doubt: its syntax is right and it cannot be too large.
///
/// # Errors
/// What is wrong with the syntax.
pub(crate) fn is_surely_small(pattern: &str, flags: Flags) -> Result<bool, String> {
    Ok(is_small(&parse(pattern, flags)?))
}

fn is_small(hir: &Hir) -> bool {
    bound_bytes(hir) <= SURELY_SMALL_BYTES
}

fn bound_bytes(hir: &Hir) -> usize {
    /// What an empty expression takes, with room to spare.
    const EMPTY_BYTES: usize = 4 << 10;
    bound(hir).saturating_add(EMPTY_BYTES)
}

/// Bytes that the automaton of an expression takes at most; often it takes a tenth.
fn bound(hir: &Hir) -> usize {
    /// A state with its transitions.
    const STATE_BYTES: usize = 128;
    /// A range of characters becomes some sequences of up to four ranges of bytes.
    const RANGE_BYTES: usize = 2 << 10;
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => STATE_BYTES,
        HirKind::Literal(literal) => literal.0.len().saturating_mul(STATE_BYTES),
        HirKind::Class(Class::Unicode(class)) => class.ranges().len().saturating_mul(RANGE_BYTES),
        HirKind::Class(Class::Bytes(class)) => class.ranges().len().saturating_mul(STATE_BYTES),
        HirKind::Capture(capture) => bound(&capture.sub).saturating_add(4 * STATE_BYTES),
        HirKind::Repetition(repetition) => {
            let times = repetition.max.unwrap_or(repetition.min).max(1) as usize + 1;
            times.saturating_mul(bound(&repetition.sub).saturating_add(2 * STATE_BYTES))
        }
        HirKind::Concat(parts) | HirKind::Alternation(parts) => parts
            .iter()
            .map(bound)
            .fold(2 * STATE_BYTES, |sum, part| sum.saturating_add(part))
            .saturating_add(parts.len().saturating_mul(STATE_BYTES)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const IGNORE_CASE: Flags = Flags {
        ignore_case: true,
        multi_line: false,
        dot_all: false,
    };

    #[test]
    fn broken_and_huge_expressions_are_refused_at_once() {
        for pattern in ["(", "a{1001}{1001}", r"(\w{1000}){100}", "[b-a]"] {
            assert!(Lazy::new(pattern, IGNORE_CASE).is_err(), "{pattern}");
        }
    }

    #[test]
    fn an_ordinary_expression_is_compiled_when_it_is_asked() {
        let lazy = Lazy::new(r"^/tmp/.*\.log$", IGNORE_CASE).unwrap();
        assert!(lazy.compiled.get().is_none());
        assert!(lazy.is_match("/TMP/x.log"));
        assert!(lazy.compiled.get().is_some());
    }

    proptest! {
        #[test]
        fn no_expression_takes_more_than_its_bound(
            parts in prop::collection::vec(prop::sample::select(vec![
                "a", "k", "é", ".", r"\w", r"\d", r"\s", r"\pL", "[^/]", "[a-z0-9]", "(x|y)", "(ab)+",
                "{3}", "{0,20}", "*", "?", "|", "^", "$", r"\b", "[^a]", "(?s:.)", "(?-u:[a-z])",
            ]), 0..8),
            ignore_case in any::<bool>(),
        ) {
            let pattern = parts.concat();
            let flags = Flags { ignore_case, ..Flags::default() };
            if let Ok(hir) = parse(&pattern, flags) {
                let bytes = bound_bytes(&hir);
                prop_assume!(bytes <= SURELY_SMALL_BYTES);
                prop_assert!(build(&pattern, flags, bytes).is_ok(), "{pattern}: {bytes}");
            }
        }
    }
}
