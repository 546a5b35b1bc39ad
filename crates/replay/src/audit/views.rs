//! An audit event as rules see it: each record for itself, and what it is altogether.

use yinglong_model::event::System;
use yinglong_rules::Class;

use super::{Event, Parents, Raw, decode::joined, parents::Known, syscalls};
use crate::view::View;

/// Class of records of the audit log.
const AUDITD: Class = Class::Log("linux/auditd");

/// An id that is not set, as the log writes it.
const UNSET: &str = "4294967295";

/// Every record of an event, then the execution and the changes of files it tells of.
pub(crate) fn views(event: &Event, parents: &mut Parents) -> Vec<View> {
    let mut views: Vec<View> = event.records.iter().map(single).collect();
    let record = |kind: &str| event.records.iter().find(|raw| raw.kind == kind);
    let Some(call) = record("SYSCALL") else {
        return views;
    };
    // What failed changed nothing. Without the field the call has not returned, as execve does not.
    if call.get("success") == Some("no") {
        return views;
    }
    let cwd = record("CWD").and_then(|raw| raw.get("cwd"));
    let title = record("PROCTITLE").and_then(|raw| raw.get("proctitle"));
    let arguments: Vec<&Raw> = of_kind(event, "EXECVE").collect();
    if !arguments.is_empty() {
        let command = command(&arguments).or_else(|| title.map(str::to_owned));
        views.push(process(call, command, cwd, parents));
    }
    views.extend(of_kind(event, "PATH").filter_map(|path| file(call, path, cwd)));
    views
}

fn of_kind<'e>(event: &'e Event, kind: &'e str) -> impl Iterator<Item = &'e Raw> {
    event.records.iter().filter(move |raw| raw.kind == kind)
}

/// A record as the log has it. The name of the system call is added where it is known.
fn single(raw: &Raw) -> View {
    let mut view = View::new(AUDITD, System::Linux, Some(raw.time()));
    view.push("type", raw.kind.clone());
    view.push("serial", raw.serial.to_string());
    if let Some(node) = &raw.node {
        view.push("node", node.clone());
    }
    for (name, value) in &raw.values {
        view.push(name.clone(), value.clone());
    }
    view.complete("SYSCALL", call_name(raw));
    view
}

fn call_name(raw: &Raw) -> Option<String> {
    let name = syscalls::name(raw.get("arch")?, raw.get("syscall")?)?;
    Some(name.to_owned())
}

/// Arguments separated by blanks, as the command line of a process is written.
fn command(records: &[&Raw]) -> Option<String> {
    let parts: Vec<(usize, usize, String)> = records
        .iter()
        .flat_map(|raw| raw.parts.iter().cloned())
        .collect();
    let mut arguments = joined(&parts);
    for (name, value) in records.iter().flat_map(|raw| &raw.values) {
        let number = name.strip_prefix('a').and_then(|n| n.parse().ok());
        if let Some(number) = number {
            // What has parts over several records is whole only when all of them are joined.
            arguments.entry(number).or_insert_with(|| value.clone());
        }
    }
    let arguments: Vec<String> = arguments.into_values().collect();
    (!arguments.is_empty()).then(|| arguments.join(" "))
}

fn process(call: &Raw, command: Option<String>, cwd: Option<&str>, parents: &mut Parents) -> View {
    let mut view = View::new(Class::PROCESS, System::Linux, Some(call.time()));
    let given = |name: &str| {
        let value = call.get(name);
        let value = value.filter(|value| !matches!(*value, UNSET | "(none)" | "?"));
        value.map(str::to_owned)
    };
    for (name, value) in [
        ("name", given("exe")),
        ("command", command.clone()),
        ("pid", given("pid")),
        ("ppid", given("ppid")),
        ("uid", given("uid")),
        ("euid", given("euid")),
        ("gid", given("gid")),
        ("loginuid", given("auid")),
        ("session", given("ses")),
        ("tty", given("tty")),
        ("user", user(call)),
        ("cwd", cwd.map(str::to_owned)),
    ] {
        view.complete(name, value);
    }
    let node = call.node.as_deref().unwrap_or_default();
    let id = |name: &str| call.get(name).and_then(|id| id.parse().ok());
    if let Some(parent) = id("ppid").and_then(|ppid| parents.find(node, ppid)) {
        let base = parent.exe.rsplit('/').next().unwrap_or(&parent.exe);
        view.push("parentname", base);
        view.push("parent_exe", parent.exe.clone());
        view.push("parent_command", parent.command.clone());
    }
    if let (Some(pid), Some(exe)) = (id("pid"), given("exe")) {
        let command = command.unwrap_or_default();
        parents.remember(node, pid, Known { exe, command });
    }
    view
}

/// Name of the user, where it is known.
fn user(call: &Raw) -> Option<String> {
    let enriched = call.get("UID").map(str::to_owned);
    enriched.or_else(|| (call.get("uid") == Some("0")).then(|| "root".to_owned()))
}

/// A path that the call made or removed.
fn file(call: &Raw, path: &Raw, cwd: Option<&str>) -> Option<View> {
    let action = match path.get("nametype")? {
        "CREATE" => "CREATE",
        "DELETE" => "REMOVE",
        _ => return None,
    };
    let name = path.get("name")?;
    let absolute = match cwd {
        _ if name.starts_with('/') => name.to_owned(),
        Some(cwd) => {
            let name = name.strip_prefix("./").unwrap_or(name);
            format!("{}/{name}", cwd.trim_end_matches('/'))
        }
        None => name.to_owned(),
    };
    let mut view = View::new(Class::FILE, System::Linux, Some(call.time()));
    view.push("action", action);
    view.push("path", absolute);
    for (name, value) in [
        ("actor_name", call.get("exe").map(str::to_owned)),
        ("actor_pid", call.get("pid").map(str::to_owned)),
        ("actor_user", user(call)),
    ] {
        view.complete(name, value);
    }
    Some(view)
}

