//! `sshkey`: keys that may log in by SSH, from the `authorized_keys` of every account.

mod sshd;

use std::{collections::HashSet, path::Path};

use base64::{Engine, engine::general_purpose};
use sha2::{Digest, Sha256};

use super::{Collected, Error, Root, element, users};

/// Collects the keys of every account of `/etc/passwd`, in the places sshd looks for them.
///
/// # Errors
/// The list of accounts or a configuration of sshd exists and cannot be read.
pub fn collect(root: &Root) -> Result<Collected, Error> {
    let config = sshd::load(root)?;
    let mut list = Collected::default();
    for command in &config.commands {
        list.notes
            .push(format!("keys that `{command}` tells sshd are not listed"));
    }
    let mut seen = HashSet::new();
    for account in users::accounts(root)? {
        for pattern in &config.files {
            let Some(path) = sshd::expand(pattern, &account.name, account.uid, &account.home)
            else {
                continue;
            };
            if !seen.insert((account.name.clone(), path.clone())) {
                continue;
            }
            // A home may be on a file system that is gone; the other homes still count.
            match root.text(&path) {
                Ok(text) => add(&text.unwrap_or_default(), &account.name, &path, &mut list),
                Err(error) => {
                    tracing::warn!(user = %account.name, %error, "keys of an account are left out");
                    list.notes
                        .push(format!("{} could not be read", path.display()));
                }
            }
        }
    }
    Ok(list)
}

