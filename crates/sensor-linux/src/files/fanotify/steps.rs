//! What the bits of an event say, which the kernel may have merged of several.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use super::parse::Event;
use crate::files::{
    change::{Kind, Step},
    deep::Reach,
};

/// The steps of an event that concern the file whatever its names.
pub(super) fn content_steps(mask: u64) -> Vec<Step> {
    let content = libc::FAN_MODIFY | libc::FAN_CLOSE_WRITE | libc::FAN_ATTRIB;
    steps(mask & content, || false).collect()
}

/// Whether the name of an event is the one the kernel makes up for a file without (`O_TMPFILE`):
/// `#` and its number, where no such file is.
pub(super) fn is_nameless(event: &Event<'_>, path: &Path) -> bool {
    let named = libc::FAN_CREATE | libc::FAN_DELETE;
    let digits = event.name.strip_prefix(b"#").unwrap_or_default();
    !digits.is_empty()
        && digits.iter().all(u8::is_ascii_digit)
        && event.mask & named == 0
        && !exists(path)
}

pub(super) fn exists(path: &Path) -> bool {
    Reach::of(path).is_ok_and(|reach| fs::symlink_metadata(reach.path()).is_ok())
}

/// Whether the file `path` has further names.
pub(super) fn has_links(path: &Path) -> bool {
    let metadata = Reach::of(path).and_then(|reach| fs::symlink_metadata(reach.path()));
    metadata.is_ok_and(|metadata| metadata.is_file() && metadata.nlink() > 1)
}

/// The steps of a merged event in the most likely order. `exists` is asked only when the name both
/// appeared and went away.
pub(super) fn steps(mask: u64, exists: impl FnOnce() -> bool) -> impl Iterator<Item = Step> {
    let has = |bits: u64| mask & bits != 0;
    let gone = [
        has(libc::FAN_MOVED_FROM).then_some(Step::Changed(Kind::Rename)),
        has(libc::FAN_DELETE).then_some(Step::Changed(Kind::Remove)),
    ];
    let there = [
        has(libc::FAN_CREATE | libc::FAN_MOVED_TO).then_some(Step::Changed(Kind::Create)),
        has(libc::FAN_MODIFY).then_some(Step::Changed(Kind::Write)),
        has(libc::FAN_CLOSE_WRITE).then_some(Step::Closed),
        has(libc::FAN_ATTRIB).then_some(Step::Changed(Kind::Chmod)),
    ];
    let both = gone.iter().any(Option::is_some) && there[0].is_some();
    let gone_first = both && exists();
    let (early, late) = match gone_first {
        true => (gone.to_vec(), there.to_vec()),
        false => (there.to_vec(), gone.to_vec()),
    };
    early.into_iter().chain(late).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_merged_event_is_told_in_the_order_that_fits_what_is_left() {
        use Kind::{Chmod, Create, Remove, Rename, Write};
        let check = |mask, exists: bool, expected: &[Step]| {
            let told: Vec<_> = steps(mask, || exists).collect();
            assert_eq!(told, expected);
        };
        let changed = Step::Changed;
        let life = libc::FAN_CREATE | libc::FAN_MODIFY | libc::FAN_CLOSE_WRITE | libc::FAN_DELETE;
        check(
            life,
            false,
            &[
                changed(Create),
                changed(Write),
                Step::Closed,
                changed(Remove),
            ],
        );
        check(
            life,
            true,
            &[
                changed(Remove),
                changed(Create),
                changed(Write),
                Step::Closed,
            ],
        );
        check(
            libc::FAN_ATTRIB | libc::FAN_MOVED_FROM,
            true,
            &[changed(Chmod), changed(Rename)],
        );
        check(libc::FAN_Q_OVERFLOW, false, &[]);
    }
}
