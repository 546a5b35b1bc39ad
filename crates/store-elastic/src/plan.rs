//! How a query is asked of the cluster: what is certain to find every match, and whether it finds
//! anything else.

use serde_json::{Value, json};
use yinglong_model::{EventData, EventType};
use yinglong_store::query::{
    Comparison, Condition, HostKey, Key, Query, Relation, Target, Test, words,
};

use crate::{
    literals::{Needed, needed},
    schema::{LONGEST_TERM_BYTES, data_fields, data_path, host_path, is_list, is_number},
};

/// Clauses of one search; clusters take 1024 by default.
const MOST_CLAUSES: usize = 800;

/// A query for the cluster.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Type and time: decided exactly for every event.
    base: Vec<Value>,
    /// One for each condition that the cluster can narrow down.
    conditions: Vec<Value>,
    /// Among exact events, the conditions find the matches and nothing else.
    pub(crate) is_exact: bool,
}

/// What the cluster can say about a condition on exact events.
struct Clause {
    /// Holds for every match; `None` when it holds for everything.
    query: Option<Value>,
    is_exact: bool,
    clauses: usize,
}

impl Clause {
    const UNKNOWN: Self = Self {
        query: None,
        is_exact: false,
        clauses: 0,
    };

    const fn new(query: Value, is_exact: bool, clauses: usize) -> Self {
        Self {
            query: Some(query),
            is_exact,
            clauses,
        }
    }
}

/// A value an event may have, as the index knows it.
struct Path {
    name: String,
    has_lower: bool,
    is_list: bool,
    is_number: bool,
}

impl Plan {
    pub(crate) fn new(query: &Query) -> Self {
        // Documents of somebody else do not have this field.
        let mut base = vec![json!({"exists": {"field": "time_nanos"}})];
        if let Some(kind) = query.kind {
            base.push(term("type", kind.as_str()));
        }
        let mut bounds = serde_json::Map::new();
        if let Some(since) = query.since {
            bounds.insert("gte".into(), since.nanos().into());
        }
        if let Some(until) = query.until {
            bounds.insert("lt".into(), until.nanos().into());
        }
        if !bounds.is_empty() {
            base.push(json!({"range": {"time_nanos": bounds}}));
        }
        let mut plan = Self {
            base,
            conditions: Vec::new(),
            is_exact: true,
        };
        let mut budget = MOST_CLAUSES;
        for condition in &query.conditions {
            let clause = translate(query.kind, condition, budget);
            budget = budget.saturating_sub(clause.clauses);
            plan.is_exact &= clause.is_exact;
            plan.conditions.extend(clause.query);
        }
        plan
    }

    /// Finds every match, and perhaps more.
    pub(crate) fn candidates(&self) -> Value {
        if self.conditions.is_empty() {
            return json!({"bool": {"filter": self.base}});
        }
        json!({"bool": {
            "filter": self.base,
            "should": [{"bool": {"filter": self.conditions}}, inexact()],
            "minimum_should_match": 1,
        }})
    }

    /// Finds matches only, all those among exact events, when the plan is exact.
    pub(crate) fn certain(&self) -> Value {
        let filter: Vec<&Value> = self.base.iter().chain(&self.conditions).collect();
        json!({"bool": {"filter": filter, "must_not": [inexact()]}})
    }

    /// Finds the events of which the cluster cannot be certain, when the plan is exact.
    pub(crate) fn doubtful(&self) -> Value {
        let inexact = inexact();
        let filter: Vec<&Value> = self.base.iter().chain([&inexact]).collect();
        json!({"bool": {"filter": filter}})
    }
}

fn inexact() -> Value {
    json!({"term": {"inexact": true}})
}

fn term(path: &str, value: &str) -> Value {
    json!({"term": {path: {"value": value}}})
}

fn none() -> Value {
    json!({"match_none": {}})
}

