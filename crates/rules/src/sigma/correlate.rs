//! Correlations over the rules of a set: references, order of chains, fields of the members.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use crate::{
    correlation::{Correlation, CorrelationKind, Member, MemberExpr},
    sigma::{
        condition::Condition,
        document::{Body, Document},
        link::{Link, LinkKind},
        report::Report,
        ruleset::{Set, State},
    },
};

/// Names that an unknown one is compared with, at most: each comparison takes a microsecond.
const COMPARED: usize = 4_096;

/// Resolves every correlation that waits, members before what is over them.
pub(crate) fn resolve(set: &mut Set<'_>) {
    let documents = set.documents;
    let index = references(documents);
    let mut members: HashMap<usize, Vec<usize>> = HashMap::new();
    for (place, link) in links(documents) {
        if !set.is_waiting(place) {
            continue;
        }
        let mut report = set.report(place);
        let found: Option<Vec<usize>> = link
            .rules
            .iter()
            .map(|(name, span)| {
                refer(set, &index, name).map_err(|diagnostic| report.push(*diagnostic, *span))
            })
            .collect::<Vec<_>>()
            .into_iter()
            .map(Result::ok)
            .collect();
        set.conclude(place, report);
        if let Some(found) = found {
            members.insert(place, found);
        }
    }
    let mut waits: HashMap<usize, usize> = HashMap::new();
    let mut over: HashMap<usize, Vec<usize>> = HashMap::new();
    for (place, of) in &members {
        let chained = of.iter().filter(|member| members.contains_key(member));
        for member in chained {
            *waits.entry(*place).or_default() += 1;
            over.entry(*member).or_default().push(*place);
        }
    }
    let mut ready: VecDeque<usize> = links(documents)
        .map(|(place, _)| place)
        .filter(|place| members.contains_key(place) && !waits.contains_key(place))
        .collect();
    while let Some(place) = ready.pop_front() {
        let of = members.remove(&place).unwrap_or_default();
        if let Some(Body::Correlation(link)) = documents.get(place).map(|d| &d.body) {
            build(set, place, link, &of);
        }
        for next in over.remove(&place).unwrap_or_default() {
            if let Some(left) = waits.get_mut(&next) {
                *left -= 1;
                if *left == 0 {
                    ready.push_back(next);
                }
            }
        }
    }
    for (place, link) in links(documents).filter(|(place, _)| members.contains_key(place)) {
        let mut report = set.report(place);
        let span = link
            .rules
            .first()
            .map(|(_, span)| *span)
            .unwrap_or_default();
        let reason = "it refers to itself, through other correlations perhaps; break the circle";
        report.error(span, "correlation.rules", reason);
        set.conclude(place, report);
    }
}

fn links(documents: &[Document]) -> impl Iterator<Item = (usize, &Link)> {
    documents
        .iter()
        .enumerate()
        .filter_map(|(place, document)| match &document.body {
            Body::Correlation(link) => Some((place, link.as_ref())),
            _ => None,
        })
}

/// Documents by what they can be referred to with.
fn references(documents: &[Document]) -> BTreeMap<&str, Vec<usize>> {
    let mut index: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (place, document) in documents.iter().enumerate() {
        if matches!(document.body, Body::Filter { .. }) {
            continue;
        }
        let names = [document.id(), document.head.name.as_deref()];
        for name in names.into_iter().flatten() {
            let places = index.entry(name).or_default();
            if !places.contains(&place) {
                places.push(place);
            }
        }
    }
    index
}

/// The document a reference means.
fn refer(
    set: &Set<'_>,
    index: &BTreeMap<&str, Vec<usize>>,
    name: &str,
) -> Result<usize, Box<crate::Diagnostic>> {
    let error = |reason: String| crate::Diagnostic::error("correlation.rules", reason);
    let places = index.get(name).map_or(&[][..], Vec::as_slice);
    let alive: Vec<usize> = places
        .iter()
        .copied()
        .filter(|place| !matches!(set.states.get(*place), Some(State::Refused(_))))
        .collect();
    match (alive.as_slice(), places) {
        ([place], _) => Ok(*place),
        ([], [place, ..]) => {
            let reason = match set.states.get(*place) {
                Some(State::Refused(reason)) => reason.as_str(),
                _ => "",
            };
            let reason = format!("`{name}` is refused, and so is what is over it: {reason}");
            Err(Box::new(error(reason)))
        }
        ([], []) => {
            let reason = format!("no rule has the id or name `{name}`");
            {
                let few = index.len() <= COMPARED;
                let names = index.keys().copied().filter(|_| few);
                Err(Box::new(error(reason).suggest(name, names)))
            }
        }
        (several, _) => {
            let reason = format!(
                "{} rules have the name `{name}`; refer to one by its id",
                several.len()
            );
            Err(Box::new(error(reason)))
        }
    }
}

