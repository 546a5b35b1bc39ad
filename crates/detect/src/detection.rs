//! What the engine says about an element.

use yinglong_model::{alert::Matched, rule::Level};

/// `source` of detections by the black list.
pub const BLACKLIST: &str = "blacklist";

/// What was found out about one element.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Verdict {
    /// Black list first, then one per matching rule in the order of the rules.
    pub detections: Vec<Detection>,
    /// White list entry that ended the processing: no rules ran, and no intelligence is asked.
    pub whitelisted: Option<String>,
}

/// One reason for an alert.
#[derive(Debug, Clone, PartialEq)]
pub struct Detection {
    /// Name of the rule, or [`BLACKLIST`].
    pub source: String,
    /// Id of the rule; empty for the black list.
    pub rule_id: String,
    /// How dangerous.
    pub level: Level,
    /// The level in the words of the rule's language.
    pub severity: String,
    /// Matched values, sorted, joined by a bar.
    pub info: String,
    /// What a match means.
    pub description: String,
    /// The same in Chinese, when the rule has it.
    pub description_zh: String,
    /// ATT&CK techniques.
    pub attack: Vec<String>,
    /// What matched, ordered by field.
    pub matched: Vec<Matched>,
}

/// `info` of an alert: values sorted, joined by a bar; the value of a field once.
pub(crate) fn info(matched: &[Matched]) -> String {
    let mut values: Vec<(&str, &str)> = matched
        .iter()
        .map(|m| (m.value.as_str(), m.field.as_str()))
        .collect();
    values.sort_unstable();
    values.dedup();
    let values: Vec<&str> = values.into_iter().map(|(value, _)| value).collect();
    values.join("|")
}
