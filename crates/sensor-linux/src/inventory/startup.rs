//! `startup`: what starts by itself at boot or log-in and is no service (A08).

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use yinglong_model::inventory::Element;

use super::{
    Error, Root, element,
    root::file_name,
    scripts::{level_folders, started_by},
    units::{Catalogue, HOME, Settings, USERS},
    users,
};

/// Scripts that every log-in runs; SUSE has its own below `/usr`.
const PROFILES: [&str; 2] = ["/etc/profile.d", "/usr/etc/profile.d"];

/// Programs that are run without any unit: at log-in for the message of the day (Ubuntu, Debian), by
/// OpenRC's `local` (Alpine), and by systemd at boot and at log-in before it reads units.
const PROGRAMS: [(&str, &str); 18] = [
    ("/etc/update-motd.d", "root"),
    ("/etc/local.d", "root"),
    ("/run/systemd/system-generators", "root"),
    ("/etc/systemd/system-generators", "root"),
    ("/usr/local/lib/systemd/system-generators", "root"),
    ("/usr/lib/systemd/system-generators", "root"),
    ("/lib/systemd/system-generators", "root"),
    ("/run/systemd/system-environment-generators", "root"),
    ("/etc/systemd/system-environment-generators", "root"),
    (
        "/usr/local/lib/systemd/system-environment-generators",
        "root",
    ),
    ("/usr/lib/systemd/system-environment-generators", "root"),
    ("/run/systemd/user-generators", "all"),
    ("/etc/systemd/user-generators", "all"),
    ("/usr/local/lib/systemd/user-generators", "all"),
    ("/usr/lib/systemd/user-generators", "all"),
    ("/etc/systemd/user-environment-generators", "all"),
    ("/usr/local/lib/systemd/user-environment-generators", "all"),
    ("/usr/lib/systemd/user-environment-generators", "all"),
];

/// Collects boot scripts, runlevel links, log-in scripts, preloaded libraries, generators, desktop
/// autostart entries and users' own units.
///
/// # Errors
/// A directory or file exists and cannot be read.
pub fn collect(root: &Root) -> Result<Vec<Element>, Error> {
    let mut list = Vec::new();
    boot_scripts(root, &mut list)?;
    runlevel_links(root, &mut list)?;
    preloaded(root, &mut list)?;
    for folder in PROFILES {
        for path in root.list(folder)? {
            let name = file_name(&path);
            if name.ends_with(".sh") || name.ends_with(".csh") {
                let command = path.to_string_lossy().into_owned();
                list.push(item(name, command, Path::new(folder), "all"));
            }
        }
    }
    programs(root, &PROGRAMS, &mut list)?;
    autostart(root, Path::new("/etc/xdg/autostart"), "all", &mut list)?;
    let shared = Catalogue::load(root, &USERS, &[".service"])?;
    user_units(&shared, &shared, "all", &mut list);
    for (user, home) in users::homes(root)? {
        // A home may be on a file system that is gone; the other homes still count.
        if let Err(error) = of_home(root, &user, &home, &shared, &mut list) {
            tracing::warn!(%user, %error, "start-up entries of a home directory are left out");
        }
    }
    Ok(list)
}

fn of_home(
    root: &Root,
    user: &str,
    home: &Path,
    shared: &Catalogue,
    list: &mut Vec<Element>,
) -> Result<(), Error> {
    autostart(root, &home.join(".config/autostart"), user, list)?;
    let scripts = home.join(".config/autostart-scripts");
    programs(root, &[(&scripts.to_string_lossy(), user)], list)?;
    let own = Catalogue::load(root, &HOME.map(|folder| home.join(folder)), &[".service"])?;
    user_units(&own, shared, user, list);
    Ok(())
}

/// Executable files of directories, each directory once.
fn programs(root: &Root, folders: &[(&str, &str)], list: &mut Vec<Element>) -> Result<(), Error> {
    let mut seen = Vec::new();
    for (folder, user) in folders {
        let real = root.resolve(folder);
        if seen.contains(&real) {
            continue;
        }
        seen.push(real);
        for path in root.list(folder)? {
            let runs = root
                .metadata(&path)
                .is_some_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
            if runs {
                let command = path.to_string_lossy().into_owned();
                list.push(item(file_name(&path), command, Path::new(folder), user));
            }
        }
    }
    Ok(())
}

fn item(name: String, command: String, location: &Path, user: &str) -> Element {
    element([
        ("name", name),
        ("command", command),
        ("location", location.to_string_lossy().into_owned()),
        ("user", user.to_owned()),
    ])
}

