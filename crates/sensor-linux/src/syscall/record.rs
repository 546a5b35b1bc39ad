//! Records of `bpf/syscall.bpf.c`: `bpf/include/syscall_abi.h` is the other half of this file.

use yinglong_model::ProcessKey;

use super::watched::Watched;

const TYPE: u16 = 64;
const BYTES: usize = 224;
/// `(uid_t)-1`: not set.
const UNSET: u32 = u32::MAX;

/// Flag bits of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Flags(pub(super) u32);

impl Flags {
    pub(super) const IMAGE_CUT: u32 = 1;
    pub(super) const TEXT_CUT: u32 = 2;
    pub(super) const TEXT_MISSING: u32 = 4;
    pub(super) const OWN_PIDS: u32 = 16;
    pub(super) const COMPAT: u32 = 32;
    pub(super) const NAMESPACE: u32 = 64;

    pub(super) fn has(self, bit: u32) -> bool {
        self.0 & bit != 0
    }
}

/// A finished call. The image is names ended by NUL, leaf first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) ts_boot_ns: u64,
    pub(super) key: ProcessKey,
    pub(super) parent: ProcessKey,
    pub(super) cgroup_id: u64,
    pub(super) args: [u64; 5],
    pub(super) ret: i64,
    pub(super) inode: u64,
    pub(super) watched: &'static Watched,
    pub(super) flags: Flags,
    pub(super) uid: u32,
    pub(super) euid: u32,
    pub(super) egid: u32,
    pub(super) loginuid: Option<u32>,
    pub(super) session: Option<u32>,
    pub(super) target_pid: u32,
    pub(super) namespace_type: u32,
    pub(super) to_init: u32,
    pub(super) image: &'a [u8],
    pub(super) command: &'a [u8],
    /// Without their NUL, but for a path that the kernel told, leaf first.
    pub(super) texts: [&'a [u8]; 3],
    pub(super) comm: &'a [u8],
    pub(super) parent_comm: &'a [u8],
    pub(super) tty: &'a [u8],
}

/// Bytes that are no record of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

