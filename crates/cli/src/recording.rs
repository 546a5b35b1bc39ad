//! Records of recordings as the engine takes them.

use std::borrow::Cow;

use yinglong_detect::{Element, Fields, Name};
use yinglong_replay::View;

/// A view as rules see it.
pub(crate) struct Recording<'v>(pub(crate) &'v View);

impl Recording<'_> {
    /// The same for the engine; a recording has no counts.
    pub(crate) fn element(&self) -> Element<'_> {
        Element {
            class: self.0.class,
            system: self.0.system,
            fields: self,
            count: None,
            learn: false,
        }
    }
}

impl Fields for Recording<'_> {
    fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        self.0.get(name).map(Cow::Borrowed)
    }

    fn find(&self, name: &Name) -> Option<Cow<'_, str>> {
        // Records of one kind have their fields in one order.
        if let Some((known, value)) = self.0.fields.get(usize::from(name.place()))
            && known == name.as_str()
        {
            return Some(Cow::Borrowed(value));
        }
        let place = self
            .0
            .iter()
            .position(|(known, _)| known == name.as_str())?;
        name.note(u16::try_from(place).unwrap_or(Name::UNKNOWN));
        let (_, value) = self.0.fields.get(place)?;
        Some(Cow::Borrowed(value))
    }

    fn each(&self, visit: &mut dyn FnMut(&str, &str)) {
        for (name, value) in self.0.iter() {
            visit(name, value);
        }
    }
}
