//! Records of `bpf/process.bpf.c`: `bpf/include/process_abi.h` is the other half of this file.

use yinglong_model::ProcessKey;

const EXEC: u16 = 1;
const FORK: u16 = 2;
const EXIT: u16 = 3;
const END: u16 = 4;
const GROUP: u16 = 5;

const EXEC_BYTES: usize = 184;
const GROUP_BYTES: usize = 40;
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
    pub(super) group: GroupId,
    pub(super) image: Image,
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

/// The control groups a process is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct GroupId {
    /// Of version 2.
    pub(crate) id: u64,
    /// In the hierarchy of pids, if that is one of version 1 and somebody looked; else 0.
    pub(crate) version_1: u32,
}

impl GroupId {
    /// Of version 2 alone.
    pub(crate) const fn of(id: u64) -> Self {
        Self { id, version_1: 0 }
    }
}

/// A control group that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Made<'a> {
    pub(super) id: u64,
    /// 0 for version 2.
    pub(super) hierarchy: u32,
    /// From the root of its hierarchy.
    pub(super) path: &'a [u8],
}

/// Content that was executed: of one file no two contents have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Image {
    /// As `stat` tells it, which a few file systems do not do consistently.
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) size_bytes: u64,
    /// Last change, by the file's own clock; zeros when the kernel does not say.
    pub(super) ctime: (i64, i64),
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

/// An end that is told as an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End<'a> {
    pub(super) ts_boot_ns: u64,
    pub(super) key: ProcessKey,
    pub(super) group: GroupId,
    /// Only the programs tell.
    pub(super) usage: Option<Usage>,
    /// Parent at the end.
    pub(super) ppid: u32,
    pub(super) uid: u32,
    /// As wait(2) tells it.
    pub(super) status: u32,
    pub(super) comm: &'a [u8],
}

/// What a process used, all threads together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Usage {
    /// By ticks of the clock.
    pub(super) user_ns: u64,
    /// By ticks of the clock.
    pub(super) system_ns: u64,
    /// Both, as the scheduler counted them.
    pub(super) runtime_ns: u64,
    pub(super) max_rss_pages: u64,
}

/// What the ring holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Record<'a> {
    Exec(Exec<'a>),
    Fork(Fork),
    Exit(Exit),
    End(End<'a>),
    Made(Made<'a>),
}

/// Bytes that are no record of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// Whether a record that makes no further sense at least claims to be an execution.
pub(super) fn claims_exec(bytes: &[u8]) -> bool {
    u16_at(bytes, 16) == Ok(EXEC)
}

/// The same for an end that is told.
pub(super) fn claims_end(bytes: &[u8]) -> bool {
    u16_at(bytes, 16) == Ok(END)
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
                let path_len = usize::from(u16_at(bytes, 130)?);
                let cwd_len = usize::from(u16_at(bytes, 132)?);
                let filename_len = usize::from(u16_at(bytes, 134)?);
                let args_len = usize::try_from(u32_at(bytes, 124)?).map_err(|_| Malformed)?;
                let env_len = usize::from(u16_at(bytes, 128)?);
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
                    key: key(88, 24)?,
                    parent: key(92, 32)?,
                    group: GroupId {
                        id: u64_at(bytes, 40)?,
                        version_1: u32_at(bytes, 76)?,
                    },
                    image: Image {
                        device: user_device(u32_at(bytes, 80)?),
                        inode: u64_at(bytes, 48)?,
                        size_bytes: u64_at(bytes, 56)?,
                        ctime: (
                            u64_at(bytes, 64)?.cast_signed(),
                            i64::from(u32_at(bytes, 72)?),
                        ),
                    },
                    nlink: u32_at(bytes, 84)?,
                    uid: u32_at(bytes, 96)?,
                    euid: u32_at(bytes, 100)?,
                    gid: u32_at(bytes, 104)?,
                    loginuid: set(u32_at(bytes, 112)?),
                    session: set(u32_at(bytes, 116)?),
                    flags: Flags(u32_at(bytes, 120)?),
                    comm: text_at(bytes, 136)?,
                    parent_comm: text_at(bytes, 152)?,
                    tty: text_at(bytes, 168)?,
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
            END => Ok(Self::End(End {
                ts_boot_ns: u64_at(bytes, 8)?,
                key: key(72, 24)?,
                group: GroupId {
                    id: u64_at(bytes, 32)?,
                    version_1: u32_at(bytes, 104)?,
                },
                usage: Some(Usage {
                    user_ns: u64_at(bytes, 40)?,
                    system_ns: u64_at(bytes, 48)?,
                    runtime_ns: u64_at(bytes, 56)?,
                    max_rss_pages: u64_at(bytes, 64)?,
                }),
                ppid: u32_at(bytes, 76)?,
                uid: u32_at(bytes, 80)?,
                status: u32_at(bytes, 84)?,
                comm: text_at(bytes, 88)?,
            })),
            GROUP => {
                let end = GROUP_BYTES + usize::from(u16_at(bytes, 36)?);
                Ok(Self::Made(Made {
                    id: u64_at(bytes, 24)?,
                    hierarchy: u32_at(bytes, 32)?,
                    path: until_nul(bytes.get(GROUP_BYTES..end).ok_or(Malformed)?),
                }))
            }
            _ => Err(Malformed),
        }
    }
}

