//! The database of dpkg: paragraphs of deb-control(5) with the state of the package.

use std::{
    io::{self, BufRead},
    path::PathBuf,
};

use yinglong_model::Timestamp;

use super::{LINE_LIMIT_BYTES, Package, Root, file_name};
use crate::inventory::{Error, lines::each_line};

/// The `status` file, and the files of `status.d`, which images without dpkg itself have.
pub(super) fn databases(root: &Root) -> Result<Vec<PathBuf>, Error> {
    let mut paths = vec![PathBuf::from("/var/lib/dpkg/status")];
    let more = root.list("/var/lib/dpkg/status.d")?;
    paths.extend(
        more.into_iter()
            .filter(|path| !file_name(path).ends_with(".md5sums")),
    );
    Ok(paths)
}

/// Calls `each` for every package that is installed, at least in part, and says whether it shares
/// its name with packages of other architectures (`Multi-Arch: same`).
pub(super) fn parse(reader: impl BufRead, mut each: impl FnMut(Package, bool)) -> io::Result<()> {
    let mut paragraph = Paragraph::default();
    each_line(reader, LINE_LIMIT_BYTES, |line| {
        if line.is_empty() {
            std::mem::take(&mut paragraph).end(&mut each);
        } else {
            paragraph.add(line);
        }
    })?;
    paragraph.end(&mut each);
    Ok(())
}

#[derive(Default)]
struct Paragraph {
    package: Package,
    gone: bool,
    shared: bool,
}

impl Paragraph {
    /// A line that starts with a blank continues the one before, which no field of ours does.
    fn add(&mut self, line: &str) {
        let Some((field, value)) = line.split_once(':') else {
            return;
        };
        let value = value.trim();
        match field {
            "Package" => value.clone_into(&mut self.package.name),
            "Version" => value.clone_into(&mut self.package.version),
            "Architecture" => value.clone_into(&mut self.package.arch),
            "Maintainer" => value.clone_into(&mut self.package.vendor),
            "Source" => value.clone_into(&mut self.package.source),
            "Multi-Arch" => self.shared = value == "same",
            // What is wanted, whether that went well, and how it is.
            "Status" => {
                self.gone = matches!(
                    value.split_ascii_whitespace().nth(2),
                    Some("not-installed" | "config-files")
                );
            }
            _ => (),
        }
    }

    fn end(self, each: &mut impl FnMut(Package, bool)) {
        if !self.gone && !self.package.name.is_empty() {
            each(self.package, self.shared);
        }
    }
}

/// When the package was unpacked last: dpkg writes its list of files then.
pub(super) fn installed_at(root: &Root, package: &Package, shared: bool) -> Option<Timestamp> {
    let plain = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    };
    if !plain(&package.name) || !plain(&package.arch) {
        return None;
    }
    let list = if shared {
        format!("/var/lib/dpkg/info/{}:{}.list", package.name, package.arch)
    } else {
        format!("/var/lib/dpkg/info/{}.list", package.name)
    };
    Some(root.metadata(list)?.modified().ok()?.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_database_of_dpkg_can_stop_the_collector_a17(
            bytes in prop::collection::vec(any::<u8>(), 0..400),
            text in "((Package|Status|Version|Source| x)?(: ?)[a-z. \u{0}é]{0,20}\n{1,2}){0,20}",
        ) {
            for input in [bytes.as_slice(), text.as_bytes()] {
                parse(input, |package, _| assert!(!package.name.is_empty())).unwrap();
            }
        }
    }
}
