//! Every public Sigma rule is read, and those that load are compiled.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use yinglong_model::event::System;
use yinglong_rules::{
    Class, Diagnostic,
    sigma::{self, Kind, Options},
    taxonomy::{Binding, LogSource},
};

/// Documents in the archive: the folders `rules`, `rules-emerging-threats`, `rules-threat-hunting` and
/// `rules-placeholder`.
const DOCUMENTS: usize = 3_777;

/// Text of each file. The rules are not part of this repository; the folder that holds them is
/// named by `YINGLONG_SHARED_DIR`, or is `shared` beside the workspace or beside its folder.
fn corpus(test: &str) -> Option<Vec<(String, String)>> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folders = env::var_os("YINGLONG_SHARED_DIR").map_or_else(
        || vec![root.join("../shared"), root.join("../../shared")],
        |folder| vec![PathBuf::from(folder)],
    );
    let archive = folders
        .iter()
        .map(|folder| folder.join("data/sigma-rules.tar.xz"))
        .find(|archive| archive.is_file());
    let Some(archive) = archive else {
        eprintln!("SKIPPED {test}: no data/sigma-rules.tar.xz; set YINGLONG_SHARED_DIR");
        return None;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let unpacked = Command::new("tar")
        .arg("xJf")
        .arg(&archive)
        .arg("-C")
        .arg(folder.path())
        .status();
    if !unpacked.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED {test}: tar and xz are needed to unpack the rules");
        return None;
    }
    let mut texts = Vec::new();
    collect(folder.path(), folder.path(), &mut texts);
    texts.sort();
    Some(texts)
}

fn collect(root: &Path, folder: &Path, texts: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(root, &path, texts);
        } else if path.extension().is_some_and(|extension| extension == "yml") {
            let name = path.strip_prefix(root).expect("below the root");
            let text = fs::read_to_string(&path).expect("text");
            texts.push((name.display().to_string(), text));
        }
    }
}

/// Everything is fed, under the names of Sigma.
fn feeds_all(_: &LogSource) -> Result<Vec<Binding>, String> {
    Ok(vec![Binding::whole(Class::Log("test"), System::Windows)])
}

fn errors(diagnostics: &[Diagnostic]) -> Vec<String> {
    let errors = diagnostics.iter().filter(|d| d.is_error());
    errors.map(ToString::to_string).collect()
}

#[test]
fn every_public_rule_is_read_and_all_but_placeholder_rules_load() {
    let test = "every_public_rule_is_read_and_all_but_placeholder_rules_load";
    let Some(texts) = corpus(test) else { return };

    let start = Instant::now();
    let mut documents = Vec::new();
    let mut diagnostics = Vec::new();
    for (file, text) in &texts {
        let (read, found) = sigma::parse(text, file);
        documents.extend(read);
        diagnostics.extend(found);
    }
    let parsed = start.elapsed();
    assert_eq!(errors(&diagnostics), Vec::<String>::new());
    assert_eq!(documents.len(), DOCUMENTS);
    assert!(
        documents
            .iter()
            .all(|document| document.kind() == Kind::Rule)
    );
    for diagnostic in &diagnostics {
        eprintln!("{diagnostic}");
    }

    let start = Instant::now();
    let loaded = sigma::compile_with(&documents, &Options::default(), &feeds_all);
    let compiled = start.elapsed();
    println!(
        "{DOCUMENTS} documents: YAML {parsed:?}, compile {compiled:?}, {:?} per rule",
        (parsed + compiled) / 3_777
    );
    for diagnostic in loaded.diagnostics.iter().filter(|d| !d.is_error()) {
        eprintln!("{diagnostic}");
    }
    let other: Vec<_> = loaded
        .refused
        .iter()
        .filter(|refused| !refused.reason.contains("has no values here"))
        .collect();
    assert!(other.is_empty(), "{other:#?}");
    assert_eq!(loaded.rules.len() + loaded.refused.len(), DOCUMENTS);
    assert_eq!(loaded.refused.len(), 25);

    // With lists of the site, nothing is left.
    let names: BTreeSet<&str> = loaded
        .refused
        .iter()
        .filter_map(|refused| refused.reason.split('%').nth(1))
        .collect();
    let mut site_lists: BTreeMap<String, Vec<String>> = names
        .into_iter()
        .map(|name| (name.to_owned(), vec!["one*".to_owned(), "two".to_owned()]))
        .collect();
    for _ in 0..3 {
        let options = Options {
            site_lists: site_lists.clone(),
        };
        let loaded = sigma::compile_with(&documents, &options, &feeds_all);
        for refused in &loaded.refused {
            let name = refused.reason.split('%').nth(1).expect("a placeholder");
            site_lists.insert(name.to_owned(), vec!["three".to_owned()]);
        }
        if loaded.refused.is_empty() {
            assert_eq!(loaded.rules.len(), DOCUMENTS);
            return;
        }
    }
    panic!("rules are refused with values for every placeholder");
}
