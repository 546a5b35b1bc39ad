//! Lists the default rules so that they are built into the program.

use std::{
    env, fs,
    io::{Error, Write as _},
    path::{Path, PathBuf},
};

fn main() -> Result<(), Error> {
    let manifest = env::var("CARGO_MANIFEST_DIR").map_err(Error::other)?;
    let folder = Path::new(&manifest).join("../../rules");
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut files = Vec::new();
    for system in ["all", "linux", "windows"] {
        let system_folder = folder.join(system);
        if system_folder.is_dir() {
            println!("cargo::rerun-if-changed={}", system_folder.display());
            list(&system_folder, system, &mut files)?;
        }
    }
    files.sort();
    let out = env::var("OUT_DIR").map_err(Error::other)?;
    let mut list = fs::File::create(Path::new(&out).join("default_rules.rs"))?;
    writeln!(list, "const DEFAULT_RULES: &[(&str, &str)] = &[")?;
    for (name, path) in files {
        writeln!(list, "    ({name:?}, include_str!({path:?})),")?;
    }
    writeln!(list, "];")
}

/// Every rule of a folder; the test files beside them are not rules.
fn list(folder: &Path, system: &str, files: &mut Vec<(String, PathBuf)>) -> Result<(), Error> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        let is_rule = name.ends_with(".yml") || name.ends_with(".json");
        if is_rule && !name.ends_with(".test.json") {
            files.push((format!("{system}/{name}"), path.canonicalize()?));
        }
    }
    Ok(())
}
