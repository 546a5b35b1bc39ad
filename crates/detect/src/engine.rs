//! Rules behind routes: only the rules for an element's type and system are looked at.

use std::borrow::Cow;

use regex::Regex;
use yinglong_model::{alert::Matched, config::List};
use yinglong_rules::{Compiled, Diagnostic, Rule, Source, Test, check, pattern};

use crate::{Detection, Element, Verdict, detection::info, element::base_name, lists::Matcher};

/// Compiled rules and lists. Immutable, to be shared between threads.
pub struct Engine {
    black: Matcher,
    white: Matcher,
    /// One route per source, each with its rules in the order they were given.
    routes: Vec<(Source, Vec<Evaluator>)>,
    rules: usize,
}

impl Engine {
    /// Compiles the enabled rules and both lists. Rules and entries that do not compile are left
    /// out and reported; valid ones work regardless.
    pub fn new(rules: &[Rule], whitelist: &List, blacklist: &List) -> (Self, Vec<Diagnostic>) {
        let mut diagnostics = Vec::new();
        let mut routes: Vec<(Source, Vec<Evaluator>)> =
            Source::all().map(|source| (source, Vec::new())).collect();
        let mut loaded = 0;
        for rule in rules.iter().filter(|rule| rule.enabled) {
            let (compiled, found) = check(rule);
            diagnostics.extend(found);
            let Some(evaluator) = compiled.and_then(Evaluator::new) else {
                continue;
            };
            if let Some((_, route)) = routes
                .iter_mut()
                .find(|(source, _)| *source == evaluator.compiled.source)
            {
                route.push(evaluator);
                loaded += 1;
            }
        }
        let engine = Self {
            black: Matcher::new("blacklist", blacklist, &mut diagnostics),
            white: Matcher::new("whitelist", whitelist, &mut diagnostics),
            routes,
            rules: loaded,
        };
        (engine, diagnostics)
    }

    /// Number of rules that are evaluated.
    pub fn rule_count(&self) -> usize {
        self.rules
    }

    /// Judges one element. An element of an unknown type has no detections.
    pub fn evaluate(&self, element: &Element<'_>) -> Verdict {
        let mut verdict = Verdict::default();
        let route = self
            .routes
            .iter()
            .find(|(source, _)| source.as_str() == element.kind);
        let Some((source, rules)) = route else {
            return verdict;
        };
        if let Some(hit) = self.black.find(*source, element) {
            verdict.detections.push(hit.into_detection());
        }
        if let Some(hit) = self.white.find(*source, element) {
            verdict.whitelisted = Some(hit.entry.to_owned());
            return verdict;
        }
        let matching = rules
            .iter()
            .filter(|rule| rule.compiled.system.is_none_or(|s| s == element.system))
            .filter_map(|rule| rule.evaluate(element));
        verdict.detections.extend(matching);
        verdict
    }
}

struct Evaluator {
    compiled: Compiled,
    conditions: Vec<Condition>,
}

struct Condition {
    /// Field as the rule names it.
    field: String,
    /// Field that is read; differs where classic rules count the `remote` of connections.
    read: String,
    /// Path and base name both match.
    executable: bool,
    /// One of the words joined by bars is enough to be equal.
    joined: bool,
    test: Ready,
    description: String,
}

/// A test with its pattern compiled.
enum Ready {
    Equal(String),
    Found(Regex),
    NotFound(Regex),
    Count(u64),
}

impl Evaluator {
    /// `None` only if a pattern that was checked does not compile after all.
    fn new(compiled: Compiled) -> Option<Self> {
        let source = compiled.source;
        let conditions = compiled
            .conditions
            .iter()
            .map(|condition| {
                let field = condition.field.as_str();
                let (test, read) = match &condition.test {
                    Test::Equal(text) => (Ready::Equal(text.to_lowercase()), field),
                    Test::Found(text) => (Ready::Found(pattern::compile(text).ok()?), field),
                    Test::NotFound(text) => (Ready::NotFound(pattern::compile(text).ok()?), field),
                    Test::Count(number) => (Ready::Count(*number), source.counted_field(field)?),
                };
                Some(Condition {
                    field: field.to_owned(),
                    read: read.to_owned(),
                    executable: source.is_executable(field),
                    joined: source.is_joined(field),
                    test,
                    description: condition.test.describe(),
                })
            })
            .collect::<Option<Vec<_>>>()?;
        Some(Self {
            compiled,
            conditions,
        })
    }

    fn evaluate(&self, element: &Element<'_>) -> Option<Detection> {
        let rule = &self.compiled.rule;
        let mut values: Vec<(&Condition, Cow<'_, str>)> = Vec::new();
        for condition in &self.conditions {
            match condition.holds(element) {
                Some(value) => values.push((condition, value)),
                None if rule.and => return None,
                None => {}
            }
        }
        if values.is_empty() {
            return None;
        }
        let matched: Vec<Matched> = values
            .into_iter()
            .map(|(condition, value)| Matched {
                field: condition.field.clone(),
                value: value.into_owned(),
                condition: condition.description.clone(),
            })
            .collect();
        Some(Detection {
            source: rule.meta.name.clone(),
            rule_id: rule.id.clone(),
            level: rule.meta.level,
            info: info(&matched),
            description: rule.meta.description.clone(),
            description_zh: rule.meta.description_zh.clone(),
            attack: rule.meta.attack.clone(),
            matched,
        })
    }
}

impl Condition {
    /// The value it holds for, or `None`.
    fn holds<'e>(&self, element: &Element<'e>) -> Option<Cow<'e, str>> {
        let value = element.fields.get(&self.read)?;
        let base = if self.executable {
            base_name(&value, element.system)
        } else {
            &value
        };
        // Evaluated on the base name only where that differs from the value.
        let either = |holds: &dyn Fn(&str) -> bool| {
            holds(&value) || (base.len() != value.len() && holds(base))
        };
        let holds = match &self.test {
            Ready::Equal(text) => {
                either(&|value| equal_ignoring_case(value, text))
                    || (self.joined && value.split('|').any(|word| equal_ignoring_case(word, text)))
            }
            Ready::Found(regex) => either(&|value| regex.is_match(value)),
            Ready::NotFound(regex) => !value.is_empty() && !either(&|value| regex.is_match(value)),
            // What has no value is never counted, in learn mode either.
            Ready::Count(number) => {
                !value.is_empty() && (element.learn || element.count == Some(*number))
            }
        };
        holds.then_some(value)
    }
}

/// `lowered` is in lower case already.
fn equal_ignoring_case(value: &str, lowered: &str) -> bool {
    value.eq_ignore_ascii_case(lowered) || (!value.is_ascii() && value.to_lowercase() == lowered)
}
