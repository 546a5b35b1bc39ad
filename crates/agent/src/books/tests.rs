//! Books on a real disk.

use std::{path::Path, time::Duration};

use yinglong_model::{
    EventData, config,
    event::{Dns, File, Loss, Process},
};
use yinglong_proto::decode_record;
use yinglong_spool::Options;

use super::*;

fn open(dir: &Path, max_bytes: u64) -> Books {
    let options = Options {
        new_epoch: 1,
        segment_bytes: 1 << 20,
        max_bytes,
    };
    let (spool, recovery) = Spool::open(dir, options).unwrap();
    Books::open(spool, recovery.note.as_deref())
}

fn execution(name: &str) -> Observation {
    let process = Process {
        name: name.into(),
        ..Process::default()
    };
    Observation::Event {
        occurred_at: Timestamp::from_secs(1),
        data: EventData::Process(Box::new(process)),
    }
}

#[test]
fn books_marks_and_records_are_the_same_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let books = open(dir.path(), 1 << 20);
    let mut outlet = books.outlet("process", Board::default());
    outlet.emit(execution("/bin/a"));
    outlet.lose(DropReason::RingFull, 3);
    outlet.mark("process.ring", "17".into());
    outlet.commit().unwrap();
    outlet.emit(execution("/bin/never-committed"));
    let before = books.ledger();
    drop((outlet, books));

    let books = open(dir.path(), 1 << 20);
    assert_eq!(books.ledger(), before);
    let ledger = &before.streams["process"];
    assert_eq!(
        (ledger.emitted, ledger.spooled, ledger.dropped_total()),
        (4, 1, 3)
    );
    assert!(ledger.balances());
    assert_eq!(
        books
            .outlet("process", Board::default())
            .marked("process.ring")
            .as_deref(),
        Some("17")
    );
    assert_eq!(books.spool().usage().records, 1);
}

#[test]
fn what_the_filter_excludes_is_counted_and_a_new_filter_counts_from_the_next_commit() {
    let dir = tempfile::tempdir().unwrap();
    let books = open(dir.path(), 1 << 20);
    let mut outlet = books.outlet("process", Board::default());
    let document = config::Filter {
        process: vec!["^/bin/true$".into()],
        ..Default::default()
    };
    books.set_filter(Filter::new(&document).0);
    outlet.commit().unwrap();
    outlet.emit(execution("/bin/true"));
    outlet.emit(execution("/bin/id"));
    outlet.commit().unwrap();
    let ledger = books.ledger().streams["process"].clone();
    assert_eq!((ledger.emitted, ledger.spooled, ledger.filtered), (2, 1, 1));
}

#[test]
fn t04_a_full_spool_drops_and_counts_and_takes_events_again_after_release() {
    let dir = tempfile::tempdir().unwrap();
    let books = open(dir.path(), 4096);
    let mut outlet = books.outlet("process", Board::default());
    for n in 0..100 {
        outlet.emit(execution(&format!("/bin/{n}")));
        outlet.commit().unwrap();
    }
    let ledger = books.ledger().streams["process"].clone();
    assert_eq!(ledger.emitted, 100);
    assert!(ledger.spooled > 0 && ledger.balances());
    assert_eq!(ledger.dropped[&DropReason::SpoolFull], 100 - ledger.spooled);

    books.spool().release(u64::MAX - 1).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let books = open(dir.path(), 1 << 20);
    let mut outlet = books.outlet("process", Board::default());
    outlet.emit(execution("/bin/again"));
    outlet.commit().unwrap();
    assert_eq!(books.ledger().streams["process"].spooled, 1);
}

#[test]
fn an_oversized_event_is_counted_and_the_others_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let books = open(dir.path(), 64 << 20);
    let mut outlet = books.outlet("process", Board::default());
    outlet.emit(execution("/bin/a"));
    outlet.emit(execution(&"x".repeat(MAX_RECORD_BYTES + 1)));
    outlet.emit(execution("/bin/b"));
    outlet.commit().unwrap();
    let ledger = books.ledger().streams["process"].clone();
    assert_eq!(ledger.dropped[&DropReason::TooLarge], 1);
    assert_eq!(ledger.spooled, 2);
    assert!(ledger.balances());
}

/// Everything in the spool, loss events apart.
fn contents(books: &Books) -> (Vec<EventData>, Vec<Loss>) {
    let (mut events, mut losses, mut next) = (Vec::new(), Vec::new(), 1);
    loop {
        let records = books.spool().read(next, 1000, 1 << 20).unwrap();
        let Some((last, _)) = records.last() else {
            return (events, losses);
        };
        next = last + 1;
        for (_, record) in records {
            match decode_record(&record).unwrap().1 {
                Observation::Event {
                    data: EventData::Loss(loss),
                    ..
                } => losses.push(*loss),
                Observation::Event { data, .. } => events.push(data),
                Observation::Inventory(_) => {}
            }
        }
    }
}

/// What the ledger has dropped, by stream and reason.
fn dropped(books: &Books) -> BTreeMap<(String, String), u64> {
    let ledger = books.ledger();
    let streams = ledger.streams.iter();
    streams
        .flat_map(|(stream, ledger)| {
            let reasons = ledger.dropped.iter();
            reasons.map(|(reason, &count)| ((stream.clone(), reason.as_str().to_owned()), count))
        })
        .collect()
}

