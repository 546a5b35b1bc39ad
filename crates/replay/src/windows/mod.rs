//! Events of Windows, whatever file they are from.

mod flatten;
mod security;
mod views;

pub(crate) use flatten::flatten;
pub(crate) use views::views;

use yinglong_model::Timestamp;

use crate::limits;

/// An event with all its values by the names Sigma uses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Event {
    /// Channel; empty when the event does not say it.
    pub(crate) channel: String,
    /// Event id.
    pub(crate) id: u32,
    /// When it was written.
    pub(crate) time: Option<Timestamp>,
    /// Head, then data.
    pub(crate) fields: Vec<(String, String)>,
}

impl Event {
    /// First value of that name.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.iter();
        fields.find_map(|(known, value)| (known == name).then_some(value.as_str()))
    }

    /// A value that says something: Windows writes a hyphen for nothing.
    pub(crate) fn filled(&self, name: &str) -> Option<&str> {
        self.get(name)
            .filter(|value| !matches!(value.trim(), "" | "-"))
    }

    fn push(&mut self, name: &str, value: impl Into<String>) {
        if self.fields.len() < limits::FIELDS {
            self.fields.push((name.to_owned(), value.into()));
        }
    }
}
