//! Archives with thousands of files.

use std::{
    collections::HashMap,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

use yinglong_model::event::{File, Mode};

use super::{Bench, Source, md5};

const DIRECTORIES: usize = 50;
const FILES: usize = 100;

/// Makes the tree the archives hold.
fn make(base: &Path) {
    for directory in 0..DIRECTORIES {
        let directory = base.join(format!("{}/{directory}/c", directory % 7));
        fs::create_dir_all(&directory).unwrap();
        for file in 0..FILES {
            let path = directory.join(file.to_string());
            fs::write(&path, path.to_str().unwrap()).unwrap();
            let mode = if file % 2 == 0 { 0o750 } else { 0o604 };
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        }
    }
}

/// Packs and unpacks by shell commands; packing runs in the tree, unpacking in the watched place.
fn check(bench: &Bench, kind: &str, pack: &str, unpack: &str) {
    let run = |command: &str, place: &Path| {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-ec", command]).current_dir(place);
        let silent = shell.stdout(Stdio::null()).stderr(Stdio::null());
        silent.status().is_ok_and(|status| status.success())
    };
    let program = unpack.split(' ').next().unwrap();
    if !run(&format!("command -v {program}"), Path::new("/")) {
        eprintln!("SKIPPED {program}: not installed");
        return;
    }
    let watched = format!("watched/{kind}");
    fs::create_dir(bench.path(&watched)).unwrap();
    assert!(run(pack, &bench.path("tree")), "{pack}");
    assert!(run(unpack, &bench.path(&watched)), "{unpack}");
    bench.drain();
    let prefix = format!("{}/", bench.told(&watched));
    let state = bench.recorder.get();
    let mut told: HashMap<&str, Vec<&File>> = HashMap::new();
    for file in &state.events {
        if let Some(name) = file.path.strip_prefix(&prefix) {
            told.entry(name).or_default().push(file);
        }
    }
    let mut files = 0;
    for directory in 0..DIRECTORIES {
        for file in 0..FILES {
            let name = format!("{}/{directory}/c/{file}", directory % 7);
            let events = told.get(name.as_str());
            let events = events.unwrap_or_else(|| panic!("{kind}: nothing of {name}"));
            let of = |action: &str| events.iter().filter(|file| file.action == action).count();
            // A writer that is interrupted for long may be told of twice.
            assert!(of("CREATE") == 1 && of("WRITE") >= 1, "{kind}: {events:#?}");
            assert_eq!(of("REMOVE") + of("RENAME"), 0, "{kind}: {events:#?}");
            let last = events.last().unwrap();
            let path = bench.path(&watched).join(&name);
            assert_eq!(last.hash, md5(&path), "{kind}: {last:?}");
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(last.mode, Some(Mode::from_bits(mode)), "{kind}: {last:?}");
            files += 1;
        }
    }
    assert!(state.lost.is_empty(), "{:?}", state.lost);
    eprintln!(
        "{kind}: {files} files, {} events",
        told.values().flatten().count()
    );
}

#[test]
fn every_file_of_an_archive_is_reported_once_with_its_final_content() {
    let Some(bench) = Bench::start(Source::Best, &["watched/*"]) else {
        return;
    };
    make(&bench.path("tree"));
    fs::create_dir(bench.path("watched")).unwrap();
    let archive = bench.path("archive");
    let archive = archive.display();
    check(
        &bench,
        "tar",
        &format!("tar cf {archive}.tar ."),
        &format!("tar xpf {archive}.tar"),
    );
    check(
        &bench,
        "unzip",
        &format!("zip -qr {archive}.zip ."),
        &format!("unzip -q {archive}.zip"),
    );
    check(
        &bench,
        "cpio",
        &format!("find . | cpio -o -H newc > {archive}.cpio"),
        &format!("cpio -idm -I {archive}.cpio"),
    );
}
