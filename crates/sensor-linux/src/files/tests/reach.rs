//! Where changes are seen: entries, new directories, web roots, mounts, configuration.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use yinglong_model::event::File;

use super::{Bench, DEADLINE, Mounted, Source, both, shell};
use crate::{
    accounts::Accounts,
    files::{Options, WebRoots, open},
    tree::Tree,
};

#[test]
fn m17_a_star_reaches_three_levels_and_a_plain_entry_one() {
    both(|source| {
        let Some(mut bench) = Bench::start(source, &[]) else {
            return;
        };
        fs::create_dir_all(bench.path("deep/a/b")).unwrap();
        fs::create_dir_all(bench.path("flat/a")).unwrap();
        bench.configure(&["deep/*", "flat/"]);
        for path in ["deep/1", "deep/a/2", "deep/a/b/3", "flat/1", "flat/a/2"] {
            fs::write(bench.path(path), "x").unwrap();
        }
        for path in ["deep/1", "deep/a/2", "deep/a/b/3", "flat/1"] {
            bench.expect(path, "WRITE");
        }
        bench.drain();
        assert_eq!(bench.actions("flat/a/2"), [""; 0]);
    });
}

#[test]
fn m18_a_file_in_directories_made_a_moment_ago_is_reported() {
    both(|source| {
        let Some(bench) = Bench::start(source, &["www/*"]) else {
            return;
        };
        // The watched directory itself does not exist yet.
        shell("mkdir -p www/Web/New/Deep", &bench.path(""));
        shell("echo x > www/Web/New/Deep/first.php", &bench.path(""));
        bench.expect("www/Web/New/Deep/first.php", "WRITE");
        for number in 0..20 {
            let directory = format!("www/Web/{number}/New/Deep");
            let file = format!("{directory}/Shell.php");
            shell(
                &format!("mkdir -p {directory}; echo x > {file}"),
                &bench.path(""),
            );
            bench.expect(&file, "CREATE");
            bench.expect(&file, "WRITE");
        }
    });
}

#[test]
fn m18_a_directory_that_moves_takes_its_files_along() {
    both(|source| {
        let Some(bench) = Bench::start(source, &["www/*"]) else {
            return;
        };
        shell(
            "mkdir -p www kit/tools; echo x > kit/tools/shell.php",
            &bench.path(""),
        );
        bench.drain();
        thread::sleep(Duration::from_millis(600));
        shell("mv kit www/kit", &bench.path(""));
        bench.expect("www/kit/tools/shell.php", "CREATE");
        shell(
            "mv www/kit www/moved; echo y > www/moved/tools/more",
            &bench.path(""),
        );
        bench.expect("www/moved/tools/shell.php", "CREATE");
        bench.expect("www/moved/tools/more", "CREATE");
        bench.drain();
        shell("echo z > www/moved/tools/after", &bench.path(""));
        bench.expect("www/moved/tools/after", "WRITE");
        shell(
            "mv www/moved away; echo y > away/tools/unseen",
            &bench.path(""),
        );
        bench.expect("www/moved", "RENAME");
        bench.drain();
        assert_eq!(bench.actions("away/tools/unseen"), [""; 0]);
        assert_eq!(bench.actions("www/moved/tools/unseen"), [""; 0]);
    });
}

#[test]
fn web_roots_found_later_are_watched_and_marked() {
    both(|source| {
        let Some(bench) = Bench::start(source, &["%web%"]) else {
            return;
        };
        fs::create_dir_all(bench.path("site/sub")).unwrap();
        bench.web_roots.set(vec![bench.path("site")]);
        let start = Instant::now();
        for number in 0.. {
            let name = format!("site/sub/{number}.php");
            fs::write(bench.path(&name), "x").unwrap();
            thread::sleep(Duration::from_millis(20));
            let seen = |file: &File| file.path.contains("/site/sub/") && file.web == Some(true);
            if bench.recorder.get().events.iter().any(seen) {
                break;
            }
            assert!(start.elapsed() < DEADLINE);
        }
        let probe = |file: &File| file.path.contains("/probe") && file.web.is_none();
        assert!(bench.recorder.get().events.iter().any(probe));
    });
}

#[test]
fn a_new_configuration_is_in_force_within_a_second() {
    both(|source| {
        let Some(mut bench) = Bench::start(source, &["one"]) else {
            return;
        };
        fs::create_dir(bench.path("one")).unwrap();
        fs::create_dir(bench.path("two")).unwrap();
        let start = Instant::now();
        bench.configure(&["two"]);
        assert!(start.elapsed() < Duration::from_millis(1_500));
        fs::write(bench.path("one/f"), "x").unwrap();
        fs::write(bench.path("two/f"), "x").unwrap();
        bench.expect("two/f", "WRITE");
        bench.drain();
        assert_eq!(bench.actions("one/f"), [""; 0]);
    });
}

