//! The bytes of a fanotify queue (`linux/fanotify.h`, event version 3) as events.

/// `struct fanotify_event_metadata`: length, version, reserved, own length, mask, fd, pid.
const METADATA_BYTES: usize = 24;
const VERSION: u8 = 3;
/// `struct fanotify_event_info_header`: type, padding, length.
const HEADER_BYTES: usize = 4;
/// File system id, length of the handle, type of the handle.
const KEY_PREFIX_BYTES: usize = 16;

/// An event. A *key* is the identity of a file: file system id and file handle, as the kernel
/// wrote them, `fsid (8) | handle length (u32) | handle type (i32) | handle`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Event<'a> {
    pub(super) mask: u64,
    /// 0 when the process lies outside our pid namespace.
    pub(super) pid: u32,
    /// Refers to the process; negative when it ended before the event was read.
    pub(super) pidfd: Option<i32>,
    /// Descriptor of the object, which the modes in use never give.
    pub(super) fd: Option<i32>,
    /// Key of the directory.
    pub(super) directory: Option<&'a [u8]>,
    /// Name within the directory; `.` for the directory itself.
    pub(super) name: &'a [u8],
    /// Key of the object itself (kernel 5.17).
    pub(super) target: Option<&'a [u8]>,
    /// Directory and name before a rename (kernel 5.17).
    pub(super) old: Option<(&'a [u8], &'a [u8])>,
    /// Directory and name after a rename (kernel 5.17).
    pub(super) new: Option<(&'a [u8], &'a [u8])>,
}

/// Why reading ended before the end of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("fanotify bytes make no sense from {at} on")]
pub(super) struct Malformed {
    at: usize,
}

/// Events in `bytes`; after an error there is nothing more.
pub(super) fn events(bytes: &[u8]) -> impl Iterator<Item = Result<Event<'_>, Malformed>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = bytes.get(at..).filter(|rest| !rest.is_empty())?;
        match event(rest) {
            Some((event, length)) => {
                at += length;
                Some(Ok(event))
            }
            None => {
                let error = Malformed { at };
                at = bytes.len();
                Some(Err(error))
            }
        }
    })
}

fn event(bytes: &[u8]) -> Option<(Event<'_>, usize)> {
    let length = usize::try_from(u32::from_ne_bytes(array(bytes, 0)?)).ok()?;
    let metadata = usize::from(u16::from_ne_bytes(array(bytes, 6)?));
    if *bytes.get(4)? != VERSION || metadata < METADATA_BYTES || length < metadata {
        return None;
    }
    let bytes = bytes.get(..length)?;
    let fd = i32::from_ne_bytes(array(bytes, 16)?);
    let mut event = Event {
        mask: u64::from_ne_bytes(array(bytes, 8)?),
        pid: u32::try_from(i32::from_ne_bytes(array(bytes, 20)?)).unwrap_or(0),
        pidfd: None,
        fd: (fd >= 0).then_some(fd),
        directory: None,
        name: b"",
        target: None,
        old: None,
        new: None,
    };
    let mut rest = bytes.get(metadata..)?;
    while !rest.is_empty() {
        let length = usize::from(u16::from_ne_bytes(array(rest, 2)?));
        let body = rest.get(HEADER_BYTES..length)?;
        match *rest.first()? {
            libc::FAN_EVENT_INFO_TYPE_DFID_NAME => {
                let (key, name) = named(body)?;
                event.directory = Some(key);
                event.name = name;
            }
            libc::FAN_EVENT_INFO_TYPE_OLD_DFID_NAME => event.old = Some(named(body)?),
            libc::FAN_EVENT_INFO_TYPE_NEW_DFID_NAME => event.new = Some(named(body)?),
            libc::FAN_EVENT_INFO_TYPE_DFID => event.directory = Some(split_key(body)?.0),
            libc::FAN_EVENT_INFO_TYPE_FID => event.target = Some(split_key(body)?.0),
            libc::FAN_EVENT_INFO_TYPE_PIDFD => {
                event.pidfd = Some(i32::from_ne_bytes(array(body, 0)?));
            }
            _ => {}
        }
        rest = rest.get(length..)?;
    }
    Some((event, length))
}

/// Key and name, which ends at its first zero byte.
fn named(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let (key, name) = split_key(body)?;
    Some((key, name.split(|byte| *byte == 0).next().unwrap_or(b"")))
}

fn split_key(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let handle = usize::try_from(u32::from_ne_bytes(array(body, 8)?)).ok()?;
    body.split_at_checked(KEY_PREFIX_BYTES.checked_add(handle)?)
}

/// File system id, type and bytes of the handle in a key.
pub(super) fn key_parts(key: &[u8]) -> Option<(u64, i32, &[u8])> {
    let fsid = u64::from_ne_bytes(array(key, 0)?);
    let kind = i32::from_ne_bytes(array(key, 12)?);
    Some((fsid, kind, key.get(KEY_PREFIX_BYTES..)?))
}

