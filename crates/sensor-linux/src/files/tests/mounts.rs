//! Mounts on top of what is watched, and of what is watched elsewhere.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use super::{super::fanotify::filesystem_id, Bench, DEADLINE, Mounted, Source, shell};

/// Writes to `path` until a write of it is reported: that mounts changed is noticed within a second.
fn write_until_seen(bench: &Bench, path: &str) {
    let before = bench.of(path).len();
    let start = Instant::now();
    for number in 0.. {
        fs::write(bench.path(path), number.to_string()).unwrap();
        thread::sleep(Duration::from_millis(20));
        let new = &bench.of(path)[before..];
        if new.iter().any(|file| file.action == "WRITE") {
            break;
        }
        assert!(start.elapsed() < DEADLINE, "nothing of {path}");
    }
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_mount_over_a_watched_directory_is_watched_and_so_is_what_it_hid() {
    let Some(mut bench) = Bench::start(Source::Best, &[]) else {
        return;
    };
    fs::create_dir_all(bench.path("www/a")).unwrap();
    bench.configure(&["www/*"]);
    write_until_seen(&bench, "www/a/before");
    let Some(mounted) = Mounted::new("tmpfs", "size=1m", &bench.path("www")) else {
        return;
    };
    fs::create_dir(bench.path("www/a")).unwrap();
    write_until_seen(&bench, "www/a/during");
    drop(mounted);
    assert!(!bench.path("www/a/during").exists());
    write_until_seen(&bench, "www/a/after");
}

#[test]
fn a_directory_bound_into_a_watched_one_is_watched_under_both() {
    let Some(mut bench) = Bench::start(Source::Best, &[]) else {
        return;
    };
    shell("mkdir -p www/shared other/sub", &bench.path(""));
    bench.configure(&["www/*"]);
    let Some(_mounted) = Mounted::bind(&bench.path("other"), &bench.path("www/shared")) else {
        return;
    };
    write_until_seen(&bench, "www/shared/sub/through-the-mount");
    // The same directory under its own name, which is not watched.
    fs::write(bench.path("other/sub/beside"), "x").unwrap();
    bench.expect("www/shared/sub/beside", "WRITE");
    bench.drain();
    assert_eq!(bench.actions("other/sub/beside"), [""; 0]);
}

#[test]
fn a_watched_directory_that_is_bound_elsewhere_is_watched_there() {
    let Some(mut bench) = Bench::start(Source::Best, &[]) else {
        return;
    };
    shell("mkdir -p www/sub elsewhere", &bench.path(""));
    bench.configure(&["www/*"]);
    let Some(_mounted) = Mounted::bind(&bench.path("www"), &bench.path("elsewhere")) else {
        return;
    };
    fs::write(bench.path("elsewhere/sub/f"), "x").unwrap();
    bench.expect("www/sub/f", "WRITE");
    bench.drain();
    assert_eq!(bench.actions("elsewhere/sub/f"), [""; 0]);
}

#[test]
fn the_upper_directory_of_an_overlay_tells_its_names() {
    let Some(mut bench) = Bench::start(Source::Best, &[]) else {
        return;
    };
    let Some(_backing) = Mounted::new("tmpfs", "size=1m", &bench.path("backing")) else {
        return;
    };
    shell(
        "mkdir backing/lower backing/upper backing/work",
        &bench.path(""),
    );
    bench.configure(&["backing/upper/*"]);
    let [lower, upper, work] =
        ["lower", "upper", "work"].map(|name| bench.told(&format!("backing/{name}")));
    let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
    let Some(_mounted) = Mounted::new("overlay", &options, &bench.path("merged")) else {
        return;
    };
    fs::write(bench.path("merged/f"), "x").unwrap();
    let event = bench.expect("backing/upper/f", "CREATE");
    // A tmpfs has an id since Linux 5.13. Without one fanotify cannot mark it, and inotify names nobody.
    let has_id = filesystem_id(upper.as_ref()).unwrap() != 0;
    assert_eq!(event.actor_pid, has_id.then(std::process::id));
    fs::remove_file(bench.path("merged/f")).unwrap();
    bench.expect("backing/upper/f", "REMOVE");
}
