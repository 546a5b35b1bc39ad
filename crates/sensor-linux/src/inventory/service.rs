//! `service`: systemd services, and scripts of SysV and OpenRC (A07).

use std::collections::BTreeSet;

use yinglong_model::inventory::Element;

use super::{
    Error, Root, element, processes,
    root::file_name,
    scripts::Scripts,
    units::{Catalogue, SYSTEM, Unit},
};

/// Collects the services of the system's own service manager, whichever it is.
///
/// # Errors
/// A directory or file exists and cannot be read.
pub fn collect(root: &Root) -> Result<Vec<Element>, Error> {
    let catalogue = Catalogue::load(root, &SYSTEM, &[".service"])?;
    let running = Running::look(root)?;
    let scripts = Scripts::load(root)?;
    let mut list = Vec::new();
    for (name, unit) in &catalogue.units {
        let linked = catalogue.wanted.contains(name)
            || (!running.booted_with_systemd
                && name
                    .strip_suffix(".service")
                    .is_some_and(|name| scripts.at_boot.contains(name)));
        let command = unit.settings.command();
        let user = match unit.settings.last("Service", "User") {
            "" if unit.masked => "",
            "" => "root",
            user => user,
        };
        list.push(element([
            ("name", name.clone()),
            ("started", flag(!unit.masked && running.has(name, &command))),
            ("pathname", command),
            ("startmode", start_mode(unit, linked).to_owned()),
            ("startname", user.to_owned()),
            (
                "caption",
                unit.settings.last("Unit", "Description").to_owned(),
            ),
        ]));
    }
    for (name, script) in scripts.scripts {
        if catalogue.units.contains_key(&format!("{name}.service")) {
            continue;
        }
        let started = match &scripts.started {
            Some(started) => started.contains(&name),
            None => running.has(&format!("{name}.service"), &script.daemon),
        };
        let auto = scripts.at_boot.contains(&name);
        let user = if script.user.is_empty() {
            "root".to_owned()
        } else {
            script.user
        };
        list.push(element([
            ("pathname", script.path.to_string_lossy().into_owned()),
            ("name", name),
            ("started", flag(started)),
            ("startmode", if auto { "Auto" } else { "Manual" }.to_owned()),
            ("startname", user),
            ("caption", script.description),
        ]));
    }
    Ok(list)
}

fn flag(value: bool) -> String {
    if value { "True" } else { "False" }.to_owned()
}

fn start_mode(unit: &Unit, linked: bool) -> &'static str {
    if unit.masked {
        "Masked"
    } else if linked {
        "Auto"
    } else if unit.settings.has("Install") {
        "Disabled"
    } else {
        // systemd calls it static: other units, sockets or timers start it.
        "Manual"
    }
}

/// What is known of running services.
struct Running {
    booted_with_systemd: bool,
    units: BTreeSet<String>,
    processes: Vec<processes::Process>,
}

impl Running {
    /// With systemd, a service runs that has a control group with a process or an invocation
    /// (`/run/systemd/units`, for those that ended and remain active); else one runs whose
    /// program does.
    fn look(root: &Root) -> Result<Self, Error> {
        let booted_with_systemd = root.metadata("/run/systemd/system").is_some();
        let mut units = BTreeSet::new();
        let processes = processes::scan(root)?;
        if booted_with_systemd {
            for process in &processes {
                let groups = root
                    .peek(format!("/proc/{}/cgroup", process.pid), 16 << 10)
                    .unwrap_or_default();
                units.extend(units_of(&String::from_utf8_lossy(&groups)));
            }
            for link in root.list("/run/systemd/units")? {
                if let Some(unit) = file_name(&link).strip_prefix("invocation:") {
                    units.insert(unit.to_owned());
                }
            }
        }
        Ok(Self {
            booted_with_systemd,
            units,
            processes,
        })
    }

