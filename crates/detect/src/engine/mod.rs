//! All rules together: compiled per class and system, evaluated by witness.
//!
//! A rule is looked at only when one of its *witnesses* holds: predicates of which at least one is
//! true whenever the rule is. Witnesses are decided in one pass over each value (`grams`, `index`);
//! the rest of a candidate's condition is decided lazily, each predicate once per event (`run`).
//! Frequencies of a sample choose the witnesses and the order of tests (`witness`); they never
//! change the answer.

mod build;
mod filter;
mod gate;
mod grams;
mod index;
mod lazy;
mod literals;
mod patterns;
mod predicate;
mod required;
mod route;
mod run;
mod sample;
mod scratch;
mod values;
mod witness;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use rustc_hash::FxHashMap;
use yinglong_model::{alert::Matched, config::List, event::System};
use yinglong_rules::{
    About, Class, Diagnostic,
    ir::{Compiled, Field},
};

pub use self::sample::Sample;
use self::{build::Builder, route::Route};
pub(crate) use self::{
    index::Networks,
    lazy::{Flags, is_surely_small},
    patterns::{PatternScratch, Patterns},
    required::as_pattern,
};
use crate::{
    Detection, Element, Verdict,
    detection::info,
    lists::{ListScratch, Matcher},
};

/// Compiled rules and lists. Immutable, to be shared between threads.
pub struct Engine {
    /// Tells engines apart, so that a scratch is never used with the wrong one.
    id: u64,
    black: Matcher,
    white: Matcher,
    /// By number; those that were refused keep theirs.
    rules: Vec<Loaded>,
    in_force: usize,
    routes: FxHashMap<(Class, System), Route>,
}

/// Numbers of rules with the roots of their conditions.
type Roots = Vec<(u32, u32)>;

/// A rule in force.
struct Loaded {
    about: Arc<About>,
    identity: Box<[Field]>,
}

/// Working memory of one thread. Belongs to the engine it was used with last; another engine
/// clears it.
#[derive(Default)]
pub struct Scratch {
    engine: u64,
    routes: FxHashMap<(Class, System), scratch::Scratch>,
    black: ListScratch,
    white: ListScratch,
    found: Vec<u32>,
}

impl Scratch {
    /// Forgets what was found out for another engine.
    fn belong_to(&mut self, engine: u64) {
        if self.engine != engine {
            self.engine = engine;
            self.routes.clear();
            self.black = ListScratch::default();
            self.white = ListScratch::default();
        }
    }
}

