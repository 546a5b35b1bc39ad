//! A header of rpm, as it lies in the database.
//!
//! Two numbers (entries, bytes of data), the entries of 16 bytes (tag, type, offset, count), then the
//! data; all numbers are big-endian. <https://rpm.org/docs/4.20.x/manual/format_header.html>

use yinglong_model::Timestamp;

use super::Package;

const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const RELEASE: u32 = 1002;
const EPOCH: u32 = 1003;
const INSTALL_TIME: u32 = 1008;
const VENDOR: u32 = 1011;
const ARCH: u32 = 1022;
const SOURCE_RPM: u32 = 1044;

/// Types of data.
const INT32: u32 = 4;
const INT64: u32 = 5;
const STRING: u32 = 6;
const I18N_STRING: u32 = 9;

/// Most entries of a header, as in rpm itself.
const ENTRY_LIMIT: usize = 0xffff;

/// Longest text that is kept, in bytes.
const TEXT_LIMIT_BYTES: usize = 1024;

/// The package of a header; `None` when it is none, or has no name. The end of the header may be
/// missing: what would stand there is not known then.
pub(super) fn parse(bytes: &[u8]) -> Option<Package> {
    let entries = usize::try_from(number(bytes, 0)?).ok()?;
    if entries > ENTRY_LIMIT {
        return None;
    }
    let index = bytes.get(8..8 + 16 * entries)?;
    let data = bytes.get(8 + 16 * entries..)?;
    let mut package = Package::default();
    let (mut release, mut epoch) = (String::new(), None);
    for entry in index.chunks_exact(16) {
        let field = Field {
            kind: number(entry, 4)?,
            data: usize::try_from(number(entry, 8)?)
                .ok()
                .and_then(|offset| data.get(offset..))
                .unwrap_or_default(),
        };
        match number(entry, 0)? {
            NAME => package.name = field.text(),
            VERSION => package.version = field.text(),
            RELEASE => release = field.text(),
            EPOCH => epoch = field.integer(),
            INSTALL_TIME => package.installed = field.integer().map(Timestamp::from_secs),
            VENDOR => package.vendor = field.text(),
            ARCH => package.arch = field.text(),
            SOURCE_RPM => package.source = source_name(&field.text()),
            _ => (),
        }
    }
    if package.source == package.name {
        package.source.clear();
    }
    if let Some(epoch) = epoch {
        package.version = format!("{epoch}:{}", package.version);
    }
    if !release.is_empty() {
        package.version = format!("{}-{release}", package.version);
    }
    (!package.name.is_empty()).then_some(package)
}

struct Field<'a> {
    kind: u32,
    data: &'a [u8],
}

impl Field<'_> {
    /// The text, the first of several; empty when it is not one or does not end.
    fn text(&self) -> String {
        if self.kind != STRING && self.kind != I18N_STRING {
            return String::new();
        }
        let start = self.data.get(..TEXT_LIMIT_BYTES).unwrap_or(self.data);
        let text = start.split(|byte| *byte == 0).next().unwrap_or_default();
        if text.len() == self.data.len() {
            return String::new();
        }
        String::from_utf8_lossy(text).into_owned()
    }

    fn integer(&self) -> Option<i64> {
        match self.kind {
            INT32 => number(self.data, 0).map(i64::from),
            INT64 => i64::try_from(u64::from_be_bytes(*self.data.first_chunk()?)).ok(),
            _ => None,
        }
    }
}

/// `bash-5.1.8-6.el9.src.rpm` is of `bash`: version and release hold no minus.
fn source_name(file: &str) -> String {
    file.rsplitn(3, '-').nth(2).unwrap_or_default().to_owned()
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_name_of_a_source_is_what_is_before_version_and_release() {
        assert_eq!(source_name("bash-5.1.8-6.el9.src.rpm"), "bash");
        assert_eq!(source_name("python3-x-y-1-2.src.rpm"), "python3-x-y");
        assert_eq!(source_name("odd"), "");
    }

    proptest! {
        #[test]
        fn no_header_can_stop_the_collector_a17(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            entries in prop::collection::vec(
                (
                    prop::sample::select(vec![NAME, VERSION, RELEASE, EPOCH, INSTALL_TIME, SOURCE_RPM]),
                    0..10_u32,
                    prop_oneof![0..40_u32, any::<u32>()],
                ),
                0..6,
            ),
            data in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let _ = parse(&bytes);
            let mut header = u32::try_from(entries.len()).unwrap().to_be_bytes().to_vec();
            header.extend([0; 4]);
            for (tag, kind, offset) in entries {
                for number in [tag, kind, offset, 1] {
                    header.extend(number.to_be_bytes());
                }
            }
            header.extend(data);
            for end in 0..header.len() {
                if let Some(package) = parse(&header[..end]) {
                    prop_assert!(!package.name.is_empty());
                }
            }
        }
    }
}
