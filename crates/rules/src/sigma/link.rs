//! Correlations as written: what is counted over which rules, grouped by what.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    Diagnostic,
    ir::{Comparison, Number},
    sigma::{
        condition::{Condition, Names},
        detection, document, head,
        report::Report,
        yaml::{Data, Kind, Node, Scalar, Span},
    },
};

const KINDS: [&str; 8] = [
    "event_count",
    "value_count",
    "value_sum",
    "value_avg",
    "value_percentile",
    "value_median",
    "temporal",
    "temporal_ordered",
];
const KEYS: [&str; 9] = [
    "type",
    "rules",
    "aliases",
    "group-by",
    "timespan",
    "timeframe",
    "condition",
    "generate",
    "field",
];
const CONDITION_KEYS: [&str; 8] = ["field", "percentile", "gt", "gte", "lt", "lte", "eq", "neq"];
/// Rules of one correlation.
const MEMBERS: usize = 256;

/// A correlation as written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Link {
    pub(crate) kind: LinkKind,
    /// References by id or name, and where.
    pub(crate) rules: Vec<(String, Span)>,
    pub(crate) group_by: Vec<String>,
    pub(crate) timespan: Duration,
    pub(crate) bounds: Vec<(Comparison, Number)>,
    /// Over the places of `rules`.
    pub(crate) condition: Option<Condition>,
    /// Alias, then reference of the rule, then the field there.
    pub(crate) aliases: BTreeMap<String, BTreeMap<String, String>>,
    pub(crate) generate: bool,
}

/// Type of a correlation, with the fields it reads.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum LinkKind {
    EventCount,
    ValueCount(Vec<String>),
    Sum(String),
    Average(String),
    Percentile(String, Number),
    Median(String),
    Temporal,
    Ordered,
}

impl LinkKind {
    fn is_temporal(&self) -> bool {
        matches!(self, Self::Temporal | Self::Ordered)
    }

    /// Fields whose values are read.
    pub(crate) fn fields(&self) -> &[String] {
        match self {
            Self::EventCount | Self::Temporal | Self::Ordered => &[],
            Self::ValueCount(fields) => fields,
            Self::Sum(field)
            | Self::Average(field)
            | Self::Percentile(field, _)
            | Self::Median(field) => std::slice::from_ref(field),
        }
    }
}

/// Reads the section; `None` when an error was reported.
pub(crate) fn read(
    node: &Node,
    section: &Node,
    at: Span,
    text: &str,
    report: &mut Report<'_>,
) -> Option<Link> {
    if section.as_map().is_none() {
        let reason = "a map with `type`, `rules`, `timespan` and `condition` is needed";
        report.error(at, "correlation", reason);
        return None;
    }
    head::unknown_keys(section, "correlation", &KEYS, report);
    let kind = kind(section, at, report);
    let rules = match section.get("rules") {
        Some(rules) => document::references(rules, "correlation.rules", report),
        None => {
            report.error(at, "correlation.rules", "the rules it is over are needed");
            None
        }
    };
    let rules = rules.filter(|rules| {
        let few = rules.len() <= MEMBERS;
        if !few {
            let reason = format!("{} rules, and {MEMBERS} at most are watched", rules.len());
            report.error(at, "correlation.rules", reason);
        }
        few
    });
    let timespan = timespan(section, at, report);
    let aliases = aliases(section, report);
    let group_by = head::texts(section, "group-by", report);
    let generate = flag(node, "generate", report)
        .or_else(|| flag(section, "generate", report))
        .unwrap_or(false);
    let (kind, rules) = (kind?, rules?);
    let (bounds, condition) = condition(section, &kind, &rules, at, text, report)?;
    Some(Link {
        kind,
        rules,
        group_by,
        timespan: timespan?,
        bounds,
        condition,
        aliases,
        generate,
    })
}

fn kind(section: &Node, at: Span, report: &mut Report<'_>) -> Option<LinkKind> {
    let Some((_, node)) = section.entry("type") else {
        let reason = format!("a type is needed: {}", KINDS.join(", "));
        report.error(at, "correlation.type", reason);
        return None;
    };
    let written = node.text().unwrap_or_default();
    let condition = section.get("condition");
    let named = condition.filter(|node| node.as_map().is_some());
    let fields = match named.filter(|node| node.get("field").is_some()) {
        Some(condition) => head::texts(condition, "field", report),
        None => head::texts(section, "field", report),
    };
    let many = fields.len();
    let field = fields.first().cloned();
    let numeric = matches!(
        written,
        "value_sum" | "value_avg" | "value_percentile" | "value_median"
    );
    if (numeric || written == "value_count") && many == 0 {
        let reason = format!("`{written}` needs the `field` whose values it reads");
        report.error(at, "correlation.condition.field", reason);
        return None;
    }
    if numeric && many > 1 {
        let reason = format!("`{written}` reads one field, and {many} are named");
        report.error(at, "correlation.condition.field", reason);
        return None;
    }
    let kind = match (written, field) {
        ("event_count", _) => LinkKind::EventCount,
        ("temporal", _) => LinkKind::Temporal,
        ("temporal_ordered", _) => LinkKind::Ordered,
        ("value_count", _) => LinkKind::ValueCount(fields),
        ("value_sum", Some(field)) => LinkKind::Sum(field),
        ("value_avg", Some(field)) => LinkKind::Average(field),
        ("value_median", Some(field)) => LinkKind::Median(field),
        ("value_percentile", Some(field)) => {
            LinkKind::Percentile(field, percentile(condition, report)?)
        }
        _ => {
            let reason = format!("there is no correlation type `{written}`");
            let diagnostic = Diagnostic::error("correlation.type", reason).suggest(written, KINDS);
            report.push(diagnostic, node.span);
            return None;
        }
    };
    if many > 0 && kind.fields().is_empty() {
        let reason = format!("`{written}` reads no field; drop it, or use `value_count`");
        report.warn(at, "correlation.condition.field", reason);
    }
    Some(kind)
}

