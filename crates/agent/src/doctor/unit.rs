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
/// Settings that blind it: name, the value that does not, what is lost.
const HARMFUL: [(&str, &str, &str); 7] = [
    (
        "PrivateUsers",
        "no",
        "PrivateUsers: no capability counts outside",
    ),
    (
        "PrivateNetwork",
        "no",
        "PrivateNetwork: the host's connections",
    ),
    ("PrivateTmp", "no", "PrivateTmp: files in /tmp"),
    ("PrivatePIDs", "no", "PrivatePIDs: the host's processes"),
    (
        "ProtectProc",
        "default",
        "ProtectProc: processes of other users",
    ),
    ("ProcSubset", "all", "ProcSubset: counters of the kernel"),
    (
        "ProtectHome",
        "no",
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
    for (name, harmless, lost) in HARMFUL {
        let value = last.get(name).copied().unwrap_or(harmless);
        let off = ["", "no", "false", "off", "0"].contains(&value);
        if value != harmless && !off {
            faults.push(lost.to_owned());
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_we_ship_takes_nothing_away() {
        let unit = include_str!("../../../../deploy/systemd/yinglong-agent.service");
        assert_eq!(faults(unit), Vec::<String>::new());
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
    }
}