fn add(text: &str, user: &str, path: &Path, list: &mut Collected) {
    for key in text.lines().filter_map(parse) {
        list.push(element([
            ("user", user.to_owned()),
            ("path", path.to_string_lossy().into_owned()),
            ("kind", key.kind),
            ("fingerprint", key.fingerprint),
            ("comment", key.comment),
            ("options", key.options),
        ]));
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Key {
    options: String,
    kind: String,
    /// As `ssh-keygen -l` prints it.
    fingerprint: String,
    comment: String,
}

/// A line of authorized_keys(5): options, kind, key and comment; `None` when sshd would pass over it.
fn parse(line: &str) -> Option<Key> {
    let line = line.trim_matches([' ', '\t', '\r']);
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    if let Some(key) = parse_key(line) {
        return Some(key);
    }
    let (options, rest) = line.split_at_checked(options_end(line))?;
    let key = parse_key(rest.trim_start_matches([' ', '\t']))?;
    Some(Key {
        options: options.to_owned(),
        ..key
    })
}

/// Options end at the first blank outside of quotes; a quote inside of them has a backslash.
fn options_end(line: &str) -> usize {
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in line.char_indices() {
        match c {
            ' ' | '\t' if !quoted => return at,
            '"' if !escaped => quoted = !quoted,
            _ => (),
        }
        escaped = c == '\\' && !escaped;
    }
    line.len()
}

fn parse_key(text: &str) -> Option<Key> {
    let (kind, rest) = text.split_once([' ', '\t'])?;
    let rest = rest.trim_start_matches([' ', '\t']);
    let (encoded, comment) = rest.split_once([' ', '\t']).unwrap_or((rest, ""));
    let blob = general_purpose::STANDARD.decode(encoded).ok()?;
    // The key itself starts with the name of its kind.
    let (length, inner) = blob.split_at_checked(4)?;
    let length = u32::from_be_bytes(length.try_into().ok()?);
    let named = inner.get(..usize::try_from(length).ok()?)?;
    (named == kind.as_bytes()).then(|| Key {
        options: String::new(),
        kind: kind.to_owned(),
        fingerprint: format!(
            "SHA256:{}",
            general_purpose::STANDARD_NO_PAD.encode(Sha256::digest(&blob))
        ),
        comment: comment.trim().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::{fixture, rows};
    use proptest::prelude::*;
    use std::process::Command;

    const FIELDS: [&str; 6] = ["user", "path", "kind", "fingerprint", "comment", "options"];

    /// Public half of a key made for this test, and what `ssh-keygen -lf` said of it.
    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMga1ES2gAf/NiiumzqcEXu83I70xVHmOaN3zwzJfTuo";
    const PRINT: &str = "SHA256:6wnEAVFj0jANJZkSPytPPHFw0xXobZeVZR1WcjtjTlc";

    #[test]
    fn keys_of_every_account_are_listed_with_fingerprint_and_options() {
        let dir = fixture(&[
            (
                "etc/passwd",
                // A second name for root is a classic back door: it has the keys, too.
                "root:x:0:0::/root:/bin/sh\ntoor:x:0:0::/root:/bin/sh\nbob:x:7:7::/home/bob:/bin/false\n",
            ),
            (
                "root/.ssh/authorized_keys",
                &format!("# mine\n\n{KEY} root@box  \nssh-rsa broken x\n"),
            ),
            (
                "home/bob/.ssh/authorized_keys2",
                &format!(
                    "no-pty,command=\"echo \\\"a b\\\" c\"\t{KEY}\nrestrict {KEY} two words\n"
                ),
            ),
        ]);
        let list = collect(&Root::at(dir.path())).unwrap();
        let root = "/root/.ssh/authorized_keys|ssh-ed25519";
        let bob = "bob|/home/bob/.ssh/authorized_keys2|ssh-ed25519";
        assert_eq!(
            rows(&list.elements, &FIELDS),
            [
                format!("root|{root}|{PRINT}|root@box|"),
                format!("toor|{root}|{PRINT}|root@box|"),
                format!("{bob}|{PRINT}||no-pty,command=\"echo \\\"a b\\\" c\""),
                format!("{bob}|{PRINT}|two words|restrict"),
            ]
        );
        assert!(list.notes.is_empty());
    }

    #[test]
    fn sshd_says_where_keys_are_and_what_is_not_listed_is_named() {
        let dir = fixture(&[
            (
                "etc/passwd",
                "root:x:0:0::/root:/bin/sh\nbob:x:7:7::/home/bob:/bin/sh\n",
            ),
            (
                "etc/ssh/sshd_config",
                "Include /etc/ssh/sshd_config.d/*.conf\nAuthorizedKeysFile none\n\
                 Match User bob\n  AuthorizedKeysFile=\"/srv/%U/50%%\" .ssh/hidden\n",
            ),
            (
                "etc/ssh/sshd_config.d/10-own.conf",
                "authorizedkeysfile /etc/ssh/keys/%u\nAuthorizedKeysCommand /opt/ldap %u\n",
            ),
            ("etc/ssh/keys/root", KEY),
            ("srv/7/50%", KEY),
            ("root/.ssh/authorized_keys", KEY),
            ("root/.ssh/hidden", KEY),
        ]);
        let list = collect(&Root::at(dir.path())).unwrap();
        assert_eq!(
            rows(&list.elements, &["user", "path"]),
            [
                "root|/etc/ssh/keys/root",
                "root|/root/.ssh/hidden",
                "bob|/srv/7/50%"
            ]
        );
        assert_eq!(
            list.notes,
            ["keys that `/opt/ldap %u` tells sshd are not listed"]
        );
    }

    #[test]
    fn the_fingerprint_of_a_new_key_is_what_ssh_keygen_prints() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ecdsa", "-N", "", "-C", "a comment", "-f"])
            .arg(&file)
            .status();
        if !made.is_ok_and(|status| status.success()) {
            eprintln!("SKIPPED the_fingerprint_of_a_new_key: no ssh-keygen on this machine");
            return;
        }
        let public = file.with_extension("pub");
        let said = Command::new("ssh-keygen")
            .arg("-lf")
            .arg(&public)
            .output()
            .unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        let key = parse(&std::fs::read_to_string(public).unwrap()).unwrap();
        assert_eq!(said.split(' ').nth(1), Some(key.fingerprint.as_str()));
        assert_eq!(key.comment, "a comment");
    }

    #[test]
    fn the_keys_of_this_very_host_can_be_collected() {
        let list = collect(&Root::host()).unwrap();
        if list.elements.is_empty() {
            eprintln!("SKIPPED the_keys_of_this_very_host: no account has keys");
        }
        for element in list.elements {
            assert!(element["fingerprint"].starts_with("SHA256:"), "{element:?}");
        }
    }

    proptest! {
        #[test]
        fn no_file_of_keys_can_stop_the_collector_a17(
            line in any::<String>(),
            like in "(no-pty|command=\"[a \\\\\"]{0,6}\"?|é)?[ \t]?(ssh-rsa|ssh-ed25519) [A-Za-z0-9+/=]{0,40} ?x?",
        ) {
            for line in [&line, &like] {
                if let Some(key) = parse(line) {
                    prop_assert!(key.fingerprint.len() == 50);
                }
                let _ = sshd::expand(line, "bob", 7, Path::new("/home/bob"));
            }
        }
    }
}
