//! Lists of any length against a loop over their entries (S10, S11).

#[path = "naive/lists.rs"]
mod naive;
mod support;

use std::{hint::black_box, time::Instant};

use naive::Loop;
use proptest::prelude::*;
use support::{Values, values};
use yinglong_detect::{Element, Engine, Sample, Scratch};
use yinglong_model::{config::List, event::System};

fn element<'v>(kind: &str, system: System, fields: &'v Values) -> Element<'v> {
    Element {
        class: support::class(kind),
        system,
        fields,
        count: None,
        learn: false,
    }
}

/// What both lists say: the entry and value of the black list, the entry of the white list.
fn judge(
    engine: &Engine,
    element: &Element<'_>,
    scratch: &mut Scratch,
) -> (Option<(String, String)>, Option<String>) {
    let verdict = engine.evaluate(element, scratch);
    let black = verdict.detections.first().map(|detection| {
        let matched = &detection.matched[0];
        let entry = matched.condition.strip_prefix("blacklist ");
        (entry.unwrap_or_default().to_owned(), matched.value.clone())
    });
    (black, verdict.whitelisted)
}

/// Texts and expressions of few letters, so that they meet; letters with more than two cases, marks
/// that expressions read, both slashes, and entries that do not compile.
fn pattern() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => r"\^?[abskAB/]{1,3}\$?",
        2 => r"\^?(/opt/)?[abskAB]{1,2}(\\\.exe)?\$?",
        2 => r"\^?[a-c.]{1,3}[*+?]?[ab]?\$?",
        1 => r"[ab]\\\\[ab]",
        1 => r"\(\?-i\)[aAkK]{1,2}",
        1 => r"(\\b|\\w|\[ab\]|\[sS\]|\(a\|/b\)|é|İ|i|ab)\$?",
        1 => prop::sample::select(vec![
            "", "(", "[", "^$", ".*", "^", "a{1001}{1001}", "(?m)^a", "^..$", "(?-u:\\B)a",
        ]).prop_map(str::to_owned),
        1 => hash(),
    ]
}

fn hash() -> impl Strategy<Value = String> {
    let digits = prop_oneof!["[aA]{31}[bB0]", "[aA]{63}[0-2]"];
    (digits, any::<bool>()).prop_map(
        |(digits, blank)| {
            if blank { format!(" {digits}") } else { digits }
        },
    )
}

fn address() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => r"10\.[0-2]\.[0-2]\.[0-2]",
        2 => r"::ffff:10\.[0-2]\.[0-2]\.[0-2]",
        2 => "2001:[dD][bB]8::[0-2]",
        1 => "(console| 10\\.0\\.0\\.1|10\\.0\\.0\\.1 |)",
    ]
}

fn network() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => address(),
        3 => (r"10\.[0-2]\.[0-2]\.[0-2]", 0..34).prop_map(|(ip, bits)| format!("{ip}/{bits}")),
        1 => ("(2001:db8::|::|::ffff:10.0.0.0)", 0..130).prop_map(|(ip, bits)| format!("{ip}/{bits}")),
        1 => Just("nowhere".to_owned()),
    ]
}

fn any_list() -> impl Strategy<Value = List> {
    let many = || prop::collection::vec(pattern(), 0..12);
    (
        many(),
        prop::collection::vec(network(), 0..12),
        many(),
        many(),
    )
        .prop_map(|(file, ip, process, other)| List {
            file,
            ip,
            process,
            other,
        })
}

