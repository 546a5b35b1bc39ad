//! Documents of a text: rules, correlations and filters, each with what is wrong with it.

use std::sync::Arc;

use crate::{
    Diagnostic, Place,
    sigma::{
        chunk::{self, Chunk},
        detection::{self, Detection},
        head::{self, Head},
        link::{self, Link},
        report::Report,
        yaml::{self, Data, Fault, Node, Span},
    },
    taxonomy::LogSource,
};

/// Values that `action: global` and `repeat` may copy in one text, so that a long document before
/// many short ones does not multiply.
const COPIED: usize = 1_000_000;
const LOGSOURCE_KEYS: [&str; 4] = ["category", "product", "service", "definition"];

/// A Sigma document as written, checked as far as it can be alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    pub(crate) head: Head,
    pub(crate) body: Body,
    pub(crate) file: Arc<str>,
    /// The whole document.
    pub(crate) span: Span,
}

/// What a document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A detection rule.
    Rule,
    /// A correlation over rules.
    Correlation,
    /// A filter over rules.
    Filter,
    /// It has errors and is refused.
    Broken,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Body {
    Rule {
        source: LogSource,
        detection: Detection,
    },
    Filter {
        source: LogSource,
        rules: Rules,
        detection: Detection,
    },
    Correlation(Box<Link>),
    /// Why it is refused.
    Broken(String),
}

/// Rules a filter is for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Rules {
    /// All of its log source.
    Any,
    /// Those with that id, name or title.
    Named(Vec<(String, Span)>),
}

impl Document {
    /// What it is.
    pub fn kind(&self) -> Kind {
        match self.body {
            Body::Rule { .. } => Kind::Rule,
            Body::Filter { .. } => Kind::Filter,
            Body::Correlation(_) => Kind::Correlation,
            Body::Broken(_) => Kind::Broken,
        }
    }

    /// Its id as written.
    pub fn id(&self) -> Option<&str> {
        self.head.id.as_deref()
    }

    /// Its title; empty when it is not known.
    pub fn title(&self) -> &str {
        &self.head.title
    }

    /// Its log source, in lower case. Correlations have none.
    pub fn source(&self) -> Option<&LogSource> {
        match &self.body {
            Body::Rule { source, .. } | Body::Filter { source, .. } => Some(source),
            Body::Correlation(_) | Body::Broken(_) => None,
        }
    }

    /// Where it is.
    pub fn place(&self) -> Place {
        self.span.place(&self.file)
    }
}

/// Reads every document of a text, `file` being its name for diagnostics. A document with errors is
/// returned as [`Kind::Broken`] with at least one diagnostic of severity error; empty documents are
/// left out. Time is linear in the text; no text panics or nests without bound.
pub fn parse(text: &str, file: &str) -> (Vec<Document>, Vec<Diagnostic>) {
    let mut reader = Reader {
        text,
        file: Arc::from(file),
        documents: Vec::new(),
        diagnostics: Vec::new(),
        global: None,
        last: None,
        has_actions: text.contains("action:"),
        copied: 0,
    };
    if text.len() > yaml::TEXT_BYTES {
        let mut report = Report::new(file);
        let reason = format!(
            "the text has {} bytes and {} are read at most; split it",
            text.len(),
            yaml::TEXT_BYTES
        );
        report.error(Span::default(), "", reason);
        return (Vec::new(), report.finish());
    }
    for chunk in chunk::chunks(text) {
        reader.chunk(chunk);
    }
    (reader.documents, reader.diagnostics)
}

struct Reader<'t> {
    text: &'t str,
    file: Arc<str>,
    documents: Vec<Document>,
    diagnostics: Vec<Diagnostic>,
    /// What `action: global` gives to the documents after it.
    global: Option<Node>,
    /// The document before, for `action: repeat`.
    last: Option<Node>,
    /// Whether `last` can be needed.
    has_actions: bool,
    /// Values that actions copied so far.
    copied: usize,
}

