//! Rules on a real server: hunted for in what it has stored, taken out and put back.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has to panic")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use nix::unistd::geteuid;
use serde_json::{Value, json};
use yinglong_e2e::{Installation, binary, eventually, storm};

/// Tells loudly that a test cannot run here.
fn lacks_root(test: &str) -> bool {
    let lacks = !geteuid().is_root();
    if lacks {
        eprintln!("SKIPPED {test}: observing the kernel needs root");
    }
    lacks
}

/// A rule in the classic language over executions of `/bin/true` with an argument.
fn classic(argument: &str) -> String {
    let rule = json!({
        "id": "e2e-classic", "enabled": true, "and": true, "source": "process", "system": "linux",
        "meta": {"name": "Classic deed", "description": "A test did it.", "level": 1},
        "rules": {
            "name": {"type": "regex", "data": "^true$"},
            "command": {"type": "regex", "data": format!(" {argument}-[0-9]$")},
        },
    });
    json!([rule]).to_string()
}

/// The same in Sigma, but for one number.
fn sigma(argument: &str) -> String {
    format!(
        "title: Sigma deed\n\
         id: 5b0f7c52-1f0c-4d2e-9a0e-0f6f1c1f0a11\n\
         logsource:\n    product: linux\n    category: process_creation\n\
         detection:\n    selection:\n        Image|endswith: /true\n        CommandLine|contains: ' {argument}-'\n    \
         filter:\n        CommandLine|endswith: '-0'\n    condition: selection and not filter\n\
         level: high\n"
    )
}

/// A rule over files in Sigma.
fn sigma_file(path: &Path) -> String {
    format!(
        "title: Sigma file\n\
         id: 5b0f7c52-1f0c-4d2e-9a0e-0f6f1c1f0a12\n\
         logsource:\n    product: linux\n    category: file_event\n\
         detection:\n    selection:\n        TargetFilename: {}\n    condition: selection\n\
         level: low\n",
        path.display()
    )
}

/// A file that is removed when the test ends, however it ends.
struct Litter(PathBuf);

impl Drop for Litter {
    fn drop(&mut self) {
        // It may never have been made.
        let _ = fs::remove_file(&self.0);
    }
}

/// What a hunt printed: titles of rules with what they matched, and how often.
fn found(lines: &[Value]) -> BTreeMap<(String, String), u32> {
    let mut found = BTreeMap::new();
    for line in lines {
        let data = &line["event"]["data"];
        let what = match data["command"].as_str() {
            Some(command) => command.rsplit(' ').next().unwrap_or_default(),
            None => data["path"].as_str().unwrap_or_default(),
        };
        let title = line["title"].as_str().unwrap_or_default();
        *found
            .entry((title.to_owned(), what.to_owned()))
            .or_default() += 1;
    }
    found
}

