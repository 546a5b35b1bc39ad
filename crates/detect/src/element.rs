//! What is judged: one event, or one element of an inventory.

use std::borrow::Cow;

use yinglong_model::{EventData, event::System, inventory};
use yinglong_rules::Class;

/// Values of an event or inventory element by canonical field name.
pub trait Fields {
    /// The value as rules see it; `None` when it is not set.
    fn get(&self, name: &str) -> Option<Cow<'_, str>>;

    /// Calls `visit` with every field that is set, for keywords that may be anywhere.
    fn each(&self, visit: &mut dyn FnMut(&str, &str));
}

impl Fields for EventData {
    fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        self.field(name)
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
