//! Where a tree ends: programs that start things which have nothing to do with each other.

/// Bytes of a base name that are kept: enough for every name below, most names have fewer.
const NAME_BYTES: usize = 23;

/// A base name without memory of its own; the end of a long one is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ShortName {
    length: u8,
    bytes: [u8; NAME_BYTES],
}

impl ShortName {
    /// Base name of a path of either system.
    pub(crate) fn of(path: &str) -> Self {
        let base = base_name(path).as_bytes();
        let mut name = Self {
            // At most `NAME_BYTES`.
            length: u8::try_from(base.len().min(NAME_BYTES)).unwrap_or_default(),
            bytes: [0; NAME_BYTES],
        };
        name.bytes
            .iter_mut()
            .zip(base)
            .for_each(|(to, from)| *to = *from);
        name
    }

    /// As text; where it was cut within a character, without that.
    pub(crate) fn text(&self) -> String {
        let bytes = self.bytes();
        match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(error) => {
                let whole = bytes.get(..error.valid_up_to()).unwrap_or_default();
                String::from_utf8_lossy(whole).into_owned()
            }
        }
    }

    /// What was kept, as bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes
            .get(..usize::from(self.length))
            .unwrap_or_default()
    }

    /// What was kept; `None` when it is too long.
    pub(crate) fn from_bytes(kept: &[u8]) -> Option<Self> {
        let mut bytes = [0; NAME_BYTES];
        bytes.get_mut(..kept.len())?.copy_from_slice(kept);
        Some(Self {
            length: u8::try_from(kept.len()).ok()?,
            bytes,
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.length == 0
    }
}

fn base_name(path: &str) -> &str {
    let separator = path.bytes().rposition(|byte| byte == b'/' || byte == b'\\');
    // Both are one byte and never part of another character.
    separator.map_or(path, |at| path.get(at + 1..).unwrap_or_default())
}

/// Highest process id that belongs to the system itself: none, `init` and `kthreadd` on Linux,
/// idle and `System` on Windows.
const SYSTEM_PIDS: u32 = 4;

/// Whether what this program starts are trees of their own. `name` may be a path.
pub(crate) fn is_boundary(pid: u32, name: &str) -> bool {
    let base = base_name(name);
    pid <= SYSTEM_PIDS
        || is_service_manager(base)
        || is_door_or_clock(base)
        || is_container_runtime(base)
        || has_many_windows(base)
        || is_boundary_of_windows(base)
}

fn is_service_manager(base: &str) -> bool {
    matches!(
        base,
        "systemd"
            | "systemd-executor"
            | "init"
            | "launchd"
            | "openrc-run"
            | "runsv"
            | "s6-supervise"
            | "supervisord"
            | "start-stop-daemon"
            | "systemd-udevd"
            | "udevd"
    )
}

fn is_door_or_clock(base: &str) -> bool {
    matches!(
        base,
        "sshd"
            | "sshd-session"
            | "sshd-auth"
            | "dropbear"
            | "login"
            | "agetty"
            | "in.telnetd"
            | "telnetd"
            | "inetd"
            | "xinetd"
            | "xrdp-sesman"
            | "gdm-session-worker"
            | "lightdm"
            | "sddm-helper"
            | "cron"
            | "crond"
            | "atd"
            | "anacron"
            | "fcron"
    )
}

fn is_container_runtime(base: &str) -> bool {
    matches!(
        base,
        "containerd"
            | "containerd-shim"
            | "containerd-shim-runc-v1"
            | "containerd-shim-runc-v2"
            | "conmon"
            | "dockerd"
            | "crio"
            | "runc"
            | "crun"
            | "kubelet"
    )
}

fn has_many_windows(base: &str) -> bool {
    matches!(
        base,
        "tmux" | "screen" | "gnome-terminal-server" | "gnome-shell" | "plasmashell" | "konsole"
    )
}

fn is_boundary_of_windows(base: &str) -> bool {
    matches!(
        base,
        "services.exe"
            | "svchost.exe"
            | "wininit.exe"
            | "winlogon.exe"
            | "smss.exe"
            | "csrss.exe"
            | "userinit.exe"
            | "explorer.exe"
            | "taskeng.exe"
            | "taskhostw.exe"
            | "sihost.exe"
    )
}

/// Units that hold what a boundary starts, or the boundary itself: being in one says nothing.
const SHARED_UNITS: &[&str] = &[
    "init.scope",
    "ssh",
    "cron",
    "atd",
    "anacron",
    "docker.service",
    "containerd",
    "crio",
    "kubelet",
    "user@",
    "getty@",
    "systemd-",
    "supervisor",
    "xrdp",
    "gdm",
    "lightdm",
    "sddm",
    "dropbear",
];

/// The container, or the control group if it holds one service or one session only.
pub(crate) fn own_group(group: &str) -> Option<&str> {
    if group.is_empty() {
        return None;
    }
    let Some((_, unit)) = group.rsplit_once('/') else {
        return Some(group);
    };
    let single = unit.ends_with(".scope") || unit.ends_with(".service");
    let shared = SHARED_UNITS.iter().any(|prefix| unit.starts_with(prefix));
    (single && !shared).then_some(group)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boundary_is_known_by_its_base_name() {
        for name in [
            "/usr/sbin/sshd",
            "cron",
            "C:\\Windows\\System32\\services.exe",
        ] {
            assert!(is_boundary(700, name), "{name}");
        }
        for name in ["/usr/sbin/nginx", "bash", "", "/home/sshd/x"] {
            assert!(!is_boundary(700, name), "{name}");
        }
        assert!(is_boundary(1, "anything"));
    }

    #[test]
    fn the_longest_boundary_fits_into_a_short_name() {
        let name = "containerd-shim-runc-v2";
        assert_eq!(ShortName::of(name).text(), name);
    }

    #[test]
    fn long_names_are_cut_between_characters() {
        assert_eq!(ShortName::of(&"龙".repeat(20)).text(), "龙".repeat(7));
        assert_eq!(ShortName::of("/usr/bin/id").text(), "id");
        assert!(ShortName::of("").is_empty());
    }

    #[test]
    fn a_group_counts_only_if_it_holds_one_service_session_or_container() {
        let own = [
            "/user.slice/user-1000.slice/session-3.scope",
            "/system.slice/nginx.service",
            "/system.slice/docker-0123.scope",
            "3f4e8a",
        ];
        for group in own {
            assert_eq!(own_group(group), Some(group));
        }
        let shared = [
            "",
            "/",
            "/init.scope",
            "/system.slice/ssh.service",
            "/system.slice/cron.service",
            "/user.slice/user-1000.slice/user@1000.service",
            "/system.slice",
        ];
        for group in shared {
            assert_eq!(own_group(group), None, "{group}");
        }
    }
}