#[test]
fn a_hunt_finds_exactly_the_deeds_of_the_past_in_both_languages() {
    if lacks_root("a_hunt_finds_exactly_the_deeds_of_the_past_in_both_languages") {
        return;
    }
    let here = Installation::start().unwrap();
    let own = std::process::id();
    let (one, two, other) = (
        format!("ylone{own}"),
        format!("yltwo{own}"),
        format!("yloth{own}"),
    );
    let file = Litter(PathBuf::from(format!("/etc/{one}.conf")));
    here.observe(&format!("ylfirst{own}")).unwrap();
    eventually(60, "files of /etc are watched", || {
        fs::write(&file.0, "quiet = true\n")?;
        let query = format!("type:file | path:{}", file.0.display());
        Ok(!here.json(&["search", &query])?.is_empty())
    })
    .unwrap();
    for mark in [&one, &two, &other] {
        storm(mark, 0..3).unwrap();
    }
    eventually(60, "all deeds are stored", || {
        let mut all = 0;
        for mark in [&one, &two, &other] {
            all += here.stored(mark)?;
        }
        Ok(all == 9)
    })
    .unwrap();

    let folder = here.data().join("hunt");
    fs::create_dir(&folder).unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let of = |title: &str, mark: &str, numbers: &[u32]| -> BTreeMap<(String, String), u32> {
        numbers
            .iter()
            .map(|number| ((title.to_owned(), format!("{mark}-{number}")), 1))
            .collect()
    };

    let json_rule = write("classic.json", &classic(&one));
    let lines = here.json(&["hunt", &json_rule]).unwrap();
    let by_classic = of("Classic deed", &one, &[0, 1, 2]);
    assert_eq!(found(&lines), by_classic);
    assert_eq!(lines[0]["rule"], "e2e-classic");
    assert_eq!(lines[0]["level"], "suspicious");
    assert_eq!(lines[0]["event"]["type"], "process");

    let yaml_rule = write("sigma.yml", &sigma(&two));
    let lines = here.json(&["hunt", &yaml_rule, "--since", "1h"]).unwrap();
    let by_sigma = of("Sigma deed", &two, &[1, 2]);
    assert_eq!(found(&lines), by_sigma);
    assert_eq!(lines[0]["level"], "high");

    let long_ago = here.json(&["hunt", &yaml_rule, "--until", "1h"]).unwrap();
    assert_eq!(found(&long_ago), BTreeMap::new());

    // A folder: both languages and both types of events at once.
    write("file.yml", &sigma_file(&file.0));
    let folder = folder.to_str().unwrap();
    let lines = here.json(&["hunt", folder]).unwrap();
    let mut all = found(&lines);
    let path = file.0.display().to_string();
    let of_file = all.remove(&("Sigma file".to_owned(), path));
    assert!(of_file.is_some(), "{all:?}");
    let mut both = by_classic;
    both.extend(by_sigma);
    assert_eq!(all, both);

    let told = here.yinglong(&["hunt", &json_rule]).unwrap();
    assert_eq!(told.lines().count(), 3, "{told}");
    assert!(
        told.lines().all(|line| line.contains("Classic deed")),
        "{told}"
    );
}

#[test]
fn a_hunt_with_a_wrong_rule_says_what_is_wrong_and_fails() {
    if lacks_root("a_hunt_with_a_wrong_rule_says_what_is_wrong_and_fails") {
        return;
    }
    let here = Installation::start().unwrap();
    let own = std::process::id();
    let mark = format!("ylbad{own}");
    here.observe(&mark).unwrap();
    let folder = here.data().join("hunt");
    fs::create_dir(&folder).unwrap();
    let good = folder.join("good.json");
    fs::write(&good, classic(&mark)).unwrap();

    let misnamed = sigma(&mark).replace("condition: selection", "condition: selektion");
    let unknown_field = classic(&mark).replace("\"command\"", "\"comand\"");
    let inventory = classic(&mark)
        .replace("\"process\"", "\"userlist\"")
        .replace("\"command\"", "\"description\"");
    for (name, text, said) in [
        (
            "misnamed.yml",
            misnamed.as_str(),
            "did you mean `selection`",
        ),
        ("field.json", &unknown_field, "comand"),
        ("list.json", &inventory, "inventories, not events"),
        ("text.json", "{", "not JSON"),
    ] {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        let path = path.to_str().unwrap();
        let output = here.command(&["hunt", path]).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{name}: {error}");
        assert!(error.contains(said), "{name}: {error}");
        assert!(
            error.contains("no rule can be hunted for"),
            "{name}: {error}"
        );
        assert!(output.stdout.is_empty(), "{name}");
    }
    let absent = folder.join("absent.yml");
    let data = here.data().display().to_string();
    for (rule, extra, expected) in [
        (&absent, ["--data", &data].as_slice(), "cannot read"),
        (&good, &["--data", "/nowhere"], "no server runs"),
        (&good, &["--data", &data, "--since", "yesterday"], "use 15m"),
    ] {
        let mut command = Command::new(binary("yinglong"));
        let output = command.arg("hunt").arg(rule).args(extra).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{expected}: {error}");
        assert!(error.contains(expected), "{error}");
    }

    // What is right in a folder is hunted for all the same; the status tells that it was not all.
    let output = here
        .command(&["hunt", "--json", folder.to_str().unwrap()])
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("some rules were not hunted for"), "{error}");
    let lines: Vec<Value> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(!lines.is_empty());
    for line in lines {
        assert_eq!(line["title"], "Classic deed", "{line}");
    }
}

