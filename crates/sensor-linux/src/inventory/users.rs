//! `userlist`: accounts that can log in (A01).

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
};

use yinglong_model::inventory::Element;

use super::{Error, Root, element};

/// Collects the accounts of `/etc/passwd` with their state from `/etc/shadow`.
///
/// # Errors
/// A file exists and cannot be read.
pub fn collect(root: &Root) -> Result<Vec<Element>, Error> {
    let passwd = root.text("/etc/passwd")?.unwrap_or_default();
    let shadow = root.text("/etc/shadow")?.unwrap_or_default();
    let states = parse_shadow(&shadow);
    Ok(parse_passwd(&passwd)
        .filter(Account::can_log_in)
        .map(|account| {
            let status = match states.get(account.name).copied() {
                _ if account.password.is_empty() => "No password",
                Some(state) => state,
                None => password_state(account.password),
            };
            element([
                ("name", account.name.to_owned()),
                ("description", account.description()),
                ("status", status.to_owned()),
            ])
        })
        .collect())
}

/// Home directories beyond this number are not looked into.
const HOME_LIMIT: usize = 4096;

/// File systems whose server may be gone: a look at them could last for ever.
const REMOTE: [&str; 9] = [
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "autofs", "afs", "ceph", "lustre",
];

/// An account and where it lives.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Resident {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) home: PathBuf,
}

/// Every account with a home directory, system accounts included; several may share a home.
/// Those on remote file systems are left out.
pub(super) fn accounts(root: &Root) -> Result<Vec<Resident>, Error> {
    let passwd = root.text("/etc/passwd")?.unwrap_or_default();
    let mounts = mounts(root);
    let remote: Vec<&Path> = remote_mounts(&mounts).collect();
    Ok(parse_passwd(&passwd)
        .map(|account| Resident {
            name: account.name.to_owned(),
            uid: account.uid,
            home: PathBuf::from(account.home),
        })
        .filter(|account| {
            account.home.is_absolute()
                && !remote.iter().any(|mount| account.home.starts_with(mount))
        })
        .take(HOME_LIMIT)
        .collect())
}

/// Account and home directory of every account, system accounts included, each directory once.
/// Those on remote file systems are left out.
pub(super) fn homes(root: &Root) -> Result<Vec<(String, PathBuf)>, Error> {
    let mut seen = HashSet::new();
    Ok(accounts(root)?
        .into_iter()
        .filter(|account| seen.insert(account.home.clone()))
        .map(|account| (account.name, account.home))
        .collect())
}

fn mounts(root: &Root) -> String {
    let mounts = root.peek("/proc/self/mounts", 4 << 20).unwrap_or_default();
    String::from_utf8_lossy(&mounts).into_owned()
}

/// Mount points of fstab(5) lines whose type is a remote one.
fn remote_mounts(mounts: &str) -> impl Iterator<Item = &Path> {
    mounts.lines().filter_map(|line| {
        let mut columns = line.split(' ').skip(1);
        let (point, kind) = (columns.next()?, columns.next()?);
        (REMOTE.contains(&kind) || kind.starts_with("fuse")).then_some(Path::new(point))
    })
}

/// First name of each user id.
pub(super) fn names(root: &Root) -> Result<HashMap<u32, String>, Error> {
    let passwd = root.text("/etc/passwd")?.unwrap_or_default();
    let mut names = HashMap::new();
    for account in parse_passwd(&passwd) {
        names
            .entry(account.uid)
            .or_insert_with(|| account.name.to_owned());
    }
    Ok(names)
}

/// One line of passwd(5).
#[derive(Debug, PartialEq, Eq)]
struct Account<'a> {
    name: &'a str,
    uid: u32,
    password: &'a str,
    rest: &'a str,
    home: &'a str,
    shell: &'a str,
}

