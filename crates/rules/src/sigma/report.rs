//! Collects what is wrong with one document.

use crate::{
    Diagnostic,
    sigma::yaml::{Fault, Span},
};

/// Findings about one document that are kept; whoever has more fixes these first.
const KEPT: usize = 100;

/// Diagnostics of one document.
pub(crate) struct Report<'f> {
    file: &'f str,
    /// Title or id, once known.
    pub(crate) rule: String,
    found: Vec<Diagnostic>,
    left_out: usize,
}

impl<'f> Report<'f> {
    pub(crate) fn new(file: &'f str) -> Self {
        Self {
            file,
            rule: String::new(),
            found: Vec::new(),
            left_out: 0,
        }
    }

    pub(crate) fn error(&mut self, span: Span, path: impl Into<String>, reason: impl Into<String>) {
        self.push(Diagnostic::error(path, reason), span);
    }

    pub(crate) fn warn(&mut self, span: Span, path: impl Into<String>, reason: impl Into<String>) {
        self.push(Diagnostic::warning(path, reason), span);
    }

    pub(crate) fn fault(&mut self, path: &str, fault: Fault) {
        self.error(fault.span, path, fault.reason);
    }

    pub(crate) fn push(&mut self, mut diagnostic: Diagnostic, span: Span) {
        let first_error = diagnostic.is_error() && !self.found.iter().any(Diagnostic::is_error);
        if self.found.len() >= KEPT && !first_error {
            self.left_out += 1;
            return;
        }
        diagnostic.place = Some(span.place(self.file));
        self.found.push(diagnostic);
    }

    /// Reason of the first error.
    pub(crate) fn refusal(&self) -> Option<String> {
        self.found
            .iter()
            .find(|diagnostic| diagnostic.is_error())
            .map(|diagnostic| match diagnostic.path.as_str() {
                "" => diagnostic.reason.clone(),
                path => format!("{path}: {}", diagnostic.reason),
            })
    }

    pub(crate) fn finish(mut self) -> Vec<Diagnostic> {
        if self.left_out > 0 {
            let reason = format!(
                "{} more findings are left out; fix these first",
                self.left_out
            );
            let mut rest = Diagnostic::warning("", reason);
            rest.place = self.found.last().and_then(|last| last.place.clone());
            self.found.push(rest);
        }
        for diagnostic in &mut self.found {
            self.rule.clone_into(&mut diagnostic.rule);
        }
        self.found
    }
}
