//! Records of `bpf/process.bpf.c`: `bpf/include/process_abi.h` is the other half of this file.

use yinglong_model::ProcessKey;

const EXEC: u16 = 1;
const FORK: u16 = 2;
const EXIT: u16 = 3;

const EXEC_BYTES: usize = 160;
/// `(uid_t)-1`: not set.
const UNSET: u32 = u32::MAX;

/// Flag bits of an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Flags(u32);

impl Flags {
    const PATH_CUT: u32 = 1;
    const ARGS_CUT: u32 = 2;
    const ENV_CUT: u32 = 4;
    const ARGS_MISSING: u32 = 8;
    const SCRIPT: u32 = 16;
    const SETUID: u32 = 32;

    /// Command line or environment is not complete.
    pub(super) fn cut(self) -> bool {
        self.0 & (Self::ARGS_CUT | Self::ENV_CUT) != 0
    }
    /// The path of the image is not complete.
    pub(super) fn path_cut(self) -> bool {
        self.0 & Self::PATH_CUT != 0
    }
    /// The kernel could not read the command line.
    pub(super) fn args_missing(self) -> bool {
        self.0 & Self::ARGS_MISSING != 0
    }
    /// The file name is that of a script.
    pub(super) fn script(self) -> bool {
        self.0 & Self::SCRIPT != 0
    }
    /// Credentials changed.
    pub(super) fn setuid(self) -> bool {
        self.0 & Self::SETUID != 0
    }
}

/// An execution. Paths are names ended by NUL, leaf first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Exec<'a> {
    pub(super) ts_boot_ns: u64,
    pub(super) key: ProcessKey,
    pub(super) parent: ProcessKey,
    pub(super) cgroup_id: u64,
    pub(super) nlink: u32,
    pub(super) uid: u32,
    pub(super) euid: u32,
    pub(super) gid: u32,
    pub(super) loginuid: Option<u32>,
    pub(super) session: Option<u32>,
    pub(super) flags: Flags,
    pub(super) path: &'a [u8],
    pub(super) cwd: &'a [u8],
    pub(super) filename: &'a [u8],
    pub(super) args: &'a [u8],
    pub(super) env: &'a [u8],
    pub(super) comm: &'a [u8],
    pub(super) parent_comm: &'a [u8],
    pub(super) tty: &'a [u8],
}

/// A new process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fork {
    pub(super) key: ProcessKey,
    pub(super) parent: ProcessKey,
    pub(super) uid: u32,
}

/// The end of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exit {
    pub(super) ts_boot_ns: u64,
    pub(super) key: ProcessKey,
}

/// What the ring holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Record<'a> {
    Exec(Exec<'a>),
    Fork(Fork),
    Exit(Exit),
}

/// Bytes that are no record of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// Whether a record that makes no further sense at least claims to be an execution.
pub(super) fn claims_exec(bytes: &[u8]) -> bool {
    u16_at(bytes, 16) == Ok(EXEC)
}

impl<'a> Record<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let key = |pid_at, start_at| {
            Ok(ProcessKey {
                pid: u32_at(bytes, pid_at)?,
                start_boottime_ns: u64_at(bytes, start_at)?,
            })
        };
        match u16_at(bytes, 16)? {
            EXEC => {
                let path_len = usize::from(u16_at(bytes, 106)?);
                let cwd_len = usize::from(u16_at(bytes, 108)?);
                let filename_len = usize::from(u16_at(bytes, 110)?);
                let args_len = usize::try_from(u32_at(bytes, 100)?).map_err(|_| Malformed)?;
                let env_len = usize::from(u16_at(bytes, 104)?);
                let mut at = EXEC_BYTES;
                let mut take = |length: usize| {
                    let end = at.checked_add(length).ok_or(Malformed)?;
                    let part = bytes.get(at..end).ok_or(Malformed)?;
                    at = end;
                    Ok(part)
                };
                let set = |value| (value != UNSET).then_some(value);
                Ok(Self::Exec(Exec {
                    ts_boot_ns: u64_at(bytes, 8)?,
                    key: key(64, 24)?,
                    parent: key(68, 32)?,
                    cgroup_id: u64_at(bytes, 40)?,
                    nlink: u32_at(bytes, 60)?,
                    uid: u32_at(bytes, 72)?,
                    euid: u32_at(bytes, 76)?,
                    gid: u32_at(bytes, 80)?,
                    loginuid: set(u32_at(bytes, 88)?),
                    session: set(u32_at(bytes, 92)?),
                    flags: Flags(u32_at(bytes, 96)?),
                    comm: text_at(bytes, 112)?,
                    parent_comm: text_at(bytes, 128)?,
                    tty: text_at(bytes, 144)?,
                    path: take(path_len)?,
                    cwd: take(cwd_len)?,
                    filename: until_nul(take(filename_len)?),
                    args: take(args_len)?,
                    env: take(env_len)?,
                }))
            }
            FORK => Ok(Self::Fork(Fork {
                key: key(40, 24)?,
                parent: key(44, 32)?,
                uid: u32_at(bytes, 48)?,
            })),
            EXIT => Ok(Self::Exit(Exit {
                ts_boot_ns: u64_at(bytes, 8)?,
                key: key(32, 24)?,
            })),
            _ => Err(Malformed),
        }
    }
}

