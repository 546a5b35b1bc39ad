//! Selections of a rule or filter: maps, lists and keywords as a tree of items.

use crate::sigma::{
    condition::{self, Condition, Names},
    modifier::Modifiers,
    report::Report,
    yaml::{Data, Key, Node, Scalar, Span},
};

/// Named selections and the condition over them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Detection {
    pub(crate) selections: Vec<Selection>,
    pub(crate) condition: Condition,
    pub(crate) condition_span: Span,
    /// Whether the condition says `not` anywhere.
    pub(crate) negates: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Selection {
    pub(crate) name: String,
    pub(crate) search: Search,
}

/// What a selection looks for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Search {
    All(Vec<Search>),
    Any(Vec<Search>),
    Item(Item),
}

/// Values of one field, or keywords.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Item {
    /// `None` for keywords.
    pub(crate) field: Option<String>,
    pub(crate) modifiers: Modifiers,
    /// Modifiers as written, with bars.
    pub(crate) written: String,
    pub(crate) span: Span,
    /// Never empty.
    pub(crate) values: Vec<Value>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Value {
    pub(crate) scalar: Scalar,
    pub(crate) span: Span,
}

/// Reads `detection` of a rule or `filter` of a filter, without the keys in `besides`. `None` when
/// an error was reported.
pub(crate) fn read(
    section: &Node,
    path: &str,
    besides: &[&str],
    text: &str,
    report: &mut Report<'_>,
) -> Option<Detection> {
    let Some(entries) = section.as_map() else {
        report.error(
            section.span,
            path,
            "selections by name and a `condition` are needed here",
        );
        return None;
    };
    let mut selections = Vec::new();
    let mut spans = Vec::new();
    let mut whole = true;
    for (key, node) in entries {
        if key.text == "condition" || besides.contains(&key.text.as_str()) {
            continue;
        }
        let path = format!("{path}.{}", key.text);
        match search(node, &path, report) {
            Some(search) => selections.push(Selection {
                name: key.text.clone(),
                search,
            }),
            None => {
                whole = false;
                // The name stays, so that the condition is not blamed as well.
                selections.push(Selection {
                    name: key.text.clone(),
                    search: Search::Any(Vec::new()),
                });
            }
        }
        spans.push(key.span);
    }
    let names: Vec<&str> = selections.iter().map(|s| s.name.as_str()).collect();
    if names.is_empty() {
        report.error(section.span, path, "a selection is needed");
        return None;
    }
    let path = format!("{path}.condition");
    let Some(node) = section.get("condition") else {
        let mut diagnostic =
            crate::Diagnostic::error(path, "a condition that names the selections is needed");
        diagnostic.suggestion = Some(format!("condition: {}", names.join(" and ")));
        report.push(diagnostic, section.span);
        return None;
    };
    let mut used = vec![false; names.len()];
    let names = Names {
        what: "selection",
        names: &names,
    };
    let condition = conditions(node, &path, names, &mut used, text, report)?;
    for ((used, name), span) in used.iter().zip(names.names).zip(spans) {
        if !used && !name.starts_with('_') {
            let reason = format!("the condition does not use `{name}`; use it, or drop it");
            report.warn(span, format!("{}.{name}", path_parent(&path)), reason);
        }
    }
    let negates = negates(&condition);
    whole.then_some(Detection {
        selections,
        condition,
        condition_span: node.span,
        negates,
    })
}

fn path_parent(path: &str) -> &str {
    path.rsplit_once('.').map_or(path, |(parent, _)| parent)
}

fn negates(condition: &Condition) -> bool {
    match condition {
        Condition::One(_) => false,
        Condition::All(parts) | Condition::Any(parts) => parts.iter().any(negates),
        Condition::Not(_) => true,
    }
}

/// One condition, or a list of which one must hold.
fn conditions(
    node: &Node,
    path: &str,
    names: Names<'_>,
    used: &mut [bool],
    text: &str,
    report: &mut Report<'_>,
) -> Option<Condition> {
    let nodes = match &node.data {
        Data::List(nodes) => nodes.as_slice(),
        _ => std::slice::from_ref(node),
    };
    if nodes.is_empty() {
        report.error(node.span, path, "the list of conditions is empty");
        return None;
    }
    let mut parts = Vec::with_capacity(nodes.len());
    let mut whole = true;
    for node in nodes {
        let Some(written) = node.text() else {
            report.error(node.span, path, "a condition is a text");
            whole = false;
            continue;
        };
        match one_condition(node, written, path, names, used, text, report) {
            Some(part) => parts.push(part),
            None => whole = false,
        }
    }
    if !whole {
        return None;
    }
    match parts.len() {
        1 => parts.pop(),
        _ => Some(Condition::Any(parts)),
    }
}

/// Parses one condition and reports a problem at its place in the text.
pub(crate) fn one_condition(
    node: &Node,
    written: &str,
    path: &str,
    names: Names<'_>,
    used: &mut [bool],
    text: &str,
    report: &mut Report<'_>,
) -> Option<Condition> {
    match condition::parse(written, names, used) {
        Ok(condition) => Some(condition),
        Err(problem) => {
            let mut diagnostic = problem.diagnostic;
            path.clone_into(&mut diagnostic.path);
            report.push(diagnostic, within(node.span, written, problem.at, text));
            None
        }
    }
}

