//! Detection rules in the classic language: the `rules` collection.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How dangerous a match is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum Level {
    /// 0: act now.
    Danger = 0,
    /// 1: look at it.
    #[default]
    Suspicious = 1,
    /// 2: good to know.
    Hint = 2,
}

crate::numeric_code!(Level { Danger = 0, Suspicious = 1, Hint = 2 });

/// A rule as stored, imported and exported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Stable identity; made from the name on import of rules without one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Whether it is evaluated.
    pub enabled: bool,
    /// All fields must match; otherwise one is enough.
    pub and: bool,
    /// Event or inventory type it reads.
    pub source: String,
    /// `windows`, `linux` or `all`.
    pub system: String,
    /// What people read.
    pub meta: Meta,
    /// Condition per field; empty for rules in Sigma.
    pub rules: BTreeMap<String, Condition>,
    /// The document, for rules written in Sigma; everything else is then taken from it, but for
    /// `enabled`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sigma: String,
}

/// What people read about a rule.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Meta {
    /// Name, the `source` of its alerts.
    pub name: String,
    /// Who wrote it.
    pub author: String,
    /// What a match means.
    pub description: String,
    /// How dangerous a match is.
    pub level: Level,
    /// ATT&CK technique, for example `T1059.004`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attack: Vec<String>,
    /// The same description in Chinese.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description_zh: String,
    /// Known harmless causes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub false_positives: Vec<String>,
}

/// Condition on one field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// `string`, `regex`, `non-regex` or `count`; `regexp` is read as `regex`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Text, pattern or number.
    pub data: String,
}