    fn has(&self, unit: &str, command: &str) -> bool {
        if self.booted_with_systemd {
            return self.units.contains(unit);
        }
        let first = command.split("; ").next().unwrap_or_default();
        let Some(program) = first.split_ascii_whitespace().next() else {
            return false;
        };
        let base = program.rsplit('/').next().unwrap_or_default();
        self.processes.iter().any(|process| {
            if is_interpreter(base) {
                process.arguments.join(" ") == first
            } else {
                !process.exe.is_empty() && process.base_name() == base
            }
        })
    }
}

/// Whether a program's name says nothing about what it runs.
fn is_interpreter(name: &str) -> bool {
    let name = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    matches!(
        name,
        "sh" | "bash"
            | "dash"
            | "busybox"
            | "env"
            | "python"
            | "perl"
            | "ruby"
            | "node"
            | "php"
            | "java"
            | "true"
            | "echo"
            | "sleep"
    )
}

/// Services in the paths of proc_pid_cgroup: `0::/system.slice/ssh.service`.
fn units_of(cgroup: &str) -> impl Iterator<Item = String> {
    cgroup
        .lines()
        .filter_map(|line| line.splitn(3, ':').nth(2))
        .flat_map(|path| path.split('/'))
        .filter(|component| component.ends_with(".service"))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::{fixture, rows};
    use std::{
        fs,
        os::unix::fs::{PermissionsExt, symlink},
    };

    const WEB: &str = "[Unit]\nDescription=Web\n[Service]\nExecStart=/usr/sbin/webd -D\nUser=www\n[Install]\nWantedBy=multi-user.target\n";

    #[test]
    fn units_have_path_state_mode_and_user_with_systemd_running_a07() {
        let dir = fixture(&[
            ("lib/systemd/system/web.service", WEB),
            ("lib/systemd/system/off.service", WEB),
            (
                "lib/systemd/system/once.service",
                "[Service]\nExecStart=/bin/once\n",
            ),
            ("lib/systemd/system/masked.service", WEB),
            (
                "lib/systemd/system/getty@.service",
                "[Service]\nExecStart=-/sbin/agetty %I\n[Install]\nWantedBy=getty.target\n",
            ),
            (
                "etc/systemd/system/web.service.d/user.conf",
                "[Service]\nUser=other\n",
            ),
            ("etc/systemd/system/multi-user.target.wants/.keep", ""),
            ("run/systemd/system/.keep", ""),
            ("run/systemd/units/.keep", ""),
            (
                "proc/7/stat",
                "7 (webd) S 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 99 0",
            ),
            ("proc/7/cgroup", "0::/system.slice/web.service\n"),
        ]);
        let etc = dir.path().join("etc/systemd/system");
        let wants = etc.join("multi-user.target.wants");
        symlink("/lib/systemd/system/web.service", wants.join("web.service")).unwrap();
        symlink(
            "/lib/systemd/system/getty@.service",
            wants.join("getty@tty1.service"),
        )
        .unwrap();
        symlink("/dev/null", etc.join("masked.service")).unwrap();
        symlink("/lib/systemd/system/web.service", etc.join("www.service")).unwrap();
        symlink(
            "0123",
            dir.path().join("run/systemd/units/invocation:once.service"),
        )
        .unwrap();
        let list = collect(&Root::at(dir.path())).unwrap();
        assert_eq!(
            rows(
                &list,
                &[
                    "name",
                    "pathname",
                    "started",
                    "startmode",
                    "startname",
                    "caption"
                ]
            ),
            [
                "getty@.service|/sbin/agetty %I|False|Disabled|root|",
                "getty@tty1.service|/sbin/agetty tty1|False|Auto|root|",
                "masked.service||False|Masked||",
                "off.service|/usr/sbin/webd -D|False|Disabled|www|Web",
                "once.service|/bin/once|True|Manual|root|",
                "web.service|/usr/sbin/webd -D|True|Auto|other|Web",
            ]
        );
    }

    #[test]
    fn scripts_and_units_are_matched_by_program_without_systemd_a07() {
        let dir = fixture(&[
            ("lib/systemd/system/web.service", WEB),
            (
                "etc/init.d/old",
                "#!/bin/sh\n# Short-Description: An old one\nDAEMON=/usr/sbin/oldd\n",
            ),
            ("etc/init.d/web", "#!/bin/sh\n"),
            ("etc/init.d/README", "text"),
            ("etc/rc2.d/.keep", ""),
            (
                "proc/7/stat",
                "7 (webd) S 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 99 0",
            ),
        ]);
        for script in ["old", "web"] {
            let path = dir.path().join("etc/init.d").join(script);
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        symlink("../init.d/web", dir.path().join("etc/rc2.d/S03web")).unwrap();
        symlink("/usr/sbin/webd", dir.path().join("proc/7/exe")).unwrap();
        let list = collect(&Root::at(dir.path())).unwrap();
        assert_eq!(
            rows(
                &list,
                &["name", "pathname", "started", "startmode", "caption"]
            ),
            [
                "web.service|/usr/sbin/webd -D|True|Auto|Web",
                "old|/etc/init.d/old|False|Manual|An old one",
            ]
        );
    }

    #[test]
    fn services_of_alpine_are_those_openrc_knows_a07() {
        let dir = fixture(&[
            (
                "etc/init.d/sshd",
                "#!/sbin/openrc-run\ndescription=\"OpenBSD Secure Shell server\"\ncommand=\"${SSHD_BINARY:-\"/usr/sbin/sshd\"}\"\n",
            ),
            (
                "etc/init.d/web",
                "#!/sbin/openrc-run\ncommand=/usr/bin/web\ncommand_user=\"www:www\"\n",
            ),
            ("etc/init.d/functions.sh", "x"),
            ("etc/runlevels/default/.keep", ""),
            ("etc/runlevels/shutdown/.keep", ""),
            ("run/openrc/started/.keep", ""),
        ]);
        for script in ["sshd", "web", "functions.sh"] {
            let path = dir.path().join("etc/init.d").join(script);
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        for (link, script) in [
            ("etc/runlevels/default/sshd", "sshd"),
            ("etc/runlevels/shutdown/web", "web"),
            ("run/openrc/started/sshd", "sshd"),
        ] {
            symlink(format!("/etc/init.d/{script}"), dir.path().join(link)).unwrap();
        }
        let list = collect(&Root::at(dir.path())).unwrap();
        let fields = [
            "name",
            "pathname",
            "started",
            "startmode",
            "startname",
            "caption",
        ];
        assert_eq!(
            rows(&list, &fields),
            [
                "sshd|/etc/init.d/sshd|True|Auto|root|OpenBSD Secure Shell server",
                "web|/etc/init.d/web|False|Manual|www|",
            ]
        );
    }

    #[test]
    fn scripts_of_red_hat_are_found_below_their_own_directory_a07() {
        let dir = fixture(&[
            (
                "etc/rc.d/init.d/crond",
                "#!/bin/sh\n# description: Runs jobs\n# processname: crond\n",
            ),
            ("etc/rc.d/rc3.d/.keep", ""),
            (
                "proc/7/stat",
                "7 (crond) S 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 99 0",
            ),
        ]);
        let script = dir.path().join("etc/rc.d/init.d/crond");
        fs::set_permissions(script, fs::Permissions::from_mode(0o755)).unwrap();
        symlink(
            "../init.d/crond",
            dir.path().join("etc/rc.d/rc3.d/S90crond"),
        )
        .unwrap();
        symlink("rc.d/init.d", dir.path().join("etc/init.d")).unwrap();
        symlink("/usr/sbin/crond", dir.path().join("proc/7/exe")).unwrap();
        let list = collect(&Root::at(dir.path())).unwrap();
        assert_eq!(
            rows(&list, &["name", "started", "startmode", "caption"]),
            ["crond|True|Auto|Runs jobs"]
        );
    }
}
