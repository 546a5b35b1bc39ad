//! From items with modifiers to tests, still with the field names of Sigma.

use std::{
    collections::{BTreeMap, HashSet},
    net::IpAddr,
};

use ipnet::IpNet;

use crate::{
    Diagnostic,
    ir::{Comparison, Expr, Field, Likeness, Number, Pattern, Piece, Predicate, Test, Written},
    pattern,
    sigma::{
        detection::{Detection, Item, Search, Value},
        expr::{all, any, join, size, tests},
        modifier::{Base64, Modifiers, Operator},
        report::Report,
        text::{self, Part},
        yaml::{Kind, Span},
    },
};

/// Tests of one rule, with every form of its values; the longest public rule has under a thousand,
/// and a site list may have tens of thousands of entries.
pub(crate) const TESTS: usize = 100_000;

/// Lists of the site, by placeholder.
pub(crate) type SiteLists = BTreeMap<String, Vec<String>>;

/// Regular expressions known to compile: expression, ignore case, multi-line, dot matches all.
pub(crate) type Known = HashSet<(String, bool, bool, bool)>;

/// Translates the detections of one document.
pub(crate) struct Lowering<'a, 'f> {
    pub(crate) lists: &'a SiteLists,
    pub(crate) known: &'a mut Known,
    pub(crate) report: &'a mut Report<'f>,
    /// Path of the item at hand.
    path: String,
    tests: usize,
}

/// An error was reported.
#[derive(Debug)]
pub(crate) struct Refusal;

type Lowered<T> = Result<T, Refusal>;

/// Texts a value stands for, as pieces.
type Forms = Vec<Vec<Piece>>;

impl<'a, 'f> Lowering<'a, 'f> {
    pub(crate) fn new(
        lists: &'a SiteLists,
        known: &'a mut Known,
        report: &'a mut Report<'f>,
    ) -> Self {
        Self {
            lists,
            known,
            report,
            path: String::new(),
            tests: 0,
        }
    }

    /// Translates all selections, so that every error is reported, and joins them.
    pub(crate) fn detection(&mut self, detection: &Detection, path: &str) -> Lowered<Expr> {
        let mut selections = Vec::with_capacity(detection.selections.len());
        for selection in &detection.selections {
            let path = format!("{path}.{}", selection.name);
            selections.push(self.search(&selection.search, &path));
        }
        let selections: Vec<Expr> = selections.into_iter().collect::<Lowered<_>>()?;
        let sizes: Vec<usize> = selections.iter().map(tests).collect();
        if size(&detection.condition, &sizes) > TESTS {
            self.path = format!("{path}.condition");
            return self.refuse(detection.condition_span, too_many());
        }
        Ok(join(&detection.condition, &selections))
    }

    fn search(&mut self, search: &Search, path: &str) -> Lowered<Expr> {
        let parts = |parts: &[Search], this: &mut Self| -> Lowered<Vec<Expr>> {
            let parts: Vec<_> = parts.iter().map(|part| this.search(part, path)).collect();
            parts.into_iter().collect()
        };
        match search {
            Search::All(searches) => Ok(all(parts(searches, self)?)),
            Search::Any(searches) => Ok(any(parts(searches, self)?)),
            Search::Item(item) => {
                self.path = match (&item.field, item.written.as_str()) {
                    (Some(field), "") => format!("{path}.{field}"),
                    (Some(field), written) => format!("{path}.{field}|{written}"),
                    (None, "") => path.to_owned(),
                    (None, written) => format!("{path}.|{written}"),
                };
                self.item(item)
            }
        }
    }

    fn item(&mut self, item: &Item) -> Lowered<Expr> {
        let modifiers = &item.modifiers;
        let takes_keywords = matches!(
            modifiers.operator,
            Operator::Text(_) | Operator::Regex { .. }
        );
        if item.field.is_none() && !takes_keywords {
            let reason = format!("`{}` needs a field before it", item.written);
            return self.refuse(item.span, reason);
        }
        if modifiers.operator == Operator::Exists && item.values.len() > 1 {
            return self.refuse(item.span, "`exists` is either true or false");
        }
        let parts: Vec<_> = item
            .values
            .iter()
            .map(|value| self.value(item, value))
            .collect();
        let parts: Vec<Expr> = parts.into_iter().collect::<Lowered<_>>()?;
        let joined = if modifiers.all {
            all(parts)
        } else {
            any(parts)
        };
        if !modifiers.neq {
            return Ok(joined);
        }
        let not = Expr::Not(Box::new(joined));
        // A field that is not there is not different: it has no value to compare.
        Ok(match &item.field {
            Some(name) => Expr::All(vec![
                Expr::Test(Predicate {
                    field: Some(Field::whole(name)),
                    test: Test::Exists(true),
                }),
                not,
            ]),
            None => not,
        })
    }