fn any_values() -> impl Strategy<Value = Values> {
    let text = || {
        prop_oneof![
            4 => r"[abskAB/\\]{0,5}",
            2 => r"(/opt/|C:\\\\)[abskAB]{1,2}(\.exe)?",
            1 => r"[aKſKİıiéÉ\n]{1,3}/?",
        ]
    };
    let names = ["name", "exe", "command", "path"];
    let texts = prop::collection::btree_map(
        prop::sample::select(names.map(str::to_owned).to_vec()),
        text(),
        0..=names.len(),
    );
    let hashes = prop::collection::btree_map(
        prop::sample::select(["hash".to_owned(), "sha256".to_owned()].to_vec()),
        hash(),
        0..=2,
    );
    (texts, hashes, address()).prop_map(|(mut values, hashes, address)| {
        values.extend(hashes);
        values.insert("remote_ip".to_owned(), address.clone());
        values.insert("remote".to_owned(), address);
        values
    })
}

const KINDS: [&str; 9] = [
    "process",
    "connection",
    "file",
    "loginlog",
    "userlist",
    "listening",
    "service",
    "startup",
    "crontab",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn s10_s11_a_list_says_what_a_loop_over_its_entries_says(
        black in any_list(),
        white in any_list(),
        elements in prop::collection::vec(
            (prop::sample::select(KINDS.to_vec()), any::<bool>(), any_values()), 1..20,
        ),
    ) {
        let (engine, _) = Engine::new([], &white, &black, &Sample::default());
        let (white, black) = (Loop::new(&white), Loop::new(&black));
        // One scratch for all, so that what is remembered of one value cannot tell on another.
        let mut scratch = Scratch::default();
        for (kind, windows, fields) in &elements {
            let system = if *windows { System::Windows } else { System::Linux };
            let element = element(kind, system, fields);
            let expected = (black.find(&element), white.find(&element).map(|(entry, _)| entry));
            prop_assert_eq!(judge(&engine, &element, &mut scratch), expected, "{} {:?}", kind, fields);
        }
    }
}

/// `length` entries of each kind: one third whole names, one third texts, the rest expressions.
fn long_list(length: usize) -> List {
    let patterns: Vec<String> = (0..length)
        .map(|i| match i % 3 {
            0 => format!("^/opt/tool{i}/bin/run$"),
            1 => format!("implant{i}\\.exe"),
            _ => format!("^/(tmp|var/tmp)/\\.cache{i}[a-z]*\\.sh"),
        })
        .collect();
    List {
        file: (0..length)
            .map(|i| match i % 2 {
                0 => format!("{i:064x}"),
                _ => format!("^/srv/drop{i}/.*\\.so$"),
            })
            .collect(),
        ip: (0..length)
            .map(|i| {
                let bits = 24 + i % 9;
                format!("{}.{}.{}.0/{bits}", 11 + i / 65_536, i / 256 % 256, i % 256)
            })
            .collect(),
        process: patterns.clone(),
        other: patterns,
    }
}

#[test]
fn s10_of_twenty_thousand_entries_the_one_that_matches_is_found_whatever_its_place() {
    const LENGTH: usize = 20_000;
    let mut list = long_list(LENGTH);
    // Broken entries between the others harm none of them.
    list.process[100] = "(".to_owned();
    list.process[101] = String::new();
    list.process.push("^/opt/tool".to_owned());
    let (engine, diagnostics) = Engine::new([], &List::default(), &list, &Sample::default());
    assert_eq!(diagnostics.len(), 2, "{diagnostics:?}");
    let mut scratch = Scratch::default();
    let mut check = |kind: &str, field: &str, value: &str, expected: Option<&str>| {
        let fields = values(&[(field, value)]);
        let element = element(kind, System::Linux, &fields);
        let (black, _) = judge(&engine, &element, &mut scratch);
        let entry = black.map(|(entry, _)| entry);
        assert_eq!(entry.as_deref(), expected, "{kind} {value}");
    };
    check(
        "process",
        "exe",
        "/OPT/tool19998/bin/run",
        Some("^/opt/tool19998/bin/run$"),
    );
    check(
        "process",
        "exe",
        "/opt/tool19998/bin/run2",
        Some("^/opt/tool"),
    );
    check(
        "process",
        "exe",
        "/opt/tool99/bin/run",
        Some("^/opt/tool99/bin/run$"),
    );
    check(
        "process",
        "command",
        "IMPLANT19999.exe -x",
        Some("implant19999\\.exe"),
    );
    check("process", "command", "implant19999-exe", None);
    let cache = "^/(tmp|var/tmp)/\\.cache104[a-z]*\\.sh";
    check("process", "name", "/var/tmp/.cache104abc.sh", Some(cache));
    check("service", "name", "implant1.exe", Some("implant1\\.exe"));
    let hash = format!("{:064X}", 19_998);
    check("file", "sha256", &hash, Some(&hash.to_lowercase()));
    check(
        "file",
        "path",
        "/srv/drop19999/a.so",
        Some("^/srv/drop19999/.*\\.so$"),
    );
    check(
        "connection",
        "remote_ip",
        "::ffff:11.78.31.0",
        Some("11.78.31.0/25"),
    );
    check("connection", "remote_ip", "11.200.0.1", None);
}

