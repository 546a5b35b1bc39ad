//! Which paths are watched: configuration entries and web roots, as decisions over plain paths.

use std::{
    collections::BTreeMap,
    path::{Component, Path, PathBuf},
};

/// An entry of `monitorPath`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    /// A directory, with everything below it when `recursive`.
    Directory { path: PathBuf, recursive: bool },
    /// `%web%`.
    WebRoots,
    /// A place other systems have.
    Elsewhere,
    /// Not an absolute path.
    Senseless,
}

impl Entry {
    /// Reads an entry. Case matters in paths, as it does to the kernel.
    pub(super) fn parse(text: &str) -> Self {
        let text = text.trim();
        let (path, recursive) = match text.strip_suffix('*') {
            Some(path) => (path, true),
            None => (text, false),
        };
        if path.starts_with('%') {
            let name = path.trim_end_matches('/');
            return match name.eq_ignore_ascii_case("%web%") {
                true => Self::WebRoots,
                false => Self::Elsewhere,
            };
        }
        match tidy(Path::new(path)) {
            Some(path) => Self::Directory { path, recursive },
            None => Self::Senseless,
        }
    }
}

/// An absolute path without `.`, `..` and doubled or trailing slashes.
fn tidy(path: &Path) -> Option<PathBuf> {
    if !path.is_absolute() {
        return None;
    }
    let mut tidied = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => tidied.push(name),
            Component::ParentDir => {
                tidied.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Some(tidied)
}

/// A watched directory, under its real path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Root {
    pub(super) path: PathBuf,
    pub(super) recursive: bool,
}

/// What of a directory is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// Everything directly in it.
    All,
    /// Only names that lead to a root, or are one.
    Way,
    /// Nothing, and nothing below it.
    Nothing,
}

/// All that is watched.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Scope {
    roots: Vec<Root>,
    web: Vec<PathBuf>,
}

impl Scope {
    /// Most roots of one scope; a list longer than this is a mistake that would cost every event.
    pub(super) const MOST_ROOTS: usize = 1_024;

    /// The scope of `entries`, with `real` giving the real path behind symbolic links.
    pub(super) fn new(
        entries: &[String],
        web_roots: &[PathBuf],
        real: impl Fn(&Path) -> PathBuf,
    ) -> Self {
        let web: Vec<PathBuf> = web_roots
            .iter()
            .filter_map(|root| tidy(root))
            .map(|root| real(&root))
            .collect();
        let mut roots = BTreeMap::<PathBuf, bool>::new();
        let mut add = |path: PathBuf, recursive: bool| {
            if roots.len() < Self::MOST_ROOTS || roots.contains_key(&path) {
                *roots.entry(path).or_default() |= recursive;
            }
        };
        for entry in entries {
            match Entry::parse(entry) {
                Entry::Directory { path, recursive } => add(real(&path), recursive),
                Entry::WebRoots => web.iter().for_each(|root| add(root.clone(), true)),
                Entry::Elsewhere | Entry::Senseless => {}
            }
        }
        let mut kept = Vec::<Root>::new();
        // Sorted: whatever covers a path comes before it.
        for (path, recursive) in roots {
            let covered = kept
                .iter()
                .any(|root| root.recursive && path.starts_with(&root.path));
            if !covered {
                kept.push(Root { path, recursive });
            }
        }
        Self { roots: kept, web }
    }

    /// Watched directories; none lies within a recursive other.
    pub(super) fn roots(&self) -> &[Root] {
        &self.roots
    }

    /// What of the directory `path` is watched.
    pub(super) fn look(&self, path: &Path) -> Look {
        let mut look = Look::Nothing;
        for root in &self.roots {
            if path == root.path || (root.recursive && path.starts_with(&root.path)) {
                return Look::All;
            }
            if root.path.starts_with(path) {
                look = Look::Way;
            }
        }
        look
    }

    /// Whether `path` itself is a watched directory.
    pub(super) fn is_root(&self, path: &Path) -> bool {
        self.roots.iter().any(|root| root.path == path)
    }

    /// Whether `path` lies in a web root.
    pub(super) fn is_web(&self, path: &Path) -> bool {
        self.web.iter().any(|root| path.starts_with(root))
    }
}