#[test]
fn a_linked_directory_is_reported_under_its_real_path() {
    both(|source| {
        let Some(mut bench) = Bench::start(source, &[]) else {
            return;
        };
        fs::create_dir_all(bench.path("usr/bin")).unwrap();
        std::os::unix::fs::symlink("usr/bin", bench.path("bin")).unwrap();
        bench.configure(&["bin/", "usr/bin/"]);
        fs::write(bench.path("bin/ls"), "x").unwrap();
        bench.expect("usr/bin/ls", "WRITE");
        bench.drain();
        assert_eq!(bench.actions("usr/bin/ls"), ["CREATE", "WRITE"]);
        assert_eq!(bench.actions("bin/ls"), [""; 0]);
    });
}

#[test]
fn a_tree_removed_at_once_is_reported_file_by_file() {
    let Some(mut bench) = Bench::start(Source::Best, &[]) else {
        return;
    };
    for directory in 0..20 {
        let directory = format!("www/a/{directory}/b");
        fs::create_dir_all(bench.path(&directory)).unwrap();
        fs::write(bench.path(&format!("{directory}/f")), "x").unwrap();
    }
    bench.configure(&["www/*"]);
    fs::remove_dir_all(bench.path("www/a")).unwrap();
    for directory in 0..20 {
        bench.expect(&format!("www/a/{directory}/b/f"), "REMOVE");
        bench.expect(&format!("www/a/{directory}/b"), "REMOVE");
    }
}

#[test]
fn file_systems_mounted_later_are_watched_and_can_be_unmounted() {
    let Some(bench) = Bench::start(Source::Best, &["www/*"]) else {
        return;
    };
    let Some(mounted) = Mounted::new("tmpfs", "size=1m", &bench.path("www/disk")) else {
        return;
    };
    thread::sleep(Duration::from_millis(1_100));
    fs::create_dir(bench.path("www/disk/a")).unwrap();
    fs::write(bench.path("www/disk/a/f"), "x").unwrap();
    bench.expect("www/disk/a/f", "WRITE");
    nix::mount::umount(&mounted.0).unwrap();
    assert_eq!(bench.stop().0.0.source, "fanotify");
}

#[test]
fn inotify_steps_in_where_a_file_system_refuses_fanotify() {
    let Some(bench) = Bench::start(Source::Best, &["www/*"]) else {
        return;
    };
    let Some(_backing) = Mounted::new("tmpfs", "size=1m", &bench.path("backing")) else {
        return;
    };
    let at = |name: &str| bench.path(&format!("backing/{name}"));
    for name in ["lower", "upper", "work"] {
        fs::create_dir(at(name)).unwrap();
    }
    let [lower, upper, work] = ["lower", "upper", "work"].map(at);
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        lower.display(),
        upper.display(),
        work.display()
    );
    let Some(_mounted) = Mounted::new("overlay", &options, &bench.path("www/over")) else {
        return;
    };
    thread::sleep(Duration::from_millis(1_100));
    fs::create_dir(bench.path("www/over/a")).unwrap();
    fs::write(bench.path("www/over/a/f"), "x").unwrap();
    fs::write(bench.path("www/g"), "x").unwrap();
    bench.expect("www/over/a/f", "WRITE");
    let beside = bench.expect("www/g", "WRITE");
    assert_eq!(beside.actor_pid, Some(std::process::id()));
    let over = bench.path("www/over");
    let told = bench.recorder.get().statuses.clone();
    assert_eq!((told[0].running, told[0].reason.as_str()), (true, ""));
    let ((status, _), _) = bench.stop();
    assert_eq!(status.source, "fanotify");
    assert!(
        status.reason.contains(over.to_str().unwrap()),
        "{}",
        status.reason
    );
    assert_eq!(told.last().unwrap().reason, status.reason);
    assert!(told.is_sorted_by(|one, next| one != next), "{told:?}");
}

#[test]
fn without_the_capabilities_inotify_is_used_and_says_why() {
    for (capability, name) in [(21, "CAP_SYS_ADMIN"), (2, "CAP_DAC_READ_SEARCH")] {
        // Capabilities are a thread's own.
        let status = thread::spawn(move || {
            drop_capability(capability);
            let (tree, accounts) = (Tree::default(), Accounts::default());
            let sensor = open(tree, accounts, WebRoots::default(), Options::default());
            sensor.unwrap().status()
        });
        let status = status.join().unwrap();
        assert_eq!(status.source, "inotify");
        assert!(status.reason.contains(name), "{}", status.reason);
    }
}

/// Takes a capability from the effective set of this thread.
fn drop_capability(number: u32) {
    // `struct __user_cap_header_struct`, version 3, and two `struct __user_cap_data_struct` of
    // effective, permitted and inheritable sets (`linux/capability.h`).
    let mut header = [0x2008_0522_u32, 0];
    let mut data = [0_u32; 6];
    // SAFETY: both arrays have the layout and size of what the call fills.
    let got = unsafe { libc::syscall(libc::SYS_capget, header.as_mut_ptr(), data.as_mut_ptr()) };
    assert_eq!(got, 0);
    data[0] &= !(1 << number);
    // SAFETY: both arrays have the layout and size of what the call reads.
    let set = unsafe { libc::syscall(libc::SYS_capset, header.as_mut_ptr(), data.as_ptr()) };
    assert_eq!(set, 0);
}
