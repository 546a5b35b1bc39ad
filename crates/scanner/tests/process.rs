//! The real program: asked on its input, answering on its output, within its limits.

#![allow(clippy::unwrap_used, reason = "what is missing in a test fails it")]

use std::{
    fs::{self, File, Permissions},
    io::{BufRead as _, BufReader, IoSlice, Write as _},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::{
            fs::{PermissionsExt as _, chown, symlink},
            net::UnixStream,
        },
    },
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use nix::{
    fcntl::{self, OFlag},
    sys::{
        socket::{ControlMessage, MsgFlags, sendmsg},
        stat::Mode,
    },
    unistd::mkfifo,
};
use yinglong_model::scan::{Answer, Line, Reason, Request};

struct Scanner {
    process: Child,
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    asked: u64,
}

impl Scanner {
    fn start(arguments: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_yinglong-scanner"))
            .args(["--cpu-percent", "100"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let questions = process.stdin.take();
        let answers = BufReader::new(process.stdout.take().unwrap());
        let mut scanner = Self {
            process,
            questions,
            answers,
            asked: 0,
        };
        match scanner.hear() {
            Line::Ready { rules, broken } => assert!(rules > 0 && broken.is_empty()),
            Line::Answer(answer) => panic!("{answer:?}"),
        }
        scanner
    }

    fn say(&mut self, text: &str) {
        let questions = self.questions.as_mut().unwrap();
        writeln!(questions, "{text}").unwrap();
    }

    fn hear(&mut self) -> Line {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    fn answer(&mut self) -> Answer {
        match self.hear() {
            Line::Answer(answer) => answer,
            ready @ Line::Ready { .. } => panic!("{ready:?}"),
        }
    }

    fn ask(&mut self, path: &Path) -> Answer {
        self.asked += 1;
        let request = Request {
            id: self.asked,
            path: path.to_str().unwrap().to_owned(),
            reason: Reason::Web,
            handed: false,
        };
        self.say(&serde_json::to_string(&request).unwrap());
        let answer = self.answer();
        assert_eq!(answer.id, self.asked);
        answer
    }

    fn skipped(&mut self, path: &Path) -> Option<String> {
        let answer = self.ask(path);
        assert_eq!((answer.matches.len(), answer.bytes), (0, 0));
        answer.skipped
    }
}

impl Drop for Scanner {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

const DAC_READ_SEARCH: u64 = 1 << 2;

/// A set of capabilities in a status of the kernel.
fn capabilities(status: &str, set: &str) -> u64 {
    let status = fs::read_to_string(status).unwrap();
    let mut lines = status.lines().map(|line| line.split_once(":\t").unwrap());
    let (_, bits) = lines.find(|(name, _)| *name == set).unwrap();
    u64::from_str_radix(bits, 16).unwrap()
}

#[test]
fn files_that_only_their_owner_may_read_are_read_all_the_same() {
    if capabilities("/proc/self/status", "CapEff") & DAC_READ_SEARCH == 0 {
        eprintln!("skipped: it takes CAP_DAC_READ_SEARCH");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut scanner = Scanner::start(&[]);
    for (name, owner, mode) in [("theirs", Some(65_534), 0o600), ("closed", None, 0)] {
        let folder = dir.path().join(name);
        fs::create_dir(&folder).unwrap();
        let file = folder.join("a.php");
        fs::write(&file, "<?php @eval($_POST['x']); ?>").unwrap();
        for path in [&file, &folder] {
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
            if owner.is_some() && chown(path, owner, owner).is_err() {
                eprintln!("skipped: it takes CAP_CHOWN");
                return;
            }
        }
        assert_eq!(scanner.ask(&file).matches.len(), 1, "{name}");
    }
}

#[test]
fn a_web_shell_is_found_and_described_and_an_ordinary_page_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut scanner = Scanner::start(&[]);
    let shell = dir.path().join("a.php");
    fs::write(&shell, "<?php @eval($_POST['x']); ?>").unwrap();
    let answer = scanner.ask(&shell);
    assert_eq!((answer.skipped, answer.bytes), (None, 28));
    let found = &answer.matches[0];
    assert_eq!(found.rule, "php_request_to_code");
    assert_eq!(
        (found.tags.join("|").as_str(), found.level),
        ("webshell|php", 0)
    );
    assert!(found.description.starts_with("A PHP page"));

    let page = dir.path().join("b.php");
    fs::write(&page, "<?php echo 'Hello'; ?>").unwrap();
    let answer = scanner.ask(&page);
    assert_eq!((answer.skipped, answer.matches), (None, vec![]));
}

#[test]
fn only_regular_files_of_a_bearable_size_are_opened() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    File::create(path("sparse"))
        .unwrap()
        .set_len(100 << 20)
        .unwrap();
    fs::write(path("real"), "x").unwrap();
    symlink(path("real"), path("link")).unwrap();
    mkfifo(&path("pipe"), Mode::S_IRWXU).unwrap();
    let mut scanner = Scanner::start(&[]);
    for (path, reason) in [
        (path("sparse"), "too_large"),
        (path("link"), "not_regular"),
        (path("pipe"), "not_regular"),
        (dir.path().to_owned(), "not_regular"),
        ("/dev/zero".into(), "not_regular"),
        (path("none"), "gone"),
    ] {
        assert_eq!(
            scanner.skipped(&path).as_deref(),
            Some(reason),
            "{}",
            path.display()
        );
    }
    assert_eq!(scanner.ask(&path("real")).skipped, None);
}

#[test]
fn a_name_that_is_no_text_hides_nothing() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};
    let dir = tempfile::tempdir().unwrap();
    let name = OsStr::from_bytes(b"\xff\n.php");
    fs::write(dir.path().join(name), "<?php @eval($_POST['x']); ?>").unwrap();
    let mut scanner = Scanner::start(&[]);
    for shown in [r"\xff\x0a.php", "\\xff\n.php"] {
        let answer = scanner.ask(&dir.path().join(shown));
        assert_eq!(answer.matches.len(), 1, "{shown}: {answer:?}");
    }
}

#[test]
fn nonsense_is_answered_and_the_next_question_is_heard() {
    let dir = tempfile::tempdir().unwrap();
    let mut scanner = Scanner::start(&[]);
    for nonsense in ["", "{", "\u{1}", r#"{"id":1,"path":"/x","reason":"never"}"#] {
        scanner.say(nonsense);
        assert_eq!(scanner.answer().skipped.as_deref(), Some("malformed"));
    }
    assert_eq!(
        scanner.skipped(&dir.path().join("none")).as_deref(),
        Some("gone")
    );
}

#[test]
fn its_limits_are_in_force_and_it_ends_with_who_asks() {
    let mut scanner = Scanner::start(&["--memory-mib", "400"]);
    let of = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", scanner.process.id()));
    let limits = of("limits").unwrap();
    let limit = |name: &str| {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        let mut numbers = line[name.len()..].split_whitespace();
        numbers.next().unwrap().to_owned()
    };
    assert_eq!(limit("Max data size"), (400_u64 << 20).to_string());
    assert_ne!(limit("Max address space"), "unlimited");
    assert_eq!(limit("Max core file size"), "0");
    let status = of("status").unwrap();
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    // Capabilities belong to threads: all of them, those of the rules' engine as well.
    let own = capabilities("/proc/self/status", "CapPrm");
    for task in fs::read_dir(format!("/proc/{}/task", scanner.process.id())).unwrap() {
        let status = task.unwrap().path().join("status");
        let status = status.to_str().unwrap();
        for set in ["CapEff", "CapPrm"] {
            assert_eq!(capabilities(status, set), own & DAC_READ_SEARCH, "{set}");
        }
        for set in ["CapInh", "CapAmb"] {
            assert_eq!(capabilities(status, set), 0, "{set}");
        }
    }
    let stat = of("stat").unwrap();
    let nice = stat.rsplit(')').next().unwrap().split_whitespace().nth(16);
    assert_eq!(nice, Some("19"));

    drop(scanner.questions.take());
    assert!(scanner.process.wait().unwrap().success());
}

#[test]
fn a_rule_that_takes_too_long_is_given_up_and_the_next_file_is_scanned() {
    let dir = tempfile::tempdir().unwrap();
    let rules = dir.path().join("rules");
    fs::create_dir(&rules).unwrap();
    fs::write(
        rules.join("slow.yar"),
        "rule slow { condition: filesize > 10 and \
         for any i in (0..1000000000) : (for any j in (0..1000000) : (uint8(i + j) == 300)) }",
    )
    .unwrap();
    let long = dir.path().join("long");
    fs::write(&long, "x".repeat(100)).unwrap();
    let short = dir.path().join("short");
    fs::write(&short, "x").unwrap();
    let rules = rules.to_str().unwrap();
    let mut scanner = Scanner::start(&["--rules", rules, "--seconds", "1"]);
    let answer = scanner.ask(&long);
    assert_eq!(answer.skipped.as_deref(), Some("timeout"));
    assert_eq!(scanner.ask(&short).skipped, None);
}

/// A file of this process as others see it: looking there takes the right to trace it.
fn in_this_process(path: &Path) -> PathBuf {
    let root = PathBuf::from(format!("/proc/{}/root", std::process::id()));
    root.join(path.strip_prefix("/").unwrap())
}

#[test]
fn into_processes_it_cannot_look_but_what_is_handed_over_is_scanned() {
    let dir = tempfile::tempdir().unwrap();
    let shell = dir.path().join("a.php");
    fs::write(&shell, "<?php @eval($_POST['x']); ?>").unwrap();
    symlink(&shell, dir.path().join("link")).unwrap();
    mkfifo(&dir.path().join("pipe"), Mode::S_IRWXU).unwrap();
    if capabilities("/proc/self/status", "CapEff") & !DAC_READ_SEARCH != 0 {
        // Who may more than the scanner is out of its reach.
        let mut scanner = Scanner::start(&[]);
        let seen = scanner.skipped(&in_this_process(&shell));
        assert_eq!(seen.as_deref(), Some("unreadable"));
    }

    let (questions, input) = UnixStream::pair().unwrap();
    let mut process = Command::new(env!("CARGO_BIN_EXE_yinglong-scanner"))
        .stdin(Stdio::from(OwnedFd::from(input)))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut answers = BufReader::new(process.stdout.take().unwrap()).lines();
    answers.next().unwrap().unwrap();
    let mut ask = |name: &str| {
        let request = Request {
            id: 1,
            path: "/shown/only".to_owned(),
            reason: Reason::Web,
            handed: true,
        };
        let line = serde_json::to_string(&request).unwrap() + "\n";
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW;
        let file = fcntl::open(&dir.path().join(name), flags, Mode::empty()).unwrap();
        let files = [file.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&files)];
        let parts = [IoSlice::new(line.as_bytes())];
        let socket = questions.as_raw_fd();
        sendmsg::<()>(socket, &parts, &rights, MsgFlags::empty(), None).unwrap();
        match serde_json::from_str(&answers.next().unwrap().unwrap()).unwrap() {
            Line::Answer(answer) => answer,
            ready @ Line::Ready { .. } => panic!("{ready:?}"),
        }
    };
    for name in ["link", "pipe", "."] {
        assert_eq!(ask(name).skipped.as_deref(), Some("not_regular"), "{name}");
    }
    for _ in 0..100 {
        // More often than it may have files open: none of them stays so.
        assert_eq!(ask("a.php").matches.len(), 1);
    }
    process.kill().unwrap();
    process.wait().unwrap();
}
