//! YAML as a tree that knows where each value is written, bounded in depth and size.
//!
//! Aliases are copied within the same bounds as written values.

use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Marker, Parser, Span as Range};

use crate::{
    Place,
    sigma::{chunk::Chunk, scalar},
};

/// Bytes of one document; the longest public rule has a tenth of it.
pub(crate) const DOCUMENT_BYTES: usize = 1 << 20;
/// Bytes of one text: positions are kept in 32 bits, and a ruleset is megabytes.
pub(crate) const TEXT_BYTES: usize = 256 << 20;
/// Collections within each other; a Sigma rule needs six.
pub(crate) const DEPTH: usize = 32;
/// Values of one document, aliases copied.
pub(crate) const NODES: usize = 200_000;

/// A stretch of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) end: u32,
    /// From 1.
    pub(crate) line: u32,
    /// In characters, from 1.
    pub(crate) column: u32,
}

impl Span {
    pub(crate) fn place(self, file: &str) -> Place {
        Place {
            file: file.to_owned(),
            line: self.line as usize,
            column: self.column as usize,
            start: self.start as usize,
            end: self.end as usize,
        }
    }
}

/// A value and where it is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) span: Span,
    pub(crate) data: Data,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Data {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A value without parts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scalar {
    /// As written, without quotes.
    pub(crate) text: String,
    pub(crate) kind: Kind,
}

/// What a scalar means by the core schema of YAML 1.2.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    Null,
    Bool(bool),
    /// An integer that fits.
    Integer(i128),
    Float(f64),
    Text,
}

/// A key of a map.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Key {
    pub(crate) text: String,
    pub(crate) span: Span,
}

/// What is wrong with a text, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) span: Span,
    pub(crate) reason: String,
}

impl Node {
    pub(crate) fn as_map(&self) -> Option<&[(Key, Node)]> {
        match &self.data {
            Data::Map(entries) => Some(entries),
            Data::Scalar(_) | Data::List(_) => None,
        }
    }

    /// The entry of that key.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|(_, node)| node)
    }

    pub(crate) fn entry(&self, key: &str) -> Option<&(Key, Node)> {
        self.as_map()?.iter().find(|(k, _)| k.text == key)
    }

    /// Text of any scalar but null.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.data {
            Data::Scalar(scalar) if scalar.kind != Kind::Null => Some(&scalar.text),
            _ => None,
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.data, Data::Scalar(scalar) if scalar.kind == Kind::Null)
    }
}

impl Chunk<'_> {
    /// The whole of it.
    pub(crate) fn span(&self) -> Span {
        Span {
            start: narrow(self.start),
            end: narrow(self.start + self.text.len()),
            line: narrow(self.line + 1),
            column: 1,
        }
    }

    /// The documents in it, usually one, each with what is wrong. A syntax error ends the reading,
    /// and the document it is in has no value.
    pub(crate) fn parse(&self) -> Vec<Read> {
        if self.text.len() > DOCUMENT_BYTES {
            let reason = format!(
                "the document has {} bytes and {DOCUMENT_BYTES} are read at most; split it",
                self.text.len()
            );
            let span = Span {
                end: narrow(self.start),
                ..self.span()
            };
            return vec![Read {
                node: None,
                faults: vec![Fault { span, reason }],
            }];
        }
        let mut builder = Builder {
            offsets: Offsets::new(self.text),
            chunk: *self,
            open: Vec::new(),
            anchors: HashMap::new(),
            nodes: 0,
            documents: Vec::new(),
            current: None,
            faults: Vec::new(),
        };
        for event in Parser::new_from_str(self.text) {
            let read = match event {
                Ok((Event::StreamEnd, _)) => break,
                Ok((event, range)) => builder.take(event, range),
                Err(error) => {
                    let mark = *error.marker();
                    let span = builder.span(Range::new(mark, mark));
                    // The scanner runs ahead and has a limit of its own.
                    if error.info().contains("recursion limit") {
                        Err(too_deep(span))
                    } else {
                        let reason = format!("not YAML: {}", error.info());
                        Err(Fault { span, reason })
                    }
                }
            };
            if let Err(fault) = read {
                builder.faults.push(fault);
                builder.current = None;
                builder.finish();
                break;
            }
        }
        builder.documents
    }
}

