//! nginx: the include tree, every `root` and `alias`.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use super::{DEPTH_LIMIT, Found, Server, ask};
use crate::inventory::{Root, pattern};

/// Prefix and main file of distributions, of nginx's own makefile and of OpenResty.
const LAYOUTS: [(&str, &str); 3] = [
    ("/usr/share/nginx", "/etc/nginx/nginx.conf"),
    ("/usr/local/nginx", "/usr/local/nginx/conf/nginx.conf"),
    (
        "/usr/local/openresty/nginx",
        "/usr/local/openresty/nginx/conf/nginx.conf",
    ),
];

/// Adds the roots of one server.
pub(super) fn collect(root: &Root, server: &Server, found: &mut Found) {
    let built = ask::build_options(root, &server.program).map(|answer| parse_options(&answer));
    let mut layouts: Vec<(PathBuf, PathBuf)> = match built {
        Some(layout) => vec![layout],
        None => LAYOUTS
            .iter()
            .filter(|(_, file)| root.metadata(file).is_some())
            .map(|(prefix, file)| (PathBuf::from(prefix), PathBuf::from(file)))
            .collect(),
    };
    if layouts.is_empty() && (server.option("-c").is_some() || server.option("-p").is_some()) {
        layouts.push(parse_options(""));
    }
    for (prefix, file) in &mut layouts {
        if let Some(given) = server.option("-p") {
            *prefix = PathBuf::from(given);
        }
        if let Some(given) = server.option("-c") {
            *file = PathBuf::from(given);
        }
        let file = prefix.join(&*file);
        let mut reader = Reader {
            root,
            found,
            directory: file.parent().unwrap_or(prefix).to_owned(),
            prefix: prefix.clone(),
            variables: HashMap::new(),
            open: Vec::new(),
        };
        reader.file(&file);
    }
}

/// `--prefix` and `--conf-path` of the answer to `-V`, with the defaults of nginx's makefile.
fn parse_options(answer: &str) -> (PathBuf, PathBuf) {
    let value = |name: &str| {
        answer
            .split_ascii_whitespace()
            .find_map(|word| word.strip_prefix(name))
            .map(|value| PathBuf::from(value.trim_matches('\'')))
    };
    let prefix = value("--prefix=").unwrap_or_else(|| PathBuf::from("/usr/local/nginx"));
    let file = value("--conf-path=").unwrap_or_else(|| PathBuf::from("conf/nginx.conf"));
    (prefix, file)
}

struct Reader<'a> {
    root: &'a Root,
    found: &'a mut Found,
    prefix: PathBuf,
    /// Of the main file; includes are relative to it, roots to the prefix.
    directory: PathBuf,
    /// What `set` gave to variables, so that `set $docs /srv; root $docs;` is understood.
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
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["include", argument] => {
                let pattern = self.directory.join(argument);
                for path in pattern::expand(self.root, &pattern) {
                    self.file(&path);
                }
            }
            ["set", name, value] => {
                if let Some(name) = name.strip_prefix('$') {
                    self.variables.insert(name.to_owned(), (*value).to_owned());
                }
            }
            ["root" | "alias", argument] => {
                let fixed = self.fixed_part(argument);
                if fixed.is_empty() {
                    return;
                }
                let path = self.prefix.join(fixed);
                // An alias of a single file publishes no directory.
                if !self.root.metadata(&path).is_some_and(|m| m.is_file()) {
                    self.found.add(&path);
                }
            }
            _ => {}
        }
    }

    /// The path with known variables replaced, up to the directory in front of an unknown one.
    fn fixed_part(&self, text: &str) -> String {
        let mut fixed = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            fixed.push_str(before);
            let (name, tail) = match after.strip_prefix('{') {
                Some(braced) => braced.split_once('}').unwrap_or((braced, "")),
                None => {
                    let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                    after
                        .split_at_checked(end.unwrap_or(after.len()))
                        .unwrap_or((after, ""))
                }
            };
            let Some(value) = self
                .variables
                .get(name)
                .filter(|value| !value.contains('$'))
            else {
                let parent = fixed.rsplit_once('/').map_or("", |(parent, _)| parent);
                return parent.to_owned();
            };
            fixed.push_str(value);
            rest = tail;
        }
        fixed.push_str(rest);
        fixed
    }
}

/// Simple directives and the heads of blocks, as words.
fn directives(text: &str) -> Vec<Vec<String>> {
    let mut directives = Vec::new();
    let mut words: Vec<String> = Vec::new();
    let mut word = String::new();
    let mut quoted = false;
    let mut chars = text.chars().peekable();
    let end_word = |word: &mut String, quoted: &mut bool, words: &mut Vec<String>| {
        if !word.is_empty() || *quoted {
            words.push(std::mem::take(word));
        }
        *quoted = false;
    };
    while let Some(c) = chars.next() {
        match c {
            '#' if word.is_empty() => while chars.next_if(|c| *c != '\n').is_some() {},
            '"' | '\'' if word.is_empty() => {
                quoted = true;
                while let Some(inner) = chars.next_if(|inner| *inner != c) {
                    // A backslash keeps the quote behind it from ending the word.
                    let kept = if inner == '\\' {
                        chars.next()
                    } else {
                        Some(inner)
                    };
                    word.extend(kept);
                }
                chars.next();
            }
            '\\' => word.extend(chars.next()),
            '$' if chars.peek() == Some(&'{') => {
                word.push(c);
                while let Some(inner) = chars.next_if(|inner| *inner != '}' && *inner != '\n') {
                    word.push(inner);
                }
                word.extend(chars.next());
            }
            ';' | '{' | '}' => {
                end_word(&mut word, &mut quoted, &mut words);
                if !words.is_empty() {
                    directives.push(std::mem::take(&mut words));
                }
            }
            c if c.is_whitespace() => end_word(&mut word, &mut quoted, &mut words),
            c => word.push(c),
        }
    }
    directives
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_layout_is_read_from_the_answer_of_the_program() {
        let check = |answer: &str, prefix: &str, file: &str| {
            assert_eq!(parse_options(answer), (prefix.into(), file.into()));
        };
        check(
            "configure arguments: --with-cc-opt='-g -ffile-prefix-map=/b=.' --prefix=/usr/share/nginx --conf-path=/etc/nginx/nginx.conf",
            "/usr/share/nginx",
            "/etc/nginx/nginx.conf",
        );
        check("", "/usr/local/nginx", "conf/nginx.conf");
    }

    #[test]
    fn words_end_at_blanks_braces_and_semicolons() {
        assert_eq!(
            directives("# c\nserver{root \"/a b\";alias /x/${y}/z; # d\n root '/it\\'s'}\nroot"),
            [
                vec!["server"],
                vec!["root", "/a b"],
                vec!["alias", "/x/${y}/z"],
                vec!["root", "/it's"],
            ]
        );
    }

    proptest! {
        #[test]
        fn no_configuration_can_stop_the_collector(text in any::<String>()) {
            let _ = directives(&text);
        }
    }
}
