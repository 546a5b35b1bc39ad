//! Twenty thousand files at once.

use std::{
    collections::HashSet,
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use yinglong_model::event::File;

use super::{Bench, Source, both};
use crate::files::{change::Batch, inotify::Inotify, scope::Root};

#[test]
fn a_storm_of_twenty_thousand_files_is_reported_without_loss() {
    const FILES: usize = 20_000;
    both(|source| {
        let Some(bench) = Bench::start(source, &["storm"]) else {
            return;
        };
        fs::create_dir(bench.path("storm")).unwrap();
        if source == Source::Inotify {
            thread::sleep(Duration::from_millis(1_100));
        }
        let storm = bench.path("storm");
        let took = make_and_remove(&storm, FILES);
        bench.drain();
        let ((_, cpu), recorder) = bench.stop();
        let state = recorder.get();
        let prefix = format!("{}/", storm.display());
        let of = |action: &str| {
            let files = state.events.iter().filter(|file| file.action == action);
            let names = files.filter_map(|file| file.path.strip_prefix(&prefix));
            names.collect::<HashSet<_>>().len()
        };
        let counts = (of("CREATE"), of("WRITE"), of("REMOVE"));
        eprintln!(
            "{source:?}: storm of {took:?}, {counts:?} of {FILES}, cpu {cpu:?} us, lost {:?}",
            state.lost
        );
        if source == Source::Best {
            assert_eq!(counts, (FILES, FILES, FILES));
            assert!(state.lost.is_empty());
        } else if counts.0 < FILES {
            // The kernel bounds this queue, and says when it overflowed.
            assert!(!state.lost.is_empty());
        }
    });
}

#[test]
fn a_storm_elsewhere_on_the_file_system_is_passed_over() {
    const FILES: usize = 20_000;
    let Some(bench) = Bench::start(Source::Best, &["watched"]) else {
        return;
    };
    fs::create_dir(bench.path("elsewhere")).unwrap();
    let took = make_and_remove(&bench.path("elsewhere"), FILES);
    bench.drain();
    let ((_, cpu), recorder) = bench.stop();
    eprintln!("storm of {took:?} elsewhere, cpu {cpu:?} us");
    let state = recorder.get();
    let elsewhere = |file: &File| file.path.contains("/elsewhere");
    assert!(!state.events.iter().any(elsewhere));
    assert!(state.lost.is_empty());
}

#[test]
fn m22_an_overflow_of_the_kernels_queue_is_counted() {
    let place = tempfile::tempdir().unwrap();
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let limit: usize = limit.trim().parse().unwrap();
    let mut inotify = Inotify::open().unwrap();
    let root = Root {
        path: place.path().to_owned(),
        recursive: false,
    };
    inotify.watch(vec![root], HashSet::new());
    // Each file is at least made, closed and removed while nobody reads.
    make_and_remove(place.path(), limit / 2);
    let mut batch = Batch::default();
    while inotify.read(&mut batch).unwrap() {}
    assert!(batch.notes.len() >= limit / 2);
    assert_eq!(batch.overflowed, 1);
}

/// Writes and removes files from two threads at once.
fn make_and_remove(place: &Path, files: usize) -> Duration {
    let start = Instant::now();
    thread::scope(|scope| {
        for half in 0..2 {
            scope.spawn(move || {
                for number in (half..files).step_by(2) {
                    let path = place.join(number.to_string());
                    fs::write(&path, "x").unwrap();
                    fs::remove_file(path).unwrap();
                }
            });
        }
    });
    start.elapsed()
}
