//! Which calls are watched, and by which numbers: `enum watched_call` of
//! `bpf/include/syscall_abi.h`.

/// Size of the table of numbers, as in the programs.
const NUMBERS: usize = 512;

/// A watched call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Watched {
    /// Its name, which is that of the call.
    pub(super) name: &'static str,
    /// What its meaning has as a number in the programs.
    pub(super) call: Call,
    native: libc::c_long,
    /// Numbers for 32-bit programs (arch/x86/entry/syscalls/syscall_32.tbl).
    compat: &'static [u16],
}

macro_rules! watched {
    ($($number:literal $variant:ident $name:literal $native:ident $compat:expr;)*) => {
        /// What a call does.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u16)]
        #[allow(missing_docs, reason = "named as the calls")]
        pub(super) enum Call {
            $($variant = $number,)*
        }

        /// All of them.
        pub(super) const WATCHED: &[Watched] = &[
            $(Watched {
                name: $name,
                call: Call::$variant,
                native: libc::$native,
                compat: &$compat,
            },)*
        ];
    };
}

watched! {
    1 Ptrace "ptrace" SYS_ptrace [26];
    2 ProcessVmWritev "process_vm_writev" SYS_process_vm_writev [348];
    3 InitModule "init_module" SYS_init_module [128];
    4 FinitModule "finit_module" SYS_finit_module [350];
    5 DeleteModule "delete_module" SYS_delete_module [129];
    6 Bpf "bpf" SYS_bpf [357];
    7 Mount "mount" SYS_mount [21];
    8 Umount2 "umount2" SYS_umount2 [22, 52];
    9 MoveMount "move_mount" SYS_move_mount [429];
    10 PivotRoot "pivot_root" SYS_pivot_root [217];
    11 Unshare "unshare" SYS_unshare [310];
    12 Setns "setns" SYS_setns [346];
    13 Setuid "setuid" SYS_setuid [23, 213];
    14 Setreuid "setreuid" SYS_setreuid [70, 203];
    15 Setresuid "setresuid" SYS_setresuid [164, 208];
    16 Setgid "setgid" SYS_setgid [46, 214];
    17 Setregid "setregid" SYS_setregid [71, 204];
    18 Setresgid "setresgid" SYS_setresgid [170, 210];
    19 MemfdCreate "memfd_create" SYS_memfd_create [356];
    20 Kill "kill" SYS_kill [37];
    21 Tkill "tkill" SYS_tkill [238];
    22 Tgkill "tgkill" SYS_tgkill [270];
    23 PidfdSendSignal "pidfd_send_signal" SYS_pidfd_send_signal [424];
    24 RtSigqueueinfo "rt_sigqueueinfo" SYS_rt_sigqueueinfo [178];
    25 RtTgsigqueueinfo "rt_tgsigqueueinfo" SYS_rt_tgsigqueueinfo [335];
    26 Execve "execve" SYS_execve [11];
    27 Execveat "execveat" SYS_execveat [358];
}

impl Watched {
    /// The call of that number in the programs.
    pub(super) fn of(number: u32) -> Option<&'static Self> {
        WATCHED
            .iter()
            .find(|watched| u32::from(watched.call as u16) == number)
    }

    /// Name of its tracepoints behind `sys_enter_` and `sys_exit_`.
    pub(super) fn tracepoint(&self) -> &'static str {
        match self.call {
            // The kernel keeps the name of the older call.
            Call::Umount2 => "umount",
            _ => self.name,
        }
    }
}

/// Both meanings of every number: that of a native call in the lower half, that of a call through
/// the interface for 32-bit programs in the upper half.
pub(super) fn table() -> Vec<u32> {
    let mut table = vec![0u32; NUMBERS];
    for watched in WATCHED {
        let call = u32::from(watched.call as u16);
        if let Some(entry) = usize::try_from(watched.native)
            .ok()
            .and_then(|number| table.get_mut(number))
        {
            *entry |= call;
        }
        if cfg!(target_arch = "x86_64") {
            for &number in watched.compat {
                if let Some(entry) = table.get_mut(usize::from(number)) {
                    *entry |= call << 16;
                }
            }
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_has_its_numbers_and_no_number_two_calls() {
        let table = table();
        for watched in WATCHED {
            let call = u32::from(watched.call as u16);
            assert_eq!(Watched::of(call), Some(watched));
            let native = table[usize::try_from(watched.native).unwrap()];
            assert_eq!(native & 0xffff, call, "{}", watched.name);
            for &number in watched.compat {
                assert_eq!(table[usize::from(number)] >> 16, call, "{}", watched.name);
            }
        }
        let native = table.iter().filter(|both| *both & 0xffff != 0).count();
        assert_eq!(native, WATCHED.len());
        assert_eq!(Watched::of(0), None);
        assert_eq!(Watched::of(9999), None);
    }
}
