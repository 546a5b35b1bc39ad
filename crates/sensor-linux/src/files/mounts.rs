//! The mount table, and which file systems a scope touches (`proc_pid_mountinfo(5)`).

use std::{
    ffi::OsString,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use super::scope::Scope;

/// File systems made by the kernel alone, where nobody keeps files.
const WITHOUT_FILES: [&str; 20] = [
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "efivarfs",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nsfs",
    "proc",
    "pstore",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "sysfs",
    "tracefs",
];

/// A line of the mount table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    /// Where it is mounted.
    pub(super) point: PathBuf,
    /// Type of the file system.
    pub(super) kind: String,
}

/// Reads `/proc/self/mountinfo`; lines that make no sense are passed over.
pub(super) fn parse(table: &[u8]) -> Vec<Mount> {
    table
        .split(|byte| *byte == b'\n')
        .filter_map(|line| {
            let mut words = line.split(|byte| *byte == b' ');
            let point = unescape(words.nth(4)?);
            let kind = words.skip_while(|word| *word != b"-").nth(1)?;
            Some(Mount {
                point: PathBuf::from(OsString::from_vec(point)),
                kind: String::from_utf8_lossy(kind).into_owned(),
            })
        })
        .filter(|mount| mount.point.is_absolute())
        .collect()
}

/// Undoes the octal escapes of space, tab, line feed and backslash.
fn unescape(word: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..3).and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 8).ok()
        });
        match (first, code) {
            (b'\\', Some(code)) => {
                plain.push(code);
                rest = after.get(3..).unwrap_or_default();
            }
            _ => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    plain
}

/// The mount that holds `path`: the deepest, and of several at one place the last.
pub(super) fn holder<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    mounts
        .iter()
        .filter(|mount| path.starts_with(&mount.point))
        .max_by_key(|mount| mount.point.components().count())
}

/// Places where the file systems that `scope` touches are mounted, each once.
pub(super) fn touched(mounts: &[Mount], scope: &Scope) -> Vec<PathBuf> {
    let mut points = Vec::new();
    for root in scope.roots() {
        points.extend(holder(mounts, &root.path).map(|mount| mount.point.clone()));
        let below = mounts.iter().filter(|mount| {
            root.recursive
                && mount.point.starts_with(&root.path)
                && !WITHOUT_FILES.contains(&mount.kind.as_str())
        });
        points.extend(below.map(|mount| mount.point.clone()));
    }
    points.sort();
    points.dedup();
    points
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TABLE: &[u8] = b"\
22 27 0:21 / /proc rw,relatime - proc proc rw\n\
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
30 27 0:27 / /srv/my\\040data rw master:3 propagate_from:2 - xfs /dev/vdb rw\n\
31 30 0:28 / /srv/my\\040data/sub rw - tmpfs tmpfs rw\n\
nonsense\n\
32 27 0:29 /\n";

    #[test]
    fn reads_points_and_types_with_escapes() {
        let mounts = parse(TABLE);
        assert_eq!(mounts.len(), 4);
        assert_eq!(mounts[2].point, Path::new("/srv/my data"));
        assert_eq!(mounts[2].kind, "xfs");
    }

    #[test]
    fn a_recursive_root_touches_what_is_mounted_below_it() {
        let check = |entry: &str, expected: &[&str]| {
            let scope = Scope::new(&[entry.to_owned()], &[], Path::to_owned);
            let expected: Vec<PathBuf> = expected.iter().map(PathBuf::from).collect();
            assert_eq!(touched(&parse(TABLE), &scope), expected, "{entry}");
        };
        check("/etc/", &["/"]);
        check("/srv/my data", &["/srv/my data"]);
        check("/srv/*", &["/", "/srv/my data", "/srv/my data/sub"]);
        check("/*", &["/", "/srv/my data", "/srv/my data/sub"]);
        check("/srv/my database", &["/"]);
    }

    proptest! {
        #[test]
        fn any_table_is_survived(table in proptest::collection::vec(any::<u8>(), 0..200)) {
            parse(&table);
            unescape(&table);
        }
    }
}
