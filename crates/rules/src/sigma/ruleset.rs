//! Documents together: identities, filters on rules, log sources to classes, correlations.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use crate::{
    About, Diagnostic, Place, correlation,
    document::slug,
    ir::{Compiled, Expr, Language, Target},
    sigma::{
        correlate,
        detection::Detection,
        document::{Body, Document},
        expr,
        filters::Filters,
        head::Head,
        lower::{Known, Lowering},
        report::Report,
    },
    taxonomy::{self, Binding, LogSource},
};

/// What the site decides about its rules.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// Values of placeholders, by name without percent signs. Entries may have wildcards. A rule
    /// with a placeholder that has no values is refused.
    pub site_lists: BTreeMap<String, Vec<String>>,
}

/// Where the fields of a log source are: the taxonomy, or what stands in for it.
pub trait Mapping {
    /// The classes a log source reads.
    ///
    /// # Errors
    /// Nothing provides it; the text says why.
    fn bindings(&self, source: &LogSource) -> Result<Vec<Binding>, String>;

    /// Canonical name of a Sigma field in a class.
    fn field(&self, binding: &Binding, name: &str) -> String {
        binding.field(name)
    }

    /// What of a target can never matter, since nothing provides a field it tests; empty when
    /// everything can. Each becomes a warning.
    ///
    /// # Errors
    /// The target can never fire, or fires on everything; the text says why, and the target is left
    /// out. A rule without targets is refused.
    fn fires(&self, target: &Target) -> Result<Vec<String>, String> {
        let _ = target;
        Ok(Vec::new())
    }
}

/// The mapping of [`crate::taxonomy`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Taxonomy;

impl Mapping for Taxonomy {
    fn bindings(&self, source: &LogSource) -> Result<Vec<Binding>, String> {
        taxonomy::bindings(source)
    }
}

impl<F> Mapping for F
where
    F: Fn(&LogSource) -> Result<Vec<Binding>, String>,
{
    fn bindings(&self, source: &LogSource) -> Result<Vec<Binding>, String> {
        self(source)
    }
}

/// What became of the documents.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Loaded {
    /// Rules, in the order of the documents.
    pub rules: Vec<Compiled>,
    /// Correlations, in the order of the documents.
    pub correlations: Vec<correlation::Correlation>,
    /// Documents that were not loaded: broken ones, rules that nothing feeds, rules with
    /// placeholders without values, and correlations over such rules.
    pub refused: Vec<Refused>,
    /// What is wrong, beyond what [`super::parse`] said. A rule that nothing feeds has none.
    pub diagnostics: Vec<Diagnostic>,
}

/// A document that was not loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its id; empty when it has none.
    pub id: String,
    /// Its title; empty when it has none.
    pub title: String,
    /// File it is in.
    pub file: String,
    /// Why.
    pub reason: String,
    /// Where it is.
    pub place: Place,
}

/// Compiles documents against the taxonomy. See [`compile_with`].
pub fn compile(documents: &[Document], options: &Options) -> Loaded {
    compile_with(documents, options, &Taxonomy)
}

/// Compiles all documents of a ruleset: filters are joined to the rules they name, and correlations
/// refer to rules by id or name, wherever they are written. One that fails is refused alone, with
/// the correlations over it.
pub fn compile_with(documents: &[Document], options: &Options, mapping: &dyn Mapping) -> Loaded {
    let mut set = Set {
        documents,
        options,
        mapping,
        known: Known::default(),
        ids: vec![String::new(); documents.len()],
        states: documents.iter().map(|_| State::Waiting).collect(),
        diagnostics: Vec::new(),
    };
    set.identify();
    let filters = set.filters();
    let mut used = HashSet::new();
    for (index, document) in documents.iter().enumerate() {
        if let Body::Rule { source, .. } = &document.body
            && set.is_waiting(index)
        {
            set.rule(index, source, &filters, &mut used);
        }
    }
    set.unused_filters(&filters, &used);
    correlate::resolve(&mut set);
    set.finish()
}

