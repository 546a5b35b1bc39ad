//! What is judged: one event, or one element of an inventory.

use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
};

use yinglong_model::{EventData, event::System, inventory};
use yinglong_rules::Class;

/// Values of an event or inventory element by canonical field name.
pub trait Fields {
    /// The value as rules see it; `None` when it is not set.
    fn get(&self, name: &str) -> Option<Cow<'_, str>>;

    /// The same for a name that is asked for in every event; what was found out about its place is
    /// kept with it.
    fn find(&self, name: &Name) -> Option<Cow<'_, str>> {
        self.get(name.as_str())
    }

    /// Calls `visit` with every field that is set, for keywords that may be anywhere.
    fn each(&self, visit: &mut dyn FnMut(&str, &str));
}

/// Name of a field with the place where it was found last.
#[derive(Debug)]
pub struct Name {
    text: Arc<str>,
    place: AtomicU16,
}

impl Name {
    /// Place of a name that was not looked for yet.
    pub const UNKNOWN: u16 = u16::MAX;

    /// A name.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self {
            text: text.into(),
            place: AtomicU16::new(Self::UNKNOWN),
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What was noted last, by whatever element; it may not hold for this one.
    pub fn place(&self) -> u16 {
        self.place.load(Ordering::Relaxed)
    }

    /// Notes a place. A name is shared by threads; whichever notes last is remembered.
    pub fn note(&self, place: u16) {
        self.place.store(place, Ordering::Relaxed);
    }
}

impl Fields for EventData {
    fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        self.field(name)
    }

    /// A name belongs to one class, so its place is the same for all events it is asked of.
    fn find(&self, name: &Name) -> Option<Cow<'_, str>> {
        /// The class has no such field.
        const NOWHERE: u16 = u16::MAX - 1;
        match name.place() {
            Name::UNKNOWN => {
                let place = Self::place(self.event_type(), name.as_str()).unwrap_or(NOWHERE);
                name.note(place);
                self.at(place)
            }
            place => self.at(place),
        }
    }

    fn each(&self, visit: &mut dyn FnMut(&str, &str)) {
        for name in Self::field_names(self.event_type()) {
            if let Some(value) = self.field(name) {
                visit(name, &value);
            }
        }
    }
}

impl Fields for inventory::Element {
    fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        Self::get(self, name).map(|value| Cow::Borrowed(value.as_str()))
    }

    fn each(&self, visit: &mut dyn FnMut(&str, &str)) {
        for (name, value) in self {
            visit(name, value);
        }
    }
}

/// One thing to judge, with what the fleet knows about it.
#[derive(Clone, Copy)]
pub struct Element<'a> {
    /// What it is.
    pub class: Class,
    /// Operating system family of the host.
    pub system: System,
    /// Its values.
    pub fields: &'a dyn Fields,
    /// Statistics count of its key after the update; `None` when nothing of it is counted.
    pub count: Option<u64>,
    /// Learn mode: conditions on the count hold whatever it is.
    pub learn: bool,
}

/// File name of an executable. Windows separates with both kinds of slash.
pub(crate) fn base_name(path: &str, system: System) -> &str {
    let separated = match system {
        System::Linux => path.rfind('/'),
        System::Windows => path.rfind(['/', '\\']),
    };
    match separated {
        Some(at) => path.get(at + 1..).unwrap_or(path),
        None => path,
    }
}