/// Every command of rc.local and its kin, and of inittab(5).
fn boot_scripts(root: &Root, list: &mut Vec<Element>) -> Result<(), Error> {
    let scripts = [
        "/etc/rc.local",
        "/etc/rc.d/rc.local",
        "/etc/init.d/boot.local",
        "/etc/init.d/after.local",
    ];
    let mut seen = Vec::new();
    for path in scripts.map(PathBuf::from) {
        let real = root.resolve(&path);
        if seen.contains(&real) {
            continue;
        }
        seen.push(real);
        for command in script_commands(&root.text(&path)?.unwrap_or_default()) {
            list.push(item(program(command), command.to_owned(), &path, "root"));
        }
    }
    let inittab = root.text("/etc/inittab")?.unwrap_or_default();
    for command in inittab_commands(&inittab) {
        let location = Path::new("/etc/inittab");
        list.push(item(program(command), command.to_owned(), location, "root"));
    }
    Ok(())
}

fn script_commands(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#') && *line != "exit 0")
}

/// Fourth column of `id:runlevels:action:process`, unless the action is off.
fn inittab_commands(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let mut columns = line.trim().splitn(4, ':');
        let id = columns.next()?;
        let action = columns.nth(1)?;
        let command = columns.next()?.trim();
        (!id.starts_with('#') && action != "off" && !command.is_empty()).then_some(command)
    })
}

/// First word of a command: what is started, so that a new line of a known script is news.
fn program(command: &str) -> String {
    command
        .split_ascii_whitespace()
        .next()
        .unwrap_or_default()
        .to_owned()
}

fn runlevel_links(root: &Root, list: &mut Vec<Element>) -> Result<(), Error> {
    for level in ["S", "0", "1", "2", "3", "4", "5", "6"] {
        for directory in level_folders(level) {
            for link in root.list(&directory)? {
                let name = file_name(&link);
                if let Some(script) = started_by(&name) {
                    let command = root.resolve(&link).to_string_lossy().into_owned();
                    list.push(item(script.to_owned(), command, &link, "root"));
                }
            }
        }
    }
    Ok(())
}

/// Libraries that are loaded into every program, ld.so(8): separated by blanks or colons.
fn preloaded(root: &Root, list: &mut Vec<Element>) -> Result<(), Error> {
    let path = Path::new("/etc/ld.so.preload");
    let text = root.text(path)?.unwrap_or_default();
    let uncommented = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default());
    for library in uncommented.flat_map(|line| line.split([' ', '\t', ':'])) {
        if !library.is_empty() {
            list.push(item(library.to_owned(), library.to_owned(), path, "all"));
        }
    }
    Ok(())
}

/// Desktop entries of a directory that are not hidden.
fn autostart(
    root: &Root,
    directory: &Path,
    user: &str,
    list: &mut Vec<Element>,
) -> Result<(), Error> {
    for path in root.list(directory)? {
        if !file_name(&path).ends_with(".desktop") {
            continue;
        }
        let Some(text) = root.text(&path)? else {
            continue;
        };
        let entry = Settings::parse(&text);
        let command = entry.last("Desktop Entry", "Exec");
        if command.is_empty() || entry.last("Desktop Entry", "Hidden") == "true" {
            continue;
        }
        let name = match entry.last("Desktop Entry", "Name") {
            "" => file_name(&path),
            name => name.to_owned(),
        };
        list.push(item(name, command.to_owned(), &path, user));
    }
    Ok(())
}

