use proptest::prelude::*;

use super::*;
use crate::inventory::{fixture, rows};

const FIELDS: [&str; 5] = ["name", "host", "runas", "tags", "commands"];

fn listed(sudoers: &str) -> Vec<String> {
    let dir = fixture(&[("etc/sudoers", sudoers)]);
    rows(&collect(&Root::at(dir.path())).unwrap().elements, &FIELDS)
}

#[test]
fn the_files_of_distributions_are_understood() {
    // Debian and Ubuntu.
    assert_eq!(
        listed(
            "Defaults\tenv_reset\nDefaults\tsecure_path=\"/usr/sbin:/bin\"\n#Defaults:%sudo env_keep += \"A\"\n\
             root\tALL=(ALL:ALL) ALL\n%sudo\tALL=(ALL:ALL) ALL\n"
        ),
        ["root|ALL|ALL:ALL||ALL", "%sudo|ALL|ALL:ALL||ALL"]
    );
    // Red Hat: aliases in comments, and a service account.
    assert_eq!(
        listed("## Same\n# %wheel\tALL=(ALL)\tNOPASSWD: ALL\n%wheel  ALL=(ALL)       ALL\n"),
        ["%wheel|ALL|ALL||ALL"]
    );
    // Cloud images.
    assert_eq!(
        listed("admin ALL=(ALL) NOPASSWD:ALL\n"),
        ["admin|ALL|ALL|NOPASSWD|ALL"]
    );
}

#[test]
fn aliases_tags_and_several_privileges_are_resolved() {
    let sudoers = "User_Alias ADMINS = ann, %ops : NONE = !bob\nCmnd_Alias WEB = /bin/systemctl restart nginx, \\\n\
        EDIT\nCmnd_Alias EDIT = sudoedit /etc/nginx\\,x\nRunas_Alias OP = www, #33\nHost_Alias LAN = 10.0.0.0/8\n\
        ADMINS, #1000 LAN = (OP : adm) WEB, NOPASSWD: SETENV: /bin/id, PASSWD: !/bin/sh : srv = CWD=/tmp ALL\n\
        carl ALL = sha256:abc= /bin/x, (root) NOEXEC: /bin/y a\\:b\n\"a b\" ALL=ALL\nbroken\nalso broken\n";
    let commands = "/bin/systemctl restart nginx, sudoedit /etc/nginx\\,x";
    let mut expected = Vec::new();
    for (host, runas, tags, commands) in [
        ("10.0.0.0/8", "www, #33:adm", "", commands),
        ("10.0.0.0/8", "www, #33:adm", "NOPASSWD,SETENV", "/bin/id"),
        ("10.0.0.0/8", "www, #33:adm", "SETENV,PASSWD", "!/bin/sh"),
        ("srv", "root", "CWD=/tmp", "ALL"),
    ] {
        for name in ["ann", "%ops", "#1000"] {
            expected.push(format!("{name}|{host}|{runas}|{tags}|{commands}"));
        }
    }
    expected.push("carl|ALL|root||sha256:abc= /bin/x".to_owned());
    expected.push("carl|ALL|root|NOEXEC|/bin/y a\\:b".to_owned());
    expected.push("\"a b\"|ALL|root||ALL".to_owned());
    assert_eq!(listed(sudoers), expected);
}

#[test]
fn defaults_that_ask_for_no_password_are_listed() {
    assert_eq!(
        listed(
            "Defaults !lecture,  !authenticate\nDefaults:eve !authenticate\nDefaults!/bin/x !authenticate\nDefaults insults\n"
        ),
        [
            "ALL|ALL|ALL|!authenticate|ALL",
            "eve|ALL|ALL|!authenticate|ALL",
            "ALL|ALL|ALL|!authenticate|/bin/x",
        ]
    );
}