/// Values of an event: most are on no list, and many repeat, as they do on hosts.
fn ordinary(number: usize) -> Values {
    let program = number % 500;
    values(&[
        ("name", &format!("/usr/bin/program{program}")),
        ("exe", &format!("/usr/bin/program{program}")),
        (
            "command",
            &format!(
                "/usr/bin/program{program} --config /etc/app{program}/main.conf --run {number}"
            ),
        ),
        (
            "path",
            &format!("/home/user/.cache/app{program}/entry{number}"),
        ),
        ("sha256", &format!("{number:064x}f")),
        (
            "remote_ip",
            &format!("192.0.{}.{}", number / 256 % 256, number % 256),
        ),
    ])
}

/// `cargo test --release -p yinglong-detect --test long_lists -- --ignored --nocapture`
#[test]
#[ignore = "measures; its figures depend on the machine"]
fn what_lists_of_24_and_1000_and_20000_entries_cost() {
    const EVENTS: usize = 4_000;
    let events: Vec<Values> = (0..EVENTS).map(ordinary).collect();
    println!(
        "entries  kind        compile ms  loop ms   us/event   loop us  resident MiB  loop MiB"
    );
    for length in [20_000, 1_000, 24] {
        let list = long_list(length);
        let before = resident_mib();
        let started = Instant::now();
        let (engine, _) = Engine::new([], &List::default(), &list, &Sample::default());
        let compiled = started.elapsed();
        let mut scratch = Scratch::default();
        let kinds = ["process", "file", "connection"];
        let own: Vec<f64> = kinds
            .iter()
            .map(|kind| {
                micros(&events, |fields| {
                    let element = element(kind, System::Linux, fields);
                    black_box(engine.evaluate(&element, &mut scratch));
                })
            })
            .collect();
        let after = resident_mib();
        let started = Instant::now();
        let naive = Loop::new(&list);
        let naive_compiled = started.elapsed();
        // The loop is slow enough for fewer events to measure it.
        let few = &events[..(400_000 / length).clamp(40, EVENTS)];
        for (kind, own) in kinds.iter().zip(own) {
            let naive = micros(few, |fields| {
                black_box(naive.find(&element(kind, System::Linux, fields)));
            });
            println!(
                "{length:>7}  {kind:<10}  {:>10.1}  {:>7.1}  {own:>9.2}  {naive:>8.2}  {:>12.1}  {:>8.1}",
                compiled.as_secs_f64() * 1e3,
                naive_compiled.as_secs_f64() * 1e3,
                after - before,
                resident_mib() - after,
            );
        }
    }
}

fn micros(events: &[Values], mut judge: impl FnMut(&Values)) -> f64 {
    let started = Instant::now();
    events.iter().for_each(&mut judge);
    started.elapsed().as_secs_f64() * 1e6 / events.len() as f64
}

fn resident_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| {
        line.trim()
            .trim_end_matches("kB")
            .trim()
            .parse::<f64>()
            .ok()
    });
    kib.unwrap_or(0.0) / 1024.0
}
