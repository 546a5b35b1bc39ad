//! A Windows event as rules see it: a record of its channel, and what else the taxonomy says it is.

use std::borrow::Cow;

use yinglong_model::event::System;
use yinglong_rules::{
    Class,
    taxonomy::{
        Binding, WINDOWS_HEAD, channel_class,
        recorded::{Recorded, Shape, recorded},
    },
};

use super::{Event, security};
use crate::view::View;

/// Names and values as Sigma has them.
pub(super) type Pairs = Vec<(String, String)>;

/// The record of the channel, then the event of another class if it is one.
pub(crate) fn views(event: Event) -> Vec<View> {
    let other = recorded(&event.channel, event.id).and_then(|known| classed(&event, known));
    let class = channel_class(&event.channel);
    let mut record = View::new(class, System::Windows, event.time);
    record.fields = event
        .fields
        .into_iter()
        .map(|(name, value)| (Cow::Owned(name), value))
        .collect();
    std::iter::once(record).chain(other).collect()
}

fn classed(event: &Event, known: &Recorded) -> Option<View> {
    let pairs = match known.shape {
        Shape::Sigma => data(event),
        Shape::PowerShellLines => lines(event),
        Shape::Security(kind) => security::pairs(event, kind)?,
    };
    let binding = Binding::whole(known.class, System::Windows);
    let mut view = View::new(known.class, System::Windows, event.time);
    for name in WINDOWS_HEAD {
        if let Some(value) = event.get(name) {
            view.push(*name, value);
        }
    }
    for (name, value) in pairs {
        view.push(binding.field(&name), value);
    }
    digests(&mut view);
    match known.class {
        Class::PROCESS => {
            view.complete("name", view.get("exe").map(base_name));
            view.complete("parentname", view.get("parent_exe").map(base_name));
        }
        Class::CONNECTION => connection(&mut view),
        Class::FILE => {
            view.push("action", known.action);
            view.complete("hash", view.get("md5").map(str::to_owned));
        }
        _ => {}
    }
    Some(view)
}

/// Everything that is not of the head.
fn data(event: &Event) -> Pairs {
    let fields = event.fields.iter();
    let fields = fields.filter(|(name, _)| !WINDOWS_HEAD.contains(&name.as_str()));
    fields.cloned().collect()
}

/// The data, and the values in its lines of `name=value`.
fn lines(event: &Event) -> Pairs {
    let mut pairs = data(event);
    let text = event.get("Data").unwrap_or_default();
    let found: Pairs = text
        .lines()
        .filter_map(|line| line.trim().split_once('='))
        .filter(|(name, _)| name.bytes().all(|byte| byte.is_ascii_alphanumeric()))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    pairs.extend(found);
    pairs
}

/// The digests in `Hashes`, one by one: `SHA256=...,IMPHASH=...`. A single digest has no name in
/// front, and is told by its length.
fn digests(view: &mut View) {
    let all = ["hashes", "Hashes", "Hash"];
    let Some(text) = all.iter().find_map(|name| view.get(name)) else {
        return;
    };
    let text = text.to_owned();
    for part in text.split(',') {
        let (name, digest) = match part.split_once('=') {
            Some((name, digest)) => (name.to_ascii_uppercase(), digest),
            None => match part.len() {
                32 => ("MD5".to_owned(), part),
                40 => ("SHA1".to_owned(), part),
                64 => ("SHA256".to_owned(), part),
                _ => continue,
            },
        };
        let name = match name.trim() {
            "MD5" => "md5",
            "SHA1" => "sha1",
            "SHA256" => "sha256",
            "IMPHASH" => "Imphash",
            _ => continue,
        };
        view.complete(name, Some(digest.trim().to_lowercase()));
    }
}

/// The fields of the contract, made of source and destination.
fn connection(view: &mut View) {
    let get = |name: &str| view.get(name).unwrap_or_default().to_owned();
    let out = !view
        .get("initiated")
        .is_some_and(|initiated| initiated.eq_ignore_ascii_case("false"));
    let source = (get("source_ip"), get("source_port"));
    let destination = (get("destination_ip"), get("destination_port"));
    let (local, remote) = if out {
        (source, destination)
    } else {
        (destination, source)
    };
    let end = |(ip, port): &(String, String)| match (ip.contains(':'), port.is_empty()) {
        (_, true) => ip.clone(),
        (true, false) => format!("[{ip}]:{port}"),
        (false, false) => format!("{ip}:{port}"),
    };
    view.push("dir", if out { "out" } else { "in" });
    view.push("local", end(&local));
    view.push("remote", end(&remote));
    view.push("remote_ip", remote.0);
    view.push("remote_port", remote.1);
}