/// A stretch of a scalar, when the text has it as it is, on one line; else all of the scalar.
fn within(span: Span, written: &str, at: (usize, usize), text: &str) -> Span {
    let source = text.get(span.start as usize..span.end as usize);
    let Some(skip) = source.and_then(|source| {
        let skip = usize::from(source.starts_with(['\'', '"']));
        source.get(skip..)?.starts_with(written).then_some(skip)
    }) else {
        return span;
    };
    if written.contains('\n') {
        return span;
    }
    let narrow = |n: usize| u32::try_from(n).unwrap_or(0);
    let before = written.get(..at.0).unwrap_or_default().chars().count();
    Span {
        start: span.start + narrow(skip + at.0),
        end: span.start + narrow(skip + at.1),
        line: span.line,
        column: span.column + narrow(skip + before),
    }
}

fn search(node: &Node, path: &str, report: &mut Report<'_>) -> Option<Search> {
    match &node.data {
        Data::Map(entries) if entries.is_empty() => {
            report.error(
                node.span,
                path,
                "the map is empty and would always hold; name a field",
            );
            None
        }
        Data::Map(entries) => {
            let items: Vec<Option<Search>> = entries
                .iter()
                .map(|(key, value)| item(key, value, path, report).map(Search::Item))
                .collect();
            let items: Vec<Search> = items.into_iter().collect::<Option<_>>()?;
            Some(joined(items, Search::All))
        }
        Data::List(nodes) if nodes.is_empty() => {
            report.error(
                node.span,
                path,
                "the list is empty and would never hold; write a value",
            );
            None
        }
        Data::List(nodes) => {
            if let Some(values) = nodes.iter().map(value).collect::<Option<Vec<_>>>() {
                return keywords(values, node.span, path, report);
            }
            let parts: Vec<Option<Search>> = nodes
                .iter()
                .map(|node| search(node, path, report))
                .collect();
            let parts: Vec<Search> = parts.into_iter().collect::<Option<_>>()?;
            Some(joined(parts, Search::Any))
        }
        Data::Scalar(scalar) => {
            let value = Value {
                scalar: scalar.clone(),
                span: node.span,
            };
            keywords(vec![value], node.span, path, report)
        }
    }
}

fn keywords(values: Vec<Value>, span: Span, path: &str, report: &mut Report<'_>) -> Option<Search> {
    use crate::sigma::yaml::Kind;
    if let Some(null) = values.iter().find(|value| value.scalar.kind == Kind::Null) {
        report.error(null.span, path, "a keyword is a text; nothing stands here");
        return None;
    }
    Some(Search::Item(Item {
        field: None,
        modifiers: Modifiers::default(),
        written: String::new(),
        span,
        values,
    }))
}

fn joined(mut parts: Vec<Search>, join: fn(Vec<Search>) -> Search) -> Search {
    match (parts.len(), parts.pop()) {
        (1, Some(only)) => only,
        (_, last) => {
            parts.extend(last);
            join(parts)
        }
    }
}

fn value(node: &Node) -> Option<Value> {
    match &node.data {
        Data::Scalar(scalar) => Some(Value {
            scalar: scalar.clone(),
            span: node.span,
        }),
        Data::List(_) | Data::Map(_) => None,
    }
}

fn item(key: &Key, node: &Node, path: &str, report: &mut Report<'_>) -> Option<Item> {
    let path = format!("{path}.{}", key.text);
    let (field, written) = match key.text.split_once('|') {
        Some((field, written)) => (field, written),
        None => (key.text.as_str(), ""),
    };
    let names = (!written.is_empty() || key.text.contains('|')).then(|| written.split('|'));
    let modifiers = match Modifiers::parse(names.into_iter().flatten()) {
        Ok(modifiers) => modifiers,
        Err(mut diagnostic) => {
            diagnostic.path = path;
            report.push(*diagnostic, key.span);
            return None;
        }
    };
    let mut values = Vec::new();
    collect(node, &path, &mut values, report)?;
    if values.is_empty() {
        report.error(
            node.span,
            path,
            "the list is empty and would never hold; write a value",
        );
        return None;
    }
    if modifiers.all && values.len() == 1 {
        report.warn(
            key.span,
            path,
            "`all` joins several values and there is one; drop it",
        );
    }
    Some(Item {
        field: (!field.is_empty()).then(|| field.to_owned()),
        modifiers,
        written: written.to_owned(),
        span: key.span,
        values,
    })
}

/// Values of a field; lists within lists are one list.
fn collect(
    node: &Node,
    path: &str,
    values: &mut Vec<Value>,
    report: &mut Report<'_>,
) -> Option<()> {
    match &node.data {
        Data::Scalar(_) => values.extend(value(node)),
        Data::List(nodes) => {
            for node in nodes {
                collect(node, path, values, report)?;
            }
        }
        Data::Map(_) => {
            report.error(
                node.span,
                path,
                "the value of a field is a text, a number, true, false, null or a list of them; \
                 write a field inside a field as `outer.inner`",
            );
            return None;
        }
    }
    Some(())
}