/// The median when none is written.
fn percentile(condition: Option<&Node>, report: &mut Report<'_>) -> Option<Number> {
    let Some(node) = condition.and_then(|condition| condition.get("percentile")) else {
        return Number::new(50.0);
    };
    let number = number(node).filter(|number| (0.0..=100.0).contains(&number.get()));
    if number.is_none() {
        report.error(
            node.span,
            "correlation.condition.percentile",
            "a number from 0 to 100 is needed",
        );
    }
    number
}

fn number(node: &Node) -> Option<Number> {
    match &node.data {
        Data::Scalar(Scalar { text, kind }) => match kind {
            Kind::Float(value) => Number::new(*value),
            Kind::Integer(_) | Kind::Text => text.trim().parse().ok().and_then(Number::new),
            Kind::Null | Kind::Bool(_) => None,
        },
        Data::List(_) | Data::Map(_) => None,
    }
}

fn flag(node: &Node, key: &str, report: &mut Report<'_>) -> Option<bool> {
    let (_, value) = node.entry(key)?;
    match &value.data {
        Data::Scalar(Scalar {
            kind: Kind::Bool(flag),
            ..
        }) => Some(*flag),
        _ => {
            report.error(value.span, key, "true or false is needed");
            None
        }
    }
}

fn timespan(section: &Node, at: Span, report: &mut Report<'_>) -> Option<Duration> {
    let path = "correlation.timespan";
    let Some(node) = section.get("timespan").or_else(|| section.get("timeframe")) else {
        report.error(at, path, "a time span is needed, for example `10m`");
        return None;
    };
    let span = node.text().and_then(duration);
    if span.is_none() {
        let reason = "a number and one of s, m, h, d, w, M (month), y is needed, for example `10m`";
        report.error(node.span, path, reason);
    }
    span
}

/// A month has 30.44 days and a year 365.24, as long as they are on average.
fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let unit = text.chars().next_back()?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        'w' => 604_800,
        'M' => 2_629_746,
        'y' => 31_556_952,
        _ => return None,
    };
    let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
    let seconds = number.checked_mul(seconds).filter(|seconds| *seconds > 0)?;
    Some(Duration::from_secs(seconds))
}

fn aliases(section: &Node, report: &mut Report<'_>) -> BTreeMap<String, BTreeMap<String, String>> {
    let path = "correlation.aliases";
    let mut aliases = BTreeMap::new();
    let Some(node) = section.get("aliases") else {
        return aliases;
    };
    let reason = "each alias is a map from a rule to the field it has there";
    let Some(entries) = node.as_map() else {
        report.error(node.span, path, reason);
        return aliases;
    };
    for (alias, rules) in entries {
        let fields: Option<BTreeMap<String, String>> = rules.as_map().and_then(|rules| {
            rules
                .iter()
                .map(|(rule, field)| Some((rule.text.clone(), field.text()?.to_owned())))
                .collect()
        });
        match fields {
            Some(fields) => {
                aliases.insert(alias.text.clone(), fields);
            }
            None => report.error(alias.span, format!("{path}.{}", alias.text), reason),
        }
    }
    aliases
}

type Bounds = (Vec<(Comparison, Number)>, Option<Condition>);

fn condition(
    section: &Node,
    kind: &LinkKind,
    rules: &[(String, Span)],
    at: Span,
    text: &str,
    report: &mut Report<'_>,
) -> Option<Bounds> {
    let path = "correlation.condition";
    let Some(node) = section.get("condition") else {
        if kind.is_temporal() {
            return Some((Vec::new(), None));
        }
        let reason = "a condition on the number is needed, for example `gte: 10`";
        report.error(at, path, reason);
        return None;
    };
    if let Some(written) = node.text() {
        if !kind.is_temporal() {
            let reason = "a condition over rules is for the temporal types; write a bound such as \
                          `gte: 10`";
            report.error(node.span, path, reason);
            return None;
        }
        let names: Vec<&str> = rules.iter().map(|(name, _)| name.as_str()).collect();
        let mut used = vec![false; names.len()];
        let names = Names {
            what: "rule",
            names: &names,
        };
        let condition =
            detection::one_condition(node, written, path, names, &mut used, text, report)?;
        return Some((Vec::new(), Some(condition)));
    }
    let Some(entries) = node.as_map() else {
        let reason = "a map of bounds is needed, for example `gte: 10`";
        report.error(node.span, path, reason);
        return None;
    };
    head::unknown_keys(node, path, &CONDITION_KEYS, report);
    let mut bounds = Vec::new();
    for (key, value) in entries {
        let comparison = match key.text.as_str() {
            "gt" => Comparison::Greater,
            "gte" => Comparison::GreaterOrEqual,
            "lt" => Comparison::Less,
            "lte" => Comparison::LessOrEqual,
            "eq" => Comparison::Equal,
            "neq" => Comparison::NotEqual,
            _ => continue,
        };
        let Some(number) = number(value) else {
            let path = format!("{path}.{}", key.text);
            report.error(value.span, path, "a number is needed");
            return None;
        };
        bounds.push((comparison, number));
    }
    if bounds.is_empty() && !kind.is_temporal() {
        let reason = "a bound is needed: gt, gte, lt, lte, eq or neq";
        report.error(node.span, path, reason);
        return None;
    }
    Some((bounds, None))
}