/// The key of a handle.
pub(super) fn key_of(fsid: u64, kind: i32, handle: &[u8]) -> Box<[u8]> {
    let length = u32::try_from(handle.len()).unwrap_or(u32::MAX);
    let mut key = Vec::with_capacity(KEY_PREFIX_BYTES + handle.len());
    key.extend_from_slice(&fsid.to_ne_bytes());
    key.extend_from_slice(&length.to_ne_bytes());
    key.extend_from_slice(&kind.to_ne_bytes());
    key.extend_from_slice(handle);
    key.into_boxed_slice()
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn info(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(HEADER_BYTES + body.len()).unwrap();
        let mut bytes = vec![kind, 0];
        bytes.extend(length.to_ne_bytes());
        bytes.extend(body);
        bytes
    }

    fn message(mask: u64, pid: i32, infos: &[Vec<u8>]) -> Vec<u8> {
        let infos = infos.concat();
        let length = u32::try_from(METADATA_BYTES + infos.len()).unwrap();
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend([VERSION, 0]);
        bytes.extend(24_u16.to_ne_bytes());
        bytes.extend(mask.to_ne_bytes());
        bytes.extend((-1_i32).to_ne_bytes());
        bytes.extend(pid.to_ne_bytes());
        bytes.extend(infos);
        bytes
    }

    #[test]
    fn reads_directory_name_target_and_process() {
        let (directory, target) = (key_of(7, 1, b"DIRDIR12"), key_of(7, 1, b"FILE"));
        let named = [&directory[..], b"name\0\0\0"].concat();
        let bytes = message(
            libc::FAN_CREATE,
            42,
            &[
                info(2, &named),
                info(1, &target),
                info(4, &9_i32.to_ne_bytes()),
            ],
        );
        let twice = [bytes.clone(), bytes].concat();
        let read: Vec<_> = events(&twice).collect();
        assert_eq!(read.len(), 2);
        let event = read[1].unwrap();
        assert_eq!(event.mask, libc::FAN_CREATE);
        assert_eq!((event.pid, event.pidfd, event.fd), (42, Some(9), None));
        assert_eq!(event.directory, Some(&directory[..]));
        assert_eq!(event.name, b"name");
        assert_eq!(event.target, Some(&target[..]));
        assert_eq!(key_parts(&directory), Some((7, 1, &b"DIRDIR12"[..])));
    }

    #[test]
    fn reads_both_names_of_a_rename() {
        let (from, to) = (key_of(7, 1, b"FROM"), key_of(7, 1, b"TOTO"));
        let bytes = message(
            libc::FAN_RENAME,
            42,
            &[
                info(10, &[&from[..], b"old\0"].concat()),
                info(12, &[&to[..], b"new\0"].concat()),
                info(1, &key_of(7, 1, b"FILE")),
            ],
        );
        let event = events(&bytes).next().unwrap().unwrap();
        assert_eq!(event.old, Some((&from[..], &b"old"[..])));
        assert_eq!(event.new, Some((&to[..], &b"new"[..])));
        assert_eq!(event.directory, None);
    }

    #[test]
    fn records_of_kinds_to_come_are_passed_over() {
        let bytes = message(libc::FAN_Q_OVERFLOW, 0, &[info(77, b"future")]);
        let event = events(&bytes).next().unwrap().unwrap();
        assert_eq!(event.mask, libc::FAN_Q_OVERFLOW);
        assert_eq!(event.directory, None);
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let good = message(libc::FAN_CREATE, 1, &[info(4, &9_i32.to_ne_bytes())]);
        let check = |bytes: Vec<u8>| {
            let read: Vec<_> = events(&bytes).collect();
            assert_eq!(read, [Err(Malformed { at: 0 })], "{bytes:?}");
        };
        for length in 1..good.len() {
            check(good[..length].to_vec());
        }
        for (at, value) in [(0, 23), (4, 2), (6, 8), (26, 0), (26, 200)] {
            let mut bad = good.clone();
            bad[at] = value;
            check(bad);
        }
        check(message(
            libc::FAN_CREATE,
            1,
            &[info(2, &key_of(1, 1, b"x")[..15])],
        ));
        assert_eq!(events(b"").count(), 0);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_an_end(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(events(&bytes).count() <= bytes.len() / METADATA_BYTES + 1);
            key_parts(&bytes);
        }

        #[test]
        fn any_damage_to_an_event_is_survived(at in 0_usize..80, value: u8) {
            let named = [&key_of(7, 1, b"DIRDIR12")[..], b"name\0\0\0\0"].concat();
            let mut bytes = message(8, 42, &[info(2, &named), info(4, &9_i32.to_ne_bytes())]);
            let at = at % bytes.len();
            bytes[at] = value;
            prop_assert!(events(&bytes).count() <= 4);
        }
    }
}