impl<'a> Record<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        if u16_at(bytes, 16)? != TYPE {
            return Err(Malformed);
        }
        let key = |pid_at, start_at| {
            Ok(ProcessKey {
                pid: u32_at(bytes, pid_at)?,
                start_boottime_ns: u64_at(bytes, start_at)?,
            })
        };
        let mut args = [0; 5];
        for (arg, at) in args.iter_mut().zip((48..).step_by(8)) {
            *arg = u64_at(bytes, at)?;
        }
        let mut at = BYTES;
        let mut take = |length_at: usize| {
            let end = at + usize::from(u16_at(bytes, length_at)?);
            let part = bytes.get(at..end).ok_or(Malformed)?;
            at = end;
            Ok(part)
        };
        let set = |value| (value != UNSET).then_some(value);
        Ok(Self {
            ts_boot_ns: u64_at(bytes, 8)?,
            key: key(112, 24)?,
            parent: key(116, 32)?,
            cgroup_id: u64_at(bytes, 40)?,
            args,
            ret: i64::from_ne_bytes(array(bytes, 88)?),
            inode: u64_at(bytes, 96)?,
            watched: Watched::of(u32_at(bytes, 104)?).ok_or(Malformed)?,
            flags: Flags(u32_at(bytes, 108)?),
            uid: u32_at(bytes, 120)?,
            euid: u32_at(bytes, 124)?,
            egid: u32_at(bytes, 132)?,
            loginuid: set(u32_at(bytes, 144)?),
            session: set(u32_at(bytes, 148)?),
            target_pid: u32_at(bytes, 152)?,
            namespace_type: u32_at(bytes, 156)?,
            to_init: u32_at(bytes, 160)?,
            comm: text_at(bytes, 176)?,
            parent_comm: text_at(bytes, 192)?,
            tty: text_at(bytes, 208)?,
            image: take(164)?,
            command: take(166)?,
            texts: [
                without_nul(take(168)?),
                without_nul(take(170)?),
                without_nul(take(172)?),
            ],
        })
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Malformed> {
    let end = at.checked_add(N).ok_or(Malformed)?;
    let part = bytes.get(at..end).ok_or(Malformed)?;
    part.try_into().map_err(|_| Malformed)
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, Malformed> {
    array(bytes, at).map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, Malformed> {
    array(bytes, at).map(u32::from_ne_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64, Malformed> {
    array(bytes, at).map(u64::from_ne_bytes)
}

fn text_at(bytes: &[u8], at: usize) -> Result<&[u8], Malformed> {
    let text = bytes.get(at..at + 16).ok_or(Malformed)?;
    Ok(text.split(|&byte| byte == 0).next().unwrap_or_default())
}

fn without_nul(bytes: &[u8]) -> &[u8] {
    bytes.strip_suffix(&[0]).unwrap_or(bytes)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::{super::watched::Call, *};

    /// A record as the kernel side lays it out.
    pub(in super::super) fn bytes(call: Call, texts: [&[u8]; 3]) -> Vec<u8> {
        let mut bytes = vec![0; BYTES];
        let (image, command) = (&b"gdb\0bin\0usr\0"[..], &b"gdb\0-p\x0042\0"[..]);
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(8, &77u64.to_ne_bytes());
        put(16, &TYPE.to_ne_bytes());
        put(24, &1000u64.to_ne_bytes());
        put(32, &500u64.to_ne_bytes());
        put(104, &u32::from(call as u16).to_ne_bytes());
        put(112, &(u32::MAX - 1).to_ne_bytes());
        put(116, &(u32::MAX - 2).to_ne_bytes());
        put(120, &1000u32.to_ne_bytes());
        put(124, &1001u32.to_ne_bytes());
        put(132, &1002u32.to_ne_bytes());
        put(144, &UNSET.to_ne_bytes());
        put(148, &3u32.to_ne_bytes());
        put(176, b"gdb\0garbage");
        put(192, b"bash\0");
        let parts = [image, command, texts[0], texts[1], texts[2]];
        for (part, at) in parts.iter().zip((164..).step_by(2)) {
            put(at, &u16::try_from(part.len()).unwrap().to_ne_bytes());
        }
        for part in parts {
            bytes.extend_from_slice(part);
        }
        bytes
    }

    #[test]
    fn a_call_is_read_part_by_part() {
        let bytes = bytes(Call::Mount, [b"/mnt\0", b"/dev/sda1\0", b"ext4\0"]);
        let record = Record::parse(&bytes).unwrap();
        assert_eq!(record.watched.name, "mount");
        assert_eq!(
            (record.key.pid, record.parent.pid),
            (u32::MAX - 1, u32::MAX - 2)
        );
        assert_eq!((record.loginuid, record.session), (None, Some(3)));
        assert_eq!((record.uid, record.euid, record.egid), (1000, 1001, 1002));
        assert_eq!(record.image, b"gdb\0bin\0usr\0");
        assert_eq!(record.command, b"gdb\0-p\x0042\0");
        assert_eq!(record.texts, [&b"/mnt"[..], b"/dev/sda1", b"ext4"]);
        assert_eq!(
            (record.comm, record.parent_comm),
            (&b"gdb"[..], &b"bash"[..])
        );
    }

    #[test]
    fn a_record_cut_anywhere_is_malformed() {
        let bytes = bytes(Call::Kill, [b"a\0", b"b\0", b"c\0"]);
        for length in 0..bytes.len() {
            assert_eq!(Record::parse(&bytes[..length]), Err(Malformed), "{length}");
        }
    }

    #[test]
    fn a_call_nobody_knows_is_malformed() {
        let mut bytes = bytes(Call::Kill, [b"", b"", b""]);
        bytes[104..108].copy_from_slice(&9999u32.to_ne_bytes());
        assert_eq!(Record::parse(&bytes), Err(Malformed));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..400), call in 0u32..30
        ) {
            if let Some(kind) = bytes.get_mut(16..18) {
                kind.copy_from_slice(&TYPE.to_ne_bytes());
            }
            if let Some(number) = bytes.get_mut(104..108) {
                number.copy_from_slice(&call.to_ne_bytes());
            }
            if let Ok(record) = Record::parse(&bytes) {
                let _ = super::super::describe::describe(&record, |_| None);
            }
        }
    }
}
