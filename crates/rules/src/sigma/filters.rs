//! Filters joined to the rules they are for.

use std::collections::{HashMap, HashSet};

use crate::{
    ir::Expr,
    sigma::{
        document::{Body, Rules},
        ruleset::{Set, State},
    },
    taxonomy::LogSource,
};

/// A filter ready to be joined to rules.
pub(crate) struct Filter<'d> {
    document: usize,
    source: &'d LogSource,
    rules: &'d Rules,
    expr: Expr,
}

/// Filters by the rules they are for: each place is that of a filter and of the name in it.
#[derive(Default)]
pub(crate) struct Filters<'d> {
    all: Vec<Filter<'d>>,
    any: Vec<(usize, usize)>,
    named: HashMap<&'d str, Vec<(usize, usize)>>,
}

impl<'d> Filters<'d> {
    fn add(&mut self, filter: Filter<'d>) {
        let index = self.all.len();
        match filter.rules {
            Rules::Any => self.any.push((index, 0)),
            Rules::Named(rules) => {
                for (place, (rule, _)) in rules.iter().enumerate() {
                    self.named.entry(rule).or_default().push((index, place));
                }
            }
        }
        self.all.push(filter);
    }
}

impl<'d> Set<'d> {
    /// Compiles the filters that wait.
    pub(crate) fn filters(&mut self) -> Filters<'d> {
        let mut filters = Filters::default();
        for (index, document) in self.documents.iter().enumerate() {
            let Body::Filter {
                source,
                rules,
                detection,
            } = &document.body
            else {
                continue;
            };
            if !self.is_waiting(index) {
                continue;
            }
            let mut report = self.report(index);
            self.settle(index, State::Filter);
            if let Some(expr) = self.lower(detection, "filter", &mut report) {
                filters.add(Filter {
                    document: index,
                    source,
                    rules,
                    expr,
                });
            }
            if !detection.negates {
                report.warn(
                    detection.condition_span,
                    "filter.condition",
                    "the condition is joined to the rules by `and`, so only events it holds for \
                     remain; write `not` before it to leave them out",
                );
            }
            self.conclude(index, report);
        }
        filters
    }

    /// Conditions of the filters for a rule.
    pub(crate) fn joined<'f>(
        &self,
        index: usize,
        source: &LogSource,
        filters: &'f Filters<'d>,
        used: &mut HashSet<(usize, usize)>,
    ) -> Vec<&'f Expr> {
        let Some(document) = self.documents.get(index) else {
            return Vec::new();
        };
        let id = self.ids.get(index).map_or("", String::as_str);
        let names = [
            Some(id),
            document.head.name.as_deref(),
            Some(document.title()),
        ];
        let mut places: Vec<(usize, usize)> = filters.any.clone();
        for name in names.into_iter().flatten() {
            places.extend(filters.named.get(name).into_iter().flatten());
        }
        places.sort_unstable();
        let mut joined = Vec::new();
        let mut last = None;
        for (filter, place) in places {
            let Some(found) = filters.all.get(filter) else {
                continue;
            };
            if covers(found.source, source) {
                used.insert((filter, place));
                if last.replace(filter) != Some(filter) {
                    joined.push(&found.expr);
                }
            }
        }
        joined
    }

    /// Warns of names that stand for no rule.
    pub(crate) fn unused_filters(&mut self, filters: &Filters<'d>, used: &HashSet<(usize, usize)>) {
        for (index, filter) in filters.all.iter().enumerate() {
            let Rules::Named(rules) = filter.rules else {
                continue;
            };
            let mut report = self.report(filter.document);
            for (place, (rule, span)) in rules.iter().enumerate() {
                if !used.contains(&(index, place)) {
                    let reason = format!(
                        "no rule of this log source has the id, name or title `{rule}`; it is \
                         filtered nowhere"
                    );
                    report.warn(*span, "filter.rules", reason);
                }
            }
            self.conclude(filter.document, report);
        }
    }
}

/// Whether a filter for one log source is for rules of another: what it names is the same there.
fn covers(filter: &LogSource, rule: &LogSource) -> bool {
    let same = |filter: &Option<String>, rule: &Option<String>| filter.is_none() || filter == rule;
    same(&filter.product, &rule.product)
        && same(&filter.category, &rule.category)
        && same(&filter.service, &rule.service)
}
