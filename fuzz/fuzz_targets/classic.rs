//! Classic rule documents from anywhere: what is loaded compiles, and loads again the same.

#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use yinglong_detect::{Engine, Sample};
use yinglong_model::config::List;
use yinglong_rules::{compile, load};

fuzz_target!(|text: &str| {
    let (rules, _) = load(text);
    let set = compile(&rules, &BTreeMap::new());
    assert!(
        !set.diagnostics.iter().any(|found| found.is_error()),
        "{:?}",
        set.diagnostics
    );
    let none = List::default();
    let (_, diagnostics) = Engine::new(set.rules, &none, &none, &Sample::default());
    assert!(
        diagnostics.is_empty(),
        "what is loaded compiles: {diagnostics:?}"
    );
});