    fn value(&mut self, item: &Item, value: &Value) -> Lowered<Expr> {
        let tests = self.value_tests(item, value)?;
        self.tests = self.tests.saturating_add(tests.len());
        if self.tests > TESTS {
            return self.refuse(value.span, too_many());
        }
        let field = item.field.as_deref();
        let predicate = |test| {
            Expr::Test(Predicate {
                field: field.map(Field::whole),
                test,
            })
        };
        let rewritten = tests.len() > 1
            || item.modifiers.transforms() && !matches!(item.modifiers.operator, Operator::Cidr);
        let expr = any(tests.into_iter().map(predicate).collect());
        let Some(field) = field.filter(|_| rewritten) else {
            return Ok(expr);
        };
        // The author wrote one value and would not know the texts that it became.
        let condition = match item.written.as_str() {
            "" => value.scalar.text.clone(),
            written => format!("{written} {}", value.scalar.text),
        };
        Ok(Expr::Written(Box::new(Written {
            field: field.to_owned(),
            condition,
            shows: field.to_owned(),
            expr,
        })))
    }

    /// Tests of which one must hold for the value.
    fn value_tests(&mut self, item: &Item, value: &Value) -> Lowered<Vec<Test>> {
        let modifiers = &item.modifiers;
        let text = value.scalar.text.as_str();
        if value.scalar.kind == Kind::Null {
            let plain = Modifiers {
                all: modifiers.all,
                neq: modifiers.neq,
                cased: modifiers.cased,
                ..Modifiers::default()
            };
            return if *modifiers == plain && item.field.is_some() {
                Ok(vec![Test::Null])
            } else {
                let reason = format!("null has no text for `{}`; write a value", item.written);
                self.refuse(value.span, reason)
            };
        }
        let test = match modifiers.operator {
            Operator::Text(how) => return self.text_tests(item, value, how),
            Operator::Regex {
                ignore_case,
                multi_line,
                dot_all,
            } => {
                let flags = (ignore_case, multi_line, dot_all);
                self.regex(text.to_owned(), flags, value.span)?
            }
            Operator::Cidr => return self.networks(modifiers, value),
            Operator::Compare(comparison) => Test::Compare(comparison, self.number(value)?),
            Operator::Time(part, comparison) => Test::Time(part, comparison, self.number(value)?),
            Operator::Exists => match (value.scalar.kind, text) {
                (Kind::Bool(there), _) => Test::Exists(there),
                (Kind::Text, "true" | "yes") => Test::Exists(true),
                (Kind::Text, "false" | "no") => Test::Exists(false),
                _ => return self.refuse(value.span, "`exists` is either true or false"),
            },
            Operator::FieldRef(how) => match text::pieces(text).as_slice() {
                [Piece::Literal(name)] => Test::Other {
                    field: Field::whole(name),
                    how,
                    cased: modifiers.cased,
                },
                _ => {
                    let reason = "the name of another field is needed, without wildcards";
                    return self.refuse(value.span, reason);
                }
            },
        };
        Ok(vec![test])
    }

    fn text_tests(&mut self, item: &Item, value: &Value, how: Likeness) -> Lowered<Vec<Test>> {
        let modifiers = &item.modifiers;
        let cased = modifiers.cased;
        // A keyword is somewhere in a value, unless its place is said. A number is a whole value:
        // its digits are part of too many others.
        let how = match (how, &item.field, value.scalar.kind) {
            (Likeness::Equal, None, Kind::Text) => Likeness::Contains,
            (how, _, _) => how,
        };
        let exact = how == Likeness::Equal && !modifiers.transforms();
        let equal = |text: &str| Test::Text {
            pattern: Pattern::equal(text),
            cased,
        };
        match value.scalar.kind {
            Kind::Bool(true) if exact => return Ok(["true", "1", "yes"].map(equal).to_vec()),
            Kind::Bool(false) if exact => return Ok(["false", "0", "no"].map(equal).to_vec()),
            Kind::Integer(number) if exact => {
                let decimal = number.to_string();
                let mut tests = vec![equal(&decimal)];
                if decimal != value.scalar.text {
                    tests.push(equal(&value.scalar.text));
                }
                return Ok(tests);
            }
            Kind::Float(number) if exact && item.field.is_some() => {
                let number = Number::new(number).map(|n| Test::Compare(Comparison::Equal, n));
                return Ok(number.into_iter().collect());
            }
            _ => {}
        }
        if value.scalar.text.is_empty() && how != Likeness::Equal {
            let reason = "an empty text is part of every value; write what to look for";
            self.report.warn(value.span, self.path.clone(), reason);
        }
        let forms = self.forms(modifiers, value)?;
        let mut tests = Vec::with_capacity(forms.len());
        for form in forms {
            let pattern = Pattern::tidy(match how {
                Likeness::Equal => form,
                Likeness::StartsWith => surrounded(None, form, Some(Piece::Many)),
                Likeness::EndsWith => surrounded(Some(Piece::Many), form, None),
                Likeness::Contains => surrounded(Some(Piece::Many), form, Some(Piece::Many)),
            });
            if modifiers.windash && text::dashes(&pattern.0) > text::DASHES_WRITTEN {
                let regex = text::windash_regex(&pattern);
                tests.push(self.regex(regex, (!cased, false, true), value.span)?);
            } else {
                tests.push(Test::Text { pattern, cased });
            }
        }
        Ok(tests)
    }

