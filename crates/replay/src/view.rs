//! A record as rules see it.

use std::{borrow::Cow, path::Path, sync::Arc};

use yinglong_model::{Timestamp, event::System};
use yinglong_rules::Class;

use crate::limits;

/// One recorded event.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// File it is from, as it was given.
    pub file: Arc<Path>,
    /// Where: the number of the line it begins on, of the JSON document, or of the EVTX record; from 1.
    pub number: u64,
    /// Host that recorded it, when it says so.
    pub host: Option<String>,
    /// As which classes it is looked at; never empty.
    pub views: Vec<View>,
}

/// A record as an event of one class.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// Class.
    pub class: Class,
    /// System of the host that recorded it.
    pub system: System,
    /// Values by canonical name. A name may be there more than once.
    pub fields: Vec<(Cow<'static, str>, String)>,
    /// When it happened, if the record says so.
    pub time: Option<Timestamp>,
}

impl View {
    /// A view without fields.
    pub(crate) fn new(class: Class, system: System, time: Option<Timestamp>) -> Self {
        Self {
            class,
            system,
            fields: Vec::new(),
            time,
        }
    }

    /// First value of that name.
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut fields = self.iter();
        fields.find_map(|(known, value)| (known == name).then_some(value))
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let fields = self.fields.iter();
        fields.map(|(name, value)| (name.as_ref(), value.as_str()))
    }

    /// Adds a value, unless there are too many already.
    pub(crate) fn push(&mut self, name: impl Into<Cow<'static, str>>, value: impl Into<String>) {
        if self.fields.len() < limits::FIELDS {
            self.fields.push((name.into(), value.into()));
        }
    }

    /// Adds a value if there is one, and no value of that name yet.
    pub(crate) fn complete(&mut self, name: &'static str, value: Option<String>) {
        if let Some(value) = value
            && self.get(name).is_none()
        {
            self.push(name, value);
        }
    }
}
