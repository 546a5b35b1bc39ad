//! Configuration and rules in force: validated, stored, audited, swapped whole.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use serde_json::Value;
use tokio::sync::watch;
use yinglong_correlate::{LoginOptions, login_detectors};
use yinglong_detect::{Engine, Sample};
use yinglong_model::{
    Timestamp,
    config::{self, Config, SECRET_KEYS},
    rule::Rule,
};
use yinglong_rules::{Diagnostic, Ruleset, correlation::Correlation};
use yinglong_store::{StateStore, state_store::AuditEntry};

/// Collection of the configuration documents.
const CONFIG: &str = "config";
/// Collection of the rules.
const RULES: &str = "rules";
/// Key under which the default rules' names are remembered, so that a deleted one stays deleted.
const SEEDED: &str = "seeded";

/// Why a change is refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such document.
    #[error(
        "there is no configuration document `{0}`; they are client, server, intelligence, notice, whitelist, blacklist, filter, web and lists"
    )]
    UnknownDocument(String),
    /// A key is unknown, or has a value of the wrong kind.
    #[error("{document}: {reason}")]
    Malformed {
        /// Document.
        document: String,
        /// What is wrong.
        reason: String,
    },
    /// A value cannot work.
    #[error(transparent)]
    Invalid(#[from] config::Invalid),
    /// Rules cannot work; none was changed.
    #[error("{} of the rules cannot be used", .0.iter().filter(|d| d.is_error()).count())]
    InvalidRules(Vec<Diagnostic>),
    /// The store cannot do it now.
    #[error("the change was not stored")]
    Store(#[from] yinglong_store::Error),
}

/// Who changes something.
#[derive(Debug, Clone)]
pub struct Actor {
    /// User name, or `system`.
    pub name: String,
    /// Address; empty for the system.
    pub address: String,
}

impl Actor {
    /// The server itself.
    pub fn system() -> Self {
        Self {
            name: "system".into(),
            address: String::new(),
        }
    }
}

/// Configuration and rules that belong together.
pub struct Snapshot {
    /// Increases with every change since the server started.
    pub revision: u64,
    /// Configuration.
    pub config: Config,
    /// All rules, enabled or not.
    pub rules: Vec<Rule>,
    /// What is wrong with rules and lists.
    pub diagnostics: Vec<Diagnostic>,
    /// The enabled rules and both lists, compiled.
    pub engine: Engine,
    /// Correlations over the rules, the built-in ones included.
    pub correlations: Vec<Correlation>,
}

/// Keeps the snapshot in force.
pub struct Settings {
    state: Arc<dyn StateStore>,
    current: RwLock<Arc<Snapshot>>,
    /// One change at a time.
    changing: Mutex<()>,
    /// What the engine is trained with.
    sample: Mutex<Arc<Sample>>,
    revision: watch::Sender<u64>,
}

impl Settings {
    /// Loads what is stored; a new installation gets defaults and the default rules.
    ///
    /// # Errors
    /// The store cannot be read, or holds a document this version cannot read.
    pub fn open(state: Arc<dyn StateStore>) -> Result<Self, Error> {
        let config = load_config(state.as_ref())?;
        let rules = load_rules(state.as_ref())?;
        let sample = Arc::new(Sample::default());
        let snapshot = compile(1, config, rules, &sample);
        let (revision, _) = watch::channel(1);
        Ok(Self {
            state,
            current: RwLock::new(Arc::new(snapshot)),
            changing: Mutex::new(()),
            sample: Mutex::new(sample),
            revision,
        })
    }

    /// What is in force now.
    pub fn current(&self) -> Arc<Snapshot> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Wakes at every change.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// Wakes whoever follows [`Settings::changes`]: something that belongs to what agents follow
    /// changed elsewhere.
    pub fn touch(&self) {
        self.revision.send_modify(|_| {});
    }

    /// The documents as JSON, secrets left out.
    pub fn documents(&self) -> Value {
        without_secrets(serde_json::to_value(&self.current().config).unwrap_or_default())
    }

    /// Replaces one configuration document.
    ///
    /// # Errors
    /// See [`Error`]; nothing is changed then.
    pub fn put_document(
        &self,
        document: &str,
        value: &Value,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<(), Error> {
        if !Config::TYPES.contains(&document) {
            return Err(Error::UnknownDocument(document.to_owned()));
        }
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.current();
        let old = serde_json::to_value(&before.config).unwrap_or_default();
        let mut all = old.clone();
        all[document] = value.clone();
        let config: Config = serde_json::from_value(all).map_err(|error| Error::Malformed {
            document: document.to_owned(),
            reason: error.to_string(),
        })?;
        config.validate()?;
        let all = serde_json::to_value(&config).unwrap_or_default();
        self.state.put_documents(
            CONFIG,
            &[(document.to_owned(), Some(all[document].clone()))],
        )?;
        let detail = serde_json::json!({
            "before": without_secrets(old)[document],
            "after": without_secrets(all)[document],
        });
        self.audit("config.update", document, detail, actor, now)?;
        self.swap(config, before.rules.clone());
        Ok(())
    }

    /// Stores rules, replacing those with the same id; returns warnings.
    ///
    /// # Errors
    /// One of them cannot be used, or the store refuses; nothing is changed then.
    pub fn put_rules(
        &self,
        rules: Vec<Rule>,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<Vec<Diagnostic>, Error> {
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.current();
        let mut all = before.rules.clone();
        let mut places: HashMap<String, usize> =
            all.iter().map(|rule| rule.id.clone()).zip(0..).collect();
        let mut names = HashSet::new();
        let mut changes = Vec::new();
        for rule in rules {
            names.insert(rule.meta.name.clone());
            changes.push((rule.id.clone(), serde_json::to_value(&rule).ok()));
            match places.get(&rule.id).and_then(|place| all.get_mut(*place)) {
                Some(known) => *known = rule,
                None => {
                    places.insert(rule.id.clone(), all.len());
                    all.push(rule);
                }
            }
        }
        // Checked among all others: correlations and filters refer to rules that were there before.
        let mut diagnostics = yinglong_rules::compile(&all, &before.config.lists).diagnostics;
        diagnostics.retain(|diagnostic| names.contains(&diagnostic.rule));
        if diagnostics.iter().any(Diagnostic::is_error) {
            return Err(Error::InvalidRules(diagnostics));
        }
        self.state.put_documents(RULES, &changes)?;
        for (id, after) in &changes {
            let old = before.rules.iter().find(|rule| rule.id == *id);
            let detail = serde_json::json!({ "before": old, "after": after });
            self.audit("rules.update", id, detail, actor, now)?;
        }
        self.swap(before.config.clone(), all);
        Ok(diagnostics)
    }

    fn audit(
        &self,
        action: &str,
        subject: &str,
        detail: Value,
        actor: &Actor,
        at: Timestamp,
    ) -> Result<(), Error> {
        let entry = AuditEntry {
            at,
            actor: actor.name.clone(),
            address: actor.address.clone(),
            action: action.to_owned(),
            subject: subject.to_owned(),
            detail,
        };
        Ok(self.state.audit(&entry)?)
    }

    /// Compiles the rules in force again, with the frequencies of these elements. Takes as long as
    /// a change of rules does: a fraction of a second for thousands of them.
    pub fn train(&self, sample: Sample) {
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        *self.sample.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(sample);
        let before = self.current();
        // The same rules and configuration: nobody who follows changes needs to know.
        self.replace(before.revision, before.config.clone(), before.rules.clone());
    }

    /// The caller holds `changing`.
    fn swap(&self, config: Config, rules: Vec<Rule>) {
        let revision = self.current().revision + 1;
        self.replace(revision, config, rules);
        self.revision.send_replace(revision);
    }

    /// What is in force goes on working while the new is compiled.
    fn replace(&self, revision: u64, config: Config, rules: Vec<Rule>) {
        let sample = Arc::clone(&self.sample.lock().unwrap_or_else(PoisonError::into_inner));
        let snapshot = Arc::new(compile(revision, config, rules, &sample));
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = snapshot;
    }
}

fn compile(revision: u64, config: Config, rules: Vec<Rule>, sample: &Sample) -> Snapshot {
    let Ruleset {
        rules: mut compiled,
        mut correlations,
        mut diagnostics,
    } = yinglong_rules::compile(&rules, &config.lists);
    let logins = login_detectors(&LoginOptions::default());
    compiled.extend(logins.rules);
    correlations.extend(logins.correlations);
    let (engine, found) = Engine::new(compiled, &config.whitelist, &config.blacklist, sample);
    diagnostics.extend(found);
    Snapshot {
        revision,
        config,
        rules,
        diagnostics,
        engine,
        correlations,
    }
}

fn load_config(state: &dyn StateStore) -> Result<Config, Error> {
    let mut all = serde_json::to_value(Config::default()).unwrap_or_default();
    for (document, value) in state.documents(CONFIG)? {
        if Config::TYPES.contains(&document.as_str()) {
            all[&document] = value;
        }
    }
    serde_json::from_value(all).map_err(|error| Error::Malformed {
        document: CONFIG.into(),
        reason: error.to_string(),
    })
}

/// Stored rules, and default rules that were never stored before.
fn load_rules(state: &dyn StateStore) -> Result<Vec<Rule>, Error> {
    let mut rules = Vec::new();
    for (id, value) in state.documents(RULES)? {
        match serde_json::from_value::<Rule>(value) {
            Ok(rule) => rules.push(rule),
            Err(error) => {
                tracing::error!(id, %error, "a stored rule cannot be read and is left out")
            }
        }
    }
    let seeded: Vec<String> = state
        .document(SEEDED, RULES)?
        .and_then(|value| serde_json::from_value(value).ok())
        .unwrap_or_default();
    let fresh: Vec<Rule> = yinglong_rules::load_default()
        .0
        .into_iter()
        .filter(|rule| !seeded.contains(&rule.id) && !rules.iter().any(|r| r.id == rule.id))
        .collect();
    if !fresh.is_empty() {
        let changes: Vec<_> = fresh
            .iter()
            .map(|rule| (rule.id.clone(), serde_json::to_value(rule).ok()))
            .collect();
        state.put_documents(RULES, &changes)?;
        let names: Vec<&String> = seeded
            .iter()
            .chain(fresh.iter().map(|rule| &rule.id))
            .collect();
        let names = serde_json::to_value(names).ok();
        state.put_documents(SEEDED, &[(RULES.to_owned(), names)])?;
        rules.extend(fresh);
    }
    rules.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(rules)
}

fn without_secrets(mut documents: Value) -> Value {
    for (document, key) in SECRET_KEYS {
        if let Some(object) = documents.get_mut(*document).and_then(Value::as_object_mut) {
            object.remove(*key);
        }
    }
    documents
}
