//! Names and paths of every kind the kernel allows.

use std::{
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::{
    fcntl::{OFlag, openat},
    sys::stat::{Mode, mkdirat},
};
use yinglong_model::DropReason;

use super::{Bench, DEADLINE, Source, both, md5};
use crate::files::{
    change::display,
    deep::{MOST_BYTES, Reach},
};

/// Makes directories within `base` until their path is longer than `bytes`.
fn descend(base: &Path, bytes: usize) -> PathBuf {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let reach = Reach::of(base).unwrap();
    let mut at = nix::fcntl::open(reach.path(), flags, Mode::empty()).unwrap();
    let mut path = base.to_owned();
    let name = "d".repeat(200);
    while path.as_os_str().len() <= bytes {
        match mkdirat(&at, name.as_str(), Mode::S_IRWXU) {
            Ok(()) | Err(nix::errno::Errno::EEXIST) => {}
            Err(error) => panic!("{error}"),
        }
        at = openat(&at, name.as_str(), flags, Mode::empty()).unwrap();
        path.push(&name);
    }
    path
}

#[test]
fn every_name_the_kernel_allows_is_reported_with_its_hash() {
    let names: &[&[u8]] = &[
        b"new\nline",
        b"bell\x07 escape\x1b[31m",
        b"\xff\xfe not text",
        b"half \xc3",
        "bidi \u{202e}gpj.exe".as_bytes(),
        "应龙 пример".as_bytes(),
        b" leading and trailing ",
        b"back\\slash \\xff",
        b"quotes \" ' `",
        b"-rf",
        b"#1",
        b"*",
        b"\x01",
    ];
    both(|source| {
        let Some(bench) = Bench::start(source, &["."]) else {
            return;
        };
        let long = "\u{9f8d}".repeat(85);
        let names = names.iter().copied().chain([long.as_bytes()]);
        for name in names {
            let path = bench.path(".").join(OsStr::from_bytes(name));
            fs::write(&path, name).unwrap();
            let name = display(Path::new(OsStr::from_bytes(name)));
            // As it stands in a log of one line per event, and back.
            let told = bench.expect(&name, "WRITE");
            assert_eq!(told.path, bench.told(&name));
            assert_eq!(told.hash, md5(&path), "{name}");
            bench.expect(&name, "CREATE");
        }
    });
}

#[test]
fn a_path_longer_than_a_system_call_takes_is_reported_with_its_hash() {
    both(|source| {
        let Some(mut bench) = Bench::start(source, &["www/*"]) else {
            return;
        };
        fs::create_dir(bench.path("www")).unwrap();
        fs::write(bench.path("www/mark"), "x").unwrap();
        bench.expect("www/mark", "WRITE");
        // Made under the eyes of the sensor.
        let deep = descend(&bench.path("www"), 6_000);
        let file = deep.join("file");
        fs::write(Reach::of(&file).unwrap().path(), "first").unwrap();
        let name = file.strip_prefix(bench.path("")).unwrap().to_owned();
        let name = name.to_str().unwrap();
        let event = bench.expect(name, "WRITE");
        assert_eq!(event.hash, md5(Reach::of(&file).unwrap().path()));
        // There before the sensor looks.
        bench.configure(&[]);
        bench.configure(&["www/*"]);
        fs::write(Reach::of(&file).unwrap().path(), "second").unwrap();
        let content = md5(Reach::of(&file).unwrap().path());
        bench.until(name, |file| file.hash == content);
        // What is deeper still is counted.
        assert!(bench.recorder.get().lost.is_empty());
        let deeper = descend(&deep, MOST_BYTES + 500).join("file");
        fs::write(Reach::of(&deeper).unwrap().path(), "x").unwrap();
        let reason = match source {
            Source::Best => DropReason::TooLarge,
            Source::Inotify => DropReason::QueueOverflow,
        };
        let start = Instant::now();
        // Directories without a watch are counted at the next look at the configuration.
        while !bench
            .recorder
            .get()
            .lost
            .iter()
            .any(|(why, _)| *why == reason)
        {
            assert!(start.elapsed() < DEADLINE, "{source:?}");
            thread::sleep(Duration::from_millis(20));
        }
        fs::remove_dir_all(bench.path("www")).unwrap();
    });
}
