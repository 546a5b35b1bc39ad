//! The pages made of the mapping table are current.

use std::path::Path;

use yinglong_rules::taxonomy::pages;

fn check(name: &str, made: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs")
        .join(name);
    if std::env::var_os("YINGLONG_UPDATE").is_some() {
        std::fs::write(&path, made).expect("the folder docs is writable");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == made,
        "docs/{name} is old; run this test with YINGLONG_UPDATE=1"
    );
}

#[test]
fn the_page_of_fields_is_current() {
    check("fields.md", &pages::fields_page());
}

#[test]
fn the_page_of_log_sources_is_current() {
    check("log-sources.md", &pages::log_sources_page());
}