fn translate(kind: Option<Target>, condition: &Condition, budget: usize) -> Clause {
    let paths = paths(kind, condition);
    // Each path gets its share, so that all of them are asked about or none.
    let share = budget / paths.len().max(1);
    let mut any = Vec::with_capacity(paths.len());
    let mut whole = Clause {
        query: None,
        is_exact: true,
        clauses: 0,
    };
    for path in &paths {
        let clause = on_path(path, &condition.test, share);
        let Some(query) = clause.query else {
            return Clause::UNKNOWN;
        };
        any.push(query);
        whole.is_exact &= clause.is_exact;
        whole.clauses += clause.clauses;
    }
    let query = if any.len() == 1 {
        any.remove(0)
    } else {
        json!({"bool": {"should": any, "minimum_should_match": 1}})
    };
    Clause {
        query: Some(query),
        ..whole
    }
}

/// The values a condition looks at.
fn paths(kind: Option<Target>, condition: &Condition) -> Vec<Path> {
    let host = |key: HostKey| Path {
        name: host_path(key).to_owned(),
        has_lower: true,
        is_list: false,
        is_number: false,
    };
    let data = |field: &str| Path {
        name: data_path(field),
        has_lower: false,
        is_list: is_list(field),
        is_number: is_number(field),
    };
    match &condition.key {
        Key::Host(key) => vec![host(*key)],
        Key::Data(field) => vec![data(field)],
        Key::All => {
            let mut paths: Vec<Path> = HostKey::ALL.into_iter().map(host).collect();
            match kind {
                Some(Target::Event(kind)) => {
                    paths.extend(EventData::field_names(kind).iter().map(|field| data(field)));
                }
                _ => paths.extend(data_fields().into_iter().map(data)),
            }
            paths
        }
    }
}

fn on_path(path: &Path, test: &Test, budget: usize) -> Clause {
    let keyword = format!("{}.keyword", path.name);
    match test {
        _ if budget == 0 => Clause::UNKNOWN,
        Test::Words(words) => has_words(path, words, budget),
        // A list is one text to the language and several to the index.
        Test::Exact(text) if path.is_list => Clause {
            is_exact: false,
            ..has_words(path, &words(text), budget)
        },
        Test::Exact(text) if text.len() > LONGEST_TERM_BYTES => Clause::new(none(), true, 1),
        Test::Exact(text) => Clause::new(term(&keyword, text), true, 1),
        Test::Same(text) if text.len() > LONGEST_TERM_BYTES => Clause::new(none(), true, 1),
        Test::Same(text) if path.has_lower => {
            Clause::new(term(&format!("{}.lower", path.name), text), true, 1)
        }
        Test::Same(text) if text.is_ascii() => Clause {
            is_exact: false,
            ..has_words(path, &words(text), budget)
        },
        Test::Same(_) => Clause::UNKNOWN,
        Test::Regex(pattern) => {
            let mut clauses = 0;
            let query = holds_text(path, &keyword, &needed(pattern.as_str()), &mut clauses);
            match query {
                Some(query) if clauses <= budget => Clause::new(query, false, clauses),
                _ => Clause::UNKNOWN,
            }
        }
        Test::Number(comparison) if path.is_number => {
            Clause::new(compares(&path.name, *comparison), true, 1)
        }
        Test::Number(_) => Clause::new(
            json!({"regexp": {keyword: {"value": "[-+]?[0-9]+", "flags": "NONE"}}}),
            false,
            1,
        ),
    }
}

/// All the words, or as many of them as may be asked for.
fn has_words(path: &Path, words: &[String], budget: usize) -> Clause {
    if words.is_empty() {
        return Clause::UNKNOWN;
    }
    if words.iter().any(|word| word.len() > LONGEST_TERM_BYTES) {
        return Clause::new(none(), true, 1);
    }
    let mut terms: Vec<Value> = words
        .iter()
        .take(budget)
        .map(|word| term(&path.name, word))
        .collect();
    let clauses = terms.len();
    let query = if clauses == 1 {
        terms.remove(0)
    } else {
        json!({"bool": {"filter": terms}})
    };
    Clause::new(query, clauses == words.len(), clauses)
}

