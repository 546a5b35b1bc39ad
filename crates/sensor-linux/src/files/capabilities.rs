//! Capabilities of a file: the extended attribute `security.capability` (`capabilities(7)`,
//! `struct vfs_cap_data` of `linux/capability.h`) as text.

use std::{ffi::CString, io, os::unix::ffi::OsStrExt, path::Path};

/// Names by number, those of kernel 5.9 and later.
const NAMES: [&str; 41] = [
    "cap_chown",
    "cap_dac_override",
    "cap_dac_read_search",
    "cap_fowner",
    "cap_fsetid",
    "cap_kill",
    "cap_setgid",
    "cap_setuid",
    "cap_setpcap",
    "cap_linux_immutable",
    "cap_net_bind_service",
    "cap_net_broadcast",
    "cap_net_admin",
    "cap_net_raw",
    "cap_ipc_lock",
    "cap_ipc_owner",
    "cap_sys_module",
    "cap_sys_rawio",
    "cap_sys_chroot",
    "cap_sys_ptrace",
    "cap_sys_pacct",
    "cap_sys_admin",
    "cap_sys_boot",
    "cap_sys_nice",
    "cap_sys_resource",
    "cap_sys_time",
    "cap_sys_tty_config",
    "cap_mknod",
    "cap_lease",
    "cap_audit_write",
    "cap_audit_control",
    "cap_setfcap",
    "cap_mac_override",
    "cap_mac_admin",
    "cap_syslog",
    "cap_wake_alarm",
    "cap_block_suspend",
    "cap_audit_read",
    "cap_perfmon",
    "cap_bpf",
    "cap_checkpoint_restore",
];

const EFFECTIVE: u32 = 1;
/// Version in the highest byte, with the number of 32-bit words in each set.
const VERSIONS: [(u32, usize); 3] = [(1, 1), (2, 2), (3, 2)];
const ATTRIBUTE: &std::ffi::CStr = c"security.capability";
/// Of the third version, which ends with the user id that is root in its namespace.
const MOST_BYTES: usize = 24;

/// Capabilities of the file `path`, links not followed; `None` when it has none, or they cannot be
/// read.
pub(super) fn of(path: &Path) -> Option<String> {
    let mut value = [0; MOST_BYTES];
    let length = attribute(path, &mut value).ok()?;
    text(value.get(..length)?)
}

/// Names and sets in the notation of `getcap`, but that no name is left out when all are set.
pub(super) fn text(value: &[u8]) -> Option<String> {
    let word = |at: usize| {
        let bytes = value.get(at * 4..at * 4 + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    let magic = word(0)?;
    let (_, words) = VERSIONS
        .into_iter()
        .find(|(version, _)| *version == magic >> 24)?;
    let (mut permitted, mut inheritable) = (0_u64, 0_u64);
    for at in 0..words {
        permitted |= u64::from(word(1 + 2 * at)?) << (32 * at);
        inheritable |= u64::from(word(2 + 2 * at)?) << (32 * at);
    }
    let effective = match magic & EFFECTIVE {
        0 => "",
        _ => "e",
    };
    let sets = [
        (permitted & inheritable, "ip"),
        (permitted & !inheritable, "p"),
        (inheritable & !permitted, "i"),
    ];
    let groups: Vec<String> = sets
        .into_iter()
        .filter(|(set, _)| *set != 0)
        .map(|(set, letters)| format!("{}={effective}{letters}", names(set)))
        .collect();
    (!groups.is_empty()).then(|| groups.join(" "))
}

fn names(set: u64) -> String {
    let set = (0..64_usize).filter(|number| set >> number & 1 == 1);
    let names: Vec<String> = set
        .map(|number| match NAMES.get(number) {
            Some(name) => (*name).to_owned(),
            None => number.to_string(),
        })
        .collect();
    names.join(",")
}

fn attribute(path: &Path, value: &mut [u8]) -> io::Result<usize> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: both names are C strings, and the kernel writes at most `value.len()` bytes to
    // `value`; all outlive the call.
    let length = unsafe {
        libc::lgetxattr(
            path.as_ptr(),
            ATTRIBUTE.as_ptr(),
            value.as_mut_ptr().cast(),
            value.len(),
        )
    };
    usize::try_from(length).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn sets_are_told_as_getcap_writes_them() {
        let check = |words: &[u32], expected: Option<&str>| {
            assert_eq!(text(&value(words)).as_deref(), expected, "{words:x?}");
        };
        check(&[0x0200_0001, 1 << 13, 0, 0, 0], Some("cap_net_raw=ep"));
        check(
            &[0x0300_0000, 1 << 6 | 1 << 7, 1 << 6, 1 << 7, 0, 1000],
            Some("cap_setgid=ip cap_setuid,cap_bpf=p"),
        );
        check(&[0x0100_0000, 0, 1], Some("cap_chown=i"));
        check(&[0x0200_0001, 0, 0, 1 << 31, 0], Some("63=ep"));
        check(&[0x0200_0001, 0, 0, 0, 0], None);
        check(&[0x0200_0001, 1], None);
        check(&[0x0900_0001, 1, 1, 1, 1], None);
    }

    proptest! {
        #[test]
        fn any_value_is_survived(value in proptest::collection::vec(any::<u8>(), 0..40)) {
            text(&value);
        }
    }
}
