//! Apache: `ServerRoot`, the include tree, every `DocumentRoot`.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use super::{DEPTH_LIMIT, Found, Server, ask};
use crate::inventory::{Root, pattern};

/// Server root and main file of Debian, Red Hat, SUSE and Apache's own makefile.
const LAYOUTS: [(&str, &str); 4] = [
    ("/etc/apache2", "apache2.conf"),
    ("/etc/httpd", "conf/httpd.conf"),
    ("/etc/apache2", "httpd.conf"),
    ("/usr/local/apache2", "conf/httpd.conf"),
];

/// Files with the environment that start scripts give to Apache.
const ENVIRONMENTS: [&str; 3] = [
    "/etc/apache2/envvars",
    "/etc/sysconfig/httpd",
    "/usr/local/apache2/bin/envvars",
];

/// Adds the document roots of one server.
pub(super) fn collect(root: &Root, server: &Server, found: &mut Found) {
    let built = ask::build_options(root, &server.program)
        .map(|answer| parse_options(&answer))
        .filter(|(server_root, _)| !server_root.is_empty());
    let mut layouts: Vec<(String, String)> = match built {
        Some(layout) => vec![layout],
        None => LAYOUTS
            .iter()
            .filter(|(base, file)| root.metadata(Path::new(base).join(file)).is_some())
            .map(|(base, file)| ((*base).to_owned(), (*file).to_owned()))
            .collect(),
    };
    if layouts.is_empty() && (server.option("-f").is_some() || server.option("-d").is_some()) {
        layouts.push(("/".to_owned(), "conf/httpd.conf".to_owned()));
    }
    for (server_root, file) in &mut layouts {
        if let Some(given) = server.option("-d") {
            given.clone_into(server_root);
        }
        if let Some(given) = server.option("-f") {
            given.clone_into(file);
        }
        let mut reader = Reader {
            root,
            found,
            server_root: PathBuf::from(&*server_root),
            variables: environment(root),
            open: Vec::new(),
        };
        let path = reader.absolute(file);
        reader.file(&path);
    }
}

/// `HTTPD_ROOT` and `SERVER_CONFIG_FILE` of the answer to `-V`.
fn parse_options(answer: &str) -> (String, String) {
    let value = |name: &str| {
        answer
            .lines()
            .find_map(|line| {
                let value = line.trim().strip_prefix("-D ")?.strip_prefix(name)?;
                Some(value.strip_prefix('=')?.trim_matches('"').to_owned())
            })
            .unwrap_or_default()
    };
    (value("HTTPD_ROOT"), value("SERVER_CONFIG_FILE"))
}

fn environment(root: &Root) -> HashMap<String, String> {
    let mut variables = HashMap::new();
    for path in ENVIRONMENTS {
        if let Ok(Some(text)) = root.text(path) {
            parse_environment(&text, &mut variables);
        }
    }
    variables
}

/// Assignments of a shell script; a variable nobody set is empty, as for the shell.
fn parse_environment(text: &str, variables: &mut HashMap<String, String>) {
    for line in text.lines() {
        let line = line.trim();
        let line = line.strip_prefix("export ").unwrap_or(line);
        let Some((name, value)) = line.split_once('=') else {
            continue;
        };
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            continue;
        }
        let mut rest = value.trim_matches(['"', '\'']);
        let mut expanded = String::new();
        while let Some((before, after)) = rest.split_once('$') {
            expanded.push_str(before);
            let (name, tail) = match after.strip_prefix('{') {
                Some(braced) => braced.split_once('}').unwrap_or((braced, "")),
                None => {
                    let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                    after
                        .split_at_checked(end.unwrap_or(after.len()))
                        .unwrap_or((after, ""))
                }
            };
            expanded.push_str(variables.get(name).map_or("", String::as_str));
            rest = tail;
        }
        expanded.push_str(rest);
        variables.insert(name.to_owned(), expanded);
    }
}

struct Reader<'a> {
    root: &'a Root,
    found: &'a mut Found,
    server_root: PathBuf,
    variables: HashMap<String, String>,
    /// Files being read, outermost first.
    open: Vec<PathBuf>,
}

