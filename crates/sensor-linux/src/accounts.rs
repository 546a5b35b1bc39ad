//! User names for numeric ids, from `/etc/passwd`, read again when it changes.

use std::{
    collections::HashMap,
    fs,
    sync::{Arc, Mutex},
    time::SystemTime,
};

/// Cheap to clone; all clones share one table.
#[derive(Debug, Clone, Default)]
pub struct Accounts(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    modified: Option<SystemTime>,
    names: HashMap<u32, String>,
}

impl Accounts {
    /// Name of the account, or the number as text when there is none.
    pub fn name(&self, uid: u32) -> String {
        let modified = fs::metadata("/etc/passwd").and_then(|m| m.modified()).ok();
        let mut table = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if modified != table.modified || modified.is_none() {
            table.names = fs::read("/etc/passwd")
                .map(|bytes| parse(&bytes))
                .unwrap_or_default();
            table.modified = modified;
        }
        table
            .names
            .get(&uid)
            .cloned()
            .unwrap_or_else(|| uid.to_string())
    }
}

/// First name of each uid, as `getpwuid` would answer; lines that make no sense are passed over.
fn parse(passwd: &[u8]) -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for line in String::from_utf8_lossy(passwd).lines() {
        let mut columns = line.split(':');
        let (Some(name), Some(uid)) = (columns.next(), columns.nth(1)) else {
            continue;
        };
        if let Ok(uid) = uid.parse() {
            names.entry(uid).or_insert_with(|| name.to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_makes_sense_and_keeps_the_first_name() {
        let names =
            parse(b"root:x:0:0::/root:/bin/sh\n\n:\nbad:x:many\ntoor:x:0:0\nweb:x:33:33:::\n");
        assert_eq!(names.len(), 2);
        assert_eq!(names[&0], "root");
        assert_eq!(names[&33], "web");
    }

    #[test]
    fn an_unknown_id_is_shown_as_a_number() {
        assert_eq!(Accounts::default().name(4_000_000_001), "4000000001");
        assert_eq!(Accounts::default().name(0), "root");
    }
}