/// The real path behind `path`; what does not exist yet is kept as it is.
pub(super) fn real_path(path: &Path) -> PathBuf {
    for ancestor in path.ancestors() {
        if let Ok(real) = ancestor.canonicalize() {
            let rest = path.strip_prefix(ancestor).unwrap_or(Path::new(""));
            return if rest.as_os_str().is_empty() {
                real
            } else {
                real.join(rest)
            };
        }
    }
    path.to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scope(entries: &[&str], web: &[&str]) -> Scope {
        let entries: Vec<String> = entries.iter().map(|entry| (*entry).to_owned()).collect();
        let web: Vec<PathBuf> = web.iter().map(PathBuf::from).collect();
        Scope::new(&entries, &web, |path| match path.strip_prefix("/bin") {
            Ok(rest) => Path::new("/usr/bin").join(rest).components().collect(),
            Err(_) => path.to_owned(),
        })
    }

    #[test]
    fn entries_are_read_as_the_classic_documents_write_them() {
        let check = |text: &str, expected: Entry| assert_eq!(Entry::parse(text), expected);
        let directory = |path: &str, recursive| Entry::Directory {
            path: path.into(),
            recursive,
        };
        check("/etc/", directory("/etc", false));
        check("/etc", directory("/etc", false));
        check(" /Web/Root/* ", directory("/Web/Root", true));
        check("/srv//a/./b/../*", directory("/srv/a", true));
        check("/*", directory("/", true));
        check("/../..", directory("/", false));
        check("%web%", Entry::WebRoots);
        check("%web%*", Entry::WebRoots);
        check("%windows%", Entry::Elsewhere);
        check("%system32%", Entry::Elsewhere);
        check("etc", Entry::Senseless);
        check("", Entry::Senseless);
        check("*", Entry::Senseless);
    }

    #[test]
    fn m17_a_plain_entry_covers_one_directory_and_a_star_everything_below() {
        let scope = scope(&["/etc/", "/srv/Web/*"], &[]);
        let check = |path: &str, look| assert_eq!(scope.look(Path::new(path)), look, "{path}");
        check("/etc", Look::All);
        check("/etc/pam.d", Look::Nothing);
        check("/etcetera", Look::Nothing);
        check("/srv/Web", Look::All);
        check("/srv/Web/a/b/c", Look::All);
        check("/srv/web/a", Look::Nothing);
        check("/srv/Website", Look::Nothing);
        check("/srv", Look::Way);
        check("/", Look::Way);
        assert!(scope.is_root(Path::new("/etc")));
    }

    #[test]
    fn links_to_one_directory_are_watched_once() {
        let scope = scope(&["/bin/", "/usr/bin/", "/bin"], &[]);
        let expected = [Root {
            path: "/usr/bin".into(),
            recursive: false,
        }];
        assert_eq!(scope.roots(), expected);
    }

    #[test]
    fn m17_web_roots_are_recursive_and_only_watched_when_asked_for() {
        let with = scope(&["%web%"], &["/var/www", "/var/www/site"]);
        assert_eq!(with.roots().len(), 1);
        assert_eq!(with.look(Path::new("/var/www/a/b")), Look::All);
        let without = scope(&["/var/www/*"], &["/var/www/site"]);
        assert!(without.is_web(Path::new("/var/www/site/x.php")));
        assert!(!without.is_web(Path::new("/var/www/sites/x.php")));
        assert_eq!(scope(&["/etc"], &["/var/www"]).roots().len(), 1);
    }

    #[test]
    fn a_path_that_does_not_exist_is_resolved_as_far_as_it_does() {
        let place = tempfile::tempdir().unwrap();
        let base = place.path().canonicalize().unwrap();
        std::fs::create_dir(base.join("real")).unwrap();
        std::os::unix::fs::symlink("real", base.join("link")).unwrap();
        assert_eq!(real_path(&base.join("link/a/b")), base.join("real/a/b"));
        assert_eq!(real_path(&base.join("link")), base.join("real"));
        assert_eq!(real_path(Path::new("/")), Path::new("/"));
    }

    proptest! {
        #[test]
        fn whatever_the_entries_a_root_is_looked_into_and_its_parents_lead_to_it(
            entries in proptest::collection::vec("(/[a-c.]{0,2}){0,4}\\*?", 0..8),
        ) {
            let scope = Scope::new(&entries, &[], Path::to_owned);
            for root in scope.roots() {
                prop_assert_eq!(scope.look(&root.path), Look::All);
                for parent in root.path.ancestors() {
                    prop_assert_ne!(scope.look(parent), Look::Nothing);
                }
            }
        }
    }
}
