//! The page of recordings is current.

use std::path::Path;

#[test]
fn the_page_of_recordings_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/recordings.md");
    let made = yinglong_replay::page::recordings_page();
    if std::env::var_os("YINGLONG_UPDATE").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == made,
        "docs/recordings.md is old; run this test with YINGLONG_UPDATE=1"
    );
}