#[test]
fn included_files_are_read_where_sudo_reads_them() {
    let dir = fixture(&[
        ("proc/sys/kernel/hostname", "box.example.org\n"),
        (
            "etc/sudoers",
            "@includedir /etc/sudoers.d\n#include sudoers.%h\n@include /etc/sudoers\n",
        ),
        (
            "etc/sudoers.d/10-cloud",
            "\n\nubuntu ALL=(ALL) NOPASSWD:ALL\n",
        ),
        ("etc/sudoers.d/10-cloud.dpkg-old", "no ALL=ALL\n"),
        ("etc/sudoers.d/backup~", "no ALL=ALL\n"),
        ("etc/sudoers.box", "ann ALL=ALL\n"),
        (
            "etc/nsswitch.conf",
            "passwd: files\nsudoers: files sss # x\n",
        ),
        ("usr/etc/sudoers", "no ALL=ALL\n"),
    ]);
    let list = collect(&Root::at(dir.path())).unwrap();
    let found = rows(&list.elements, &["name", "location", "line"]);
    assert_eq!(
        found[..2],
        ["ubuntu|/etc/sudoers.d/10-cloud|3", "ann|/etc/sudoers.box|1"]
    );
    assert_eq!(found.iter().filter(|row| row.starts_with("no")).count(), 0);
    assert_eq!(
        list.notes,
        [
            "1 included files are not read",
            "entries of sudo from `sss` are not listed"
        ]
    );

    // SUSE keeps its own below /usr.
    let dir = fixture(&[
        (
            "usr/etc/sudoers",
            "@includedir /usr/etc/sudoers.d\nroot ALL=(ALL:ALL) ALL\n",
        ),
        ("usr/etc/sudoers.d/x", "ann ALL=ALL\n"),
    ]);
    let list = collect(&Root::at(dir.path())).unwrap().elements;
    assert_eq!(rows(&list, &["name"]), ["ann", "root"]);
}

#[test]
fn entries_of_doas_are_listed() {
    let dir = fixture(&[
        (
            "etc/doas.conf",
            "# x\npermit persist :wheel\ndeny eve # no\npermit\n",
        ),
        (
            "etc/doas.d/a.conf",
            "permit nopass setenv { A=b -C } bob as www cmd /bin/x -y\n",
        ),
        ("etc/doas.d/readme", "permit no\n"),
    ]);
    let list = collect(&Root::at(dir.path())).unwrap().elements;
    assert_eq!(
        rows(&list, &FIELDS),
        [
            ":wheel|ALL|ALL|persist|ALL",
            "eve|ALL|ALL|deny|ALL",
            "bob|ALL|www|nopass,setenv|/bin/x -y",
        ]
    );
}

#[test]
fn aliases_that_multiply_or_lead_to_themselves_end_a17() {
    let mut sudoers = "Cmnd_Alias A0 = A0, A1\n".to_owned();
    for n in 1..12 {
        let members = vec![format!("A{}", n + 1); 50].join(",");
        sudoers.push_str(&format!("Cmnd_Alias A{n} = {members}\n"));
    }
    sudoers.push_str("Cmnd_Alias A12 =\nu ALL=A0\n");
    assert_eq!(listed(&sudoers).len(), 1);
}

#[test]
fn the_sudoers_of_this_very_host_can_be_collected() {
    let list = collect(&Root::host()).unwrap();
    let Ok(text) = std::fs::read_to_string("/etc/sudoers") else {
        eprintln!("SKIPPED the_sudoers_of_this_very_host: sudo is not installed");
        return;
    };
    assert_eq!(
        text.lines().any(|line| line.starts_with("root")),
        list.elements.iter().any(|e| e["name"] == "root"),
        "{list:?}"
    );
}

proptest! {
    #[test]
    fn no_sudoers_can_stop_the_collector_a17(
        text in any::<String>(),
        like in "((User_Alias|Cmnd_Alias|Defaults|bob|%g|#1|\"x|é)[ :=,!@>]{0,3}(ALL|A|\\(|\\)|NOPASSWD:|sha256:|\\\\|=){0,6}\n){0,6}",
        doas in "((permit|deny)( nopass| setenv \\{| as| cmd| é| bob){0,5}\n){0,5}",
    ) {
        for text in [&text, &like] {
            let line = |(number, text): (usize, &str)| lines::Line {
                location: "/etc/sudoers".into(),
                number,
                text: text.to_owned(),
            };
            let lines: Vec<_> = (1..).zip(text.lines()).map(line).collect();
            spec::grants(&lines, |_| ());
        }
        for text in [&text, &doas] {
            doas::grants(text, "/etc/doas.conf", |grant| assert!(!grant.name.is_empty()));
        }
    }
}
