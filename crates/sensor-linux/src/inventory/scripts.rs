//! Scripts of init systems before systemd: those of SysV (Debian, Red Hat, SUSE) and of OpenRC (Alpine).

use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
};

use super::{Error, Root, root::file_name};

/// Where scripts lie; with Red Hat one is a link to the other.
const FOLDERS: [&str; 2] = ["/etc/init.d", "/etc/rc.d/init.d"];

/// Files among the scripts that are part of the init system itself.
const PARTS: [&str; 6] = [
    "rc",
    "rcS",
    "functions",
    "functions.sh",
    "skeleton",
    "README",
];

/// A script that starts and stops a service.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Script {
    pub(super) path: PathBuf,
    pub(super) description: String,
    /// The program it names as that of the service; empty when it names none.
    pub(super) daemon: String,
    /// The user it names; empty when it names none.
    pub(super) user: String,
}

/// Scripts by name, and what is known of them.
#[derive(Debug, Default)]
pub(super) struct Scripts {
    pub(super) scripts: BTreeMap<String, Script>,
    /// Those that some runlevel starts in which people work.
    pub(super) at_boot: BTreeSet<String>,
    /// Those that run, where OpenRC keeps account.
    pub(super) started: Option<BTreeSet<String>>,
}

impl Scripts {
    /// Reads the scripts and the runlevels.
    ///
    /// # Errors
    /// A directory or file exists and cannot be read.
    pub(super) fn load(root: &Root) -> Result<Self, Error> {
        let mut found = Self::default();
        let mut seen = BTreeSet::new();
        for folder in FOLDERS {
            if !seen.insert(root.resolve(folder)) {
                continue;
            }
            for path in root.list(folder)? {
                let name = file_name(&path);
                let executable = root
                    .metadata(&path)
                    .is_some_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
                if executable
                    && !PARTS.contains(&name.as_str())
                    && let Some(text) = root.text(&path)?
                {
                    found.scripts.insert(name, parse(&text, path));
                }
            }
        }
        found.at_boot = sysv_links(root)?;
        for level in root.list("/etc/runlevels")? {
            if file_name(&level) != "shutdown" {
                let links = root.list(&level)?;
                found
                    .at_boot
                    .extend(links.iter().map(|link| file_name(link)));
            }
        }
        if root.metadata("/run/openrc").is_some() {
            let links = root.list("/run/openrc/started")?;
            found.started = Some(links.iter().map(|link| file_name(link)).collect());
        }
        Ok(found)
    }
}

/// Places of the links of a runlevel: Debian, Red Hat, SUSE.
pub(super) fn level_folders(level: &str) -> [String; 3] {
    [
        format!("/etc/rc{level}.d"),
        format!("/etc/rc.d/rc{level}.d"),
        format!("/etc/init.d/rc{level}.d"),
    ]
}

fn sysv_links(root: &Root) -> Result<BTreeSet<String>, Error> {
    let mut names = BTreeSet::new();
    for folder in ["2", "3", "4", "5", "S"]
        .iter()
        .flat_map(|level| level_folders(level))
    {
        for link in root.list(folder)? {
            if let Some(name) = started_by(&file_name(&link)) {
                names.insert(name.to_owned());
            }
        }
    }
    Ok(names)
}

/// Name of the script a runlevel link starts: `S01ssh`.
pub(super) fn started_by(link: &str) -> Option<&str> {
    let (number, name) = link.strip_prefix('S')?.split_at_checked(2)?;
    (number.bytes().all(|byte| byte.is_ascii_digit()) && !name.is_empty()).then_some(name)
}

/// What the header of a script says (LSB's `Short-Description`, `description` and `processname` of
/// chkconfig), and what it sets (`DAEMON` of Debian, `command` and others of OpenRC).
fn parse(text: &str, path: PathBuf) -> Script {
    let mut script = Script {
        path,
        ..Script::default()
    };
    let set = |field: &mut String, value: &str| {
        if field.is_empty() {
            value
                .trim()
                .trim_matches(['"', '\''])
                .trim_end_matches(['\\', ' '])
                .clone_into(field);
        }
    };
    let mut process_name = String::new();
    for line in text.lines().map(str::trim) {
        if let Some(header) = line.strip_prefix('#') {
            match header.trim().split_once(':') {
                Some(("Short-Description", value)) => {
                    script.description.clear();
                    set(&mut script.description, value);
                }
                Some(("description", value)) => set(&mut script.description, value),
                Some(("processname", value)) => set(&mut process_name, value),
                _ => (),
            }
            continue;
        }
        match line.split_once('=') {
            Some(("DAEMON" | "command", value)) => set(&mut script.daemon, value),
            Some(("description", value)) => set(&mut script.description, value),
            Some(("command_user", value)) => {
                let user = value.trim_matches(['"', '\'']).split(':').next();
                set(&mut script.user, user.unwrap_or_default());
            }
            _ => (),
        }
    }
    if script.daemon.is_empty() {
        script.daemon = process_name;
    }
    script
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn links_of_a_runlevel_are_told_from_other_names() {
        for (link, expected) in [
            ("S01ssh", Some("ssh")),
            ("K01ssh", None),
            ("S1ssh", None),
            ("S01", None),
            ("README", None),
            ("Sé1x", None),
        ] {
            assert_eq!(started_by(link), expected, "{link}");
        }
    }

    #[test]
    fn scripts_of_every_init_system_tell_what_they_run_a07() {
        let check = |text: &str, expected: [&str; 3]| {
            let script = parse(text, PathBuf::new());
            assert_eq!([script.description, script.daemon, script.user], expected);
        };
        check(
            "#!/bin/sh\n### BEGIN INIT INFO\n# Short-Description: An old one\n# Description: no\nDAEMON=/usr/sbin/oldd\nDAEMON=$X\n",
            ["An old one", "/usr/sbin/oldd", ""],
        );
        check(
            "#!/bin/sh\n# chkconfig: 2345 90 60\n# description: Runs jobs \\\n#  at times\n# processname: crond\nexec=/usr/sbin/crond\n",
            ["Runs jobs", "crond", ""],
        );
        check(
            "#!/sbin/openrc-run\ndescription=\"A web server\"\ncommand='/usr/sbin/webd'\ncommand_user=\"www:www\"\n",
            ["A web server", "/usr/sbin/webd", "www"],
        );
    }

    proptest! {
        #[test]
        fn no_script_can_stop_the_collector_a17(text in any::<String>()) {
            let _ = parse(&text, PathBuf::new());
        }
    }
}