/// All rules of a server, by id.
fn rules(here: &Installation) -> BTreeMap<String, Value> {
    let all = here.json(&["rules", "list"]).unwrap();
    all.into_iter()
        .map(|rule| (rule["id"].as_str().unwrap_or_default().to_owned(), rule))
        .collect()
}

#[test]
fn exported_rules_are_the_same_set_on_another_server() {
    if lacks_root("exported_rules_are_the_same_set_on_another_server") {
        return;
    }
    let here = Installation::start().unwrap();
    let write = |name: &str, text: &str| {
        let path = here.data().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let fresh = rules(&here);
    let correlation = format!(
        "{}---\ntitle: Many deeds\nid: 5b0f7c52-1f0c-4d2e-9a0e-0f6f1c1f0a13\ncorrelation:\n    \
         type: event_count\n    rules:\n        - 5b0f7c52-1f0c-4d2e-9a0e-0f6f1c1f0a11\n    group-by:\n        - User\n    \
         timespan: 1m\n    condition:\n        gte: 3\nlevel: critical\n",
        sigma("龙")
    );
    let own_sigma = write("own.yml", &correlation);
    let own_classic = write("own.json", &classic("龙"));
    // A default rule of each language is switched off, the way it was listed.
    let mut off = Vec::new();
    for in_sigma in [true, false] {
        let found = fresh
            .values()
            .find(|rule| rule["sigma"].is_string() == in_sigma);
        let mut rule = found.unwrap().clone();
        rule["enabled"] = json!(false);
        off.push(rule);
    }
    let off = write("off.json", &Value::from(off).to_string());
    let said = here
        .yinglong(&["rules", "import", &own_sigma, &own_classic, &off])
        .unwrap();
    assert_eq!(said, "5 rules imported, 0 refused\n");

    let before = rules(&here);
    assert_eq!(before.len(), fresh.len() + 3);
    let folder = here.data().join("exported");
    let folder = folder.to_str().unwrap();
    eprint!("{}", here.yinglong(&["rules", "export", folder]).unwrap());
    let classic: Vec<Value> =
        serde_json::from_slice(&fs::read(format!("{folder}/classic.json")).unwrap()).unwrap();
    assert!(classic.iter().any(|rule| rule["id"] == "e2e-classic"));
    assert!(classic.iter().all(|rule| rule["sigma"].is_null()));
    let document = fs::read_to_string(format!("{folder}/sigma/many-deeds.yml")).unwrap();
    assert!(document.starts_with("title: Many deeds\n"), "{document}");

    let again = here.command(&["rules", "export", folder]).output().unwrap();
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("is not empty"));

    let there = Installation::start().unwrap();
    assert_eq!(rules(&there), fresh);
    there.yinglong(&["rules", "import", folder]).unwrap();
    assert_eq!(rules(&there), before);
}

#[test]
fn an_import_stores_what_is_right_and_names_what_is_wrong() {
    if lacks_root("an_import_stores_what_is_right_and_names_what_is_wrong") {
        return;
    }
    let here = Installation::start().unwrap();
    let folder = here.data().join("mixed");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("right.json"), classic("x")).unwrap();
    let wrong = sigma("x").replace("condition: selection", "condition: selektion");
    fs::write(folder.join("wrong.yml"), wrong).unwrap();
    let import = here
        .command(&["rules", "import", folder.to_str().unwrap()])
        .output()
        .unwrap();
    assert_eq!(import.status.code(), Some(1));
    let (out, error) = (
        String::from_utf8_lossy(&import.stdout),
        String::from_utf8_lossy(&import.stderr),
    );
    assert_eq!(out, "1 rules imported, 1 refused\n", "{error}");
    assert!(error.contains("wrong.yml:"), "{error}");
    assert!(error.contains("did you mean `selection`"), "{error}");
    assert!(rules(&here).contains_key("e2e-classic"));
}