#[cfg(test)]
mod tests {
    use super::{super::record, *};

    fn all(lines: &[&str], parents: &mut Parents) -> Vec<View> {
        let event = Event {
            records: lines.iter().map(|line| record(line).unwrap()).collect(),
            ..Event::default()
        };
        views(&event, parents)
    }

    fn of(views: &[View], class: Class) -> Vec<&View> {
        views.iter().filter(|view| view.class == class).collect()
    }

    fn execution(pid: u32, ppid: u32, exe: &str, arguments: &str) -> Vec<String> {
        let stamp = format!("msg=audit(1700000000.500:{pid}):");
        vec![
            format!(
                "type=SYSCALL {stamp} arch=c000003e syscall=59 success=yes ppid={ppid} pid={pid} \
                 auid=4294967295 uid=0 gid=0 euid=0 tty=(none) ses=3 exe=\"{exe}\""
            ),
            format!("type=EXECVE {stamp} {arguments}"),
            format!("type=CWD {stamp} cwd=\"/srv\""),
        ]
    }

    fn run(lines: &[String], parents: &mut Parents) -> Vec<View> {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        all(&lines, parents)
    }

    #[test]
    fn an_execution_is_a_process_with_the_names_of_the_contract() {
        let mut parents = Parents::default();
        let arguments = "argc=3 a0=\"sh\" a1=\"-c\" a2=6964203E2078";
        let views = run(&execution(7, 1, "/usr/bin/sh", arguments), &mut parents);
        assert_eq!(of(&views, AUDITD).len(), 3);
        let [process] = of(&views, Class::PROCESS)[..] else {
            panic!("one process");
        };
        for (name, value) in [
            ("name", Some("/usr/bin/sh")),
            ("command", Some("sh -c id > x")),
            ("pid", Some("7")),
            ("ppid", Some("1")),
            ("user", Some("root")),
            ("cwd", Some("/srv")),
            ("session", Some("3")),
            ("loginuid", None),
            ("tty", None),
            ("parent_exe", None),
        ] {
            assert_eq!(process.get(name), value, "{name}");
        }
        assert_eq!(process.time.unwrap().millis(), 1_700_000_000_500);
    }

    #[test]
    fn the_parent_is_known_from_its_own_execution() {
        let mut parents = Parents::default();
        run(
            &execution(7, 1, "/usr/bin/sh", "argc=1 a0=\"sh\""),
            &mut parents,
        );
        let views = run(
            &execution(8, 7, "/usr/bin/id", "argc=1 a0=\"id\""),
            &mut parents,
        );
        let process = of(&views, Class::PROCESS)[0];
        assert_eq!(process.get("parent_exe"), Some("/usr/bin/sh"));
        assert_eq!(process.get("parentname"), Some("sh"));
        assert_eq!(process.get("parent_command"), Some("sh"));
    }

    #[test]
    fn an_argument_over_two_records_is_joined() {
        let mut lines = execution(7, 1, "/usr/bin/sh", "argc=2 a0=\"sh\" a1_len=4 a1[0]=6162");
        lines.push("type=EXECVE msg=audit(1700000000.500:7): a1[1]=6364".into());
        let views = run(&lines, &mut Parents::default());
        let process = of(&views, Class::PROCESS)[0];
        assert_eq!(process.get("command"), Some("sh abcd"));
    }

    #[test]
    fn a_failed_call_is_no_process_and_no_change() {
        let views = all(
            &[
                "type=SYSCALL msg=audit(1.0:1): syscall=59 success=no exe=\"/bin/x\"",
                "type=EXECVE msg=audit(1.0:1): argc=1 a0=\"x\"",
                "type=PATH msg=audit(1.0:1): name=\"/x\" nametype=CREATE",
            ],
            &mut Parents::default(),
        );
        assert_eq!(of(&views, AUDITD).len(), 3);
        assert_eq!(views.len(), 3);
    }

    #[test]
    fn paths_made_and_removed_are_changes_of_files() {
        let views = all(
            &[
                "type=SYSCALL msg=audit(1.0:1): syscall=82 success=yes pid=7 exe=\"/bin/mv\"",
                "type=CWD msg=audit(1.0:1): cwd=\"/etc\"",
                "type=PATH msg=audit(1.0:1): item=0 name=\"/etc/\" nametype=PARENT",
                "type=PATH msg=audit(1.0:1): item=1 name=\"a\" nametype=DELETE",
                "type=PATH msg=audit(1.0:1): item=2 name=\"./b\" nametype=CREATE",
            ],
            &mut Parents::default(),
        );
        let changes: Vec<(&str, &str)> = of(&views, Class::FILE)
            .iter()
            .map(|view| (view.get("action").unwrap(), view.get("path").unwrap()))
            .collect();
        assert_eq!(changes, [("REMOVE", "/etc/a"), ("CREATE", "/etc/b")]);
        assert_eq!(
            of(&views, Class::FILE)[0].get("actor_name"),
            Some("/bin/mv")
        );
    }

    #[test]
    fn the_call_is_named_where_the_daemon_did_not() {
        let views = all(
            &["type=SYSCALL msg=audit(1.0:1): arch=c000003e syscall=322 exe=\"/x\""],
            &mut Parents::default(),
        );
        assert_eq!(views[0].get("SYSCALL"), Some("execveat"));
    }
}