    /// Texts a value stands for after its modifiers, in their order.
    fn forms(&mut self, modifiers: &Modifiers, value: &Value) -> Lowered<Forms> {
        let mut forms = match (modifiers.expand, value.scalar.kind) {
            (true, _) => self.expanded(value, text::pieces)?,
            (false, Kind::Text) => vec![text::pieces(&value.scalar.text)],
            (false, _) => vec![vec![Piece::Literal(value.scalar.text.clone())]],
        };
        let encodes = modifiers.utf16.is_some() || modifiers.base64.is_some();
        if modifiers.windash {
            let (few, many): (Forms, Forms) = forms
                .into_iter()
                .partition(|form| text::dashes(form) <= text::DASHES_WRITTEN);
            if let Some(form) = many.first().filter(|_| encodes) {
                let reason = format!(
                    "{} dashes have too many forms to encode; write the value without `windash`",
                    text::dashes(form)
                );
                return self.refuse(value.span, reason);
            }
            let written = few.len() + many.len();
            forms = few.iter().flat_map(|form| text::windash(form)).collect();
            forms.extend(many);
            if written > 0 && forms.len() > TESTS {
                return self.refuse(value.span, too_many());
            }
        }
        if !encodes {
            return Ok(forms);
        }
        let mut encoded = Vec::with_capacity(forms.len());
        for form in forms {
            let [Piece::Literal(text)] = form.as_slice() else {
                let reason = "wildcards and empty texts cannot be encoded; write `\\*` for an \
                              asterisk";
                return self.refuse(value.span, reason);
            };
            self.encoded(modifiers, text, value.span, &mut encoded)?;
        }
        Ok(encoded)
    }

    fn encoded(
        &mut self,
        modifiers: &Modifiers,
        text: &str,
        span: Span,
        forms: &mut Forms,
    ) -> Lowered<()> {
        let bytes = match modifiers.utf16 {
            Some(how) => text::utf16(text, how),
            None => text.as_bytes().to_vec(),
        };
        let literal = |text: String| vec![Piece::Literal(text)];
        match modifiers.base64 {
            Some(Base64::Whole) => forms.push(literal(text::base64(&bytes))),
            Some(Base64::Offset) => {
                if bytes.len() < 4 {
                    let reason = "so short a text is in nearly everything that is encoded; write \
                                  more of it";
                    self.report.warn(span, self.path.clone(), reason);
                }
                let parts = text::base64_offsets(&bytes);
                if parts.len() < 3 {
                    return self.refuse(span, "one byte alone is not found in what is encoded");
                }
                forms.extend(parts.into_iter().map(literal));
            }
            None => match String::from_utf8(bytes) {
                Ok(text) => forms.push(literal(text)),
                Err(_) => {
                    let mut diagnostic = Diagnostic::error(
                        self.path.clone(),
                        "values are texts and never hold these bytes; encode them further",
                    );
                    diagnostic.suggestion = Some("base64offset".to_owned());
                    self.report.push(diagnostic, span);
                    return Err(Refusal);
                }
            },
        }
        Ok(())
    }

    /// A value with every placeholder replaced by every entry of its list.
    fn expanded<T: Clone>(
        &mut self,
        value: &Value,
        read: fn(&str) -> Vec<T>,
    ) -> Lowered<Vec<Vec<T>>> {
        let parts = text::placeholders(&value.scalar.text);
        if !parts
            .iter()
            .any(|part| matches!(part, Part::Placeholder(_)))
        {
            let reason = "`expand` finds no placeholder here; write `%name%`, or drop it";
            self.report.warn(value.span, self.path.clone(), reason);
        }
        let mut forms: Vec<Vec<T>> = vec![Vec::new()];
        for part in parts {
            let entries: Vec<Vec<T>> = match part {
                Part::Text(text) => vec![read(&text)],
                Part::Placeholder(name) => {
                    let entries = self.list(name, value.span)?;
                    entries.iter().map(|entry| read(entry)).collect()
                }
            };
            if forms.len().saturating_mul(entries.len()) > TESTS {
                return self.refuse(value.span, too_many());
            }
            forms = forms
                .iter()
                .flat_map(|form| {
                    entries
                        .iter()
                        .map(|entry| form.iter().chain(entry).cloned().collect())
                })
                .collect();
        }
        Ok(forms)
    }

