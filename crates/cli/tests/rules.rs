//! `yinglong rules` on files, as people run it, without a server.

#![allow(clippy::unwrap_used, reason = "what is missing in a test fails it")]

mod program;

use program::Folder;
use serde_json::{Value, json};

const RULE: &str = "title: Reads the accounts
id: 0d7f3c1e-5a0b-4f6e-9a51-1f4c2f0f4b01
logsource: {product: linux, category: process_creation}
detection:
  selection:
    CommandLine|contains: /etc/shadow
  filter:
    User: root
  condition: selection and not filter
level: high
tags: [attack.credential-access, attack.t1003.008]
";
const CLASSIC: &str = r#"[{"id":"runs-id","enabled":true,"and":true,"source":"process",
"system":"linux","meta":{"name":"Runs whoami","author":"t","description":"d","level":2,
"attack":["T1033"]},
"rules":{"name":{"type":"regex","data":"^whoami$"}}}]"#;

fn lines(text: &str) -> Vec<Value> {
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn rules_without_a_fault_are_counted() {
    let folder = Folder::new();
    folder.write("rules/a.yml", RULE);
    folder.write("rules/b.json", CLASSIC);
    folder.write("rules/b.test.json", "{");
    let said = folder.succeed(&["rules", "check", "rules"]);
    assert_eq!(
        said,
        "2 rules loaded, 0 refused, 0 switched off; 0 errors, 0 warnings\n"
    );
}

#[test]
fn each_finding_has_its_place_its_reason_and_the_name_that_was_meant() {
    let folder = Folder::new();
    let sigma = RULE.replace("selection and", "selektion and");
    folder.write("rules/a.yml", &sigma);
    let classic = CLASSIC.replace(r#""name":{"type""#, r#""nmae":{"type""#);
    folder.write("rules/b.json", &classic);
    folder.write("rules/c.json", "[\n  {,}\n]");
    let (said, errors) = folder.fail(&["rules", "check", "rules"]);
    let said_of = |file: &str| {
        let mut lines = errors.lines();
        let line = lines.find(|line| line.starts_with(file));
        line.unwrap_or_else(|| panic!("{file}: {errors}"))
            .to_owned()
    };
    let sigma = said_of("rules/a.yml:9:");
    assert!(
        sigma.contains(": error: rule `Reads the accounts`: "),
        "{sigma}"
    );
    let classic = said_of("rules/b.json:4:10: error: rule `Runs whoami`: [0].rules.nmae: ");
    assert!(classic.ends_with("did you mean `name`?"), "{classic}");
    said_of("rules/c.json:2:4: error: ");
    assert!(said.starts_with("0 rules loaded, 3 refused, "), "{said}");
}

#[test]
fn a_rule_nothing_delivers_is_refused_for_agents_and_loaded_for_recordings() {
    let folder = Folder::new();
    let registry = "title: Registry\nid: 0d7f3c1e-5a0b-4f6e-9a51-1f4c2f0f4b05\n\
        logsource: {product: windows, category: registry_set}\n\
        detection:\n  s: {TargetObject|contains: CurrentVersion}\n  condition: s\nlevel: low\n";
    folder.write("registry.yml", registry);
    let agents = lines(&folder.succeed(&["rules", "check", "registry.yml", "--json"]));
    assert_eq!(agents.len(), 2);
    assert_eq!(agents[0]["severity"], "warning");
    assert_eq!(agents[0]["place"]["file"], "registry.yml");
    assert_eq!(agents[1]["loaded"], 0);
    assert_eq!(agents[1]["refused"][0]["title"], "Registry");
    let recordings = folder.succeed(&[
        "rules",
        "check",
        "registry.yml",
        "--feed",
        "recordings",
        "--json",
    ]);
    assert_eq!(
        lines(&recordings),
        [
            json!({"loaded": 1, "disabled": 0, "errors": 0, "warnings": 0, "unreadable": 0, "refused": []})
        ]
    );
}

#[test]
fn a_rule_without_a_text_to_look_for_is_warned_about() {
    let folder = Folder::new();
    folder.write(
        "a.yml",
        &RULE.replace("|contains: /etc/shadow", "|re: '[0-9]+'"),
    );
    let output = folder.run(&["rules", "check", "a.yml"]);
    assert!(output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.starts_with("a.yml:1:1: warning: rule `Reads the accounts`: "),
        "{said}"
    );
    assert!(said.contains("looked at for every event"), "{said}");
}

#[test]
fn an_id_that_is_used_twice_is_an_error_across_files_and_languages() {
    let folder = Folder::new();
    folder.write(
        "a.yml",
        &RULE.replace("0d7f3c1e-5a0b-4f6e-9a51-1f4c2f0f4b01", "runs-id"),
    );
    folder.write("b.json", CLASSIC);
    folder.write("c.json", CLASSIC);
    let (_, errors) = folder.fail(&["rules", "check", "b.json", "c.json"]);
    assert!(
        errors.contains("the rule at b.json:1 has the id `runs-id`"),
        "{errors}"
    );
}

#[test]
fn a_path_that_is_not_there_is_named() {
    let folder = Folder::new();
    let (said, errors) = folder.fail(&["rules", "check", "nowhere"]);
    assert_eq!(said, "");
    assert!(errors.contains("cannot read `nowhere`"), "{errors}");
}

const EXAMPLES: &str = r#"{"match": [{"kind": "process", "system": "linux", "count": null,
"fields": {"name": "/usr/bin/cat", "command": "cat /etc/shadow", "user": "ann"}}],
"near_miss": [{"kind": "process", "system": "linux", "count": null,
"fields": {"name": "/usr/bin/cat", "command": "cat /etc/shadow", "user": "root"}}]}"#;

