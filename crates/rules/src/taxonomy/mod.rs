//! The mapping table: which classes a Sigma log source reads, what its fields are called there, and
//! who delivers them.
//!
//! - **One table**: sensors, readers of recordings, rule languages and the pages `docs/fields.md`,
//!   `docs/log-sources.md` and `docs/recordings.md` all take names from here.
//! - **Names**: canonical is what the contract calls a field, stored or derived. A field that the
//!   contract has no name for keeps the name Sigma rules use, case and all.
//! - **Honesty**: what nobody delivers is refused with the reason ([`delivered`], [`unfireable`]).

mod fields;
mod foreign;
pub mod pages;
pub mod recorded;
mod sources;
mod unfireable;

use std::fmt;

use yinglong_model::{EventType, event::System};

use crate::{
    Class, Source,
    diagnostic::nearest,
    ir::{Expr, Field, Pattern, Piece, Predicate, Test, View},
};

pub use fields::WINDOWS_HEAD;
pub use sources::OTHER_CHANNEL;
use sources::{CATEGORIES, Category, Service, When};
pub use unfireable::unfireable;

#[cfg(test)]
mod tests;

/// Log source of a Sigma rule, in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct LogSource {
    /// For example `windows`.
    pub product: Option<String>,
    /// For example `process_creation`.
    pub category: Option<String>,
    /// For example `security`.
    pub service: Option<String>,
}

impl fmt::Display for LogSource {
    /// `product=windows, category=process_creation`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            ("product", &self.product),
            ("category", &self.category),
            ("service", &self.service),
        ];
        let mut separator = "";
        for (name, value) in parts {
            if let Some(value) = value {
                write!(f, "{separator}{name}={value}")?;
                separator = ", ";
            }
        }
        if separator.is_empty() {
            f.write_str("without product, category and service")?;
        }
        Ok(())
    }
}

/// How events come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Feed {
    /// Agents send them as they happen: event types and inventories of the contract.
    Agents,
    /// Readers of recorded logs deliver them: exported events, EVTX, audit logs, text logs.
    Recordings,
}

/// One class that a log source reads.
#[derive(Debug, Clone, PartialEq)]
pub struct Binding {
    /// Class.
    pub class: Class,
    /// System.
    pub system: System,
    /// What must hold besides the rule's own condition, since the class is wider than the source.
    pub condition: Option<Expr>,
    /// Names of fields in this log source that go before those of the class.
    pub(crate) names: &'static [fields::Named],
}

impl Binding {
    /// All events of a class.
    pub const fn whole(class: Class, system: System) -> Self {
        Self {
            class,
            system,
            condition: None,
            names: &[],
        }
    }

    /// Canonical name of a field; the name itself when the class keeps it. Names are compared with
    /// their case; a known name in another case counts when nothing has the name as written.
    pub fn field(&self, name: &str) -> String {
        fields::canonical(self.class, self.system, self.names, name)
    }
}

/// The classes a log source reads, whoever delivers them.
///
/// # Errors
/// No sensor and no reader provides it; the text says why, and what there is instead.
pub fn bindings(source: &LogSource) -> Result<Vec<Binding>, String> {
    let products: &[System] = match source.product.as_deref() {
        None => &[System::Linux, System::Windows],
        Some("linux") => &[System::Linux],
        Some("windows") => &[System::Windows],
        Some(_) => &[],
    };
    let mut found: Vec<Binding> = Vec::new();
    for system in products {
        for binding in on(source, *system) {
            if !found.contains(&binding) {
                found.push(binding);
            }
        }
    }
    if found.is_empty() {
        return Err(nobody(source));
    }
    Ok(found)
}

/// The classes a log source reads that a feed delivers.
///
/// # Errors
/// The feed delivers none; the text says why, and what there is instead.
pub fn delivered(source: &LogSource, feed: Feed) -> Result<Vec<Binding>, String> {
    let mut found = bindings(source)?;
    found.retain(|binding| delivers(binding.class, feed));
    if found.is_empty() {
        return Err(match feed {
            Feed::Agents => only_recorded(source),
            Feed::Recordings => format!("no recording has the log source {source}"),
        });
    }
    Ok(found)
}

/// Whether a feed delivers events of a class.
pub const fn delivers(class: Class, feed: Feed) -> bool {
    match (class, feed) {
        (Class::Source(crate::Source::Inventory(_)), Feed::Recordings)
        | (Class::Log(_), Feed::Agents) => false,
        (Class::Source(_), _) | (Class::Log(_), Feed::Recordings) => true,
    }
}

/// Whether a feed provides a field, by its canonical name, in events of a class.
pub fn provides(class: Class, system: System, field: &str, feed: Feed) -> bool {
    delivers(class, feed) && fields::provides(class, system, field, feed)
}