impl Reader<'_> {
    fn file(&mut self, path: &Path) {
        let real = self.root.resolve(path);
        if self.open.contains(&real) || self.open.len() >= DEPTH_LIMIT {
            return;
        }
        let Some(text) = self.found.text(self.root, path) else {
            return;
        };
        self.open.push(real);
        for words in directives(&text) {
            self.directive(&words);
        }
        self.open.pop();
    }

    fn directive(&mut self, words: &[String]) {
        let [name, arguments @ ..] = words else {
            return;
        };
        let argument = |at: usize| arguments.get(at).map(String::as_str).unwrap_or_default();
        match name.to_ascii_lowercase().as_str() {
            "serverroot" => {
                if let Some(path) = self.expand(argument(0)) {
                    self.server_root = self.absolute(&path);
                }
            }
            "define" if !argument(0).is_empty() => {
                let value = self.expand(argument(1)).unwrap_or_default();
                self.variables.insert(argument(0).to_owned(), value);
            }
            "undefine" => {
                self.variables.remove(argument(0));
            }
            "documentroot" => self.document_root(argument(0)),
            "virtualdocumentroot" => {
                // Roots of all names lie below the part in front of the first `%`.
                let fixed = argument(0).split('%').next().unwrap_or_default();
                let parent = fixed.rsplit_once('/').map_or("", |(parent, _)| parent);
                self.document_root(parent);
            }
            "include" | "includeoptional" => {
                for argument in arguments {
                    if let Some(path) = self.expand(argument) {
                        let pattern = self.absolute(&path);
                        for path in pattern::expand(self.root, &pattern) {
                            self.include(&path, 0);
                        }
                    }
                }
            }
            _ => {}
        }
    }

    fn document_root(&mut self, argument: &str) {
        if let Some(path) = self.expand(argument).filter(|path| !path.is_empty()) {
            let path = self.absolute(&path);
            self.found.add(&path);
        }
    }

    /// A directory stands for every file below it.
    fn include(&mut self, path: &Path, depth: usize) {
        let is_directory = self.root.metadata(path).is_some_and(|m| m.is_dir());
        if !is_directory {
            self.file(path);
        } else if depth < DEPTH_LIMIT && self.found.files_left > 0 {
            for entry in self.root.list(path).unwrap_or_default() {
                self.include(&entry, depth + 1);
            }
        }
    }

    fn absolute(&self, path: &str) -> PathBuf {
        self.server_root.join(path)
    }

    /// The text with its `${NAME}`s replaced; `None` when one of them is not defined.
    fn expand(&self, text: &str) -> Option<String> {
        let mut expanded = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let (name, tail) = after.split_once('}')?;
            expanded.push_str(before);
            expanded.push_str(self.variables.get(name)?);
            rest = tail;
        }
        expanded.push_str(rest);
        Some(expanded)
    }
}

/// Directives as words. Section tags, continued lines and quotes are understood.
fn directives(text: &str) -> Vec<Vec<String>> {
    let mut directives = Vec::new();
    let mut pending = String::new();
    for line in text.lines() {
        if let Some(start) = line.strip_suffix('\\') {
            pending.push_str(start);
            continue;
        }
        pending.push_str(line);
        let whole = std::mem::take(&mut pending);
        let whole = whole.trim();
        if !whole.is_empty() && !whole.starts_with(['#', '<']) {
            directives.push(words(whole));
        }
    }
    directives
}

fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while let Some(first) = rest.chars().next() {
        let (word, tail) = if first == '"' || first == '\'' {
            let inner = rest.get(1..).unwrap_or_default();
            inner.split_once(first).unwrap_or((inner, ""))
        } else {
            rest.split_once(char::is_whitespace).unwrap_or((rest, ""))
        };
        words.push(word.to_owned());
        rest = tail.trim_start();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_layout_is_read_from_the_answer_of_the_program() {
        let answer = " -D APR_HAS_MMAP\n -D HTTPD_ROOT=\"/etc/apache2\"\n -D SERVER_CONFIG_FILE=\"apache2.conf\"\n";
        let expected = ("/etc/apache2".to_owned(), "apache2.conf".to_owned());
        assert_eq!(parse_options(answer), expected);
        assert_eq!(parse_options("junk"), (String::new(), String::new()));
    }

    #[test]
    fn the_environment_of_the_start_script_is_expanded() {
        let mut variables = HashMap::new();
        let text = "SUFFIX=\nexport A=/srv$SUFFIX\nexport B=\"${A}/www\"\nif [ x = y ]; then\n";
        parse_environment(text, &mut variables);
        assert_eq!(variables["B"], "/srv/www");
    }

    #[test]
    fn words_may_be_quoted_and_lines_continued() {
        assert_eq!(
            directives("# no\n<VirtualHost *>\n DocumentRoot \\\n \"/a b\" x\n"),
            [["DocumentRoot", "/a b", "x"]]
        );
    }

    proptest! {
        #[test]
        fn no_configuration_can_stop_the_collector(text in any::<String>()) {
            let _ = directives(&text);
            parse_environment(&text, &mut HashMap::new());
        }
    }
}
