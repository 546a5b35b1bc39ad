//! Many tests of one text, each with a number: what lists of patterns are.
//!
//! The same route as for rules, with one field and one rule per entry. An entry is looked at only
//! when a text that it needs is in the value, so that a long list costs about as much as a short one.

use std::borrow::Cow;

use yinglong_model::event::System;
use yinglong_rules::{
    Class,
    ir::{Expr, Field, Predicate, Test},
};

use super::{build::Builder, route::Route, scratch::Scratch};
use crate::{Element, Fields};

/// Compiled entries.
#[derive(Default)]
pub(crate) struct Patterns {
    /// `None` when there are no entries.
    route: Option<Route>,
}

/// Working memory of one thread for one [`Patterns`].
#[derive(Default)]
pub(crate) struct PatternScratch {
    route: Scratch,
    found: Vec<u32>,
}

/// The only field there is.
const VALUE: &str = "value";

/// The text that is tested.
struct Text<'t>(&'t str);

impl Fields for Text<'_> {
    fn get(&self, _: &str) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(self.0))
    }

    fn each(&self, visit: &mut dyn FnMut(&str, &str)) {
        visit(VALUE, self.0);
    }
}

impl Patterns {
    /// Compiles tests. What cannot be compiled is reported by its number and left out.
    pub(crate) fn new(
        tests: impl IntoIterator<Item = (u32, Test)>,
        mut refuse: impl FnMut(u32, String),
    ) -> Self {
        let mut builder = Builder::default();
        let mut roots = Vec::new();
        for (number, test) in tests {
            let field = Some(Field::whole(VALUE));
            match builder.condition(&Expr::Test(Predicate { field, test })) {
                Ok(root) => roots.push((number, root)),
                Err(reason) => refuse(number, reason),
            }
        }
        let route = (!roots.is_empty())
            .then(|| Route::new(Class::PROCESS, System::Linux, builder.finish(), roots, &[]));
        Self { route }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.route.is_none()
    }

    /// Numbers of the entries that hold for the text, in the order they were given.
    pub(crate) fn find<'s>(&self, text: &str, scratch: &'s mut PatternScratch) -> Found<'s, '_> {
        scratch.found.clear();
        if let Some(route) = &self.route {
            let element = Element {
                class: Class::PROCESS,
                system: System::Linux,
                fields: &Text(text),
                count: None,
                learn: false,
            };
            route.matches(&element, &mut scratch.route, &mut scratch.found);
        }
        Found {
            places: scratch.found.iter(),
            route: self.route.as_ref(),
        }
    }
}

/// Numbers that were found.
pub(crate) struct Found<'s, 'p> {
    places: std::slice::Iter<'s, u32>,
    route: Option<&'p Route>,
}

impl Iterator for Found<'_, '_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let place = self.places.next()?;
        let (number, _) = self.route?.rules.get(*place as usize)?;
        Some(*number)
    }
}