/// What a value must hold, as patterns on whole values; `None` for anything.
fn holds_text(path: &Path, keyword: &str, needed: &Needed, clauses: &mut usize) -> Option<Value> {
    match needed {
        Needed::Anything => None,
        Needed::Text(text) => {
            // The bars between the texts of a list are not in the index.
            let text = if path.is_list {
                text.split('|').max_by_key(|part| part.len())?
            } else {
                text
            };
            if text.is_empty() {
                return None;
            }
            let mut pattern = String::from("*");
            for c in text.chars() {
                if matches!(c, '*' | '?' | '\\') {
                    pattern.push('\\');
                }
                pattern.push(c);
            }
            pattern.push('*');
            *clauses += 1;
            Some(json!({"wildcard": {keyword: {"value": pattern, "case_insensitive": true}}}))
        }
        Needed::All(parts) => {
            let all: Vec<Value> = parts
                .iter()
                .filter_map(|part| holds_text(path, keyword, part, clauses))
                .collect();
            (!all.is_empty()).then(|| json!({"bool": {"filter": all}}))
        }
        Needed::Any(parts) => {
            let any: Option<Vec<Value>> = parts
                .iter()
                .map(|part| holds_text(path, keyword, part, clauses))
                .collect();
            any.map(|any| json!({"bool": {"should": any, "minimum_should_match": 1}}))
        }
    }
}

fn compares(path: &str, comparison: Comparison) -> Value {
    let number = format!("{path}.number");
    let relation = match comparison.relation {
        Relation::Less => "lt",
        Relation::LessOrEqual => "lte",
        Relation::Equal => return json!({"term": {number: {"value": comparison.than}}}),
        Relation::GreaterOrEqual => "gte",
        Relation::Greater => "gt",
    };
    json!({"range": {number: {relation: comparison.than}}})
}

/// Path of a field that values can be counted by; `None` when the index cannot.
pub(crate) fn countable(field: &str) -> Option<String> {
    if field == "type" {
        return Some("type".to_owned());
    }
    if let Some(key) = HostKey::ALL.into_iter().find(|key| key.as_str() == field) {
        return Some(format!("{}.keyword", host_path(key)));
    }
    let name = field.strip_prefix("data.").unwrap_or(field);
    (!is_list(name)).then(|| format!("{}.keyword", data_path(name)))
}

/// Whether queries know a field, apart from `type`.
pub(crate) fn is_known(field: &str) -> bool {
    let name = field.strip_prefix("data.").unwrap_or(field);
    HostKey::ALL.iter().any(|key| key.as_str() == field)
        || EventType::ALL
            .into_iter()
            .any(|kind| EventData::field_names(kind).contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(text: &str) -> Plan {
        Plan::new(&Query::parse(&format!("type:process | {text}")).unwrap())
    }

    #[test]
    fn words_values_and_numbers_are_left_to_the_cluster() {
        for text in [
            "name:curl sh",
            "name.keyword:/bin/sh",
            "hostname:BÜRO",
            "pid:>4",
            "all:root",
            "ancestors:sshd",
            "name.keyword:",
        ] {
            let plan = plan(text);
            assert!(plan.is_exact, "{text}");
            assert_eq!(plan.conditions.len(), 1, "{text}");
        }
    }

    #[test]
    fn what_the_cluster_reads_differently_is_decided_here() {
        for (text, narrowed) in [
            ("command:/curl.*sh/", 1),
            ("command:/.*/", 0),
            ("ancestors.keyword:/bin/sh", 1),
            ("name:>1", 1),
        ] {
            let plan = plan(text);
            assert!(!plan.is_exact, "{text}");
            assert_eq!(plan.conditions.len(), narrowed, "{text}");
        }
    }

    #[test]
    fn a_search_never_has_more_clauses_than_a_cluster_takes() {
        let many: Vec<String> = (0..5000).map(|n| format!("w{n}")).collect();
        let many = many.join(" ");
        for text in [
            format!("command:{many}"),
            format!("all:{many}"),
            format!("all:{many} | command:{many} | all:/a|b|c|d|e|f/"),
        ] {
            let plan = plan(&text.replace("a|b|c|d|e|f", r"a\|b\|c\|d\|e\|f"));
            let clauses = plan.candidates().to_string().matches("{\"term\"").count();
            assert!(!plan.is_exact && clauses <= MOST_CLAUSES + 10, "{clauses}");
        }
    }

    #[test]
    fn stars_in_an_expression_are_no_stars_in_a_pattern() {
        let found = plan(r"command:/a\*b\?c\\/").candidates().to_string();
        assert!(found.contains(r#"*a\\*b\\?c\\\\*"#), "{found}");
    }
}
