//! The unit of systemd: hardening that takes away what the agent needs.

use std::{collections::BTreeMap, fs, path::PathBuf};

use super::{Check, State, host::CAPABILITIES, plain, say};

const NAME: &str = "yinglong-agent.service";
/// Where units are looked for, the most important first.
const FOLDERS: [&str; 4] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];
/// Address families the agent opens sockets of.
const FAMILIES: [&str; 5] = ["AF_INET", "AF_INET6", "AF_UNIX", "AF_NETLINK", "AF_PACKET"];
/// System calls that no group for ordinary services has, and the group that has them.
const CALLS: [(&str, &str); 6] = [
    ("bpf", "@privileged"),
    ("fanotify_init", "@privileged"),
    ("fanotify_mark", "@privileged"),
    ("open_by_handle_at", "@privileged"),
    ("perf_event_open", "@debug"),
    ("sched_setscheduler", "@resources"),
];
/// Settings that blind it: name, the values that do not, what is lost.
const HARMFUL: [(&str, &[&str], &str); 11] = [
    (
        "PrivateUsers",
        &["no"],
        "PrivateUsers: no capability counts outside",
    ),
    (
        "PrivateNetwork",
        &["no"],
        "PrivateNetwork: the host's connections",
    ),
    ("PrivateTmp", &["no"], "PrivateTmp: files in /tmp"),
    (
        "PrivateDevices",
        &["no"],
        "PrivateDevices: files in /dev, where they should not be",
    ),
    ("PrivatePIDs", &["no"], "PrivatePIDs: the host's processes"),
    (
        "ProtectKernelModules",
        &["no"],
        "ProtectKernelModules: files and signatures of kernel modules",
    ),
    (
        "ProtectHostname",
        &["no"],
        "ProtectHostname: changes of the host's name",
    ),
    (
        "ProtectProc",
        &["default"],
        "ProtectProc: processes of other users",
    ),
    ("ProcSubset", &["all"], "ProcSubset: counters of the kernel"),
    (
        "RestrictRealtime",
        &["no"],
        "RestrictRealtime: its turn before other processes",
    ),
    (
        "ProtectHome",
        &["no", "read-only"],
        "ProtectHome: files below /home and /root",
    ),
];

pub(super) fn check() -> Check {
    let title = say("systemd unit", "systemd 服务单元");
    let Some((path, text)) = find() else {
        return Check::ok("unit", title, say("not installed", "未安装")).but(
            State::Unused,
            say(
                "the agent does not start with the host",
                "代理不会随主机启动",
            ),
            say(
                "copy deploy/systemd/yinglong-agent.service to /etc/systemd/system",
                "将 deploy/systemd/yinglong-agent.service 复制到 /etc/systemd/system",
            ),
        );
    };
    let faults = faults(&text);
    let found = plain(path.display().to_string());
    if faults.is_empty() {
        return Check::ok("unit", title, found);
    }
    let list = faults.join("; ");
    Check::ok("unit", title, found).but(
        State::Fallback,
        say(format!("takes away: {list}"), format!("限制了：{list}")),
        say(
            "compare it with deploy/systemd/yinglong-agent.service, then systemctl daemon-reload",
            "与 deploy/systemd/yinglong-agent.service 对照修改，再执行 systemctl daemon-reload",
        ),
    )
}

/// The unit with its drop-ins, as one text in which later lines win.
fn find() -> Option<(PathBuf, String)> {
    let (path, mut text) = FOLDERS.iter().find_map(|folder| {
        let path = PathBuf::from(folder).join(NAME);
        let text = fs::read_to_string(&path).ok()?;
        Some((path, text))
    })?;
    let mut files = BTreeMap::new();
    for folder in FOLDERS.iter().rev() {
        let entries = fs::read_dir(PathBuf::from(folder).join(format!("{NAME}.d")));
        for entry in entries.into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|end| end == "conf") {
                files.insert(entry.file_name(), entry.path());
            }
        }
    }
    for file in files.values() {
        if let Ok(more) = fs::read_to_string(file) {
            text.push('\n');
            text.push_str(&more);
        }
    }
    Some((path, text))
}

/// What a unit takes away. Lists add up and an empty value clears them; of the rest the last counts.
fn faults(unit: &str) -> Vec<String> {
    let mut lists = BTreeMap::<&str, Vec<&str>>::new();
    let mut last = BTreeMap::<&str, &str>::new();
    for line in unit.lines() {
        let Some((name, value)) = line.trim().split_once('=') else {
            continue;
        };
        let (name, value) = (name.trim(), value.trim());
        last.insert(name, value);
        let list = lists.entry(name).or_default();
        match value.is_empty() {
            true => list.clear(),
            false => list.extend(value.split_ascii_whitespace()),
        }
    }
    let mut faults = Vec::new();
    if let Some(set) = last
        .contains_key("CapabilityBoundingSet")
        .then(|| lists.get("CapabilityBoundingSet"))
        .flatten()
    {
        let inverted = set.first().is_some_and(|first| first.starts_with('~'));
        for (_, name, lost, _) in CAPABILITIES {
            let named = set
                .iter()
                .any(|entry| entry.trim_start_matches('~') == name);
            if named == inverted {
                faults.push(format!("{name} ({lost})"));
            }
        }
    }
    if let Some(set) = lists
        .get("RestrictAddressFamilies")
        .filter(|set| !set.is_empty())
    {
        let inverted = set.first().is_some_and(|first| first.starts_with('~'));
        for family in FAMILIES {
            let named = set
                .iter()
                .any(|entry| entry.trim_start_matches('~') == family);
            if named == inverted {
                faults.push(format!("sockets of {family}"));
            }
        }
    }
    let allowed = allowed(unit);
    for (call, group) in CALLS {
        if !allowed(call, group) {
            faults.push(format!("the system call {call}"));
        }
    }
    for (name, harmless, lost) in HARMFUL {
        let value = last.get(name).copied().unwrap_or_default();
        let off = ["", "no", "false", "off", "0"].contains(&value);
        if !harmless.contains(&value) && !off {
            faults.push(lost.to_owned());
        }
    }
    faults
}