#[test]
fn examples_that_hold_pass_and_rules_without_are_named() {
    let folder = Folder::new();
    folder.write("rules/a.yml", RULE);
    folder.write("rules/a.test.json", EXAMPLES);
    folder.write("rules/b.json", CLASSIC);
    let output = folder.run(&["rules", "test", "rules"]);
    assert!(output.status.success());
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "1 files, 2 examples, 0 failures; 1 files without examples, 0 quiet matches\n"
    );
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "rules/b.json: no examples beside it\n"
    );
}

#[test]
fn examples_that_do_not_hold_are_told_apart() {
    let folder = Folder::new();
    folder.write("a.yml", RULE);
    let swapped = EXAMPLES
        .replace("\"near_miss\"", "\"x\"")
        .replace("\"match\"", "\"near_miss\"")
        .replace("\"x\"", "\"match\"");
    folder.write("a.test.json", &swapped);
    let (_, errors) = folder.fail(&["rules", "test", "a.yml"]);
    assert!(
        errors.contains("a.test.json: match[0] is not matched: {"),
        "{errors}"
    );
    assert!(
        errors.contains("a.test.json: near_miss[0] is matched: {"),
        "{errors}"
    );
    folder.write("a.test.json", &EXAMPLES.replace("\"user\"", "\"usr\""));
    let (_, errors) = folder.fail(&["rules", "test", "a.yml"]);
    assert!(
        errors.contains("match[0]: `process` has no field `usr`"),
        "{errors}"
    );
}

#[test]
fn a_match_of_a_quiet_element_is_a_failure_unless_it_is_put_up_with() {
    let folder = Folder::new();
    folder.write("a.yml", RULE);
    folder.write("a.test.json", EXAMPLES);
    let element = r#"{"kind": "process", "system": "linux", "count": 9, "fields": {"name": "/usr/sbin/sudo", "command": "vi /etc/shadow"}}"#;
    folder.write("day.ndjson", &format!("\n{element}\n"));
    let words = ["rules", "test", "a.yml", "--quiet", "day.ndjson"];
    let (_, errors) = folder.fail(&words);
    assert!(
        errors.contains("day.ndjson:2: `Reads the accounts` matches: "),
        "{errors}"
    );
    let said = folder.succeed(&[&words[..], &["--quiet-matches", "1"]].concat());
    assert!(said.ends_with("1 quiet matches\n"), "{said}");
}

#[test]
fn the_default_rules_pass_their_tests_on_a_quiet_day() {
    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/../../rules");
    let day = format!("{rules}/quiet-day/linux.ndjson");
    let folders = ["all", "linux", "windows"].map(|name| format!("{rules}/{name}"));
    let [all, linux, windows] = &folders;
    let folder = Folder::new();
    let said = folder.succeed(&[
        "rules",
        "test",
        all,
        linux,
        windows,
        "--quiet",
        &day,
        "--quiet-matches",
        "4",
    ]);
    assert!(
        said.contains(" 0 failures; 0 files without examples"),
        "{said}"
    );
}

#[test]
fn only_techniques_of_rules_that_pass_are_covered() {
    let folder = Folder::new();
    folder.write("rules/a.yml", RULE);
    folder.write("rules/a.test.json", EXAMPLES);
    folder.write("rules/b.json", CLASSIC);
    folder.write("rules/b.test.json", EXAMPLES);
    let layer: Value =
        serde_json::from_str(&folder.succeed(&["rules", "coverage", "rules"])).unwrap();
    assert_eq!(layer["versions"]["layer"], "4.5");
    assert_eq!(layer["domain"], "enterprise-attack");
    let techniques = layer["techniques"].as_array().unwrap();
    assert_eq!(techniques.len(), 1, "{layer}");
    assert_eq!(techniques[0]["techniqueID"], "T1003.008");
    assert_eq!(techniques[0]["score"], 1);
    assert_eq!(techniques[0]["comment"], "Reads the accounts");
}