/// A ruleset being compiled.
pub(crate) struct Set<'d> {
    pub(crate) documents: &'d [Document],
    options: &'d Options,
    pub(crate) mapping: &'d dyn Mapping,
    known: Known,
    /// Given or made, by document.
    pub(crate) ids: Vec<String>,
    pub(crate) states: Vec<State>,
    pub(crate) diagnostics: Vec<Diagnostic>,
}

/// How far a document is.
pub(crate) enum State {
    Waiting,
    Rule {
        compiled: Compiled,
        bindings: Vec<Binding>,
    },
    Correlation(Box<correlation::Correlation>),
    Filter,
    Refused(String),
}

impl<'d> Set<'d> {
    pub(crate) fn is_waiting(&self, index: usize) -> bool {
        matches!(self.states.get(index), Some(State::Waiting))
    }

    pub(crate) fn settle(&mut self, index: usize, state: State) {
        if let Some(slot) = self.states.get_mut(index) {
            *slot = state;
        }
    }

    pub(crate) fn id(&self, index: usize) -> String {
        self.ids.get(index).cloned().unwrap_or_default()
    }

    /// Takes the report of a document over, and refuses it when there is an error.
    pub(crate) fn conclude(&mut self, index: usize, report: Report<'_>) {
        let refusal = report.refusal();
        self.diagnostics.extend(report.finish());
        if let Some(reason) = refusal {
            self.settle(index, State::Refused(reason));
        }
    }

