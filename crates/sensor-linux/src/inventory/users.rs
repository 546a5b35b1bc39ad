//! `userlist`: accounts that can log in (A01).

use std::{collections::HashMap, path::PathBuf};

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

/// Home directory and name of every account, system accounts included.
pub(super) fn homes(root: &Root) -> Result<Vec<(String, PathBuf)>, Error> {
    let passwd = root.text("/etc/passwd")?.unwrap_or_default();
    let mut homes: Vec<(String, PathBuf)> = Vec::new();
    for account in parse_passwd(&passwd) {
        let home = PathBuf::from(account.home);
        if home.is_absolute() && !homes.iter().any(|(_, known)| *known == home) {
            homes.push((account.name.to_owned(), home));
        }
    }
    Ok(homes)
}

/// One line of passwd(5).
#[derive(Debug, PartialEq, Eq)]
struct Account<'a> {
    name: &'a str,
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
        columns.next()?.parse::<u32>().ok()?;
        let _gid = columns.next()?;
        let _comment = columns.next();
        let home = columns.next().unwrap_or_default();
        let shell = columns.next().unwrap_or_default().trim();
        let name = name.trim();
        (!name.is_empty() && !name.starts_with('#')).then_some(Account {
            name,
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
