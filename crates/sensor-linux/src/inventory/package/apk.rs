//! The database of apk: lines of a letter, a colon and a value, a blank line after each package.

use std::{
    io::{self, BufRead},
    path::PathBuf,
};

use super::{LINE_LIMIT_BYTES, Package, Root};
use crate::inventory::lines::each_line;

/// Where the database lies: Alpine up to 3.22, and with merged `/usr` since. One may lead to the other.
pub(super) fn databases(root: &Root) -> Vec<PathBuf> {
    let places = ["/lib/apk/db/installed", "/usr/lib/apk/db/installed"];
    let mut paths: Vec<PathBuf> = places
        .iter()
        .filter(|path| root.metadata(path).is_some())
        .map(|path| root.resolve(path))
        .collect();
    paths.dedup();
    paths
}

/// Calls `each` for every package. When it was installed is not kept; `t:` is when it was built.
pub(super) fn parse(reader: impl BufRead, mut each: impl FnMut(Package)) -> io::Result<()> {
    let mut package = Package::default();
    let mut end = |package: Package| {
        if !package.name.is_empty() {
            let own_name = package.source == package.name;
            each(Package {
                source: if own_name {
                    String::new()
                } else {
                    package.source
                },
                ..package
            });
        }
    };
    each_line(reader, LINE_LIMIT_BYTES, |line| {
        if line.is_empty() {
            end(std::mem::take(&mut package));
        }
        let Some((letter, value)) = line.split_once(':') else {
            return;
        };
        let field = match letter {
            "P" => &mut package.name,
            "V" => &mut package.version,
            "A" => &mut package.arch,
            "m" => &mut package.vendor,
            "o" => &mut package.source,
            _ => return,
        };
        value.trim().clone_into(field);
    })?;
    end(package);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_database_of_apk_can_stop_the_collector_a17(
            bytes in prop::collection::vec(any::<u8>(), 0..400),
            text in "([PVAmoF]?:[a-z. \u{0}é]{0,20}\n{1,2}){0,20}",
        ) {
            for input in [bytes.as_slice(), text.as_bytes()] {
                parse(input, |package| assert!(!package.name.is_empty())).unwrap();
            }
        }
    }
}