impl Reader<'_> {
    fn chunk(&mut self, chunk: Chunk<'_>) {
        for read in chunk.parse() {
            match read.node {
                Some(node) if node.is_null() && read.faults.is_empty() => {}
                Some(node) => self.document(node, read.faults),
                None if read.faults.is_empty() => {}
                None => self.unreadable(chunk, read.faults),
            }
        }
    }

    /// A document that is not YAML: its title and id are looked for in the lines.
    fn unreadable(&mut self, chunk: Chunk<'_>, faults: Vec<Fault>) {
        let of = |key: &str| {
            let line = chunk.text.lines().find_map(|line| line.strip_prefix(key))?;
            Some(line.trim().trim_matches(['\'', '"']).to_owned())
        };
        let head = Head {
            title: of("title:").unwrap_or_default(),
            id: of("id:").filter(|id| !id.is_empty()),
            ..Head::default()
        };
        let file = Arc::clone(&self.file);
        let mut report = Report::new(&file);
        report.rule.clone_from(&head.title);
        for fault in faults {
            report.fault("", fault);
        }
        self.add(head, None, chunk.span(), report);
    }

    fn document(&mut self, node: Node, faults: Vec<Fault>) {
        let file = Arc::clone(&self.file);
        let mut report = Report::new(&file);
        for fault in faults {
            report.fault("", fault);
        }
        if node.as_map().is_none() {
            report.error(
                node.span,
                "",
                "a Sigma document is a map with `title`, `logsource` and `detection`",
            );
            return self.add(Head::default(), None, node.span, report);
        }
        let Some(node) = self.action(node, &mut report) else {
            self.diagnostics.extend(report.finish());
            return;
        };
        let head = head::read(&node, &mut report);
        let body = self.body(&node, &mut report);
        let span = node.span;
        if self.has_actions {
            self.last = Some(node);
        }
        self.add(head, body, span, report);
    }

    fn add(&mut self, head: Head, body: Option<Body>, span: Span, report: Report<'_>) {
        let refusal = report.refusal();
        self.diagnostics.extend(report.finish());
        let body = match (body, refusal) {
            (_, Some(reason)) => Body::Broken(reason),
            (Some(body), None) => body,
            (None, None) => return,
        };
        self.documents.push(Document {
            head,
            body,
            file: Arc::clone(&self.file),
            span,
        });
    }

    /// Collections of the time before correlations: `global` is merged into what follows, `reset`
    /// ends that, `repeat` is merged into the document before it.
    fn action(&mut self, node: Node, report: &mut Report<'_>) -> Option<Node> {
        let action = node.get("action").and_then(Node::text);
        let base = match action {
            None => self.global.as_ref(),
            Some("global") => {
                self.global = Some(without_action(node));
                return None;
            }
            Some("reset") => {
                self.global = None;
                None
            }
            Some("repeat") => self.last.as_ref(),
            Some(other) => {
                let span = node.get("action").map_or(node.span, |node| node.span);
                let reason = format!("`{other}` is no action");
                let diagnostic = Diagnostic::error("action", reason)
                    .suggest(other, ["global", "repeat", "reset"]);
                report.push(diagnostic, span);
                None
            }
        };
        let mut node = if action.is_some() {
            let node = without_action(node);
            // A reset may stand alone.
            if node.as_map().is_some_and(<[_]>::is_empty) {
                return None;
            }
            node
        } else {
            node
        };
        if let Some(base) = base {
            self.copied = self.copied.saturating_add(yaml::nodes(base));
            if self.copied > COPIED {
                let reason = format!(
                    "`action` copied more than {COPIED} values in this text; write the rules out"
                );
                report.error(node.span, "action", reason);
            } else {
                merge(&mut node, base);
            }
        }
        Some(node)
    }

    fn body(&self, node: &Node, report: &mut Report<'_>) -> Option<Body> {
        if let Some((key, section)) = node.entry("correlation") {
            let link = link::read(node, section, key.span, self.text, report)?;
            return Some(Body::Correlation(Box::new(link)));
        }
        let source = source(node, report);
        if let Some((key, section)) = node.entry("filter") {
            let rules = filtered(section, key.span, report);
            let detection = detection::read(section, "filter", &["rules"], self.text, report);
            return Some(Body::Filter {
                source: source?,
                rules: rules?,
                detection: detection?,
            });
        }
        let Some((_, section)) = node.entry("detection") else {
            report.error(
                head::start(node.span),
                "detection",
                "a `detection` with selections and a condition is needed",
            );
            return None;
        };
        if let Some((key, _)) = section.entry("timeframe") {
            let reason =
                "a time frame counts only in correlations, where it is `timespan`; not used";
            report.warn(key.span, "detection.timeframe", reason);
        }
        let detection = detection::read(section, "detection", &["timeframe"], self.text, report);
        Some(Body::Rule {
            source: source?,
            detection: detection?,
        })
    }
}

