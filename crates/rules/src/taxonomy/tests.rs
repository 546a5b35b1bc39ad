use super::*;
use crate::ir::{Target, Written};

fn source(product: &str, category: &str, service: &str) -> LogSource {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    LogSource {
        product: some(product),
        category: some(category),
        service: some(service),
    }
}

fn only(product: &str, category: &str, service: &str) -> Binding {
    let mut found = bindings(&source(product, category, service)).unwrap();
    assert_eq!(found.len(), 1, "{product} {category} {service}");
    found.remove(0)
}

fn test(field: &str, test: Test) -> Expr {
    Expr::Test(Predicate {
        field: Some(Field::whole(field)),
        test,
    })
}

fn contains(field: &str, text: &str) -> Expr {
    test(
        field,
        Test::Text {
            pattern: Pattern::contains(text),
            cased: false,
        },
    )
}

fn target(class: Class, system: System, condition: Expr) -> Target {
    Target {
        class,
        system,
        condition,
    }
}

fn windows_process(condition: Expr) -> Target {
    target(Class::PROCESS, System::Windows, condition)
}

#[test]
fn an_image_is_the_path_of_the_program_on_both_systems() {
    let linux = only("linux", "process_creation", "");
    assert_eq!((linux.class, linux.system), (Class::PROCESS, System::Linux));
    assert_eq!(linux.field("Image"), "name");
    let windows = only("windows", "process_creation", "");
    assert_eq!(windows.field("Image"), "exe");
    for binding in [linux, windows] {
        assert_eq!(binding.condition, None);
        assert_eq!(binding.field("CommandLine"), "command");
        assert_eq!(binding.field("ParentImage"), "parent_exe");
        assert_eq!(binding.field("ParentCommandLine"), "parent_command");
        assert_eq!(binding.field("CurrentDirectory"), "cwd");
    }
}

#[test]
fn a_known_name_in_another_case_is_that_name_and_an_unknown_one_stays() {
    let binding = only("windows", "process_creation", "");
    assert_eq!(binding.field("commandline"), "command");
    assert_eq!(binding.field("originalFilename"), "OriginalFileName");
    assert_eq!(binding.field("command"), "command");
    assert_eq!(binding.field("NoSuchField"), "NoSuchField");
}

#[test]
fn a_canonical_name_beats_a_sigma_name_in_another_case() {
    // `User` is the actor of a change in Sigma, `user` the owner of the file in the contract.
    let binding = only("linux", "file_event", "");
    assert_eq!(binding.field("User"), "actor_user");
    assert_eq!(binding.field("user"), "user");
}

#[test]
fn a_file_event_is_a_file_that_was_made_or_written() {
    let binding = only("linux", "file_event", "");
    assert_eq!(binding.class, Class::FILE);
    let barred = |action: &str| {
        Expr::Test(Predicate {
            field: Some(Field {
                name: "action".into(),
                view: View::Barred,
            }),
            test: Test::Text {
                pattern: Pattern::contains(format!("|{action}|")),
                cased: false,
            },
        })
    };
    assert_eq!(
        binding.condition,
        Some(Expr::Any(vec![barred("CREATE"), barred("WRITE")]))
    );
    let delete = only("windows", "file_delete", "").condition;
    assert_eq!(delete, Some(barred("REMOVE")));
}

#[test]
fn a_category_without_product_is_of_both_systems() {
    let found = bindings(&source("", "process_creation", "")).unwrap();
    let systems: Vec<System> = found.iter().map(|binding| binding.system).collect();
    assert_eq!(systems, [System::Linux, System::Windows]);
}