/// What follows the last separator of a path.
fn base_name(path: &str) -> String {
    let base = path.rsplit(['\\', '/']).next();
    base.unwrap_or(path).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYSMON: &str = "Microsoft-Windows-Sysmon/Operational";

    fn event(channel: &str, id: u32, data: &[(&str, &str)]) -> Event {
        let mut event = Event {
            channel: channel.into(),
            id,
            ..Event::default()
        };
        event.push("Channel", channel);
        event.push("EventID", id.to_string());
        for (name, value) in data {
            event.push(name, *value);
        }
        event
    }

    fn second(channel: &str, id: u32, data: &[(&str, &str)]) -> View {
        let mut views = views(event(channel, id, data));
        assert_eq!(views.len(), 2);
        views.remove(1)
    }

    fn check(view: &View, class: Class, expected: &[(&str, &str)]) {
        assert_eq!((view.class, view.system), (class, System::Windows));
        for (name, value) in expected {
            assert_eq!(view.get(name), Some(*value), "{name}");
        }
    }

    #[test]
    fn a_process_of_sysmon_has_the_names_of_live_events_and_those_sigma_keeps() {
        let view = second(
            SYSMON,
            1,
            &[
                ("Image", "C:\\Windows\\cmd.exe"),
                ("CommandLine", "cmd /c whoami"),
                ("ProcessId", "42"),
                ("ParentImage", "C:\\x\\word.exe"),
                ("User", "PC\\ann"),
                ("OriginalFileName", "Cmd.Exe"),
                ("Hashes", "SHA256=AB,IMPHASH=CD"),
            ],
        );
        check(
            &view,
            Class::PROCESS,
            &[
                ("exe", "C:\\Windows\\cmd.exe"),
                ("name", "cmd.exe"),
                ("command", "cmd /c whoami"),
                ("pid", "42"),
                ("parent_exe", "C:\\x\\word.exe"),
                ("parentname", "word.exe"),
                ("user", "PC\\ann"),
                ("OriginalFileName", "Cmd.Exe"),
                ("hashes", "SHA256=AB,IMPHASH=CD"),
                ("sha256", "ab"),
                ("Imphash", "cd"),
                ("EventID", "1"),
            ],
        );
    }

    #[test]
    fn a_record_of_its_channel_keeps_every_name() {
        let views = views(event(SYSMON, 1, &[("Image", "C:\\x.exe")]));
        check(
            &views[0],
            Class::Log("windows/sysmon"),
            &[("Image", "C:\\x.exe"), ("EventID", "1")],
        );
    }

    #[test]
    fn a_connection_has_both_sides_in_the_form_of_the_contract() {
        let data = |initiated| {
            [
                ("Image", "C:\\x.exe"),
                ("Initiated", initiated),
                ("Protocol", "tcp"),
                ("SourceIp", "10.0.0.1"),
                ("SourcePort", "50000"),
                ("DestinationIp", "2001:db8::1"),
                ("DestinationPort", "443"),
                ("DestinationHostname", "example.org"),
            ]
        };
        check(
            &second(SYSMON, 3, &data("true")),
            Class::CONNECTION,
            &[
                ("dir", "out"),
                ("local", "10.0.0.1:50000"),
                ("remote", "[2001:db8::1]:443"),
                ("remote_ip", "2001:db8::1"),
                ("remote_port", "443"),
                ("destination_port", "443"),
                ("name", "C:\\x.exe"),
                ("DestinationHostname", "example.org"),
            ],
        );
        check(
            &second(SYSMON, 3, &data("false")),
            Class::CONNECTION,
            &[("dir", "in"), ("remote", "10.0.0.1:50000")],
        );
    }

    #[test]
    fn a_file_has_an_action_and_its_actor() {
        let view = second(
            SYSMON,
            23,
            &[
                ("TargetFilename", "C:\\a"),
                ("Image", "C:\\x.exe"),
                ("User", "PC\\ann"),
                ("Hashes", "MD5=0A"),
            ],
        );
        check(
            &view,
            Class::FILE,
            &[
                ("action", "REMOVE"),
                ("path", "C:\\a"),
                ("actor_name", "C:\\x.exe"),
                ("actor_user", "PC\\ann"),
                ("hash", "0a"),
            ],
        );
    }

    #[test]
    fn a_class_of_another_log_keeps_the_names_of_sigma() {
        let view = second(
            SYSMON,
            13,
            &[("TargetObject", "HKLM\\x"), ("EventType", "SetValue")],
        );
        check(
            &view,
            Class::Log("windows/registry"),
            &[("TargetObject", "HKLM\\x"), ("EventType", "SetValue")],
        );
    }

    #[test]
    fn the_lines_of_the_classic_powershell_log_are_fields() {
        let data = "Available\n\tNewEngineState=Available\n\tHostApplication=powershell -enc a=b";
        let view = second("Windows PowerShell", 400, &[("Data", data)]);
        check(
            &view,
            Class::Log("windows/ps_classic_start"),
            &[("Data", data), ("HostApplication", "powershell -enc a=b")],
        );
    }

    #[test]
    fn a_record_of_an_unknown_channel_is_looked_at_as_that() {
        let views = views(event("Vendor/Log", 1, &[]));
        assert_eq!(views.len(), 1);
        assert_eq!(views[0].class, Class::Log("windows/other"));
    }
}