#[test]
fn coverage_of_the_built_in_rules_says_where_their_examples_are() {
    let (said, errors) = Folder::new().fail(&["rules", "coverage"]);
    assert_eq!(said, "");
    assert!(
        errors.contains("give the folder `rules` of the source tree"),
        "{errors}"
    );
}

const EVENT: &str = r#"{"type":"process","system":"linux","data":{"name":"/usr/bin/cat","command":"cat /etc/shadow","user":"USER"}}"#;

#[test]
fn an_explanation_shows_every_part_with_its_truth_and_value() {
    let folder = Folder::new();
    folder.write("a.yml", RULE);
    let event = EVENT.replace("USER", "root");
    let said = folder.succeed(&["rules", "explain", "a.yml", "--event", &event]);
    assert_eq!(
        said,
        "Reads the accounts (0d7f3c1e-5a0b-4f6e-9a51-1f4c2f0f4b01)\n\
         does not match this process event on linux\n  \
         false all of\n    \
         true  command contains /etc/shadow: \"cat /etc/shadow\" [4..15]\n    \
         false not\n      \
         true  user equals root: \"root\" [0..4]\n"
    );
    let example = r#"{"kind":"process","system":"linux","fields":{"command":"cat /etc/shadow"}}"#;
    let said = folder.succeed(&["rules", "explain", "a.yml", "--event", example]);
    assert!(
        said.contains("\nmatches this process event on linux\n"),
        "{said}"
    );
    assert!(said.contains("false user equals root: not set\n"), "{said}");
}

#[test]
fn a_record_is_explained_by_its_number() {
    let folder = Folder::new();
    folder.write("a.yml", RULE);
    let events = format!(
        "{}\n{}\n",
        EVENT.replace("USER", "root"),
        EVENT.replace("USER", "ann")
    );
    folder.write("events.ndjson", &events);
    let explain = |record: &str| folder.run(&["rules", "explain", "a.yml", "--record", record]);
    let said = |record: &str| String::from_utf8(explain(record).stdout).unwrap();
    assert!(said("events.ndjson:1").contains("\ndoes not match this"));
    assert!(said("events.ndjson:2").contains("\nmatches this"));
    let missing = explain("events.ndjson:3");
    assert_eq!(missing.status.code(), Some(1));
    let error = String::from_utf8(missing.stderr).unwrap();
    assert!(error.contains("has no record 3"), "{error}");
}

#[test]
fn a_rule_that_reads_something_else_says_what() {
    let folder = Folder::new();
    folder.write("a.yml", RULE);
    let event = r#"{"kind":"file","system":"linux","fields":{"path":"/etc/shadow"}}"#;
    let said = folder.succeed(&["rules", "explain", "a.yml", "--event", event]);
    assert!(
        said.ends_with("does not match: it reads process on linux; this is file on linux\n"),
        "{said}"
    );
}

#[test]
fn a_bench_measures_a_second_and_names_the_rules_that_match_most() {
    let folder = Folder::new();
    folder.write("rules/a.yml", RULE);
    folder.write("rules/b.json", CLASSIC);
    let whoami = EVENT.replace("/usr/bin/cat", "/usr/bin/whoami");
    folder.write("events.ndjson", &[EVENT, EVENT, &whoami].join("\n"));
    let words = [
        "rules",
        "bench",
        "rules",
        "--events",
        "events.ndjson",
        "--json",
    ];
    let report: Value = serde_json::from_str(&folder.succeed(&words)).unwrap();
    assert_eq!(
        (&report["rules"], &report["records"]),
        (&json!(2), &json!(3))
    );
    assert!(report["seconds"].as_f64().unwrap() >= 1.0, "{report}");
    assert!(
        report["elements_per_second"].as_f64().unwrap() > 1.0,
        "{report}"
    );
    let top = report["top"].as_array().unwrap();
    assert_eq!(
        (&top[0]["title"], &top[0]["matches"]),
        (&json!("Reads the accounts"), &json!(3))
    );
    assert_eq!(
        (&top[1]["title"], &top[1]["matches"]),
        (&json!("Runs whoami"), &json!(1))
    );
}

#[test]
fn a_rule_that_cannot_be_explained_says_why() {
    let folder = Folder::new();
    folder.write("a.yml", &RULE.replace("process_creation", "registry_event"));
    let event = EVENT.replace("USER", "root");
    let (said, errors) = folder.fail(&["rules", "explain", "a.yml", "--event", &event]);
    assert_eq!(said, "");
    assert!(
        errors.starts_with("refused: Reads the accounts: "),
        "{errors}"
    );
    assert!(
        errors.contains("no rule of `a.yml` can be explained"),
        "{errors}"
    );
}