#[test]
fn a_product_alone_is_every_event_of_its_system_once() {
    for (product, channel) in [
        ("windows", "windows/security"),
        ("windows", "windows/other"),
        ("linux", "linux/syslog"),
        ("linux", "linux/auditd"),
    ] {
        let found = bindings(&source(product, "", "")).unwrap();
        let classes: Vec<Class> = found.iter().map(|binding| binding.class).collect();
        assert!(classes.contains(&Class::PROCESS));
        assert!(classes.contains(&Class::Log(channel)));
        let mut different = classes.clone();
        different.sort_unstable();
        different.dedup();
        assert_eq!(different.len(), classes.len());
    }
    // A line of sshd is in the log of all lines already.
    let linux = bindings(&source("linux", "", "")).unwrap();
    assert!(linux.iter().all(|b| b.class != Class::Log("linux/sshd")));
}

#[test]
fn what_no_host_has_is_refused_with_the_reason() {
    let check = |product: &str, category: &str, service: &str, expected: &str| {
        let error = bindings(&source(product, category, service)).unwrap_err();
        assert_eq!(error, expected);
    };
    check(
        "aws",
        "",
        "cloudtrail",
        "no sensor provides the log source product=aws, service=cloudtrail; it is a log of a cloud \
         service, and Yinglong reads hosts only",
    );
    check(
        "",
        "webserver",
        "",
        "no sensor provides the log source category=webserver; no sensor or reader takes access \
         logs of web servers",
    );
    check(
        "macos",
        "process_creation",
        "",
        "no sensor provides the log source product=macos, category=process_creation; Yinglong has \
         no sensor for macOS",
    );
    check(
        "windows",
        "proces_creation",
        "",
        "no sensor provides the log source product=windows, category=proces_creation; did you mean \
         `process_creation`?",
    );
}

#[test]
fn recorded_logs_are_not_what_agents_send() {
    let registry = source("windows", "registry_set", "");
    assert_eq!(delivered(&registry, Feed::Recordings).unwrap().len(), 1);
    let error = delivered(&registry, Feed::Agents).unwrap_err();
    assert!(error.contains("replay"), "{error}");
    let error = delivered(&source("linux", "", "sshd"), Feed::Agents).unwrap_err();
    assert!(error.contains("loginlog"), "{error}");
    let process = source("windows", "process_creation", "");
    assert_eq!(delivered(&process, Feed::Agents).unwrap().len(), 1);
}

#[test]
fn a_channel_is_found_in_any_case() {
    assert_eq!(
        channel_class("microsoft-windows-sysmon/operational"),
        Class::Log("windows/sysmon")
    );
    assert_eq!(channel_class("Vendor/Log"), OTHER_CHANNEL);
}

#[test]
fn a_line_of_sudo_is_of_three_logs() {
    let classes: Vec<&str> = program_classes("sudo").map(Class::as_str).collect();
    assert_eq!(classes, ["linux/syslog", "linux/auth", "linux/sudo"]);
}

#[test]
fn every_class_a_log_source_reads_is_known() {
    for category in CATEGORIES {
        if let Class::Log(name) = category.class {
            assert!(sources::log(name).is_some(), "{name}");
        }
    }
    for known in recorded::RECORDED {
        if let Class::Log(name) = known.class {
            assert!(sources::log(name).is_some(), "{name}");
        }
        assert_ne!(channel_class(known.channel), OTHER_CHANNEL);
    }
}

#[test]
fn canonical_names_are_those_of_the_contract() {
    for own in fields::OWN {
        let source = crate::Source::Event(own.kind);
        for name in own.unfilled {
            assert!(source.rule_fields().any(|field| field == *name), "{name}");
        }
        for named in own.named {
            let contract = source.rule_fields().any(|field| field == named.name);
            assert!(contract || named.sigma == named.name, "{}", named.name);
        }
    }
}

#[test]
fn a_rule_over_a_field_nobody_provides_can_never_fire() {
    let rule = windows_process(Expr::All(vec![
        contains("command", "x"),
        contains("OriginalFileName", "y"),
    ]));
    assert_eq!(
        unfireable(&rule, Feed::Agents).unwrap_err(),
        "no sensor provides field `OriginalFileName` on windows"
    );
    assert_eq!(unfireable(&rule, Feed::Recordings), Ok(Vec::new()));
}

