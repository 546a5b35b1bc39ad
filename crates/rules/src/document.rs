//! Reading of rule documents: JSON to rules, one diagnostic per thing that is wrong.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::{Map, Value};
use yinglong_model::rule::{Condition, Level, Meta, Rule};

use crate::{
    Diagnostic,
    check::{check, label},
    sigma::stored,
};

const RULE_KEYS: [&str; 8] = [
    "id", "enabled", "and", "source", "system", "meta", "rules", "sigma",
];
const META_KEYS: [&str; 7] = [
    "name",
    "author",
    "description",
    "level",
    "attack",
    "description_zh",
    "false_positives",
];

/// Reads one rule or an array of rules. A rule with a document in `sigma` is taken from there, but for
/// `enabled`: it is how rules in Sigma are listed, and how they are switched off. Invalid rules are left out, each with at least one
/// diagnostic of severity error; the others are returned with `regexp` read as `regex` and, where
/// they had no id, with one made from name, source and system, unique within the load.
pub fn load(json: &str) -> (Vec<Rule>, Vec<Diagnostic>) {
    let value: Value = match serde_json::from_str(json) {
        Ok(value) => value,
        Err(error) => {
            return (
                Vec::new(),
                vec![Diagnostic::error("", format!("not JSON: {error}"))],
            );
        }
    };
    let (single, values) = match value {
        Value::Array(values) => (false, values),
        value => (true, vec![value]),
    };
    let mut loader = Loader::default();
    for (index, value) in values.iter().enumerate() {
        let prefix = if single {
            String::new()
        } else {
            format!("[{index}]")
        };
        loader.take(value, &prefix);
    }
    (loader.rules, loader.diagnostics)
}

#[derive(Default)]
struct Loader {
    rules: Vec<Rule>,
    diagnostics: Vec<Diagnostic>,
    ids: HashSet<String>,
    /// Place of the first rule of that name and source.
    names: HashMap<(String, String), String>,
}

impl Loader {
    fn take(&mut self, value: &Value, prefix: &str) {
        let mut found = Vec::new();
        let mut reader = Reader { found: &mut found };
        let in_sigma = value.get("sigma").and_then(Value::as_str);
        let read = match in_sigma.filter(|text| !text.is_empty()) {
            Some(text) => reader.sigma(value, text),
            None => reader.rule(value),
        };
        let Some(mut rule) = read else {
            let name = value.pointer("/meta/name").and_then(Value::as_str);
            self.report(found, prefix, name.unwrap_or_default());
            return;
        };
        let name = label(&rule);
        let readable = !found.iter().any(Diagnostic::is_error);
        let valid = if rule.sigma.is_empty() {
            let (valid, checked) = check(&rule);
            found.extend(checked);
            valid.map(|valid| valid.rule)
        } else {
            Some(rule.clone())
        };
        if !rule.id.is_empty() && self.ids.contains(&rule.id) {
            let reason = format!("another rule has the id `{}`; ids are unique", rule.id);
            found.push(Diagnostic::error("id", reason));
        }
        let refused = !readable || found.iter().any(Diagnostic::is_error);
        if let (Some(valid), false) = (valid, refused) {
            rule = valid;
            if rule.id.is_empty() {
                rule.id = self.fresh_id(&rule);
            }
            self.note_name(&rule, prefix, &mut found);
            self.ids.insert(rule.id.clone());
            self.rules.push(rule);
        }
        self.report(found, prefix, &name);
    }

    /// Alerts are told apart by the name of their rule, so a shared name merges them.
    fn note_name(&mut self, rule: &Rule, prefix: &str, found: &mut Vec<Diagnostic>) {
        let key = (
            rule.meta.name.clone(),
            format!("{}/{}", rule.source, rule.system),
        );
        if let Some(first) = self.names.get(&key) {
            let reason = format!("{first} has the same name, source and system; name them apart");
            found.push(Diagnostic::warning("meta.name", reason));
        } else {
            self.names.insert(key, prefix.to_owned());
        }
    }

    fn fresh_id(&self, rule: &Rule) -> String {
        let base = slug(&format!(
            "{} {} {}",
            rule.meta.name, rule.source, rule.system
        ));
        let mut id = base.clone();
        let mut number = 2_usize;
        while self.ids.contains(&id) {
            id = format!("{base}-{number}");
            number += 1;
        }
        id
    }

    fn report(&mut self, found: Vec<Diagnostic>, prefix: &str, name: &str) {
        for mut diagnostic in found {
            diagnostic.path = match (prefix, diagnostic.path.as_str()) {
                ("", path) => path.to_owned(),
                (prefix, "") => prefix.to_owned(),
                (prefix, path) => format!("{prefix}.{path}"),
            };
            name.clone_into(&mut diagnostic.rule);
            self.diagnostics.push(diagnostic);
        }
    }
}

