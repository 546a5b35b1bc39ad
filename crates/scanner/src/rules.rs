//! YARA rules: those built in, or a folder of one's own.

use std::{fs, path::Path};

use anyhow::Context as _;
use yara_x::{Compiler, Rules, SourceCode};

/// The rules that come with the program: name of the file, and its text.
pub const BUILT_IN: [(&str, &str); 3] = [
    (
        "webshell.yar",
        include_str!("../../../rules/yara/webshell.yar"),
    ),
    ("miner.yar", include_str!("../../../rules/yara/miner.yar")),
    (
        "backdoor.yar",
        include_str!("../../../rules/yara/backdoor.yar"),
    ),
];

/// Largest file of rules.
const LARGEST_SOURCE: u64 = 16 << 20;
/// Longest complaint about a broken file.
const LONGEST_COMPLAINT: usize = 300;

/// Rules in force.
pub struct Loaded {
    /// Compiled.
    pub rules: Rules,
    /// How many.
    pub count: usize,
    /// Files that are left out, each with what is wrong.
    pub broken: Vec<String>,
}

/// Compiles the built-in rules, or every `*.yar` and `*.yara` of a folder instead.
///
/// # Errors
/// The folder cannot be read. A file that cannot be used is no error: it is told, and harms no
/// other.
pub fn load(folder: Option<&Path>) -> anyhow::Result<Loaded> {
    let mut broken = Vec::new();
    let sources = match folder {
        None => BUILT_IN
            .iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
            .collect(),
        Some(folder) => read(folder, &mut broken)?,
    };
    Ok(compile(&sources, broken))
}

fn read(folder: &Path, broken: &mut Vec<String>) -> anyhow::Result<Vec<(String, String)>> {
    let unreadable = || format!("the rules in {} cannot be read", folder.display());
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).with_context(unreadable)? {
        let path = entry.with_context(unreadable)?.path();
        if matches!(
            path.extension().and_then(|end| end.to_str()),
            Some("yar" | "yara")
        ) {
            paths.push(path);
        }
    }
    paths.sort();
    let mut sources = Vec::new();
    for path in paths {
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        match fs::metadata(&path) {
            Ok(facts) if !facts.is_file() => broken.push(format!("{name}: not a file")),
            Ok(facts) if facts.len() > LARGEST_SOURCE => {
                broken.push(format!("{name}: larger than {LARGEST_SOURCE} bytes"));
            }
            _ => match fs::read_to_string(&path) {
                Ok(text) => sources.push((name, text)),
                Err(error) => broken.push(format!("{name}: {error}")),
            },
        }
    }
    Ok(sources)
}

/// Compiles texts, each in a namespace of its own so that equal names do not collide.
fn compile(sources: &[(String, String)], mut broken: Vec<String>) -> Loaded {
    let mut all = compiler();
    for (name, text) in sources {
        // A compiler that refused a text may have kept half of it: each text is tried alone.
        let tried = compiler()
            .add_source(SourceCode::from(text.as_str()).with_origin(name))
            .map(drop);
        let added = tried.and_then(|()| {
            all.new_namespace(name)
                .add_source(SourceCode::from(text.as_str()).with_origin(name))
                .map(drop)
        });
        if let Err(error) = added {
            broken.push(complaint(name, &error.to_string()));
        }
    }
    let rules = all.build();
    let count = rules.iter().len();
    Loaded {
        rules,
        count,
        broken,
    }
}

fn compiler<'a>() -> Compiler<'a> {
    let mut compiler = Compiler::new();
    // A rules file is one file: what it names elsewhere on this host is not read.
    compiler.enable_includes(false);
    // The type of the variable is what counts here; a text can always be defined.
    let defined = compiler.define_global("reason", "");
    debug_assert!(defined.is_ok(), "`reason` can be defined");
    compiler
}

/// The first lines of what is wrong, in one line.
fn complaint(name: &str, error: &str) -> String {
    let mut text = error.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = text.char_indices().nth(LONGEST_COMPLAINT) {
        text.truncate(end);
    }
    format!("{name}: {text}")
}