/// The same, as the events tell it.
fn told(losses: &[Loss]) -> BTreeMap<(String, String), u64> {
    let mut told = BTreeMap::new();
    for loss in losses {
        let key = (loss.stream.clone(), loss.reason.clone());
        *told.entry(key).or_default() += loss.count;
    }
    told
}

fn event(data: EventData) -> Observation {
    Observation::Event {
        occurred_at: Timestamp::from_secs(1),
        data,
    }
}

#[test]
fn losses_are_told_as_events_whose_sum_is_the_ledger_also_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let books = open(dir.path(), 1 << 20);
    let mut outlet = books.outlet("connection", Board::default());
    let noisy = Origin {
        container_id: Some("c0ffee".into()),
        cgroup: Some("/docker/c0ffee".into()),
        user: None,
    };
    let started = now();
    outlet.lose_of(DropReason::OverShare, &noisy, 312);
    outlet.lose(DropReason::RingFull, 5);
    outlet.commit().unwrap();
    // Killed before anybody told: nothing but what is on disk is left.
    drop((outlet, books));

    let books = open(dir.path(), 1 << 20);
    let teller = losses::tell(&books).unwrap();
    let mut outlet = books.outlet("connection", Board::default());
    for _ in 0..10 {
        outlet.lose_of(DropReason::OverShare, &noisy, 1);
        outlet.commit().unwrap();
    }
    let mut others = books.outlet("dns", Board::default());
    others.lose(DropReason::RingFull, 1);
    others.commit().unwrap();
    books.lost_in_spool(DropReason::Malformed, 2);
    books.close();
    teller.join().unwrap();

    let (_, losses) = contents(&books);
    assert_eq!(told(&losses), dropped(&books));
    assert!(books.lock().untold.is_empty());
    let of_noisy: Vec<_> = losses
        .iter()
        .filter(|loss| loss.container_id.as_deref() == Some("c0ffee"))
        .collect();
    assert_eq!(of_noisy.iter().map(|loss| loss.count).sum::<u64>(), 322);
    let first = of_noisy[0];
    assert_eq!(
        (first.stream.as_str(), first.reason.as_str()),
        ("connection", "over_share")
    );
    assert!(first.from <= first.to && started <= first.to, "{first:?}");
    let ledger = &books.ledger().streams["loss"];
    assert!(ledger.balances());
    assert_eq!(ledger.spooled, losses.len() as u64);
}

#[test]
fn a_loss_is_told_without_waiting_for_anything_else() {
    let dir = tempfile::tempdir().unwrap();
    let books = open(dir.path(), 1 << 20);
    let teller = losses::tell(&books).unwrap();
    let mut outlet = books.outlet("process", Board::default());
    outlet.lose(DropReason::RingFull, 3);
    outlet.commit().unwrap();
    assert_eq!(books.spool().wait_beyond(0, Duration::from_secs(60)), 1);
    let (_, losses) = contents(&books);
    assert_eq!(told(&losses), dropped(&books));
    books.close();
    teller.join().unwrap();
}

#[test]
fn a_disk_that_fills_up_keeps_what_is_precious_and_tells_what_it_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let flags = nix::mount::MsFlags::empty();
    let size = Some("size=2m");
    if let Err(error) = nix::mount::mount(Some("none"), dir.path(), Some("tmpfs"), flags, size) {
        eprintln!("SKIPPED a_disk_that_fills_up: cannot mount a small disk: {error}");
        return;
    }
    // The spool may have more than the disk.
    let books = open(&dir.path().join("spool"), 1 << 30);
    let teller = losses::tell(&books).unwrap();
    let mut outlets =
        ["dns", "file", "process"].map(|stream| books.outlet(stream, Board::default()));
    let filler = "x".repeat(1000);
    let (mut emitted, mut precious_lost) = (0, 0);
    while precious_lost == 0 {
        let dns = Dns {
            query: filler.clone(),
            ..Dns::default()
        };
        let file = File {
            path: filler.clone(),
            ..File::default()
        };
        let observations = [
            event(EventData::Dns(Box::new(dns))),
            event(EventData::File(Box::new(file))),
            execution(&filler),
        ];
        for (outlet, observation) in outlets.iter_mut().zip(observations) {
            outlet.emit(observation);
            outlet.commit().unwrap();
        }
        emitted += 1;
        assert!(emitted < 10_000, "the disk never fills");
        precious_lost = books.ledger().streams["process"].dropped_total();
    }
    books.close();
    teller.join().unwrap();

    let ledger = books.ledger();
    let spooled = ["dns", "file", "process"].map(|stream| {
        let ledger = &ledger.streams[stream];
        assert_eq!(ledger.emitted, emitted);
        assert!(ledger.balances(), "{stream}: {ledger:?}");
        ledger.spooled
    });
    // Of a third each, what is cheap had room up to 70 % of the disk, the middle up to 85 %.
    assert!(spooled[0] + 50 < spooled[1], "{spooled:?}");
    assert!(spooled[1] + 30 < spooled[2], "{spooled:?}");
    assert_eq!(spooled[2], emitted - precious_lost);
    assert_eq!(
        ledger.streams["dns"].dropped.keys().collect::<Vec<_>>(),
        [&DropReason::Shed]
    );
    assert_eq!(
        ledger.streams["process"].dropped.keys().collect::<Vec<_>>(),
        [&DropReason::SpoolFull]
    );
    let (events, losses) = contents(&books);
    assert_eq!(events.len() as u64, spooled.iter().sum::<u64>());
    assert_eq!(told(&losses), dropped(&books));
    drop((outlets, books));
    nix::mount::umount(dir.path()).unwrap();
}
