//! `crontab`: scheduled jobs of every kind (A04, A05).
//!
//! System tables, users' tables in the places of the distributions, periodic directories,
//! anacron, at jobs and systemd timers.

mod at;
mod table;

use std::{
    collections::BTreeSet,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use yinglong_model::inventory::Element;

use super::{
    Error, Root, element,
    root::file_name,
    units::{Catalogue, HOME, SYSTEM, USERS},
    users,
};

/// Users' tables: Debian, SUSE, Red Hat (files beside the directories of others), Alpine.
const USER_TABLES: [&str; 4] = [
    "/var/spool/cron/crontabs",
    "/var/spool/cron/tabs",
    "/var/spool/cron",
    "/etc/crontabs",
];

/// Directories whose programs run in turn, and how often.
const PERIODIC: [(&str, &str); 10] = [
    ("/etc/cron.hourly", "@hourly"),
    ("/etc/cron.daily", "@daily"),
    ("/etc/cron.weekly", "@weekly"),
    ("/etc/cron.monthly", "@monthly"),
    ("/etc/cron.yearly", "@yearly"),
    ("/etc/periodic/15min", "*/15 * * * *"),
    ("/etc/periodic/hourly", "@hourly"),
    ("/etc/periodic/daily", "@daily"),
    ("/etc/periodic/weekly", "@weekly"),
    ("/etc/periodic/monthly", "@monthly"),
];

/// Jobs of at(1): Debian, Red Hat, SUSE, what is built from source.
const AT_JOBS: [&str; 4] = [
    "/var/spool/cron/atjobs",
    "/var/spool/at",
    "/var/spool/atjobs",
    "/var/spool/atd",
];

/// Collects every scheduled job.
///
/// # Errors
/// A directory or file exists and cannot be read.
pub fn collect(root: &Root) -> Result<Vec<Element>, Error> {
    let mut list = Vec::new();
    tables(root, &mut list)?;
    periodic(root, &mut list)?;
    at_jobs(root, &mut list)?;
    timers(root, &SYSTEM, "root", &mut list)?;
    timers(root, &USERS, "all", &mut list)?;
    for (user, home) in users::homes(root)? {
        let folders = HOME.map(|folder| home.join(folder));
        if let Err(error) = timers(root, &folders, &user, &mut list) {
            tracing::warn!(%user, %error, "timers of a home directory are left out");
        }
    }
    Ok(list)
}

fn tables(root: &Root, list: &mut Vec<Element>) -> Result<(), Error> {
    let mut add = |path: &Path, owner: Option<&str>| -> Result<(), Error> {
        let text = root.text(path)?.unwrap_or_default();
        list.extend(
            table::parse(&text, owner)
                .into_iter()
                .map(|job| from(job, path)),
        );
        Ok(())
    };
    add(Path::new("/etc/crontab"), None)?;
    for path in root.list("/etc/cron.d")? {
        if is_used(&file_name(&path)) {
            add(&path, None)?;
        }
    }
    let mut seen = BTreeSet::new();
    for directory in USER_TABLES {
        if !seen.insert(root.resolve(directory)) {
            continue;
        }
        for path in root.list(directory)? {
            let owner = file_name(&path);
            if is_used(&owner) {
                add(&path, Some(&owner))?;
            }
        }
    }
    let path = Path::new("/etc/anacrontab");
    let text = root.text(path)?.unwrap_or_default();
    list.extend(
        table::parse_anacron(&text)
            .into_iter()
            .map(|job| from(job, path)),
    );
    Ok(())
}

fn from(job: table::Job, path: &Path) -> Element {
    element([
        ("command", job.command),
        ("user", job.user),
        ("rule", job.rule),
        ("name", path.to_string_lossy().into_owned()),
        ("description", job.identifier),
    ])
}

/// Names that no cron daemon reads: hidden files, backups and leftovers of package managers.
fn is_used(name: &str) -> bool {
    let leftover = [
        ".rpmsave",
        ".rpmnew",
        ".rpmorig",
        ".dpkg-old",
        ".dpkg-new",
        ".dpkg-dist",
    ];
    !name.starts_with(['.', '#'])
        && !name.ends_with('~')
        && !leftover.iter().any(|suffix| name.ends_with(suffix))
}

fn periodic(root: &Root, list: &mut Vec<Element>) -> Result<(), Error> {
    for (directory, rule) in PERIODIC {
        for path in root.list(directory)? {
            let runs = root
                .metadata(&path)
                .is_some_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
            if runs && is_used(&file_name(&path)) {
                list.push(element([
                    ("command", path.to_string_lossy().into_owned()),
                    ("user", "root".to_owned()),
                    ("rule", rule.to_owned()),
                    ("name", file_name(&path)),
                ]));
            }
        }
    }
    Ok(())
}

fn at_jobs(root: &Root, list: &mut Vec<Element>) -> Result<(), Error> {
    let names = users::names(root)?;
    for directory in AT_JOBS {
        for path in root.list(directory)? {
            let Some(due) = at::due(&file_name(&path)) else {
                continue;
            };
            let Some(script) = root.text(&path)? else {
                continue;
            };
            let user = at::owner(&script)
                .map(|uid| names.get(&uid).cloned().unwrap_or_else(|| uid.to_string()));
            list.push(element([
                ("command", at::command(&script)),
                ("user", user.unwrap_or_default()),
                ("rule", format!("at {due}")),
                ("name", path.to_string_lossy().into_owned()),
            ]));
        }
    }
    Ok(())
}

/// Timers that are wanted or running, each with the command of the service it starts.
fn timers(
    root: &Root,
    directories: &[impl AsRef<Path>],
    user: &str,
    list: &mut Vec<Element>,
) -> Result<(), Error> {
    let catalogue = Catalogue::load(root, directories, &[".timer", ".service"])?;
    for (name, timer) in &catalogue.units {
        let Some(stem) = name.strip_suffix(".timer") else {
            continue;
        };
        let invocation = PathBuf::from(format!("/run/systemd/units/invocation:{name}"));
        let in_use = catalogue.wanted.contains(name)
            || timer.path.starts_with("/run")
            || root.link(invocation).is_some();
        if !in_use || timer.masked {
            continue;
        }
        let target = match timer.settings.last("Timer", "Unit") {
            "" => format!("{stem}.service"),
            target => target.to_owned(),
        };
        let service = catalogue.units.get(&target).map(|unit| &unit.settings);
        let command = service.map(|service| service.command()).unwrap_or_default();
        let runs_as = service
            .map(|service| service.last("Service", "User"))
            .filter(|user| !user.is_empty());
        let rule: Vec<String> = timer
            .settings
            .starting("Timer", "On")
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        list.push(element([
            ("command", if command.is_empty() { target } else { command }),
            ("user", runs_as.unwrap_or(user).to_owned()),
            ("rule", rule.join("; ")),
            ("name", name.clone()),
            (
                "description",
                timer.settings.last("Unit", "Description").to_owned(),
            ),
        ]));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::{fixture, rows};
    use std::fs;

    const FIELDS: [&str; 5] = ["command", "user", "rule", "name", "description"];

    #[test]
    fn tables_of_every_distribution_are_listed_a05() {
        let dir = fixture(&[
            ("etc/passwd", "root:x:0:0::/root:/bin/sh\n"),
            ("etc/crontab", "17 *\t* * *\troot\tsystem\n"),
            ("etc/cron.d/job", "@daily www dropped\n"),
            ("etc/cron.d/job.dpkg-old", "@daily www no\n"),
            ("etc/cron.d/.placeholder", "@daily www no\n"),
            ("var/spool/cron/crontabs/probe1", "1 2 3 4 5 debian\n"),
            ("var/spool/cron/probe2", "1 2 3 4 5 redhat\n"),
            ("var/spool/cron/tabs/probe3", "1 2 3 4 5 suse\n"),
            ("etc/anacrontab", "7 10 cron.weekly weekly\n"),
            ("etc/cron.daily/run", "x"),
            ("etc/cron.daily/not-executable", "x"),
            (
                "var/spool/cron/atjobs/a0000501d6b2a5",
                "#!/bin/sh\n# atrun uid=0 gid=0\nid\n",
            ),
            ("var/spool/cron/atjobs/.SEQ", "5\n"),
        ]);
        let script = dir.path().join("etc/cron.daily/run");
        fs::set_permissions(script, fs::Permissions::from_mode(0o755)).unwrap();
        let list = collect(&Root::at(dir.path())).unwrap();
        let due = at::due("a0000501d6b2a5").unwrap();
        assert_eq!(
            rows(&list, &FIELDS),
            [
                "system|root|17 * * * *|/etc/crontab|",
                "dropped|www|@daily|/etc/cron.d/job|",
                "debian|probe1|1 2 3 4 5|/var/spool/cron/crontabs/probe1|",
                "suse|probe3|1 2 3 4 5|/var/spool/cron/tabs/probe3|",
                "redhat|probe2|1 2 3 4 5|/var/spool/cron/probe2|",
                "weekly|root|7 10|/etc/anacrontab|cron.weekly",
                "/etc/cron.daily/run|root|@daily|run|",
                &format!("id|root|at {due}|/var/spool/cron/atjobs/a0000501d6b2a5|"),
            ]
        );
    }

    #[test]
    fn tables_and_periodic_programs_of_alpine_are_listed_once_a05() {
        let dir = fixture(&[
            (
                "etc/crontabs/root",
                "# do daily/weekly/monthly maintenance\n# min\thour\tday\tmonth\tweekday\tcommand\n\
                 */15\t*\t*\t*\t*\trun-parts /etc/periodic/15min\n",
            ),
            ("etc/crontabs/cron.update", "root\n"),
            ("etc/periodic/daily/apk", "x"),
            ("etc/periodic/15min/off", "x"),
            ("var/spool/atd/a0000501d6b2a5", "# atrun uid=7 gid=7\nid\n"),
            ("var/spool/cron/.keep", ""),
        ]);
        let script = dir.path().join("etc/periodic/daily/apk");
        fs::set_permissions(script, fs::Permissions::from_mode(0o755)).unwrap();
        let spool = dir.path().join("var/spool/cron/crontabs");
        std::os::unix::fs::symlink("/etc/crontabs", spool).unwrap();
        let list = collect(&Root::at(dir.path())).unwrap();
        assert_eq!(
            rows(&list, &["command", "user", "name"]),
            [
                "run-parts /etc/periodic/15min|root|/var/spool/cron/crontabs/root",
                "/etc/periodic/daily/apk|root|apk",
                "id|7|/var/spool/atd/a0000501d6b2a5",
            ]
        );
    }

    #[test]
    fn timers_of_generators_and_of_users_are_listed_a05() {
        let timer = "[Timer]\nOnCalendar=daily\n";
        let service = "[Service]\nExecStart=/bin/own\n";
        let dir = fixture(&[
            ("etc/passwd", "ann:x:1:1::/home/ann:/bin/sh\n"),
            // As systemd-cron makes it of a crontab.
            ("run/systemd/generator.early/cron-x.timer", timer),
            ("home/ann/.local/share/systemd/user/own.timer", timer),
            ("home/ann/.local/share/systemd/user/own.service", service),
            (
                "home/ann/.local/share/systemd/user/timers.target.wants/own.timer",
                "",
            ),
        ]);
        let list = collect(&Root::at(dir.path())).unwrap();
        assert_eq!(
            rows(&list, &["command", "user", "name"]),
            ["cron-x.service|root|cron-x.timer", "/bin/own|ann|own.timer"]
        );
    }

    #[test]
    fn timers_have_schedule_and_command_of_their_service_a05() {
        let timer = "[Unit]\nDescription=Rotate\n[Timer]\nOnCalendar=daily\nOnBootSec=5min\n";
        let dir = fixture(&[
            ("usr/lib/systemd/system/rotate.timer", timer),
            ("usr/lib/systemd/system/off.timer", timer),
            (
                "usr/lib/systemd/system/rotate.service",
                "[Service]\nExecStart=/bin/rotate\nUser=log\n",
            ),
            (
                "usr/lib/systemd/system/timers.target.wants/rotate.timer",
                "",
            ),
            (
                "run/systemd/transient/run-1.timer",
                "[Timer]\nOnActiveSec=10\nUnit=x.service\n",
            ),
        ]);
        let list = collect(&Root::at(dir.path())).unwrap();
        assert_eq!(
            rows(&list, &FIELDS),
            [
                "/bin/rotate|log|OnCalendar=daily; OnBootSec=5min|rotate.timer|Rotate",
                "x.service|root|OnActiveSec=10|run-1.timer|",
            ]
        );
    }

    #[test]
    fn an_empty_table_and_no_table_are_both_an_empty_list_a17() {
        let dir = fixture(&[("etc/crontab", ""), ("etc/cron.d/x", "\u{0}\u{1}\u{2}")]);
        assert!(collect(&Root::at(dir.path())).unwrap().is_empty());
    }
}