fn build(set: &mut Set<'_>, place: usize, link: &Link, of: &[usize]) {
    let mut report = set.report(place);
    let mut members = Vec::with_capacity(of.len());
    for ((name, span), at) in link.rules.iter().zip(of) {
        if let Some(State::Refused(reason)) = set.states.get(*at) {
            let reason = format!("`{name}` is refused, and so is what is over it: {reason}");
            report.error(*span, "correlation.rules", reason);
            continue;
        }
        members.push(Member {
            id: set.id(*at),
            name: name.clone(),
            fields: fields(set, link, name, *at, &mut report),
        });
    }
    for (alias, rules) in &link.aliases {
        let stranger = rules.keys().find(|rule| {
            !link.rules.iter().zip(of).any(|((name, _), at)| {
                name == *rule || set.documents.get(*at).is_some_and(|d| is_called(d, rule))
            })
        });
        if let Some(rule) = stranger {
            let span = link
                .rules
                .first()
                .map(|(_, span)| *span)
                .unwrap_or_default();
            let reason = format!("`{rule}` is not among the rules; the alias is not used there");
            report.warn(span, format!("correlation.aliases.{alias}"), reason);
        }
    }
    let refused = report.refusal().is_some();
    set.conclude(place, report);
    if refused {
        return;
    }
    let Some(document) = set.documents.get(place) else {
        return;
    };
    let mut about = set.about(place, &document.head, document.head.identity.clone());
    if document.head.level.is_none() {
        // As bad as the worst it is over.
        let worst = of.iter().filter_map(|at| match set.states.get(*at) {
            Some(State::Rule { compiled, .. }) => Some(compiled.about.level),
            Some(State::Correlation(correlation)) => Some(correlation.about.level),
            _ => None,
        });
        if let Some(level) = worst.min_by_key(|level| *level as u8) {
            Arc::make_mut(&mut about).level = level;
        }
    }
    let correlation = Correlation {
        about,
        kind: kind(&link.kind),
        members,
        group_by: link.group_by.clone(),
        timespan: link.timespan,
        bounds: link.bounds.clone(),
        condition: link.condition.as_ref().map(expr),
        generate: link.generate,
    };
    set.settle(place, State::Correlation(Box::new(correlation)));
}

fn is_called(document: &Document, name: &str) -> bool {
    document.id() == Some(name) || document.head.name.as_deref() == Some(name)
}

/// Canonical fields of a member for the names that the correlation groups by or reads.
fn fields(
    set: &Set<'_>,
    link: &Link,
    member: &str,
    at: usize,
    report: &mut Report<'_>,
) -> BTreeMap<String, Vec<String>> {
    let Some(document) = set.documents.get(at) else {
        return BTreeMap::new();
    };
    let mut fields = BTreeMap::new();
    for name in link.group_by.iter().chain(link.kind.fields()) {
        let field = match link.aliases.get(name) {
            None => Some(name),
            Some(rules) => rules.get(member).or_else(|| {
                rules
                    .iter()
                    .find(|(rule, _)| is_called(document, rule))
                    .map(|(_, field)| field)
            }),
        };
        let Some(field) = field else {
            let span = link
                .rules
                .first()
                .map(|(_, span)| *span)
                .unwrap_or_default();
            let reason = format!("the alias names no field of `{member}`, which never has it");
            report.warn(span, format!("correlation.aliases.{name}"), reason);
            fields.insert(name.clone(), Vec::new());
            continue;
        };
        let canonical = match set.states.get(at) {
            Some(State::Rule { bindings, .. }) => {
                let mut names = Vec::with_capacity(1);
                for binding in bindings {
                    let canonical = set.mapping.field(binding, field);
                    if !names.contains(&canonical) {
                        names.push(canonical);
                    }
                }
                names
            }
            // A correlation has the values it groups by, under their names.
            Some(State::Correlation(inner)) => {
                if !inner.group_by.contains(field) {
                    let span = link
                        .rules
                        .first()
                        .map(|(_, span)| *span)
                        .unwrap_or_default();
                    let reason = format!(
                        "`{member}` does not group by `{field}`, so its matches never have it"
                    );
                    report.warn(span, "correlation.group-by", reason);
                }
                vec![field.clone()]
            }
            _ => Vec::new(),
        };
        fields.insert(name.clone(), canonical);
    }
    fields
}

fn kind(kind: &LinkKind) -> CorrelationKind {
    match kind.clone() {
        LinkKind::EventCount => CorrelationKind::EventCount,
        LinkKind::ValueCount(fields) => CorrelationKind::ValueCount(fields),
        LinkKind::Sum(field) => CorrelationKind::ValueSum(field),
        LinkKind::Average(field) => CorrelationKind::ValueAvg(field),
        LinkKind::Percentile(field, number) => CorrelationKind::ValuePercentile(field, number),
        LinkKind::Median(field) => CorrelationKind::ValueMedian(field),
        LinkKind::Temporal => CorrelationKind::Temporal,
        LinkKind::Ordered => CorrelationKind::TemporalOrdered,
    }
}

fn expr(condition: &Condition) -> MemberExpr {
    match condition {
        Condition::One(place) => MemberExpr::Seen(*place),
        Condition::All(parts) => MemberExpr::All(parts.iter().map(expr).collect()),
        Condition::Any(parts) => MemberExpr::Any(parts.iter().map(expr).collect()),
        Condition::Not(part) => MemberExpr::Not(Box::new(expr(part))),
    }
}