fn without_action(mut node: Node) -> Node {
    if let Data::Map(entries) = &mut node.data {
        entries.retain(|(key, _)| key.text != "action");
    }
    node
}

/// Adds what `node` does not say itself.
fn merge(node: &mut Node, base: &Node) {
    let (Data::Map(entries), Data::Map(base)) = (&mut node.data, &base.data) else {
        return;
    };
    for (key, value) in base {
        match entries.iter_mut().find(|(k, _)| k.text == key.text) {
            Some((_, own)) => merge(own, value),
            None => entries.push((key.clone(), value.clone())),
        }
    }
}

fn source(node: &Node, report: &mut Report<'_>) -> Option<LogSource> {
    let Some((key, section)) = node.entry("logsource") else {
        report.error(
            head::start(node.span),
            "logsource",
            "a `logsource` with `product`, `category` or `service` is needed",
        );
        return None;
    };
    head_unknown(section, report);
    let mut part = |name: &str| {
        let text = head::text(section, name, report)?.to_lowercase();
        (!text.is_empty()).then_some(text)
    };
    let source = LogSource {
        product: part("product"),
        category: part("category"),
        service: part("service"),
    };
    if source == LogSource::default() {
        let reason = "`product`, `category` or `service` is needed, one at least";
        report.error(key.span, "logsource", reason);
        return None;
    }
    Some(source)
}

/// A log source may say more; what is nearly one of the four keys is a slip.
fn head_unknown(section: &Node, report: &mut Report<'_>) {
    for (key, _) in section.as_map().unwrap_or_default() {
        let written = key.text.as_str();
        if LOGSOURCE_KEYS.contains(&written) || written.len() > 16 {
            continue;
        }
        let near = LOGSOURCE_KEYS
            .into_iter()
            .find(|known| strsim::osa_distance(&written.to_lowercase(), known) <= 2);
        if let Some(known) = near {
            let path = format!("logsource.{written}");
            let mut diagnostic = Diagnostic::warning(path, "unknown key, not used");
            diagnostic.suggestion = Some(known.to_owned());
            report.push(diagnostic, key.span);
        }
    }
}

fn filtered(section: &Node, at: Span, report: &mut Report<'_>) -> Option<Rules> {
    let Some((_, rules)) = section.entry("rules") else {
        let reason = "the `rules` it is for are needed: ids, names, or `any` for all of the log \
                      source";
        report.error(at, "filter.rules", reason);
        return None;
    };
    if rules
        .text()
        .is_some_and(|text| text.eq_ignore_ascii_case("any"))
    {
        return Some(Rules::Any);
    }
    let named = references(rules, "filter.rules", report)?;
    Some(Rules::Named(named))
}

/// One reference or a list of them; never empty.
pub(crate) fn references(
    node: &Node,
    path: &str,
    report: &mut Report<'_>,
) -> Option<Vec<(String, Span)>> {
    let nodes = match &node.data {
        Data::List(nodes) => nodes.as_slice(),
        _ => std::slice::from_ref(node),
    };
    let named: Option<Vec<_>> = nodes
        .iter()
        .map(|node| Some((node.text()?.trim().to_owned(), node.span)))
        .collect();
    let named = named.filter(|named| !named.is_empty());
    if named.is_none() {
        report.error(node.span, path, "a list of ids or names of rules is needed");
    }
    named
}