/// A path given leaf first, as the usual text: absolute, from the root.
pub(crate) fn absolute(names: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(names.len() + 1);
    for name in names.rsplit(|&byte| byte == 0) {
        if !name.is_empty() && name != b"/" {
            path.push(b'/');
            path.extend_from_slice(name);
        }
    }
    if path.is_empty() && !names.is_empty() {
        path.push(b'/');
    }
    path
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
    bytes.get(at..at + 16).map(until_nul).ok_or(Malformed)
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|&byte| byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An execution record as the kernel side lays it out.
    fn exec(path: &[u8], cwd: &[u8], filename: &[u8], args: &[u8], env: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; EXEC_BYTES];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(8, &77u64.to_ne_bytes());
        put(16, &EXEC.to_ne_bytes());
        put(24, &1000u64.to_ne_bytes());
        put(32, &500u64.to_ne_bytes());
        put(64, &42u32.to_ne_bytes());
        put(68, &1u32.to_ne_bytes());
        put(88, &UNSET.to_ne_bytes());
        put(92, &3u32.to_ne_bytes());
        put(96, &(Flags::SCRIPT | Flags::ENV_CUT).to_ne_bytes());
        put(100, &(args.len() as u32).to_ne_bytes());
        put(104, &(env.len() as u16).to_ne_bytes());
        put(106, &(path.len() as u16).to_ne_bytes());
        put(108, &(cwd.len() as u16).to_ne_bytes());
        put(110, &(filename.len() as u16).to_ne_bytes());
        put(112, b"comm\0garbage");
        for part in [path, cwd, filename, args, env] {
            bytes.extend_from_slice(part);
        }
        bytes
    }

    #[test]
    fn an_execution_is_read_part_by_part() {
        let bytes = exec(b"id\0bin\0", b"tmp\0", b"./x\0", b"x\0-a\0", b"A=1\0");
        let Ok(Record::Exec(exec)) = Record::parse(&bytes) else {
            panic!("not an execution");
        };
        assert_eq!((exec.key.pid, exec.key.start_boottime_ns), (42, 1000));
        assert_eq!((exec.parent.pid, exec.parent.start_boottime_ns), (1, 500));
        assert_eq!((exec.loginuid, exec.session), (None, Some(3)));
        assert!(exec.flags.script() && exec.flags.cut() && !exec.flags.setuid());
        assert_eq!(absolute(exec.path), b"/bin/id");
        assert_eq!(absolute(exec.cwd), b"/tmp");
        assert_eq!((exec.filename, exec.args), (&b"./x"[..], &b"x\0-a\0"[..]));
        assert_eq!((exec.env, exec.comm), (&b"A=1\0"[..], &b"comm"[..]));
    }

    #[test]
    fn a_record_cut_anywhere_is_malformed() {
        let bytes = exec(b"id\0", b"tmp\0", b"id\0", b"id\0", b"A=1\0");
        for length in 0..bytes.len() {
            assert_eq!(Record::parse(&bytes[..length]), Err(Malformed), "{length}");
        }
        assert!(claims_exec(&bytes[..20]));
        assert!(!claims_exec(&bytes[..10]));
    }

    #[test]
    fn names_leaf_first_become_an_absolute_path() {
        for (names, path) in [
            (&b"\0"[..], &b"/"[..]),
            (&b"true\0bin\0usr\0"[..], &b"/usr/bin/true"[..]),
            (b"memfd:x\0", b"/memfd:x"),
            (b"/\0", b"/"),
            (b"", b""),
        ] {
            assert_eq!(absolute(names), path);
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = Record::parse(&bytes);
        }

        #[test]
        fn arbitrary_execution_records_never_panic(
            mut bytes in proptest::collection::vec(any::<u8>(), 160..400)
        ) {
            bytes[16..18].copy_from_slice(&EXEC.to_ne_bytes());
            if let Ok(Record::Exec(exec)) = Record::parse(&bytes) {
                let _ = absolute(exec.path);
            }
        }
    }
}
