//! What is wrong with a rule, where, and what would be right.

use std::fmt;

use serde::Serialize;

/// Whether the rule is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The rule is refused.
    Error,
    /// The rule is loaded, but probably does not do what its author meant.
    Warning,
}

/// One finding about a rule or a list entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// Whether the rule is refused.
    pub severity: Severity,
    /// Name of the rule, or its id when it has no name; empty when neither is known.
    pub rule: String,
    /// Place in the document, for example `[3].rules.command.data`.
    pub path: String,
    /// What is wrong, and what to write instead.
    pub reason: String,
    /// Nearest known name, for a name that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
    /// Where it is in the text, when the language keeps that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

/// A stretch of the text of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// File; empty when the text is not from one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// First byte, from the beginning of the text.
    pub start: usize,
    /// Byte after the last.
    pub end: usize,
}

impl Diagnostic {
    /// A finding that refuses the rule.
    pub fn error(path: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            rule: String::new(),
            path: path.into(),
            reason: reason.into(),
            suggestion: None,
            place: None,
        }
    }

    /// A finding that leaves the rule loaded.
    pub fn warning(path: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(path, reason)
        }
    }

    /// Whether it refuses the rule.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// Adds the known name that is most like `written`, if one is like it at all.
    pub(crate) fn suggest<'n>(
        mut self,
        written: &str,
        known: impl IntoIterator<Item = &'n str>,
    ) -> Self {
        self.suggestion = nearest(written, known);
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        if let Some(place) = &self.place {
            let file = if place.file.is_empty() {
                "rule"
            } else {
                &place.file
            };
            write!(f, "{file}:{}:{}: ", place.line, place.column)?;
        }
        write!(
            f,
            "{severity}: rule `{}`: {}: {}",
            self.rule, self.path, self.reason
        )?;
        match &self.suggestion {
            Some(name) => write!(f, "; did you mean `{name}`?"),
            None => Ok(()),
        }
    }
}

/// Names longer than this are not compared: the comparison is quadratic, and no known name is.
const COMPARED_BYTES: usize = 64;

pub(crate) fn nearest<'n>(
    written: &str,
    known: impl IntoIterator<Item = &'n str>,
) -> Option<String> {
    if written.len() > COMPARED_BYTES {
        return None;
    }
    let written = written.to_lowercase();
    known
        .into_iter()
        .map(|name| (strsim::jaro_winkler(&written, name), name))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|(left, _), (right, _)| left.total_cmp(right))
        .map(|(_, name)| name.to_owned())
}
