//! Keys a query may use, and the nearest one to a misspelt one.

use yinglong_model::EventData;

use super::{HostKey, Target};

/// Keys of the host, valid for every target.
pub const HOST_KEYS: [&str; 4] = [
    HostKey::Ip.as_str(),
    HostKey::Hostname.as_str(),
    HostKey::AgentId.as_str(),
    HostKey::System.as_str(),
];

/// Fields of the data of a target, in the order of the contract.
pub const fn fields(target: Target) -> &'static [&'static str] {
    match target {
        Target::Event(kind) => EventData::field_names(kind),
        Target::Inventory(kind) => kind.field_names(),
    }
}

/// The candidate most like `name`, if one is like it at all: at most a third of the longer one
/// differs, or one begins with the other.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let longer = name.chars().count().max(candidate.chars().count());
            let distance = distance(name, candidate);
            let prefix = name.len() > 1
                && candidate.len() > 1
                && (candidate.starts_with(name) || name.starts_with(candidate));
            (prefix || distance * 3 <= longer).then_some((distance, candidate))
        })
        .min()
        .map(|(_, candidate)| candidate)
}

/// Number of insertions, removals and replacements between two texts.
fn distance(a: &str, b: &str) -> usize {
    // Keys are short; text of any length must not make this quadratic.
    const LONGEST: usize = 64;
    let b: Vec<char> = b.chars().take(LONGEST).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().take(LONGEST).enumerate() {
        let mut above_left = i;
        let mut previous = i + 1;
        if let Some(first) = row.first_mut() {
            *first = previous;
        }
        for (cell, right) in row.iter_mut().skip(1).zip(&b) {
            let replaced = above_left + usize::from(left != *right);
            above_left = *cell;
            *cell = replaced.min(above_left + 1).min(previous + 1);
            previous = *cell;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        for (a, b, expected) in [
            ("", "", 0),
            ("name", "name", 0),
            ("nmae", "name", 2),
            ("comand", "command", 1),
            ("", "pid", 3),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn suggests_only_what_is_alike() {
        let keys = ["name", "command", "pid", "parentname"];
        assert_eq!(nearest("comand", keys), Some("command"));
        assert_eq!(nearest("cmd", keys), None);
        assert_eq!(nearest("parent", keys), Some("parentname"));
    }
}