/// Byte of each character.
enum Offsets {
    /// The same number.
    Ascii(usize),
    Table(Vec<u32>),
}

impl Offsets {
    fn new(text: &str) -> Self {
        if text.is_ascii() {
            return Self::Ascii(text.len());
        }
        let mut table: Vec<u32> = text.char_indices().map(|(byte, _)| narrow(byte)).collect();
        table.push(narrow(text.len()));
        Self::Table(table)
    }

    fn byte(&self, character: usize) -> usize {
        match self {
            Self::Ascii(length) => character.min(*length),
            Self::Table(table) => table
                .get(character)
                .or(table.last())
                .map_or(0, |byte| *byte as usize),
        }
    }
}

struct Builder<'t> {
    offsets: Offsets,
    chunk: Chunk<'t>,
    open: Vec<Open>,
    anchors: HashMap<usize, (Node, Measure)>,
    nodes: usize,
    documents: Vec<Read>,
    current: Option<Node>,
    faults: Vec<Fault>,
}

/// A document that was read, with what is wrong with it.
#[derive(Debug, PartialEq)]
pub(crate) struct Read {
    pub(crate) node: Option<Node>,
    pub(crate) faults: Vec<Fault>,
}

/// A collection that has not ended.
struct Open {
    start: Marker,
    anchor: usize,
    parts: Parts,
}

enum Parts {
    List(Vec<Node>),
    Map {
        entries: Vec<(Key, Node)>,
        key: Option<Key>,
    },
}

/// Size of a tree.
#[derive(Clone, Copy)]
struct Measure {
    nodes: usize,
    height: usize,
}