impl Engine {
    /// Compiles rules and both lists. What does not compile is left out and reported, and never
    /// keeps the rest from working. The sample makes it faster; without one it guesses.
    pub fn new(
        rules: impl IntoIterator<Item = Compiled>,
        whitelist: &List,
        blacklist: &List,
        sample: &Sample,
    ) -> (Self, Vec<Diagnostic>) {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let mut diagnostics = Vec::new();
        let mut loaded = Vec::new();
        let mut in_force = 0;
        let mut builders = FxHashMap::<(Class, System), (Builder, Roots)>::default();
        for rule in rules {
            let number = u32::try_from(loaded.len()).unwrap_or(u32::MAX);
            let mut refused = false;
            for target in &rule.targets {
                let (builder, roots) = builders.entry((target.class, target.system)).or_default();
                match builder.condition(&target.condition) {
                    Ok(root) => roots.push((number, root)),
                    Err(reason) => {
                        let mut diagnostic = Diagnostic::error("", reason);
                        diagnostic.rule.clone_from(&rule.about.name);
                        diagnostics.push(diagnostic);
                        refused = true;
                    }
                }
            }
            if refused {
                // None of a broken rule's targets is kept.
                for (_, roots) in builders.values_mut() {
                    roots.retain(|(of, _)| *of != number);
                }
            } else {
                in_force += 1;
            }
            let identity = rule.about.identity.iter().map(|name| Field::whole(name));
            loaded.push(Loaded {
                identity: identity.collect(),
                about: rule.about,
            });
        }
        let routes = builders
            .into_iter()
            .filter(|(_, (_, roots))| !roots.is_empty())
            .map(|((class, system), (builder, roots))| {
                let parts = builder.finish();
                let elements = sample.elements(class, system);
                (
                    (class, system),
                    Route::new(class, system, parts, roots, &elements),
                )
            })
            .collect();
        let engine = Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            black: Matcher::new("blacklist", blacklist, &mut diagnostics),
            white: Matcher::new("whitelist", whitelist, &mut diagnostics),
            rules: loaded,
            in_force,
            routes,
        };
        (engine, diagnostics)
    }

    /// Number of rules that are evaluated.
    pub fn rule_count(&self) -> usize {
        self.in_force
    }

    /// Rules that nothing announces: they are looked at for every event of their class, and should
    /// be given a text that must be there.
    pub fn always_evaluated(&self) -> Vec<&Arc<About>> {
        let mut numbers: Vec<u32> = self
            .routes
            .values()
            .flat_map(|route| {
                let rule = |place: &u32| route.rules.get(*place as usize);
                route
                    .unannounced
                    .iter()
                    .filter_map(rule)
                    .map(|(number, _)| *number)
            })
            .collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
            .into_iter()
            .filter_map(|number| self.rules.get(number as usize))
            .map(|rule| &rule.about)
            .collect()
    }

    /// Judges one element. An element of a class that no rule reads has only list hits.
    pub fn evaluate(&self, element: &Element<'_>, scratch: &mut Scratch) -> Verdict {
        let mut verdict = Verdict::default();
        scratch.belong_to(self.id);
        if let Class::Source(source) = element.class {
            if let Some(hit) = self.black.find(source, element, &mut scratch.black) {
                verdict.detections.push(hit.into_detection());
            }
            if let Some(hit) = self.white.find(source, element, &mut scratch.white) {
                verdict.whitelisted = Some(hit.entry.to_owned());
                return verdict;
            }
        }
        let mut found = std::mem::take(&mut scratch.found);
        found.clear();
        if let Some((route, scratch)) = self.route(element, scratch) {
            route.matches(element, scratch, &mut found);
            for place in &found {
                let matched = route.explain(element, scratch, *place);
                let rule = route.rules.get(*place as usize);
                if let Some(rule) = rule.and_then(|(number, _)| self.rules.get(*number as usize)) {
                    verdict.detections.push(detection(rule, element, matched));
                }
            }
        }
        scratch.found = found;
        verdict
    }

    /// Appends the numbers of the rules that match, in the order they were given; no lists, no
    /// explanations.
    pub fn matches(&self, element: &Element<'_>, scratch: &mut Scratch, found: &mut Vec<u32>) {
        let first = found.len();
        if let Some((route, scratch)) = self.route(element, scratch) {
            route.matches(element, scratch, found);
            for place in found.iter_mut().skip(first) {
                *place = route
                    .rules
                    .get(*place as usize)
                    .map_or(u32::MAX, |(number, _)| *number);
            }
        }
    }

    fn route<'s>(
        &self,
        element: &Element<'_>,
        scratch: &'s mut Scratch,
    ) -> Option<(&Route, &'s mut scratch::Scratch)> {
        let key = (element.class, element.system);
        let route = self.routes.get(&key)?;
        scratch.belong_to(self.id);
        Some((route, scratch.routes.entry(key).or_default()))
    }
}

fn detection(rule: &Loaded, element: &Element<'_>, matched: Vec<Matched>) -> Detection {
    let about = &rule.about;
    let mut values: Vec<String> = rule
        .identity
        .iter()
        .filter_map(|field| element.fields.get(&field.name))
        .filter(|value| !value.is_empty())
        .map(std::borrow::Cow::into_owned)
        .collect();
    values.sort_unstable();
    let info = if values.is_empty() {
        info(&matched)
    } else {
        values.join("|")
    };
    Detection {
        source: about.name.clone(),
        rule_id: about.id.clone(),
        level: about.level,
        severity: about.severity.clone(),
        info,
        description: about.description.clone(),
        description_zh: about.description_zh.clone(),
        attack: about.attack.clone(),
        matched,
    }
}