/// Services that a user's own service manager starts, whether they are the user's own or everybody's.
fn user_units(own: &Catalogue, shared: &Catalogue, user: &str, list: &mut Vec<Element>) {
    for name in &own.wanted {
        let unit = own.unit(name).or_else(|| shared.unit(name));
        let Some(unit) = unit.filter(|_| name.ends_with(".service")) else {
            continue;
        };
        let command = unit.settings.command();
        if !command.is_empty() {
            list.push(item(name.clone(), command, &unit.path, user));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::{fixture, rows};
    use std::os::unix::fs::symlink;

    #[test]
    fn every_place_is_listed_with_location_and_user_a08() {
        let unit = "[Service]\nExecStart=%h/bin/x --now\n[Install]\nWantedBy=default.target\n";
        let dir = fixture(&[
            ("etc/passwd", "probe1:x:1:1::/home/probe1:/bin/sh\n"),
            ("etc/rc.local", "#!/bin/sh\n\n/opt/evil -d &\nexit 0\n"),
            (
                "etc/inittab",
                "# c\nid:3:initdefault:\n1:2345:respawn:/sbin/getty tty1\n2:2:off:/bin/no\n",
            ),
            ("etc/ld.so.preload", "/lib/a.so:/lib/b.so # why\n"),
            ("etc/profile.d/z.sh", "x"),
            ("etc/profile.d/readme", "x"),
            (
                "etc/xdg/autostart/a.desktop",
                "[Desktop Entry]\nName=A\nExec=/bin/a\n",
            ),
            (
                "etc/xdg/autostart/h.desktop",
                "[Desktop Entry]\nExec=/bin/h\nHidden=true\n",
            ),
            ("etc/init.d/ssh", "x"),
            ("etc/rc2.d/.keep", ""),
            (
                "home/probe1/.config/autostart/b.desktop",
                "[Desktop Entry]\nExec=/bin/b\n",
            ),
            ("home/probe1/.config/systemd/user/u.service", unit),
            ("home/probe1/.config/systemd/user/off.service", unit),
            (
                "home/probe1/.config/systemd/user/default.target.wants/u.service",
                "",
            ),
        ]);
        symlink("../init.d/ssh", dir.path().join("etc/rc2.d/S01ssh")).unwrap();
        let list = collect(&Root::at(dir.path())).unwrap();
        assert_eq!(
            rows(&list, &["name", "command", "location", "user"]),
            [
                "/opt/evil|/opt/evil -d &|/etc/rc.local|root",
                "/sbin/getty|/sbin/getty tty1|/etc/inittab|root",
                "ssh|/etc/init.d/ssh|/etc/rc2.d/S01ssh|root",
                "/lib/a.so|/lib/a.so|/etc/ld.so.preload|all",
                "/lib/b.so|/lib/b.so|/etc/ld.so.preload|all",
                "z.sh|/etc/profile.d/z.sh|/etc/profile.d|all",
                "A|/bin/a|/etc/xdg/autostart/a.desktop|all",
                "b.desktop|/bin/b|/home/probe1/.config/autostart/b.desktop|probe1",
                "u.service|%h/bin/x --now|/home/probe1/.config/systemd/user/u.service|probe1",
            ]
        );
    }

    #[test]
    fn what_distributions_start_in_their_own_places_is_listed_a08() {
        let unit = "[Service]\nExecStart=/usr/bin/sync-files\n[Install]\nWantedBy=default.target\n";
        let dir = fixture(&[
            ("etc/passwd", "ann:x:1:1::/home/ann:/bin/sh\n"),
            ("etc/init.d/after.local", "#!/bin/sh\n/opt/suse\n"),
            ("etc/init.d/rc3.d/S05web", "x"),
            ("usr/etc/profile.d/ls.sh", "x"),
            ("etc/update-motd.d/10-help-text", "x"),
            ("etc/update-motd.d/off", "x"),
            ("etc/local.d/own.start", "x"),
            ("etc/systemd/system-generators/gen", "x"),
            (
                "usr/lib/systemd/system-generators/systemd-fstab-generator",
                "x",
            ),
            ("usr/lib/systemd/user/files.service", unit),
            (
                "home/ann/.config/systemd/user/default.target.wants/files.service",
                "",
            ),
            (
                "usr/lib/systemd/user/at@.service",
                "[Service]\nExecStart=/usr/bin/at %i\n",
            ),
            (
                "home/ann/.config/systemd/user/default.target.wants/at@home.service",
                "",
            ),
            ("home/ann/.config/autostart-scripts/kde.sh", "x"),
            ("home/ann/.local/share/systemd/user/own.service", unit),
            (
                "home/ann/.local/share/systemd/user/default.target.wants/own.service",
                "",
            ),
        ]);
        for program in [
            "etc/update-motd.d/10-help-text",
            "etc/local.d/own.start",
            "etc/systemd/system-generators/gen",
            "usr/lib/systemd/system-generators/systemd-fstab-generator",
            "home/ann/.config/autostart-scripts/kde.sh",
        ] {
            let path = dir.path().join(program);
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        // With merged `/usr` both names lead to the same generators.
        symlink("usr/lib", dir.path().join("lib")).unwrap();
        let list = collect(&Root::at(dir.path())).unwrap();
        assert_eq!(
            rows(&list, &["name", "command", "user"]),
            [
                "/opt/suse|/opt/suse|root",
                "web|/etc/init.d/rc3.d/S05web|root",
                "ls.sh|/usr/etc/profile.d/ls.sh|all",
                "10-help-text|/etc/update-motd.d/10-help-text|root",
                "own.start|/etc/local.d/own.start|root",
                "gen|/etc/systemd/system-generators/gen|root",
                "systemd-fstab-generator|/usr/lib/systemd/system-generators/systemd-fstab-generator|root",
                "kde.sh|/home/ann/.config/autostart-scripts/kde.sh|ann",
                "at@home.service|/usr/bin/at home|ann",
                "files.service|/usr/bin/sync-files|ann",
                "own.service|/usr/bin/sync-files|ann",
            ]
        );
    }

    #[test]
    fn a_host_without_any_of_it_has_an_empty_list() {
        let dir = fixture(&[]);
        assert!(collect(&Root::at(dir.path())).unwrap().is_empty());
    }
}