impl Builder<'_> {
    fn take(&mut self, event: Event<'_>, range: Range) -> Result<(), Fault> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let span = self.span(range);
                let node = Node {
                    span,
                    data: Data::Scalar(scalar::read(text, style, tag.as_deref())),
                };
                self.count(1, span)?;
                self.anchor(anchor, &node);
                self.put(node)
            }
            Event::SequenceStart(anchor, _) => self.start(range, anchor, Parts::List(Vec::new())),
            Event::MappingStart(anchor, _) => {
                let parts = Parts::Map {
                    entries: Vec::new(),
                    key: None,
                };
                self.start(range, anchor, parts)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(range),
            Event::Alias(anchor) => {
                let span = self.span(range);
                let Some((node, measure)) = self.anchors.get(&anchor) else {
                    return Err(fault(
                        span,
                        "an alias inside its own anchor has no end; write the value out",
                    ));
                };
                let (mut node, measure) = (node.clone(), *measure);
                if self.open.len() + measure.height > DEPTH {
                    return Err(too_deep(span));
                }
                self.count(measure.nodes, span)?;
                node.span = span;
                self.put(node)
            }
            Event::DocumentEnd => {
                self.finish();
                Ok(())
            }
            Event::DocumentStart(_) | Event::StreamStart | Event::StreamEnd | Event::Nothing => {
                Ok(())
            }
        }
    }

    fn finish(&mut self) {
        self.documents.push(Read {
            node: self.current.take(),
            faults: std::mem::take(&mut self.faults),
        });
        self.anchors.clear();
    }

    fn start(&mut self, range: Range, anchor: usize, parts: Parts) -> Result<(), Fault> {
        let span = self.span(range);
        if self.open.len() >= DEPTH {
            return Err(too_deep(span));
        }
        self.count(1, span)?;
        self.open.push(Open {
            start: range.start,
            anchor,
            parts,
        });
        Ok(())
    }

    fn end(&mut self, range: Range) -> Result<(), Fault> {
        let Some(open) = self.open.pop() else {
            return Ok(());
        };
        let span = self.span(Range::new(open.start, range.end));
        let data = match open.parts {
            Parts::List(nodes) => Data::List(nodes),
            Parts::Map { entries, .. } => {
                self.unique(&entries);
                Data::Map(entries)
            }
        };
        let node = Node { span, data };
        self.anchor(open.anchor, &node);
        self.put(node)
    }

    /// Adds a value to the collection it is in.
    fn put(&mut self, node: Node) -> Result<(), Fault> {
        match self.open.last_mut().map(|open| &mut open.parts) {
            None => self.current = Some(node),
            Some(Parts::List(nodes)) => nodes.push(node),
            Some(Parts::Map { entries, key }) => match key.take() {
                Some(key) => entries.push((key, node)),
                None => match node.data {
                    Data::Scalar(scalar) if scalar.text == "<<" && scalar.kind == Kind::Text => {
                        return Err(fault(
                            node.span,
                            "YAML 1.2 has no merge keys; write the keys out",
                        ));
                    }
                    Data::Scalar(scalar) => {
                        *key = Some(Key {
                            text: scalar.text,
                            span: node.span,
                        });
                    }
                    Data::List(_) | Data::Map(_) => {
                        return Err(fault(node.span, "a key is a text, not a list or a map"));
                    }
                },
            },
        }
        Ok(())
    }

    fn unique(&mut self, entries: &[(Key, Node)]) {
        let mut seen = HashSet::with_capacity(entries.len());
        for (key, _) in entries {
            if !seen.insert(key.text.as_str()) {
                let reason = format!(
                    "`{}` is written twice and only one would count; join them, or make a list",
                    key.text
                );
                self.faults.push(Fault {
                    span: key.span,
                    reason,
                });
            }
        }
    }

    fn anchor(&mut self, anchor: usize, node: &Node) {
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), measure(node)));
        }
    }

    fn count(&mut self, nodes: usize, span: Span) -> Result<(), Fault> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > NODES {
            let reason = format!("more than {NODES} values, aliases copied; split the document");
            return Err(Fault { span, reason });
        }
        Ok(())
    }

    fn span(&self, range: Range) -> Span {
        let start = self.chunk.start + self.offsets.byte(range.start.index());
        let end = self.chunk.start + self.offsets.byte(range.end.index());
        Span {
            start: narrow(start),
            end: narrow(end.max(start)),
            line: narrow(self.chunk.line + range.start.line().max(1)),
            column: narrow(range.start.col() + 1),
        }
    }
}

fn fault(span: Span, reason: &str) -> Fault {
    Fault {
        span,
        reason: reason.to_owned(),
    }
}

fn too_deep(span: Span) -> Fault {
    let reason = format!("lists and maps are more than {DEPTH} within each other; flatten them");
    Fault { span, reason }
}

/// Values in a tree.
pub(crate) fn nodes(node: &Node) -> usize {
    measure(node).nodes
}

/// Recursion ends at [`DEPTH`], which every tree was built within.
fn measure(node: &Node) -> Measure {
    let parts: Vec<Measure> = match &node.data {
        Data::Scalar(_) => Vec::new(),
        Data::List(nodes) => nodes.iter().map(measure).collect(),
        Data::Map(entries) => entries.iter().map(|(_, node)| measure(node)).collect(),
    };
    Measure {
        nodes: 1 + parts.iter().map(|part| part.nodes).sum::<usize>(),
        height: 1 + parts.iter().map(|part| part.height).max().unwrap_or(0),
    }
}

/// Positions are below [`TEXT_BYTES`], which is checked before a text is read.
fn narrow(position: usize) -> u32 {
    u32::try_from(position).unwrap_or(u32::MAX)
}
