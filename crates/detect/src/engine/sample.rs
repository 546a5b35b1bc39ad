//! Events from which the engine learns what is frequent.

use std::{borrow::Cow, collections::BTreeMap};

use rustc_hash::FxHashMap;
use yinglong_model::event::System;
use yinglong_rules::Class;

use crate::{Element, Fields};

/// A bounded number of recent elements of each class and system.
#[derive(Default)]
pub struct Sample {
    kept: FxHashMap<(Class, System), Kept>,
}

/// Elements of one class and system; the oldest give way.
#[derive(Default)]
struct Kept {
    elements: Vec<Owned>,
    next: usize,
}

/// Values of an element, kept.
struct Owned(BTreeMap<Box<str>, Box<str>>);

impl Fields for Owned {
    fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        self.0.get(name).map(|value| Cow::Borrowed(&**value))
    }

    fn each(&self, visit: &mut dyn FnMut(&str, &str)) {
        for (name, value) in &self.0 {
            visit(name, value);
        }
    }
}

/// Elements kept per class and system: enough to see what occurs once in a thousand.
const MOST: usize = 4096;
/// Bytes kept of one value; what is frequent is in its beginning.
const LONGEST_BYTES: usize = 2048;

impl Sample {
    /// Number of elements kept of a class and system.
    pub fn len(&self, class: Class, system: System) -> usize {
        self.kept
            .get(&(class, system))
            .map_or(0, |kept| kept.elements.len())
    }

    /// Whether nothing was kept.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Keeps an element; the oldest of its class gives way once there are enough.
    pub fn keep(&mut self, element: &Element<'_>) {
        let mut values = BTreeMap::new();
        element.fields.each(&mut |name, value| {
            let mut end = value.len().min(LONGEST_BYTES);
            while !value.is_char_boundary(end) {
                end -= 1;
            }
            values.insert(Box::from(name), Box::from(value.get(..end).unwrap_or("")));
        });
        let kept = self
            .kept
            .entry((element.class, element.system))
            .or_default();
        if kept.elements.len() < MOST {
            kept.elements.push(Owned(values));
        } else if let Some(oldest) = kept.elements.get_mut(kept.next) {
            *oldest = Owned(values);
            kept.next = (kept.next + 1) % MOST;
        }
    }

    pub(crate) fn elements(&self, class: Class, system: System) -> Vec<Element<'_>> {
        let kept = self.kept.get(&(class, system));
        kept.into_iter()
            .flat_map(|kept| &kept.elements)
            .map(|owned| Element {
                class,
                system,
                fields: owned,
                count: None,
                learn: false,
            })
            .collect()
    }
}