#[test]
fn every_alternative_must_be_dead_for_a_rule_to_be() {
    let dead = Expr::Any(vec![contains("Description", "x"), contains("Product", "y")]);
    assert_eq!(
        unfireable(&windows_process(dead), Feed::Agents).unwrap_err(),
        "no sensor provides fields `Description`, `Product` on windows"
    );
    let half = Expr::Any(vec![contains("exe", "x"), contains("Product", "y")]);
    assert_eq!(
        unfireable(&windows_process(half), Feed::Agents).unwrap(),
        ["no sensor provides field `Product` on windows, so the tests of it never hold"]
    );
}

#[test]
fn an_exclusion_that_never_applies_is_a_warning() {
    let rule = windows_process(Expr::All(vec![
        contains("exe", "x"),
        Expr::Not(Box::new(Expr::All(vec![
            contains("exe", "z"),
            contains("Company", "y"),
        ]))),
    ]));
    assert_eq!(
        unfireable(&rule, Feed::Agents).unwrap(),
        [
            "no sensor provides field `Company` on windows, so what the rule excludes by it is not \
             excluded"
        ]
    );
}

#[test]
fn the_absence_of_what_nobody_provides_is_certain() {
    let absent = || test("Company", Test::Null);
    let rule = windows_process(Expr::All(vec![contains("exe", "x"), absent()]));
    let warnings = unfireable(&rule, Feed::Agents).unwrap();
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].contains("absence"), "{warnings:?}");
    let error = unfireable(&windows_process(absent()), Feed::Agents).unwrap_err();
    assert!(error.contains("every event"), "{error}");
    let not = windows_process(Expr::Not(Box::new(test("Company", Test::Exists(false)))));
    assert!(unfireable(&not, Feed::Agents).is_err());
}

#[test]
fn reasons_use_the_words_of_the_author() {
    let rule = target(
        Class::DNS,
        System::Linux,
        Expr::Written(Box::new(Written {
            field: "Executable".into(),
            condition: "contains x".into(),
            shows: "exe".into(),
            expr: contains("exe", "x"),
        })),
    );
    let error = unfireable(&rule, Feed::Agents).unwrap_err();
    assert!(error.contains("`Executable` on linux"), "{error}");
}

#[test]
fn rules_about_hashes_of_executions_can_fire() {
    let process = only("linux", "process_creation", "");
    for (sigma, name) in [("Hashes", "hashes"), ("sha256", "sha256"), ("md5", "md5")] {
        assert_eq!(process.field(sigma), name);
        let rule = |text: &str| target(Class::PROCESS, System::Linux, contains(name, text));
        assert_eq!(
            unfireable(&rule("ab"), Feed::Agents),
            Ok(Vec::new()),
            "{sigma}"
        );
    }
    let rule = |text: &str| target(Class::PROCESS, System::Linux, contains("hashes", text));
    assert!(unfireable(&rule("MD5=ab"), Feed::Agents).is_ok());
    assert!(unfireable(&rule("SHA1=ab"), Feed::Agents).is_err());
}

#[test]
fn ends_of_processes_are_read_by_the_category_of_sysmon() {
    let end = only("linux", "process_termination", "");
    assert_eq!((end.class, end.system), (Class::EXIT, System::Linux));
    assert_eq!(end.field("Image"), "name");
    assert_eq!(end.field("ProcessId"), "pid");
    let windows = only("windows", "process_termination", "");
    assert_eq!(windows.class, Class::Log("windows/process_termination"));
}

#[test]
fn agents_have_no_imphash() {
    let check = |text: &str, feed: Feed| {
        unfireable(&windows_process(contains("hashes", text)), feed).is_ok()
    };
    assert!(!check("IMPHASH=0123", Feed::Agents));
    assert!(check("IMPHASH=0123", Feed::Recordings));
    assert!(check("sha256=0123", Feed::Agents));
    assert!(check("0123", Feed::Agents));
}

