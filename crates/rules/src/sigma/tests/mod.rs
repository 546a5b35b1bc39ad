//! Tests of the Sigma front end, one file for each part of the language.

mod about;
mod conditions;
mod correlations;
mod diagnostics;
mod documents;
mod filters;
mod hostile;
mod values;

use std::fmt::Write as _;

use yinglong_model::event::System;

use crate::{
    Class, Diagnostic,
    ir::{Expr, Likeness, Pattern, Piece, Test},
    sigma::{self, Loaded, Mapping, Options},
    taxonomy::{Binding, LogSource},
};

/// Every log source is one class with the names of Sigma.
pub(super) fn plain(_: &LogSource) -> Result<Vec<Binding>, String> {
    Ok(vec![Binding::whole(Class::Log("test"), System::Linux)])
}

/// A document of a detection, indented as it is.
pub(super) fn document(detection: &str) -> String {
    let mut text = "title: T\nlogsource: {product: linux}\ndetection:\n".to_owned();
    for line in detection.lines() {
        writeln!(text, "    {line}").expect("a text grows");
    }
    text
}

pub(super) fn load(text: &str) -> (Loaded, Vec<Diagnostic>) {
    load_with(text, &Options::default(), &plain)
}

/// Loads a text; the diagnostics of both steps.
pub(super) fn load_with(
    text: &str,
    options: &Options,
    mapping: &dyn Mapping,
) -> (Loaded, Vec<Diagnostic>) {
    let (documents, mut diagnostics) = sigma::parse(text, "t.yml");
    let loaded = sigma::compile_with(&documents, options, mapping);
    diagnostics.extend(loaded.diagnostics.iter().cloned());
    (loaded, diagnostics)
}

/// The expression of the only rule of a text.
pub(super) fn shape(text: &str) -> String {
    let (loaded, diagnostics) = load(text);
    match loaded.rules.as_slice() {
        [rule] => show(&rule.targets[0].condition),
        _ => panic!("{text}\n{diagnostics:#?}"),
    }
}

/// The expression of a detection.
pub(super) fn detection(detection: &str) -> String {
    shape(&document(detection))
}

/// The expression of one field with modifiers and a value.
pub(super) fn item(key: &str, value: &str) -> String {
    detection(&format!("s:\n    {key}: {value}\ncondition: s"))
}

/// Reason and suggestion of the only error of a text.
pub(super) fn error(text: &str) -> (String, Option<String>) {
    let (_, diagnostics) = load(text);
    let errors: Vec<_> = diagnostics.iter().filter(|d| d.is_error()).collect();
    match errors.as_slice() {
        [error] => (error.reason.clone(), error.suggestion.clone()),
        _ => panic!("{text}\n{errors:#?}"),
    }
}

pub(super) fn item_error(key: &str, value: &str) -> (String, Option<String>) {
    error(&document(&format!("s:\n    {key}: {value}\ncondition: s")))
}

/// An expression as text: `&`, `|`, `!`, `=` for texts in any case and `==` for cased ones.
pub(super) fn show(expr: &Expr) -> String {
    let joined = |parts: &[Expr], sign: &str| {
        let parts: Vec<String> = parts.iter().map(show).collect();
        format!("({})", parts.join(sign))
    };
    match expr {
        Expr::Test(predicate) => {
            let field = predicate.field.as_ref().map_or("", |field| &field.name);
            show_test(field, &predicate.test)
        }
        Expr::All(parts) => joined(parts, " & "),
        Expr::Any(parts) => joined(parts, " | "),
        Expr::Not(part) => format!("!{}", show(part)),
        Expr::Const(value) => value.to_string(),
        Expr::Written(written) => format!("<{}>", show(&written.expr)),
    }
}

fn show_test(field: &str, test: &Test) -> String {
    match test {
        Test::Text { pattern, cased } => {
            let sign = if *cased { "==" } else { "=" };
            format!("{field}{sign}{}", show_pattern(pattern))
        }
        Test::Regex {
            pattern,
            ignore_case,
            multi_line,
            dot_all,
        } => {
            let flags = [(*ignore_case, 'i'), (*multi_line, 'm'), (*dot_all, 's')];
            let flags: String = flags.iter().filter(|f| f.0).map(|f| f.1).collect();
            format!("{field}=/{pattern}/{flags}")
        }
        Test::Cidr(network) => format!("{field} in {network}"),
        Test::Compare(comparison, number) => format!("{field}{}{number}", comparison.sign()),
        Test::Exists(true) => format!("{field}?"),
        Test::Exists(false) => format!("no {field}?"),
        Test::Null => format!("{field}=null"),
        Test::Other {
            field: other,
            how,
            cased,
        } => {
            let how = match how {
                Likeness::Equal => "equal",
                Likeness::StartsWith => "startswith",
                Likeness::EndsWith => "endswith",
                Likeness::Contains => "contains",
            };
            let cased = if *cased { " cased" } else { "" };
            format!("{field} {how}{cased} @{}", other.name)
        }
        Test::Time(part, comparison, number) => {
            format!("{part:?}({field}){}{number}", comparison.sign())
        }
        Test::Count(number) => format!("count({field})={number}"),
    }
}

fn show_pattern(pattern: &Pattern) -> String {
    let pieces = pattern.0.iter().map(|piece| match piece {
        Piece::Literal(text) => text.replace('*', "\\*").replace('?', "\\?"),
        Piece::One => "?".to_owned(),
        Piece::Many => "*".to_owned(),
    });
    format!("'{}'", pieces.collect::<String>())
}
