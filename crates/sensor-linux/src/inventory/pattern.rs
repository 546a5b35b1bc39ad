//! File name patterns of include directives: `*`, `?` and `[...]`.

use std::path::{Component, Path, PathBuf};

use crate::inventory::{Root, root::file_name};

/// Files beyond this number are left out.
const MATCH_LIMIT: usize = 4096;

/// Existing paths an absolute pattern stands for, sorted; a path without wildcards stands for
/// itself.
pub(super) fn expand(root: &Root, pattern: &Path) -> Vec<PathBuf> {
    let mut paths = vec![PathBuf::from("/")];
    for component in pattern.components() {
        let Component::Normal(component) = component else {
            if component == Component::ParentDir {
                paths.iter_mut().for_each(|path| {
                    path.pop();
                });
            }
            continue;
        };
        let component = component.to_string_lossy();
        if !component.contains(['*', '?', '[']) {
            paths.iter_mut().for_each(|path| path.push(&*component));
            continue;
        }
        let mut next = Vec::new();
        for path in &paths {
            for entry in root.list(path).unwrap_or_default() {
                let name = file_name(&entry);
                let hidden = name.starts_with('.') && !component.starts_with('.');
                if !hidden && matches(&component, &name) && next.len() < MATCH_LIMIT {
                    next.push(entry);
                }
            }
        }
        paths = next;
    }
    paths.retain(|path| root.metadata(path).is_some());
    paths
}

/// Whether `name` matches; linear in the product of the lengths, whatever the pattern.
fn matches(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let (mut p, mut n) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        if pattern.get(p) == Some(&'*') {
            retry = Some((p + 1, n));
            p += 1;
            continue;
        }
        let Some(c) = name.get(n) else {
            return p == pattern.len();
        };
        if let Some(length) = matches_one(pattern.get(p..).unwrap_or_default(), *c) {
            p += length;
            n += 1;
        } else if let Some((after_star, from)) = retry {
            retry = Some((after_star, from + 1));
            (p, n) = (after_star, from + 1);
        } else {
            return false;
        }
    }
}

/// Number of pattern characters that match `c`; `None` when they do not.
fn matches_one(pattern: &[char], c: char) -> Option<usize> {
    match pattern {
        ['?', ..] => Some(1),
        ['[', rest @ ..] => {
            let close = rest.iter().skip(1).position(|c| *c == ']')? + 1;
            let set = rest.get(..close)?;
            let (negated, set) = match set {
                ['!' | '^', set @ ..] => (true, set),
                set => (false, set),
            };
            let inside = set.contains(&c)
                || set
                    .windows(3)
                    .any(|w| matches!(w, [low, '-', high] if (low..=high).contains(&&c)));
            (inside != negated).then_some(close + 2)
        }
        [first, ..] if *first == c => Some(1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn wildcards_match_as_in_a_shell() {
        for (pattern, name, expected) in [
            ("*", "a", true),
            ("*.conf", "site.conf", true),
            ("*.conf", "site.conf.bak", false),
            ("?.conf", "a.conf", true),
            ("?.conf", ".conf", false),
            ("[0-9]*-x", "10-x", true),
            ("[!0-9]*", "10", false),
            ("[!.#]*", "a", true),
            ("a*b*c", "aXbXbc", true),
            ("a*b*c", "aXbX", false),
            ("[", "[", false),
            ("", "", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    proptest! {
        #[test]
        fn no_pattern_can_stop_the_collector(pattern in "[*?\\[\\]!a-cé-]{0,12}", name in "[a-cé-]{0,12}") {
            let _ = matches(&pattern, &name);
        }
    }
}
