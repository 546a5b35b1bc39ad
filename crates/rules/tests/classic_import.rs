//! Import of the classic `rules.json`, unchanged (R01).

use std::{env, fs, path::PathBuf};

use yinglong_rules::{Severity, load};

/// The classic rules are not part of this repository; the folder that holds them is named by
/// `YINGLONG_SHARED_DIR`, or is `shared` beside the workspace.
fn classic_rules() -> Option<String> {
    let folder = env::var_os("YINGLONG_SHARED_DIR").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        PathBuf::from,
    );
    fs::read_to_string(folder.join("data/classic-rules.json")).ok()
}

#[test]
fn r01_the_classic_rules_load_unchanged_with_one_alias_warning() {
    let Some(json) = classic_rules() else {
        eprintln!(
            "SKIPPED r01_the_classic_rules_load_unchanged_with_one_alias_warning: \
             no data/classic-rules.json; set YINGLONG_SHARED_DIR"
        );
        return;
    };
    let (rules, diagnostics) = load(&json);
    assert_eq!(rules.len(), 23, "{diagnostics:#?}");

    let aliases: Vec<_> = diagnostics
        .iter()
        .filter(|d| d.path == "[18].rules.parentname.type")
        .collect();
    assert_eq!(diagnostics.len(), aliases.len(), "{diagnostics:#?}");
    assert_eq!(aliases.len(), 1);
    assert_eq!(aliases[0].severity, Severity::Warning);
    assert!(rules.iter().all(|rule| {
        rule.rules
            .values()
            .all(|condition| condition.kind != "regexp")
    }));

    let mut ids: Vec<_> = rules.iter().map(|rule| rule.id.as_str()).collect();
    assert!(ids.iter().all(|id| !id.is_empty()));
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 23);

    let again = load(&json).0;
    assert_eq!(again, rules, "the same document gives the same ids");
}