    pub(crate) fn report(&self, index: usize) -> Report<'d> {
        let document = self.documents.get(index);
        let mut report = Report::new(document.map_or("", |document| &document.file));
        if let Some(document) = document {
            report.rule = match (document.title(), document.id()) {
                ("", id) => id.unwrap_or_default().to_owned(),
                (title, _) => title.to_owned(),
            };
        }
        report
    }

    /// Gives every document an id, its own or one made of its title, and refuses the second of two
    /// with the same.
    fn identify(&mut self) {
        let mut taken: HashMap<String, usize> = HashMap::new();
        for (index, document) in self.documents.iter().enumerate() {
            if let Body::Broken(reason) = &document.body {
                self.settle(index, State::Refused(reason.clone()));
                if let Some(slot) = self.ids.get_mut(index) {
                    *slot = document.id().unwrap_or_default().to_owned();
                }
                continue;
            }
            let Some(id) = document.id() else { continue };
            if let Some(slot) = self.ids.get_mut(index) {
                id.clone_into(slot);
            }
            let Some(first) = taken.get(id) else {
                taken.insert(id.to_owned(), index);
                continue;
            };
            let first = self.documents.get(*first).map(Document::place);
            let first = first.map_or_else(String::new, |place| {
                format!("{}:{}", place.file, place.line)
            });
            let mut report = self.report(index);
            let reason = format!("the document at {first} has the id `{id}`; ids are unique");
            report.error(document.head.id_span, "id", reason);
            self.conclude(index, report);
        }
        let mut numbers: HashMap<String, usize> = HashMap::new();
        for (index, document) in self.documents.iter().enumerate() {
            if document.id().is_some() || !self.is_waiting(index) {
                continue;
            }
            let base = slug(document.title());
            let number = numbers.entry(base.clone()).or_insert(1_usize);
            let mut id = base.clone();
            while taken.contains_key(&id) {
                *number += 1;
                id = format!("{base}-{number}");
            }
            taken.insert(id.clone(), index);
            if let Some(slot) = self.ids.get_mut(index) {
                *slot = id;
            }
        }
    }

    pub(crate) fn lower(
        &mut self,
        detection: &Detection,
        path: &str,
        report: &mut Report<'d>,
    ) -> Option<Expr> {
        Lowering::new(&self.options.site_lists, &mut self.known, report)
            .detection(detection, path)
            .ok()
    }

    fn rule(
        &mut self,
        index: usize,
        source: &LogSource,
        filters: &Filters<'d>,
        used: &mut HashSet<(usize, usize)>,
    ) {
        let Some(document) = self.documents.get(index) else {
            return;
        };
        let Body::Rule { detection, .. } = &document.body else {
            return;
        };
        let mut report = self.report(index);
        let expr = self.lower(detection, "detection", &mut report);
        self.conclude(index, report);
        let Some(expr) = expr else { return };
        let joined = self.joined(index, source, filters, used);
        let bindings = match self.mapping.bindings(source) {
            Ok(bindings) if !bindings.is_empty() => bindings,
            Ok(_) => {
                let reason = format!("nothing provides {}", describe(source));
                return self.settle(index, State::Refused(reason));
            }
            Err(reason) => return self.settle(index, State::Refused(reason)),
        };
        let mut targets: Vec<Target> = Vec::new();
        let mut identity: Vec<String> = Vec::new();
        for binding in &bindings {
            let mut names: HashMap<String, Arc<str>> = HashMap::new();
            let mut name = |field: &str| match names.get(field) {
                Some(name) => Arc::clone(name),
                None => {
                    let name: Arc<str> = Arc::from(self.mapping.field(binding, field));
                    names.insert(field.to_owned(), Arc::clone(&name));
                    name
                }
            };
            let mut parts: Vec<Expr> = binding.condition.iter().cloned().collect();
            parts.push(expr::renamed(&expr, &mut name));
            parts.extend(joined.iter().map(|expr| expr::renamed(expr, &mut name)));
            add_target(&mut targets, binding, expr::all(parts));
            for field in &document.head.identity {
                let field = name(field).to_string();
                if !identity.contains(&field) {
                    identity.push(field);
                }
            }
        }
        let mut report = self.report(index);
        let mut never = None;
        targets.retain(|target| match self.mapping.fires(target) {
            Ok(warnings) => {
                for warning in warnings {
                    report.warn(detection.condition_span, "detection", warning);
                }
                true
            }
            Err(reason) => {
                never.get_or_insert(reason);
                false
            }
        });
        self.conclude(index, report);
        if targets.is_empty() {
            let reason = never.unwrap_or_else(|| format!("nothing feeds {}", describe(source)));
            return self.settle(index, State::Refused(reason));
        }
        let about = self.about(index, &document.head, identity);
        let compiled = Compiled { about, targets };
        self.settle(index, State::Rule { compiled, bindings });
    }

    pub(crate) fn about(&self, index: usize, head: &Head, identity: Vec<String>) -> Arc<About> {
        Arc::new(About {
            id: self.id(index),
            name: head.title.clone(),
            level: head.level.unwrap_or_default(),
            severity: head.severity.clone(),
            description: head.description.clone(),
            description_zh: head.description_zh.clone(),
            attack: head.attack.clone(),
            false_positives: head.false_positives.clone(),
            identity,
            language: Language::Sigma,
        })
    }

    fn finish(self) -> Loaded {
        let mut loaded = Loaded {
            diagnostics: self.diagnostics,
            ..Loaded::default()
        };
        for ((state, document), id) in self.states.into_iter().zip(self.documents).zip(self.ids) {
            match state {
                State::Rule { compiled, .. } => loaded.rules.push(compiled),
                State::Correlation(correlation) => loaded.correlations.push(*correlation),
                State::Filter | State::Waiting => {}
                State::Refused(reason) => loaded.refused.push(Refused {
                    id,
                    title: document.title().to_owned(),
                    file: document.file.to_string(),
                    reason,
                    place: document.place(),
                }),
            }
        }
        loaded
    }
}

/// Bindings of one class and system make one target.
fn add_target(targets: &mut Vec<Target>, binding: &Binding, condition: Expr) {
    let same = targets
        .iter_mut()
        .find(|target| target.class == binding.class && target.system == binding.system);
    match same {
        None => targets.push(Target {
            class: binding.class,
            system: binding.system,
            condition,
        }),
        Some(target) => match &mut target.condition {
            Expr::Any(parts) => parts.push(condition),
            first => {
                let first = std::mem::replace(first, Expr::Const(false));
                target.condition = Expr::Any(vec![first, condition]);
            }
        },
    }
}

fn describe(source: &LogSource) -> String {
    let parts = [
        ("product", &source.product),
        ("category", &source.category),
        ("service", &source.service),
    ];
    let parts: Vec<String> = parts
        .iter()
        .filter_map(|(key, value)| value.as_ref().map(|value| format!("{key} `{value}`")))
        .collect();
    parts.join(", ")
}