/// The kernel keeps 12 bits of the major number and 20 of the minor (`MKDEV`).
fn user_device(device: u32) -> u64 {
    libc::makedev(device >> 20, device & 0xf_ffff)
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
        put(48, &9u64.to_ne_bytes());
        put(56, &4096u64.to_ne_bytes());
        put(64, &(-5i64).to_ne_bytes());
        put(72, &7u32.to_ne_bytes());
        put(80, &(8u32 << 20 | 1).to_ne_bytes());
        put(88, &42u32.to_ne_bytes());
        put(92, &1u32.to_ne_bytes());
        put(112, &UNSET.to_ne_bytes());
        put(116, &3u32.to_ne_bytes());
        put(120, &(Flags::SCRIPT | Flags::ENV_CUT).to_ne_bytes());
        put(124, &(args.len() as u32).to_ne_bytes());
        put(128, &(env.len() as u16).to_ne_bytes());
        put(130, &(path.len() as u16).to_ne_bytes());
        put(132, &(cwd.len() as u16).to_ne_bytes());
        put(134, &(filename.len() as u16).to_ne_bytes());
        put(136, b"comm\0garbage");
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
        let image = Image {
            device: libc::makedev(8, 1),
            inode: 9,
            size_bytes: 4096,
            ctime: (-5, 7),
        };
        assert_eq!(exec.image, image);
    }

    #[test]
    fn an_end_is_read_with_what_the_process_used() {
        let mut bytes = vec![0; 112];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(16, &END.to_ne_bytes());
        for (at, value) in (8..80).step_by(8).skip(2).zip(1u64..) {
            put(at, &value.to_ne_bytes());
        }
        for (at, value) in (72..88).step_by(4).zip(100u32..) {
            put(at, &value.to_ne_bytes());
        }
        put(88, b"comm\0garbage");
        put(104, &9u32.to_ne_bytes());
        let expected = End {
            ts_boot_ns: 0,
            key: ProcessKey {
                pid: 100,
                start_boottime_ns: 1,
            },
            group: GroupId {
                id: 2,
                version_1: 9,
            },
            usage: Some(Usage {
                user_ns: 3,
                system_ns: 4,
                runtime_ns: 5,
                max_rss_pages: 6,
            }),
            ppid: 101,
            uid: 102,
            status: 103,
            comm: b"comm",
        };
        assert_eq!(Record::parse(&bytes), Ok(Record::End(expected)));
        assert!(claims_end(&bytes) && !claims_exec(&bytes));
        // Four bytes of nothing are behind it.
        for length in 0..bytes.len() - 4 {
            assert_eq!(Record::parse(&bytes[..length]), Err(Malformed), "{length}");
        }
    }

    #[test]
    fn a_group_is_read_with_its_path() {
        let mut bytes = vec![0; GROUP_BYTES];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(16, &GROUP.to_ne_bytes());
        put(24, &77u64.to_ne_bytes());
        put(32, &3u32.to_ne_bytes());
        put(36, &8u16.to_ne_bytes());
        bytes.extend(b"/docker\0");
        let made = Made {
            id: 77,
            hierarchy: 3,
            path: b"/docker",
        };
        assert_eq!(Record::parse(&bytes), Ok(Record::Made(made)));
        for length in 0..bytes.len() {
            assert_eq!(Record::parse(&bytes[..length]), Err(Malformed), "{length}");
        }
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
            mut bytes in proptest::collection::vec(any::<u8>(), 184..400)
        ) {
            bytes[16..18].copy_from_slice(&EXEC.to_ne_bytes());
            if let Ok(Record::Exec(exec)) = Record::parse(&bytes) {
                let _ = absolute(exec.path);
            }
        }
    }
}
