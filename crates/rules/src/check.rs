//! Validation of one rule, and its translation to the form engines compile.

use yinglong_model::{event::System, rule::Rule};

use crate::{
    Diagnostic, Source, TYPES,
    checked::{Checked, Condition, Test, compiled},
    ir::Compiled,
    pattern,
    taxonomy::{self, Feed},
    vocabulary::{Domain, SYSTEMS},
};

/// Checks a rule. It is `None` when a diagnostic refuses it; warnings may come with a rule.
/// Paths in the diagnostics start at the rule, for example `rules.command.data`.
pub fn check(rule: &Rule) -> (Option<Checked>, Vec<Diagnostic>) {
    let mut found = Vec::new();
    if rule.meta.name.trim().is_empty() {
        found.push(Diagnostic::error(
            "meta.name",
            "a rule needs a name, since its alerts carry it",
        ));
    }
    let source = source(rule, &mut found);
    let system = system(rule, &mut found);
    if rule.rules.is_empty() {
        found.push(Diagnostic::error(
            "rules",
            "a rule needs at least one condition",
        ));
    }
    let checked = source.map(|source| {
        let conditions = conditions(source, rule, &mut found);
        let compiled = compiled(rule, source, system.flatten(), &conditions);
        if !found.iter().any(Diagnostic::is_error) {
            found.extend(unprovided(&compiled));
        }
        Checked {
            rule: normalized(rule),
            compiled,
        }
    });
    for diagnostic in &mut found {
        diagnostic.rule = label(rule);
    }
    let refused = found.iter().any(Diagnostic::is_error);
    (checked.filter(|_| !refused), found)
}

/// Says why a rule can never fire when no agent sends what it needs.
fn unprovided(rule: &Compiled) -> Option<Diagnostic> {
    let mut reasons = Vec::new();
    for target in &rule.targets {
        match taxonomy::unfireable(target, Feed::Agents) {
            Ok(_) => return None,
            Err(reason) => reasons.push(reason),
        }
    }
    let reason = reasons.into_iter().next()?;
    Some(Diagnostic::warning(
        "system",
        format!("{reason}, so this rule can never fire"),
    ))
}

/// What people call the rule.
pub(crate) fn label(rule: &Rule) -> String {
    if rule.meta.name.is_empty() {
        rule.id.clone()
    } else {
        rule.meta.name.clone()
    }
}

fn normalized(rule: &Rule) -> Rule {
    let mut rule = rule.clone();
    for condition in rule.rules.values_mut() {
        if condition.kind == "regexp" {
            "regex".clone_into(&mut condition.kind);
        }
    }
    rule
}

fn source(rule: &Rule, found: &mut Vec<Diagnostic>) -> Option<Source> {
    let source = Source::from_name(&rule.source);
    if source.is_none() {
        let reason = format!("there is no event or inventory type `{}`", rule.source);
        found.push(
            Diagnostic::error("source", reason)
                .suggest(&rule.source, Source::all().map(Source::as_str)),
        );
    }
    source
}

fn system(rule: &Rule, found: &mut Vec<Diagnostic>) -> Option<Option<System>> {
    match rule.system.as_str() {
        "linux" => Some(Some(System::Linux)),
        "windows" => Some(Some(System::Windows)),
        "all" => Some(None),
        other => {
            let reason = format!("`{other}` is none of linux, windows and all");
            found.push(Diagnostic::error("system", reason).suggest(other, SYSTEMS));
            None
        }
    }
}

/// Whether a condition can ever hold.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outlook {
    Possible,
    Impossible,
}

fn conditions(source: Source, rule: &Rule, found: &mut Vec<Diagnostic>) -> Vec<Condition> {
    let mut conditions = Vec::with_capacity(rule.rules.len());
    let mut impossible = 0_usize;
    for (field, written) in &rule.rules {
        let path = format!("rules.{field}");
        if !source.rule_fields().any(|known| known == field) {
            let reason = format!("{} has no field `{field}`", source.as_str());
            found.push(Diagnostic::error(path, reason).suggest(field, source.rule_fields()));
            continue;
        }
        let Some(test) = test(source, field, &written.kind, &written.data, &path, found) else {
            continue;
        };
        if outlook(source, field, &test, &path, found) == Outlook::Impossible {
            impossible += 1;
        }
        conditions.push(Condition {
            field: field.clone(),
            test,
        });
    }
    let never = if rule.and {
        impossible > 0 || counts_disagree(&conditions)
    } else {
        impossible > 0 && impossible == rule.rules.len()
    };
    if never {
        found.push(Diagnostic::warning("rules", "this rule can never fire"));
    }
    conditions
}

