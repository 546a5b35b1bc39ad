//! `sudoer`: who may run what as whom, from sudo and doas.

mod doas;
mod lines;
mod spec;

use super::{Collected, Error, Root, element, facts};

/// What somebody may do, in the words of sudoers(5).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Grant {
    /// User, `%group`, `#uid`, or `:group` of doas.
    name: String,
    host: String,
    runas: String,
    /// `NOPASSWD`, `SETENV` and others, with options such as `CWD=/`, joined by commas.
    tags: String,
    commands: String,
    location: String,
    line: usize,
}

impl Grant {
    fn add_to(self, list: &mut Collected) {
        list.push(element([
            ("name", self.name),
            ("host", self.host),
            ("runas", self.runas),
            ("tags", self.tags),
            ("commands", self.commands),
            ("location", self.location),
            ("line", self.line.to_string()),
        ]));
    }
}

/// Collects the entries of sudo and doas, aliases resolved.
///
/// # Errors
/// A file exists and cannot be read.
pub fn collect(root: &Root) -> Result<Collected, Error> {
    let mut list = Collected::default();
    let host = facts::hostname(root);
    let short = host.split('.').next().unwrap_or_default();
    let lines = lines::load(root, short, &mut list.notes)?;
    spec::grants(&lines, |grant| grant.add_to(&mut list));
    for (location, text) in doas::files(root)? {
        doas::grants(&text, &location, |grant| grant.add_to(&mut list));
    }
    let switch = root.text("/etc/nsswitch.conf")?.unwrap_or_default();
    for source in lines::elsewhere(&switch) {
        list.notes
            .push(format!("entries of sudo from `{source}` are not listed"));
    }
    Ok(list)
}

#[cfg(test)]
mod tests;