#[test]
fn keywords_may_be_anywhere() {
    let keyword = Expr::Test(Predicate {
        field: None,
        test: Test::Text {
            pattern: Pattern::contains("x"),
            cased: false,
        },
    });
    let rule = target(Class::PROCESS, System::Linux, keyword);
    assert_eq!(unfireable(&rule, Feed::Agents), Ok(Vec::new()));
}

#[test]
fn a_class_that_is_not_delivered_cannot_fire() {
    let rule = target(
        Class::Log("windows/security"),
        System::Windows,
        contains("EventID", "4624"),
    );
    assert!(unfireable(&rule, Feed::Agents).is_err());
    assert_eq!(unfireable(&rule, Feed::Recordings), Ok(Vec::new()));
}

#[test]
fn questions_to_name_servers_have_the_names_of_sysmon_and_of_the_general_category() {
    let sysmon = only("linux", "dns_query", "");
    assert_eq!((sysmon.class, sysmon.system), (Class::DNS, System::Linux));
    for (sigma, name) in [
        ("QueryName", "query"),
        ("QueryStatus", "query_status"),
        ("QueryResults", "answers"),
        ("Image", "name"),
        ("ProcessId", "pid"),
        ("User", "user"),
    ] {
        assert_eq!(sysmon.field(sigma), name);
    }
    let general = only("", "dns", "");
    assert_eq!((general.class, general.system), (Class::DNS, System::Linux));
    assert_eq!(general.field("query"), "query");
    assert_eq!(general.field("record_type"), "qtype");
    assert_eq!(general.field("answer"), "answers");
    // Windows has a log of its own.
    let windows = only("windows", "dns_query", "");
    assert_eq!(windows.class, Class::Log("windows/dns_query"));
    assert!(bindings(&source("windows", "dns", "")).is_err());
}

#[test]
fn rules_of_the_audit_log_read_system_calls_that_agents_send() {
    let audit = source("linux", "", "auditd");
    let [agents] = &delivered(&audit, Feed::Agents).unwrap()[..] else {
        panic!("one class is sent by agents");
    };
    assert_eq!(agents.class, Class::SYSCALL);
    for (sigma, name) in [
        ("type", "record"),
        ("SYSCALL", "call"),
        ("SyscallName", "call"),
        ("syscall", "call"),
        ("success", "outcome"),
        ("comm", "comm"),
        ("exe", "name"),
        ("key", "key"),
    ] {
        assert_eq!(agents.field(sigma), name);
    }
    // Rules for the events themselves use their words.
    let own = only("linux", "syscall", "");
    assert_eq!(own.field("success"), "success");
    assert_eq!(own.field("exe"), "exe");
    let classes: Vec<Class> = delivered(&audit, Feed::Recordings)
        .unwrap()
        .iter()
        .map(|binding| binding.class)
        .collect();
    assert_eq!(classes, [Class::Log("linux/auditd"), Class::SYSCALL]);
}

#[test]
fn what_only_agents_on_linux_send_cannot_fire_on_windows() {
    let rule = |system| target(Class::DNS, system, contains("query", "x"));
    assert_eq!(
        unfireable(&rule(System::Linux), Feed::Agents),
        Ok(Vec::new())
    );
    assert_eq!(
        unfireable(&rule(System::Windows), Feed::Agents).unwrap_err(),
        "no sensor provides events of dns on windows"
    );
}

#[test]
fn a_rule_over_other_records_of_the_audit_log_cannot_fire_on_system_calls() {
    let record = |kind: &str| {
        test(
            "record",
            Test::Text {
                pattern: Pattern::equal(kind),
                cased: false,
            },
        )
    };
    let rule = |record| target(Class::SYSCALL, System::Linux, record);
    assert!(unfireable(&rule(record("EXECVE")), Feed::Agents).is_err());
    assert_eq!(
        unfireable(&rule(record("syscall")), Feed::Agents),
        Ok(Vec::new())
    );
    let key = Expr::All(vec![record("SYSCALL"), contains("key", "admin")]);
    assert_eq!(
        unfireable(&rule(key), Feed::Agents).unwrap_err(),
        "no sensor provides field `key` on linux"
    );
}
