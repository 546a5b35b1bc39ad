//! The keeper with a scanner made of a few lines of shell, which does as files' names say.

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
    time::Instant,
};

use yinglong_model::{
    DropReason, EventData, Observation,
    event::{File, Process},
};
use yinglong_sensor::{Error, Outlet};

use super::*;

const DEADLINE: Duration = Duration::from_secs(20);
/// Finds something in every file, but dies of `deadly` ones, says nothing about `silent` ones, and
/// nonsense about others.
const SHELL: &str = r#"
echo '{"say":"ready","rules":1,"broken":["x.yar: what"]}'
while read -r line; do
  echo "$line" >> "$0.asked"
  case "$line" in
    *deadly*) kill -9 $$ ;;
    *silent*) exec sleep 60 ;;
    *nonsense*) echo nonsense; continue ;;
    *large*) found='"skipped":"too_large"' ;;
    *) found='"matches":[{"rule":"r","tags":["t"],"level":1,"description":"d"}]' ;;
  esac
  id=${line#*:}
  echo "{\"say\":\"answer\",\"id\":${id%%,*},$found}"
done
"#;

#[derive(Debug, Default)]
struct Told {
    found: Vec<File>,
    lost: Vec<(DropReason, u64)>,
    filtered: u64,
    statuses: Vec<SensorStatus>,
}

#[derive(Debug, Clone, Default)]
struct Recorder(Arc<Mutex<Told>>);

impl Recorder {
    fn get(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap()
    }
}

impl Outlet for Recorder {
    fn emit(&mut self, observation: Observation) {
        match observation {
            Observation::Event {
                data: EventData::File(file),
                ..
            } => self.get().found.push(*file),
            other => panic!("{other:?}"),
        }
    }

    fn lose(&mut self, reason: DropReason, count: u64) {
        if count > 0 {
            self.get().lost.push((reason, count));
        }
    }

    fn filtered(&mut self, count: u64) {
        self.get().filtered += count;
    }

    fn mark(&mut self, _: &str, _: String) {}

    fn status(&mut self, status: SensorStatus) {
        self.get().statuses.push(status);
    }

    fn marked(&self, _: &str) -> Option<String> {
        None
    }

    fn commit(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

struct Bench {
    dir: tempfile::TempDir,
    context: Context,
    feed: Feed,
    told: Recorder,
    thread: Option<JoinHandle<()>>,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let shell = dir.path().join("shell");
        fs::write(&shell, SHELL).unwrap();
        let options = Options {
            program: None,
            arguments: vec![shell.into()],
            answer_within: Duration::from_millis(700),
            first_pause: Duration::from_millis(10),
        };
        let (context, feed, told) = (Context::default(), Feed::default(), Recorder::default());
        let program = PathBuf::from("/bin/sh");
        let keeper = Keeper::new(
            context.clone(),
            feed.clone(),
            told.clone(),
            told.clone(),
            program,
            options,
        );
        Self {
            dir,
            context,
            feed,
            told,
            thread: Some(thread::spawn(move || keeper.run())),
        }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn written(&self, name: &str) {
        fs::write(self.path(name), name).unwrap();
        self.report(name);
    }

    fn report(&self, name: &str) {
        self.feed.see(&EventData::File(Box::new(File {
            action: "WRITE".into(),
            path: self.path(name),
            web: Some(true),
            ..File::default()
        })));
    }

    /// Waits until something was found in a file.
    fn found(&self, name: &str) -> File {
        let (began, path) = (Instant::now(), self.path(name));
        loop {
            let file = self
                .told
                .get()
                .found
                .iter()
                .find(|f| f.path == path)
                .cloned();
            if let Some(file) = file {
                return file;
            }
            assert!(began.elapsed() < DEADLINE, "{name}: {:?}", self.told.get());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// How often the scanner was asked about a file.
    fn asked(&self, name: &str) -> usize {
        let asked = fs::read_to_string(self.path("shell.asked")).unwrap_or_default();
        asked.lines().filter(|line| line.contains(name)).count()
    }

    fn last_reason(&self) -> String {
        self.told.get().statuses.last().unwrap().reason.clone()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.context.stop();
        self.thread.take().unwrap().join().unwrap();
    }
}

#[test]
fn a_match_is_a_file_event_of_its_own_action() {
    let bench = Bench::new();
    bench.written("a");
    let file = bench.found("a");
    assert_eq!((file.action.as_str(), file.web), ("SCAN", Some(true)));
    assert_eq!(file.yara.as_deref(), Some("r"));
    assert_eq!(file.yara_tags.as_deref(), Some("t|suspicious"));
    assert_eq!(bench.last_reason(), "left out: x.yar: what");
}

#[test]
fn a_content_is_scanned_once_and_a_new_one_again() {
    let bench = Bench::new();
    bench.written("a");
    bench.found("a");
    bench.report("a");
    bench.written("b");
    bench.found("b");
    assert_eq!(bench.asked("/a"), 1);
    fs::write(bench.path("a"), "something else").unwrap();
    bench.report("a");
    bench.written("c");
    bench.found("c");
    assert_eq!(bench.asked("/a"), 2);
}

#[test]
fn a_file_that_kills_twice_is_given_up_and_the_scanner_works_on() {
    let bench = Bench::new();
    bench.written("deadly");
    bench.written("a");
    bench.found("a");
    bench.report("deadly");
    bench.written("b");
    bench.found("b");
    assert_eq!(bench.asked("deadly"), 2);
    assert_eq!(bench.told.get().lost, [(DropReason::ScanFailed, 1)]);
    let reason = bench.last_reason();
    assert!(reason.contains("restarts: 2"), "{reason}");
    assert!(reason.contains("died of them: 1"), "{reason}");
}

#[test]
fn a_scanner_that_does_not_answer_or_talks_nonsense_is_replaced() {
    let bench = Bench::new();
    bench.written("silent");
    bench.written("nonsense");
    bench.written("a");
    bench.found("a");
    assert_eq!((bench.asked("silent"), bench.asked("nonsense")), (2, 2));
    let lost = bench.told.get().lost.clone();
    assert_eq!(lost, [(DropReason::ScanFailed, 1); 2]);
}

#[test]
fn a_file_in_a_container_is_handed_over() {
    let bench = Bench::new();
    fs::write(bench.path("inside"), "x").unwrap();
    let name = bench.path("inside");
    for (name, pid) in [
        (name.clone(), std::process::id()),
        // Nobody has that number, so its file is gone with it.
        (bench.path("gone"), u32::MAX >> 1),
    ] {
        bench.feed.see(&EventData::Process(Box::new(Process {
            name,
            pid,
            container_id: Some("c".into()),
            ..Process::default()
        })));
    }
    bench.written("a");
    bench.found("a");
    let asked = fs::read_to_string(bench.path("shell.asked")).unwrap();
    let asked: Vec<&str> = asked.lines().collect();
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert!(asked[0].contains(r#""handed":true"#), "{asked:?}");
    assert!(!asked[1].contains("handed"), "{asked:?}");
    let told = bench.told.get();
    assert_eq!(told.found[0].path, name);
    assert!(told.lost.is_empty(), "{:?}", told.lost);
}

#[test]
fn empty_files_directories_and_the_scanner_itself_are_not_asked_about() {
    let bench = Bench::new();
    fs::write(bench.path("empty"), "").unwrap();
    bench.report("empty");
    fs::create_dir(bench.path("folder")).unwrap();
    bench.report("folder");
    let shell = fs::canonicalize("/bin/sh").unwrap();
    bench.feed.see(&EventData::Process(Box::new(Process {
        name: shell.to_str().unwrap().into(),
        ..Process::default()
    })));
    bench.written("large");
    bench.written("a");
    bench.found("a");
    let asked = fs::read_to_string(bench.path("shell.asked")).unwrap();
    assert_eq!(asked.lines().count(), 2, "{asked}");
    assert_eq!(bench.told.get().filtered, 1);
}

#[test]
fn without_a_program_the_status_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let options = yinglong_spool::Options {
        new_epoch: 1,
        segment_bytes: 1 << 20,
        max_bytes: 1 << 20,
    };
    let (spool, _) = yinglong_spool::Spool::open(dir.path(), options).unwrap();
    let books = Books::open(spool, None);
    for (named, reason) in [
        (Path::new("off"), "switched off"),
        (Path::new("/none/there"), "install yinglong-scanner"),
    ] {
        let board = Board::default();
        let options = Options::new(Some(named), None);
        let thread = start(&Context::default(), &books, &board, options).unwrap();
        assert!(thread.is_none());
        let status = board.statuses().remove(0);
        assert_eq!((status.stream.as_str(), status.running), (STREAM, false));
        assert!(status.reason.contains(reason), "{}", status.reason);
    }
}