/// Whether `SystemCallFilter` lets a call through that is in this group. The first line decides
/// whether what is named is all that may be called or all that may not; a line with a tilde takes
/// away in the first case and names in the second.
fn allowed(unit: &str) -> impl Fn(&str, &str) -> bool {
    let mut steps = Vec::new();
    for line in unit.lines() {
        let Some(("SystemCallFilter", value)) = line
            .trim()
            .split_once('=')
            .map(|(name, value)| (name.trim(), value.trim()))
        else {
            continue;
        };
        if value.is_empty() {
            steps.clear();
            continue;
        }
        let inverted = value.starts_with('~');
        let names: Vec<_> = value
            .trim_start_matches('~')
            .split_ascii_whitespace()
            // An error to answer with may follow the name.
            .filter_map(|name| name.split(':').next().map(str::to_owned))
            .collect();
        steps.push((inverted, names));
    }
    move |call, group| {
        let mut allowed = steps.first().is_none_or(|(inverted, _)| *inverted);
        for (inverted, names) in &steps {
            if names.iter().any(|name| name == call || name == group) {
                allowed = !inverted;
            }
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_unit_we_ship_takes_nothing_away() {
        let unit = include_str!("../../../../deploy/systemd/yinglong-agent.service");
        assert_eq!(faults(unit), Vec::<String>::new());
    }

    #[test]
    fn the_unit_we_ship_grants_what_is_used_and_nothing_else() {
        let unit = include_str!("../../../../deploy/systemd/yinglong-agent.service");
        let line = unit
            .lines()
            .find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
        let granted: BTreeSet<_> = line.unwrap().split_ascii_whitespace().collect();
        let mut used: BTreeSet<_> = CAPABILITIES.iter().map(|(_, name, ..)| *name).collect();
        // Of no use since Linux 5.11, so nothing is lost without it there.
        used.insert("CAP_SYS_RESOURCE");
        assert_eq!(granted, used);
    }

    #[test]
    fn the_drop_in_for_the_scanner_takes_nothing_away_either() {
        let unit = include_str!("../../../../deploy/systemd/yinglong-agent.service");
        let scanner = include_str!("../../../../deploy/systemd/yinglong-agent-scanner.conf");
        assert_eq!(faults(&format!("{unit}\n{scanner}")), Vec::<String>::new());
    }

    #[test]
    fn a_filter_of_system_calls_is_read_as_systemd_reads_it() {
        let lost = |filter: &str| {
            let found = faults(filter).join("|");
            found.contains("the system call bpf")
        };
        assert!(!lost(""));
        assert!(lost("SystemCallFilter=@system-service"));
        assert!(!lost(
            "SystemCallFilter=@system-service\nSystemCallFilter=bpf"
        ));
        assert!(!lost("SystemCallFilter=@system-service @privileged"));
        assert!(lost("SystemCallFilter=bpf\nSystemCallFilter=~@privileged"));
        assert!(lost("SystemCallFilter=~bpf:EPERM ptrace"));
        assert!(!lost("SystemCallFilter=~ptrace"));
        assert!(!lost("SystemCallFilter=@system-service\nSystemCallFilter="));
    }

    #[test]
    fn hardening_that_blinds_is_named() {
        let found = |text| faults(text).join("|");
        assert!(found("CapabilityBoundingSet=CAP_BPF").contains("CAP_NET_RAW"));
        assert!(!found("CapabilityBoundingSet=CAP_BPF").contains("CAP_BPF"));
        assert_eq!(
            found("CapabilityBoundingSet=~CAP_NET_RAW CAP_KILL"),
            "CAP_NET_RAW (scans of closed ports)"
        );
        assert!(found("CapabilityBoundingSet=").contains("CAP_BPF"));
        assert_eq!(
            found(
                "RestrictAddressFamilies=AF_INET AF_INET6\nRestrictAddressFamilies=AF_UNIX AF_NETLINK"
            ),
            "sockets of AF_PACKET"
        );
        assert!(found("PrivateNetwork=yes").contains("connections"));
        assert_eq!(found("PrivateNetwork=yes\nPrivateNetwork=no"), "");
        assert_eq!(found("ProtectProc=default\nProcSubset=all"), "");
        assert_eq!(found("ProtectHome=read-only"), "");
        assert!(found("ProtectHome=yes").contains("/home"));
    }
}