/// Lower-case letters and digits of any script, everything else as single dashes.
pub(crate) fn slug(text: &str) -> String {
    let mut slug = String::with_capacity(text.len());
    for c in text.chars().flat_map(char::to_lowercase) {
        if c.is_alphanumeric() {
            slug.push(c);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.trim_end_matches('-').to_owned()
}

/// Reads values of the expected kind; what has another kind is reported and replaced by a default.
struct Reader<'d> {
    found: &'d mut Vec<Diagnostic>,
}

impl Reader<'_> {
    fn error(&mut self, path: &str, reason: impl Into<String>) {
        self.found.push(Diagnostic::error(path, reason));
    }

    fn rule(&mut self, value: &Value) -> Option<Rule> {
        let Value::Object(object) = value else {
            self.error(
                "",
                "a rule is an object with `source`, `system`, `meta` and `rules`",
            );
            return None;
        };
        self.unknown_keys("", object, &RULE_KEYS);
        Some(Rule {
            id: self.text(object, "id", "id", false),
            enabled: self.switch(object, "enabled"),
            and: self.switch(object, "and"),
            source: self.text(object, "source", "source", true),
            system: self.text(object, "system", "system", true),
            meta: self.meta(object.get("meta")),
            rules: self.conditions(object.get("rules")),
            sigma: String::new(),
        })
    }

    /// A rule whose document is Sigma.
    fn sigma(&mut self, value: &Value, text: &str) -> Option<Rule> {
        let Value::Object(object) = value else {
            return None;
        };
        self.unknown_keys("", object, &RULE_KEYS);
        let (rules, found) = stored(text, "");
        self.found.extend(found.into_iter().map(|mut diagnostic| {
            diagnostic.path = format!("sigma.{}", diagnostic.path);
            diagnostic
        }));
        let mut rules = rules.into_iter();
        let (Some(mut rule), None) = (rules.next(), rules.next()) else {
            if !self.found.iter().any(Diagnostic::is_error) {
                self.error(
                    "sigma",
                    "one Sigma document is needed; give each its own rule",
                );
            }
            return None;
        };
        rule.enabled = self.switch(object, "enabled");
        let given = self.text(object, "id", "id", false);
        if !given.is_empty() {
            // Documents without an id, and those that share one, are stored under another.
            rule.id = given;
        }
        Some(rule)
    }

    fn meta(&mut self, value: Option<&Value>) -> Meta {
        let Some(Value::Object(object)) = value else {
            self.error(
                "meta",
                "an object with `name`, `description` and `level` is needed",
            );
            return Meta::default();
        };
        self.unknown_keys("meta.", object, &META_KEYS);
        Meta {
            name: self.text(object, "name", "meta.name", false),
            author: self.text(object, "author", "meta.author", false),
            description: self.text(object, "description", "meta.description", false),
            level: self.level(object.get("level")),
            attack: self.texts(object, "attack"),
            description_zh: self.text(object, "description_zh", "meta.description_zh", false),
            false_positives: self.texts(object, "false_positives"),
        }
    }

    fn conditions(&mut self, value: Option<&Value>) -> BTreeMap<String, Condition> {
        let Some(Value::Object(object)) = value else {
            self.error("rules", "an object of conditions, one per field, is needed");
            return BTreeMap::new();
        };
        let mut conditions = BTreeMap::new();
        for (field, value) in object {
            let path = format!("rules.{field}");
            let Value::Object(written) = value else {
                self.error(&path, "a condition is an object with `type` and `data`");
                continue;
            };
            self.unknown_keys(&format!("{path}."), written, &["type", "data"]);
            let kind = self.text(written, "type", &format!("{path}.type"), true);
            let data = match written.get("data") {
                Some(Value::String(text)) => text.clone(),
                Some(Value::Number(number)) => number.to_string(),
                _ => {
                    self.error(&format!("{path}.data"), "a text or a number is needed");
                    continue;
                }
            };
            conditions.insert(field.clone(), Condition { kind, data });
        }
        conditions
    }

    fn level(&mut self, value: Option<&Value>) -> Level {
        let number = match value {
            Some(Value::Number(number)) => number.as_u64(),
            Some(Value::String(text)) => text.trim().parse().ok(),
            _ => None,
        };
        let level = number
            .and_then(|number| u8::try_from(number).ok())
            .and_then(Level::from_code);
        level.unwrap_or_else(|| {
            self.error(
                "meta.level",
                "the level is 0 (danger), 1 (suspicious) or 2 (hint)",
            );
            Level::default()
        })
    }

    fn text(&mut self, object: &Map<String, Value>, key: &str, path: &str, needed: bool) -> String {
        match object.get(key) {
            Some(Value::String(text)) => return text.clone(),
            None | Some(Value::Null) if !needed => {}
            _ => self.error(path, "a text is needed"),
        }
        String::new()
    }

    fn texts(&mut self, object: &Map<String, Value>, key: &str) -> Vec<String> {
        let path = format!("meta.{key}");
        let values = match object.get(key) {
            None | Some(Value::Null) => return Vec::new(),
            Some(Value::Array(values)) => values,
            Some(_) => {
                self.error(&path, "a list of texts is needed");
                return Vec::new();
            }
        };
        let texts: Option<Vec<String>> = values
            .iter()
            .map(|value| value.as_str().map(str::to_owned))
            .collect();
        texts.unwrap_or_else(|| {
            self.error(&path, "a list of texts is needed");
            Vec::new()
        })
    }

    /// A switch that is missing is on, as in the classic console's new-rule form.
    fn switch(&mut self, object: &Map<String, Value>, key: &str) -> bool {
        match object.get(key) {
            Some(Value::Bool(on)) => *on,
            None => true,
            Some(_) => {
                self.error(key, "true or false is needed");
                true
            }
        }
    }

    /// `_id` comes with exports of the classic database and means nothing here.
    fn unknown_keys(&mut self, prefix: &str, object: &Map<String, Value>, known: &[&str]) {
        for key in object.keys() {
            if key != "_id" && !known.contains(&key.as_str()) {
                self.found.push(
                    Diagnostic::warning(format!("{prefix}{key}"), "unknown key, not used")
                        .suggest(key, known.iter().copied()),
                );
            }
        }
    }
}