/// Class of the records of a Windows channel, whatever the case of its name; [`OTHER_CHANNEL`] when
/// no service of Sigma names it.
pub fn channel_class(channel: &str) -> Class {
    let service = sources::CHANNELS.iter().find(|service| {
        let mut channels = service.from.iter();
        channels.any(|known| known.eq_ignore_ascii_case(channel))
    });
    service.map_or(OTHER_CHANNEL, |service| Class::Log(service.class))
}

/// Classes of a line of a Linux text log: that of all lines, and those of the program that wrote it.
pub fn program_classes(program: &str) -> impl Iterator<Item = Class> {
    sources::TEXT_LOGS
        .iter()
        .filter(move |service| match service.name {
            "auditd" => false,
            "syslog" => true,
            _ => service.from.contains(&program),
        })
        .map(|service| Class::Log(service.class))
}

fn on(source: &LogSource, system: System) -> Vec<Binding> {
    let category = source.category.as_deref().map(sources::unaliased);
    let service = source.service.as_deref().map(sources::unaliased);
    if let Some(own) = category.and_then(Source::from_name) {
        // Our own types by their own names: what Sigma has no category for.
        let observed = match own {
            Source::Event(kind) => fields::observed(kind, system),
            Source::Inventory(_) => true,
        };
        return observed
            .then(|| Binding::whole(own.into(), system))
            .into_iter()
            .collect();
    }
    match (category, service) {
        // A category is the narrower of the two: the same events whatever wrote them.
        (Some(category), _) => CATEGORIES
            .iter()
            .filter(|known| known.system == system && known.name == category)
            .map(of_category)
            .collect(),
        (None, Some(service)) => sources::services()
            .filter(|known| known.system == system && known.name == service && service != "other")
            .flat_map(of_service)
            .collect(),
        (None, None) if source.product.is_some() => everything(system),
        (None, None) => Vec::new(),
    }
}

/// All events of a system, once each: a record of Windows is in one channel, a line of text in the
/// log of all lines.
fn everything(system: System) -> Vec<Binding> {
    let own = EventType::ALL
        .into_iter()
        .filter(|kind| fields::observed(*kind, system))
        .map(|kind| Binding::whole(kind.into(), system));
    let logs = sources::services().filter(|service| {
        let whole = service.from.is_empty() || system == System::Windows;
        service.system == system && whole
    });
    own.chain(logs.map(|service| Binding::whole(Class::Log(service.class), system)))
        .collect()
}

/// The records of the log, and what agents send that would be records of it.
fn of_service(service: &Service) -> Vec<Binding> {
    let mut found = vec![Binding::whole(Class::Log(service.class), service.system)];
    if service.class == "linux/auditd" {
        found.push(Binding {
            names: fields::AUDIT_SYSCALL,
            ..Binding::whole(Class::SYSCALL, service.system)
        });
    }
    found
}

fn of_category(category: &Category) -> Binding {
    Binding {
        class: category.class,
        system: category.system,
        condition: condition(category.when),
        names: &[],
    }
}

fn condition(when: When) -> Option<Expr> {
    let (field, view, texts) = match when {
        When::Always => return None,
        When::Action(actions) => ("action", View::Barred, actions),
        When::Equal(field, texts) => (field, View::Whole, texts),
    };
    let test = |text: &&str| {
        let pattern = match view {
            View::Barred => Pattern::tidy([
                Piece::Many,
                Piece::Literal(format!("|{text}|")),
                Piece::Many,
            ]),
            View::Whole | View::BaseName => Pattern::equal(*text),
        };
        Expr::Test(Predicate {
            field: Some(Field {
                name: field.into(),
                view,
            }),
            test: Test::Text {
                pattern,
                cased: false,
            },
        })
    };
    let mut tests: Vec<Expr> = texts.iter().map(test).collect();
    if tests.len() == 1 {
        return tests.pop();
    }
    Some(Expr::Any(tests))
}

fn nobody(source: &LogSource) -> String {
    let refused = format!("no sensor provides the log source {source}");
    if let Some(reason) = foreign::reason(source) {
        return format!("{refused}; {reason}");
    }
    let known = |name: &str| {
        let categories = CATEGORIES.iter().map(|category| category.name);
        let services = sources::services().map(|service| service.name);
        nearest(name, categories.chain(services))
    };
    let name = source.category.as_deref().or(source.service.as_deref());
    match name.and_then(known) {
        Some(likely) => format!("{refused}; did you mean `{likely}`?"),
        None => format!("{refused}; docs/log-sources.md lists what there is"),
    }
}

fn only_recorded(source: &LogSource) -> String {
    let instead = match (source.product.as_deref(), source.service.as_deref()) {
        (Some("linux"), Some("auth" | "sshd" | "sudo" | "authpriv")) => {
            "agents send logins as events of the type loginlog, not the lines of logs: write a rule \
             on loginlog, or replay the log file"
        }
        _ => "agents do not send it: replay recorded logs with this rule",
    };
    format!("no sensor provides the log source {source}; {instead}")
}
