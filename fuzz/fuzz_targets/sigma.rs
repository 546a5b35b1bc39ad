//! Sigma documents from anywhere: what is parsed compiles, what compiles builds an engine.

#![no_main]

use libfuzzer_sys::fuzz_target;
use yinglong_detect::{Engine, Sample};
use yinglong_model::config::List;
use yinglong_rules::sigma::{Options, compile, parse};

fuzz_target!(|text: &str| {
    let (documents, diagnostics) = parse(text, "fuzz.yml");
    for diagnostic in &diagnostics {
        let place = diagnostic
            .place
            .as_ref()
            .expect("Sigma findings have places");
        assert!(
            place.start <= place.end && place.end <= text.len(),
            "{place:?}"
        );
    }
    let loaded = compile(&documents, &Options::default());
    let none = List::default();
    let (_, diagnostics) = Engine::new(loaded.rules, &none, &none, &Sample::default());
    assert!(
        diagnostics.is_empty(),
        "what is loaded compiles: {diagnostics:?}"
    );
});