fn test(
    source: Source,
    field: &str,
    kind: &str,
    data: &str,
    path: &str,
    found: &mut Vec<Diagnostic>,
) -> Option<Test> {
    let data_path = format!("{path}.data");
    match kind {
        "string" => Some(Test::Equal(data.to_owned())),
        "regex" | "regexp" => {
            if kind == "regexp" {
                let reason = "type `regexp` is read as `regex`; write `regex`";
                found.push(Diagnostic::warning(format!("{path}.type"), reason));
            }
            pattern(data, data_path, found).then(|| Test::Found(data.to_owned()))
        }
        "non-regex" => pattern(data, data_path, found).then(|| Test::NotFound(data.to_owned())),
        "count" => count(source, field, data, data_path, found).map(Test::Count),
        other => {
            let reason = format!("there is no condition type `{other}`");
            found.push(Diagnostic::error(format!("{path}.type"), reason).suggest(other, TYPES));
            None
        }
    }
}

fn pattern(text: &str, path: String, found: &mut Vec<Diagnostic>) -> bool {
    match pattern::compile(text) {
        Ok(_) => true,
        Err(regex::Error::CompiledTooBig(limit)) => {
            let reason = format!("the pattern needs more than {limit} bytes; simplify it");
            found.push(Diagnostic::error(path, reason));
            false
        }
        Err(error) => {
            let reason = format!("not a regular expression: {error}");
            found.push(Diagnostic::error(path, reason));
            false
        }
    }
}

fn count(
    source: Source,
    field: &str,
    data: &str,
    path: String,
    found: &mut Vec<Diagnostic>,
) -> Option<u64> {
    if source.counted_field(field).is_none() {
        let reason = match source.key() {
            Some(key) => format!(
                "`{field}` of {} is not counted; `{key}` is",
                source.as_str()
            ),
            None => format!("nothing of {} is counted", source.as_str()),
        };
        let mut diagnostic = Diagnostic::error(path, reason);
        diagnostic.suggestion = source.key().map(str::to_owned);
        found.push(diagnostic);
        return None;
    }
    let number = data.trim().parse().ok();
    if number.is_none() {
        let reason = format!("`{data}` is not a number of reports; write 1 for the first one");
        found.push(Diagnostic::error(path, reason));
    }
    number
}

/// Reports a condition that holds for no value the field can have, or for every value.
fn outlook(
    source: Source,
    field: &str,
    test: &Test,
    path: &str,
    found: &mut Vec<Diagnostic>,
) -> Outlook {
    let domain = source.domain(field);
    let impossible = match test {
        Test::Equal(text) if !domain.has(text) => Some(format!(
            "`{field}` is never `{text}`; it is {}",
            domain.describe()
        )),
        Test::Found(text) if !text_can_be_found(domain, text, true) => Some(format!(
            "`{text}` is in no value of `{field}`, which is {}",
            domain.describe()
        )),
        Test::NotFound(text) if !text_can_be_found(domain, text, false) => {
            Some(format!("`{text}` is in every value of `{field}`"))
        }
        Test::Count(0) => Some("a value that was reported has a count of at least 1".to_owned()),
        _ => None,
    };
    let Some(reason) = impossible else {
        if matches!(test, Test::Found(text) if matches_everything(text)) {
            let reason = "this pattern is in every value; write what to look for";
            found.push(Diagnostic::warning(format!("{path}.data"), reason));
        }
        return Outlook::Possible;
    };
    found.push(Diagnostic::warning(format!("{path}.data"), reason));
    Outlook::Impossible
}

/// Whether some value contains the pattern (`wanted`), or some value does not.
fn text_can_be_found(domain: Domain, text: &str, wanted: bool) -> bool {
    let Some(values) = domain.values() else {
        return wanted || !matches_everything(text);
    };
    pattern::compile(text)
        .is_ok_and(|regex| values.iter().any(|value| regex.is_match(value) == wanted))
}

fn matches_everything(text: &str) -> bool {
    matches!(text, "" | ".*" | "^.*" | ".*$" | "^.*$" | "^" | "$")
}

/// A value is counted once per element, so two different counts never hold together.
fn counts_disagree(conditions: &[Condition]) -> bool {
    let mut counts = conditions.iter().filter_map(|c| match c.test {
        Test::Count(number) => Some(number),
        _ => None,
    });
    counts
        .next()
        .is_some_and(|first| counts.any(|other| other != first))
}