    fn list(&mut self, name: &str, span: Span) -> Lowered<&'a [String]> {
        let lists = self.lists;
        let list = lists.get(name).or_else(|| {
            let mut lists = lists.iter();
            let same = lists.find(|(known, _)| known.to_lowercase() == name.to_lowercase());
            same.map(|(_, list)| list)
        });
        match list {
            Some(list) if !list.is_empty() => Ok(list),
            _ => {
                let reason = format!(
                    "the placeholder `%{name}%` has no values here; add a site list `{name}`"
                );
                let diagnostic = Diagnostic::error(self.path.clone(), reason)
                    .suggest(name, lists.keys().map(String::as_str));
                self.report.push(diagnostic, span);
                Err(Refusal)
            }
        }
    }

    fn networks(&mut self, modifiers: &Modifiers, value: &Value) -> Lowered<Vec<Test>> {
        let texts = if modifiers.expand {
            let forms = self.expanded(value, |text| text.chars().collect())?;
            forms.iter().map(String::from_iter).collect()
        } else {
            vec![value.scalar.text.clone()]
        };
        let mut tests = Vec::with_capacity(texts.len());
        for text in texts {
            let network = text.trim().parse::<IpNet>().or_else(|_| {
                // An address alone is a network of one.
                text.trim().parse::<IpAddr>().map(IpNet::from)
            });
            match network {
                Ok(network) => tests.push(Test::Cidr(network.trunc())),
                Err(_) => {
                    let reason = format!(
                        "`{text}` is no network; write for example `10.0.0.0/8` or `fe80::/10`"
                    );
                    return self.refuse(value.span, reason);
                }
            }
        }
        Ok(tests)
    }

    fn number(&mut self, value: &Value) -> Lowered<Number> {
        let number = match value.scalar.kind {
            Kind::Float(number) => Some(number),
            Kind::Integer(_) | Kind::Text => {
                let text = value.scalar.text.trim();
                match value.scalar.kind {
                    // Hexadecimal and octal numbers are numbers too.
                    Kind::Integer(number) => number.to_string().parse().ok(),
                    _ => text.parse().ok(),
                }
            }
            Kind::Null | Kind::Bool(_) => None,
        };
        match number.and_then(Number::new) {
            Some(number) => Ok(number),
            None => {
                let reason = format!("`{}` is not a number", value.scalar.text);
                self.refuse(value.span, reason)
            }
        }
    }

    fn regex(
        &mut self,
        expression: String,
        (ignore_case, multi_line, dot_all): (bool, bool, bool),
        span: Span,
    ) -> Lowered<Test> {
        let key = (expression, ignore_case, multi_line, dot_all);
        if !self.known.contains(&key) {
            let built = pattern::flagged(&key.0, ignore_case, multi_line, dot_all);
            if let Err(error) = built {
                return self.refuse(span, regex_reason(&error));
            }
            self.known.insert(key.clone());
        }
        Ok(Test::Regex {
            pattern: key.0,
            ignore_case,
            multi_line,
            dot_all,
        })
    }

    fn refuse<T>(&mut self, span: Span, reason: impl Into<String>) -> Lowered<T> {
        self.report.error(span, self.path.clone(), reason);
        Err(Refusal)
    }
}

fn regex_reason(error: &regex::Error) -> String {
    let text = error.to_string();
    // The crate draws the expression above its reason.
    let reason = text
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("error: "))
        .unwrap_or(&text);
    match error {
        regex::Error::CompiledTooBig(limit) => {
            format!("the expression needs more than {limit} bytes; use smaller repetitions")
        }
        _ if reason.contains("look-around") || reason.contains("backreferences") => format!(
            "{reason}, since they do not run in linear time; use a second selection with `not`"
        ),
        _ => format!("not a regular expression: {reason}"),
    }
}

fn too_many() -> String {
    format!("the rule becomes more than {TESTS} tests; split it, or shorten its lists")
}

fn surrounded(before: Option<Piece>, form: Vec<Piece>, after: Option<Piece>) -> Vec<Piece> {
    before.into_iter().chain(form).chain(after).collect()
}
