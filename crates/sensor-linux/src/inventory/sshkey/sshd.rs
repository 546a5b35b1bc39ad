//! Where sshd looks for keys, from its configuration: sshd_config(5).

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use crate::inventory::{Error, Root, pattern};

/// The configuration of the host, and where a distribution keeps its own (SUSE).
const CONFIGS: [&str; 2] = ["/etc/ssh/sshd_config", "/usr/etc/ssh/sshd_config"];

/// What sshd does without a configuration.
const DEFAULT: [&str; 2] = [".ssh/authorized_keys", ".ssh/authorized_keys2"];

/// Files beyond this number are not read, as many as sshd itself has levels of include times eight.
const FILE_LIMIT: usize = 128;

/// What the configuration says about keys.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Config {
    /// Files with keys, as written, with tokens; those of every `Match` block, too.
    pub(super) files: Vec<String>,
    /// Programs that tell sshd keys.
    pub(super) commands: Vec<String>,
}

/// Reads the configuration with everything it includes.
///
/// # Errors
/// A file exists and cannot be read.
pub(super) fn load(root: &Root) -> Result<Config, Error> {
    let main = CONFIGS.iter().find(|path| root.metadata(path).is_some());
    let mut reader = Reader {
        root,
        global: None,
        in_match: false,
        config: Config::default(),
        seen: HashSet::new(),
    };
    if let Some(main) = main {
        reader.read(Path::new(main))?;
    }
    let global = reader
        .global
        .unwrap_or_else(|| DEFAULT.map(str::to_owned).to_vec());
    let mut config = reader.config;
    config.files.splice(0..0, global);
    config.files.retain(|file| file != "none");
    Ok(config)
}

struct Reader<'a> {
    root: &'a Root,
    /// Outside of `Match` the first value counts.
    global: Option<Vec<String>>,
    in_match: bool,
    config: Config,
    seen: HashSet<PathBuf>,
}

impl Reader<'_> {
    fn read(&mut self, path: &Path) -> Result<(), Error> {
        if self.seen.len() >= FILE_LIMIT || !self.seen.insert(path.to_owned()) {
            return Ok(());
        }
        let text = self.root.text(path)?.unwrap_or_default();
        for line in text.lines() {
            let Some((keyword, arguments)) = directive(line) else {
                continue;
            };
            match keyword.as_str() {
                "match" => self.in_match = true,
                "include" => {
                    // A block that starts in an included file ends there.
                    let outer = self.in_match;
                    for argument in arguments {
                        let pattern = Path::new("/etc/ssh").join(argument);
                        for file in pattern::expand(self.root, &pattern) {
                            self.read(&file)?;
                            self.in_match = outer;
                        }
                    }
                }
                "authorizedkeysfile" if self.in_match => self.config.files.extend(arguments),
                "authorizedkeysfile" => {
                    self.global.get_or_insert(arguments);
                }
                "authorizedkeyscommand" => {
                    let command = arguments.join(" ");
                    if command != "none" && !self.config.commands.contains(&command) {
                        self.config.commands.push(command);
                    }
                }
                _ => (),
            }
        }
        Ok(())
    }
}

/// Keyword in lower case and arguments of a line, separated by blanks or one `=`; quotes hold words
/// together.
fn directive(line: &str) -> Option<(String, Vec<String>)> {
    let line = line.trim();
    if line.starts_with('#') {
        return None;
    }
    let (keyword, rest) = line.split_once([' ', '\t', '='])?;
    let rest = rest.trim_start();
    let rest = rest.strip_prefix('=').unwrap_or(rest);
    let mut arguments = Vec::new();
    let mut word = String::new();
    let mut quoted = false;
    for c in rest.trim().chars().chain([' ']) {
        match c {
            '"' => quoted = !quoted,
            ' ' | '\t' if !quoted => {
                if !word.is_empty() {
                    arguments.push(std::mem::take(&mut word));
                }
            }
            '#' if !quoted && word.is_empty() => break,
            c => word.push(c),
        }
    }
    (!arguments.is_empty()).then(|| (keyword.to_ascii_lowercase(), arguments))
}

/// The file of an account: tokens filled in, below the home when not absolute. `None` when it leads
/// nowhere, as for an account without a home.
pub(super) fn expand(pattern: &str, user: &str, uid: u32, home: &Path) -> Option<PathBuf> {
    let mut path = String::with_capacity(pattern.len());
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            path.push(c);
            continue;
        }
        match chars.next()? {
            '%' => path.push('%'),
            'u' => path.push_str(user),
            'h' => path.push_str(&home.to_string_lossy()),
            'U' => path.push_str(&uid.to_string()),
            _ => return None,
        }
    }
    let path = home.join(path);
    path.is_absolute().then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_directive_may_have_an_equals_sign_quotes_and_a_comment() {
        let check = |line: &str, keyword: &str, arguments: &[&str]| {
            let (found, words) = directive(line).unwrap();
            assert_eq!(
                (found.as_str(), words),
                (keyword, arguments.iter().map(|a| (*a).to_owned()).collect())
            );
        };
        check(" Include  a b # c", "include", &["a", "b"]);
        check(
            "AuthorizedKeysFile = \"a b\" c",
            "authorizedkeysfile",
            &["a b", "c"],
        );
        check("X=y", "x", &["y"]);
        for line in ["", "#Port 22", "Port", "Port # x"] {
            assert_eq!(directive(line), None, "{line}");
        }
    }

    #[test]
    fn a_token_nobody_knows_leads_nowhere() {
        let at = |pattern: &str, home: &str| {
            expand(pattern, "bob", 7, Path::new(home))
                .map(|path| path.to_string_lossy().into_owned())
        };
        assert_eq!(at("%h/.k/%u", "/home/b").as_deref(), Some("/home/b/.k/bob"));
        assert_eq!(at(".k", "").as_deref(), None);
        assert_eq!(at("/a%", "/"), None);
        assert_eq!(at("/a%x", "/"), None);
    }

    proptest! {
        #[test]
        fn no_configuration_of_sshd_can_stop_the_collector_a17(line in any::<String>()) {
            let _ = directive(&line);
        }
    }
}
