//! What every document says about itself: id, title, level, tags.

use yinglong_model::rule::Level;

use crate::{
    Diagnostic,
    sigma::{
        report::Report,
        yaml::{Data, Node, Span},
    },
};

/// Keys of the three kinds of documents, for near misses; others are allowed.
const KEYS: [&str; 24] = [
    "title",
    "id",
    "name",
    "related",
    "taxonomy",
    "status",
    "description",
    "license",
    "author",
    "references",
    "date",
    "modified",
    "logsource",
    "detection",
    "fields",
    "falsepositives",
    "level",
    "tags",
    "scope",
    "correlation",
    "filter",
    "generate",
    "yinglong",
    "action",
];
/// Keys that are compared with the known ones; no document has so many.
const LOOKED_AT: usize = 256;
const LEVELS: [&str; 5] = ["informational", "low", "medium", "high", "critical"];
const OWN_KEYS: [&str; 2] = ["description_zh", "identity"];

/// What a document says about itself.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Head {
    pub(crate) id: Option<String>,
    pub(crate) id_span: Span,
    pub(crate) title: String,
    pub(crate) name: Option<String>,
    pub(crate) author: String,
    pub(crate) description: String,
    pub(crate) description_zh: String,
    pub(crate) level: Option<Level>,
    pub(crate) severity: String,
    pub(crate) attack: Vec<String>,
    pub(crate) false_positives: Vec<String>,
    /// In Sigma's names.
    pub(crate) identity: Vec<String>,
}

pub(crate) fn read(node: &Node, report: &mut Report<'_>) -> Head {
    let mut head = Head {
        id: text(node, "id", report).filter(|id| !id.is_empty()),
        id_span: node.entry("id").map_or(node.span, |(_, id)| id.span),
        title: text(node, "title", report).unwrap_or_default(),
        name: text(node, "name", report).filter(|name| !name.is_empty()),
        author: text(node, "author", report).unwrap_or_default(),
        description: text(node, "description", report).unwrap_or_default(),
        ..Head::default()
    };
    report.rule = if head.title.is_empty() {
        head.id.clone().unwrap_or_default()
    } else {
        head.title.clone()
    };
    if head.title.is_empty() {
        let span = start(node.span);
        report.error(span, "title", "a title is needed, since alerts carry it");
    }
    near_misses(node, report);
    level(node, &mut head, report);
    head.attack = texts(node, "tags", report)
        .iter()
        .filter_map(|tag| technique(tag))
        .collect();
    head.false_positives = texts(node, "falsepositives", report);
    if let Some((key, own)) = node.entry("yinglong") {
        if own.as_map().is_none() {
            let reason = "an object with `description_zh` and `identity` is needed";
            report.error(key.span, "yinglong", reason);
        }
        unknown_keys(own, "yinglong", &OWN_KEYS, report);
        head.description_zh = text(own, "description_zh", report).unwrap_or_default();
        head.identity = texts(own, "identity", report);
    }
    if let Some((key, taxonomy)) = node.entry("taxonomy")
        && !matches!(taxonomy.text(), None | Some("sigma"))
    {
        let mut diagnostic = Diagnostic::error(
            "taxonomy",
            "only the default taxonomy is known; write fields and log sources in its names",
        );
        diagnostic.suggestion = Some("sigma".to_owned());
        report.push(diagnostic, key.span);
    }
    head
}

/// The beginning of a stretch.
pub(crate) fn start(span: Span) -> Span {
    Span {
        end: span.start,
        ..span
    }
}

/// Text of a key; anything that is no scalar is reported.
pub(crate) fn text(node: &Node, key: &str, report: &mut Report<'_>) -> Option<String> {
    let (_, value) = node.entry(key)?;
    if value.is_null() {
        return None;
    }
    let text = value.text();
    if text.is_none() {
        report.error(value.span, key, "a text is needed");
    }
    text.map(|text| text.trim().to_owned())
}

/// Texts of a key that has one or a list of them.
pub(crate) fn texts(node: &Node, key: &str, report: &mut Report<'_>) -> Vec<String> {
    let Some((_, value)) = node.entry(key) else {
        return Vec::new();
    };
    let nodes = match &value.data {
        Data::List(nodes) => nodes.as_slice(),
        _ => std::slice::from_ref(value),
    };
    let mut texts = Vec::with_capacity(nodes.len());
    for node in nodes.iter().filter(|node| !node.is_null()) {
        match node.text() {
            Some(text) => texts.push(text.trim().to_owned()),
            None => report.error(node.span, key, "a list of texts is needed"),
        }
    }
    texts
}

/// Warns of keys that are not among the known ones.
pub(crate) fn unknown_keys(node: &Node, path: &str, known: &[&str], report: &mut Report<'_>) {
    for (key, _) in node.as_map().unwrap_or_default() {
        if !known.contains(&key.text.as_str()) {
            let diagnostic =
                Diagnostic::warning(format!("{path}.{}", key.text), "unknown key, not used")
                    .suggest(&key.text, known.iter().copied());
            report.push(diagnostic, key.span);
        }
    }
}

/// Own keys are allowed in Sigma; a key that is nearly a known one is a slip.
fn near_misses(node: &Node, report: &mut Report<'_>) {
    for (key, _) in node.as_map().unwrap_or_default().iter().take(LOOKED_AT) {
        let written = key.text.as_str();
        if KEYS.contains(&written) || !(4..=16).contains(&written.len()) {
            continue;
        }
        let near = KEYS
            .into_iter()
            .map(|known| (strsim::osa_distance(&written.to_lowercase(), known), known))
            .filter(|(distance, known)| *distance <= 2 && distance * 2 < known.len())
            .min();
        if let Some((_, known)) = near {
            let mut diagnostic =
                Diagnostic::warning(written, "unknown key, not used, and much like one that is");
            diagnostic.suggestion = Some(known.to_owned());
            report.push(diagnostic, key.span);
        }
    }
}

fn level(node: &Node, head: &mut Head, report: &mut Report<'_>) {
    let Some((_, value)) = node.entry("level") else {
        return;
    };
    let written = text(node, "level", report).unwrap_or_default();
    head.level = match written.to_lowercase().as_str() {
        "critical" | "high" => Some(Level::Danger),
        "medium" => Some(Level::Suspicious),
        "low" | "informational" => Some(Level::Hint),
        "" => None,
        _ => {
            let reason = format!("there is no level `{written}`; the rule is taken as `medium`");
            let diagnostic = Diagnostic::warning("level", reason).suggest(&written, LEVELS);
            report.push(diagnostic, value.span);
            None
        }
    };
    head.severity = written;
}

/// `T1059.001` of the tag `attack.t1059.001`.
fn technique(tag: &str) -> Option<String> {
    let tag = tag.to_ascii_lowercase();
    let digits = tag.strip_prefix("attack.t")?;
    let (technique, part) = digits.split_once('.').unwrap_or((digits, "000"));
    let number =
        |text: &str, length| text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit());
    (number(technique, 4) && number(part, 3)).then(|| format!("T{digits}"))
}
