//! Entries of doas.conf(5), which Alpine has in place of sudo.

use crate::inventory::{Error, Root, root::file_name};

use super::Grant;

/// Every configuration with its text.
///
/// # Errors
/// A file exists and cannot be read.
pub(super) fn files(root: &Root) -> Result<Vec<(String, String)>, Error> {
    let mut paths = root.list("/etc/doas.d")?;
    paths.retain(|path| file_name(path).ends_with(".conf"));
    paths.insert(0, "/etc/doas.conf".into());
    let mut files = Vec::new();
    for path in paths {
        if let Some(text) = root.text(&path)? {
            files.push((path.to_string_lossy().into_owned(), text));
        }
    }
    Ok(files)
}

/// Calls `each` for every entry: `permit|deny [options] identity [as target] [cmd command [args ...]]`.
pub(super) fn grants(text: &str, location: &str, mut each: impl FnMut(Grant)) {
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_ascii_whitespace();
        let mut tags = match words.next() {
            Some("permit") => Vec::new(),
            Some("deny") => vec!["deny"],
            _ => continue,
        };
        let mut grant = Grant {
            host: "ALL".to_owned(),
            runas: "ALL".to_owned(),
            commands: "ALL".to_owned(),
            location: location.to_owned(),
            line: number,
            ..Grant::default()
        };
        while let Some(word) = words.next() {
            match word {
                "nopass" | "nolog" | "persist" | "keepenv" => tags.push(word),
                "setenv" => {
                    tags.push(word);
                    let _ = words.by_ref().find(|word| word.ends_with('}'));
                }
                "as" => words
                    .next()
                    .unwrap_or_default()
                    .clone_into(&mut grant.runas),
                "cmd" => {
                    let command: Vec<&str> = words.by_ref().collect();
                    grant.commands = command.join(" ");
                }
                identity => identity.clone_into(&mut grant.name),
            }
        }
        grant.tags = tags.join(",");
        if !grant.name.is_empty() {
            each(grant);
        }
    }
}