impl Account<'_> {
    /// Only shells that exist to refuse are left out; an empty one means `/bin/sh`.
    fn can_log_in(&self) -> bool {
        !matches!(self.shell.rsplit('/').next(), Some("nologin" | "false"))
    }

    /// The line after the name; a password hash that some old system keeps there stays here.
    fn description(&self) -> String {
        let hidden = if password_state(self.password) == "OK" && self.password != "x" {
            "(hidden)"
        } else {
            self.password
        };
        format!("{hidden}:{}", self.rest)
    }
}

/// Lines that make no sense are passed over, as the C library does.
fn parse_passwd(text: &str) -> impl Iterator<Item = Account<'_>> {
    text.lines().filter_map(|line| {
        let (name, rest) = line.split_once(':')?;
        let (password, rest) = rest.split_once(':')?;
        let mut columns = rest.split(':');
        let uid = columns.next()?.parse().ok()?;
        let _gid = columns.next()?;
        let _comment = columns.next();
        let home = columns.next().unwrap_or_default();
        let shell = columns.next().unwrap_or_default().trim();
        let name = name.trim();
        (!name.is_empty() && !name.starts_with('#')).then_some(Account {
            name,
            uid,
            password,
            rest,
            home,
            shell,
        })
    })
}

fn parse_shadow(text: &str) -> HashMap<&str, &'static str> {
    text.lines()
        .filter_map(|line| {
            let mut columns = line.split(':');
            Some((columns.next()?, password_state(columns.next()?)))
        })
        .collect()
}

/// What a password column says, shadow(5).
fn password_state(password: &str) -> &'static str {
    if password.is_empty() {
        "No password"
    } else if password.starts_with(['!', '*']) {
        "Locked"
    } else {
        "OK"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::fixture;
    use proptest::prelude::*;

    #[test]
    fn lists_accounts_that_can_log_in_with_the_rest_of_the_line_a01() {
        let dir = fixture(&[
            (
                "etc/passwd",
                "root:x:0:0:root:/root:/bin/bash\n\ndaemon:x:1:1::/usr/sbin:/usr/sbin/nologin\n\
                 ::\nnosense\nold:$6$salt$hash:5:5::/home/old:\nopen::7:7::/:/bin/sh\n\
                 probe1:x:1001:1001::/home/probe1:/bin/bash",
            ),
            ("etc/shadow", "root:*:1::::::\nprobe1:$y$j9T$x:1::::::\n"),
        ]);
        let list = collect(&Root::at(dir.path())).unwrap();
        let rows: Vec<_> = list
            .iter()
            .map(|e| [&e["name"], &e["description"], &e["status"]].map(String::as_str))
            .collect();
        assert_eq!(
            rows,
            [
                ["root", "x:0:0:root:/root:/bin/bash", "Locked"],
                ["old", "(hidden):5:5::/home/old:", "OK"],
                ["open", ":7:7::/:/bin/sh", "No password"],
                ["probe1", "x:1001:1001::/home/probe1:/bin/bash", "OK"],
            ]
        );
    }

    #[test]
    fn homes_on_remote_file_systems_are_not_touched() {
        let dir = fixture(&[
            (
                "etc/passwd",
                "a:x:1:1::/home/a:\nb:x:2:2::/net/b:\nc:x:3:3::/home/a:\nd:x:4:4::rel:\n",
            ),
            (
                "proc/self/mounts",
                "x / ext4 rw 0 0\nsrv:/b /net nfs4 rw 0 0\n",
            ),
        ]);
        let homes = homes(&Root::at(dir.path())).unwrap();
        assert_eq!(homes, [("a".to_owned(), PathBuf::from("/home/a"))]);
    }

    proptest! {
        #[test]
        fn no_passwd_can_stop_the_collector_a17(text in "[a-z:0-9\\n#+\u{0}\u{fffd} /]{0,200}") {
            for account in parse_passwd(&text) {
                prop_assert!(!account.name.is_empty());
                let _ = account.description();
            }
            let _ = parse_shadow(&text);
        }
    }
}
