//! The lines of sudoers(5), with those of included files where they are included.

use std::path::{Path, PathBuf};

use crate::inventory::{Error, Root, root::file_name};

/// The host's own, and where a distribution keeps its (SUSE); the first there is counts.
const FILES: [&str; 2] = ["/etc/sudoers", "/usr/etc/sudoers"];

/// Levels of includes, as in sudo itself.
const DEPTH_LIMIT: usize = 128;

/// Files beyond this number are not read.
const FILE_LIMIT: usize = 1024;

/// A line with those it is continued on, without its comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) location: PathBuf,
    /// Where it starts, counted from 1.
    pub(super) number: usize,
    pub(super) text: String,
}

/// Reads all lines. `host` is the short name of this host, which names of files may hold as `%h`.
///
/// # Errors
/// A file exists and cannot be read.
pub(super) fn load(root: &Root, host: &str, notes: &mut Vec<String>) -> Result<Vec<Line>, Error> {
    let mut reader = Reader {
        root,
        host,
        files: 0,
        open: Vec::new(),
        left_out: 0,
        lines: Vec::new(),
    };
    if let Some(main) = FILES.iter().find(|path| root.metadata(path).is_some()) {
        reader.read(Path::new(main))?;
    }
    if reader.left_out > 0 {
        notes.push(format!("{} included files are not read", reader.left_out));
    }
    Ok(reader.lines)
}

struct Reader<'a> {
    root: &'a Root,
    host: &'a str,
    files: usize,
    /// Those that are being read, each included by the one before.
    open: Vec<PathBuf>,
    left_out: usize,
    lines: Vec<Line>,
}

impl Reader<'_> {
    fn read(&mut self, path: &Path) -> Result<(), Error> {
        let full = self.open.len() > DEPTH_LIMIT || self.files >= FILE_LIMIT;
        if full || self.open.iter().any(|open| open == path) {
            self.left_out += 1;
            return Ok(());
        }
        self.files += 1;
        self.open.push(path.to_owned());
        let text = self.root.text(path)?.unwrap_or_default();
        for (number, text) in logical(&text) {
            match include(&text) {
                Some((target, is_directory)) => {
                    let target = target.replace("%h", self.host);
                    let target = path.parent().unwrap_or(Path::new("/")).join(target);
                    if !is_directory {
                        self.read(&target)?;
                        continue;
                    }
                    for file in self.root.list(&target)? {
                        let name = file_name(&file);
                        // Backups and what package managers leave, as sudo passes over them.
                        if !name.ends_with('~') && !name.contains('.') {
                            self.read(&file)?;
                        }
                    }
                }
                None => {
                    let text = without_comment(&text).trim();
                    if !text.is_empty() {
                        self.lines.push(Line {
                            location: path.to_owned(),
                            number,
                            text: text.to_owned(),
                        });
                    }
                }
            }
        }
        self.open.pop();
        Ok(())
    }
}

/// Lines joined with those a backslash at their end continues them on.
fn logical(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut whole = String::new();
    let mut start = None;
    for (number, line) in (1..).zip(text.lines()) {
        let first = *start.get_or_insert(number);
        // A comment ends with its line.
        let is_comment = whole.is_empty() && line.trim_start().starts_with("# ");
        match line.strip_suffix('\\') {
            Some(part) if !is_comment => {
                whole.push_str(part);
                whole.push(' ');
            }
            _ => {
                whole.push_str(line);
                lines.push((first, std::mem::take(&mut whole)));
                start = None;
            }
        }
    }
    if let Some(first) = start {
        lines.push((first, whole));
    }
    lines
}

/// What a line includes, and whether it is a directory.
fn include(line: &str) -> Option<(String, bool)> {
    let line = line.trim();
    let rest = line.strip_prefix(['@', '#'])?.strip_prefix("include")?;
    let (rest, is_directory) = match rest.strip_prefix("dir") {
        Some(rest) => (rest, true),
        None => (rest, false),
    };
    let target = rest.trim_start();
    if target.len() == rest.len() || target.is_empty() {
        return None;
    }
    let target = match target.strip_prefix('"').and_then(|t| t.split_once('"')) {
        Some((quoted, _)) => quoted.to_owned(),
        None => target.replace("\\ ", " "),
    };
    Some((target, is_directory))
}

/// A number sign starts a comment unless it is escaped, quoted, or the start of a user's number.
fn without_comment(line: &str) -> &str {
    let (mut quoted, mut escaped, mut privileges, mut parentheses) = (false, false, false, false);
    let aliases_of_users = ["User_Alias", "Runas_Alias"];
    let of_users = aliases_of_users
        .iter()
        .any(|alias| line.trim_start().starts_with(alias));
    for (at, c) in line.char_indices() {
        match c {
            '"' if !escaped => quoted = !quoted,
            '=' if !of_users => privileges = true,
            '(' => parentheses = true,
            ')' => parentheses = false,
            '#' if !quoted && !escaped => {
                let rest = line.get(at + 1..).unwrap_or_default();
                let is_number =
                    rest.starts_with(|c: char| c.is_ascii_digit()) && (!privileges || parentheses);
                if !is_number {
                    return line.get(..at).unwrap_or_default();
                }
            }
            _ => (),
        }
        escaped = c == '\\' && !escaped;
    }
    line
}

/// Where sudo has entries from besides its files, nsswitch.conf(5).
pub(super) fn elsewhere(switch: &str) -> impl Iterator<Item = &str> {
    switch
        .lines()
        .filter_map(|line| line.trim().strip_prefix("sudoers:"))
        .flat_map(|sources| {
            sources
                .split('#')
                .next()
                .unwrap_or_default()
                .split_ascii_whitespace()
        })
        .filter(|source| *source != "files" && !source.starts_with('['))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn comments_end_lines_but_numbers_of_users_do_not() {
        let check = |line: &str, expected: &str| assert_eq!(without_comment(line), expected);
        check("# all", "");
        check("#1000 ALL=(#0) /bin/x # why", "#1000 ALL=(#0) /bin/x ");
        check("a ALL=/bin/x \\# #5", "a ALL=/bin/x \\# ");
        check("\"a#b\" ALL=ALL", "\"a#b\" ALL=ALL");
    }

    #[test]
    fn includes_have_both_forms() {
        let check = |line: &str, expected: Option<(&str, bool)>| {
            let found = include(line);
            let found = found.as_ref().map(|(path, dir)| (path.as_str(), *dir));
            assert_eq!(found, expected, "{line}");
        };
        check("@includedir /etc/sudoers.d", Some(("/etc/sudoers.d", true)));
        check("#include local", Some(("local", false)));
        check("@include \"/a b\" x", Some(("/a b", false)));
        check("@include /a\\ b", Some(("/a b", false)));
        check("# include x", None);
        check("#included", None);
        check("@include", None);
    }

    #[test]
    fn a_backslash_continues_a_line_which_keeps_its_first_number() {
        assert_eq!(
            logical("a \\\n b\n# c \\\nd\ne\\"),
            [
                (1, "a   b".to_owned()),
                (3, "# c \\".to_owned()),
                (4, "d".to_owned()),
                (5, "e ".to_owned()),
            ]
        );
    }

    proptest! {
        #[test]
        fn no_text_can_stop_the_reader_a17(text in any::<String>()) {
            for (_, line) in logical(&text) {
                let _ = (include(&line), without_comment(&line));
            }
            let _ = elsewhere(&text).count();
        }
    }
}
