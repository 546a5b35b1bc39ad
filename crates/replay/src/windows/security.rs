//! Events of the Security channel under the names of Sysmon.

use yinglong_rules::taxonomy::recorded::Security;

use super::{Event, views::Pairs};

/// The values of an event, named as Sigma names those of its class; `None` when it is not of that
/// class after all.
pub(super) fn pairs(event: &Event, kind: Security) -> Option<Pairs> {
    let mut pairs = Pairs::new();
    let mut put = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            pairs.push((name.to_owned(), value));
        }
    };
    let text = |name: &str| event.filled(name).map(str::to_owned);
    match kind {
        Security::Process => {
            put("Image", text("NewProcessName"));
            put("ProcessId", number(event, "NewProcessId"));
            put("ParentImage", text("ParentProcessName"));
            put("ParentProcessId", number(event, "ProcessId"));
            put(
                "CommandLine",
                text("CommandLine").or_else(|| text("ProcessCommandLine")),
            );
            put(
                "User",
                user(event, "Target").or_else(|| user(event, "Subject")),
            );
            put("LogonId", text("SubjectLogonId"));
            put(
                "IntegrityLevel",
                event.get("MandatoryLabel").and_then(level),
            );
        }
        Security::Login => {
            if matches!(event.get("LogonType"), Some("0" | "5")) {
                return None;
            }
            put("username", text("TargetUserName"));
            put("remote", Some(text("IpAddress").unwrap_or_default()));
            put("status", Some((event.id == 4624).to_string()));
            put(
                "hostname",
                text("WorkstationName").or_else(|| text("Computer")),
            );
            put("LogonType", text("LogonType"));
            put("source", Some("security".to_owned()));
        }
        Security::Registry => {
            put("EventType", event.get("OperationType").and_then(operation));
            put("TargetObject", target(event));
            put("Details", text("NewValue"));
            put("Image", text("ProcessName"));
            put("ProcessId", number(event, "ProcessId"));
            put("User", user(event, "Subject"));
        }
        Security::FileAccess => {
            if event.get("ObjectType") != Some("File") {
                return None;
            }
            put("FileName", text("ObjectName"));
            put("Image", text("ProcessName"));
            put("ProcessId", number(event, "ProcessId"));
            put("User", user(event, "Subject"));
            put("AccessMask", text("AccessMask"));
            put("AccessList", text("AccessList"));
        }
        Security::Connection => {
            put(
                "Protocol",
                Some(protocol(event.get("Protocol")?)?.to_owned()),
            );
            put("Image", text("Application"));
            put("ProcessId", number(event, "ProcessID"));
            let inbound = matches!(event.get("Direction"), Some("%%14592" | "Inbound"));
            put("Initiated", Some((!inbound).to_string()));
            put("SourceIp", text("SourceAddress"));
            put("SourcePort", text("SourcePort"));
            put("DestinationIp", text("DestAddress"));
            put("DestinationPort", text("DestPort"));
        }
    }
    Some(pairs)
}

/// `DOMAIN\name` of one of the accounts of an event.
fn user(event: &Event, whose: &str) -> Option<String> {
    let name = event.filled(&format!("{whose}UserName"))?;
    match event.filled(&format!("{whose}DomainName")) {
        Some(domain) => Some(format!("{domain}\\{name}")),
        None => Some(name.to_owned()),
    }
}

/// A number in decimal, which the log may have in hexadecimal.
fn number(event: &Event, name: &str) -> Option<String> {
    let text = event.filled(name)?;
    match text.strip_prefix("0x") {
        Some(digits) => Some(u64::from_str_radix(digits, 16).ok()?.to_string()),
        None => Some(text.to_owned()),
    }
}

/// Name of an integrity level by its identifier.
fn level(label: &str) -> Option<String> {
    let name = match label.rsplit('-').next()? {
        "0" => "Untrusted",
        "4096" => "Low",
        "8192" => "Medium",
        "8448" => "MediumPlus",
        "12288" => "High",
        "16384" => "System",
        _ => return None,
    };
    Some(name.to_owned())
}

/// What was done to a registry value; the log has numbers of messages. Sysmon calls it setting a
/// value whether it was there before or not.
fn operation(number: &str) -> Option<String> {
    let name = match number {
        "%%1904" | "%%1905" => "SetValue",
        "%%1906" => "DeleteValue",
        _ => return None,
    };
    Some(name.to_owned())
}

/// Key and value with the short names of the roots.
fn target(event: &Event) -> Option<String> {
    let key = event.filled("ObjectName")?;
    let root = |long: &str, short: &str| {
        let matches = key.get(..long.len())?.eq_ignore_ascii_case(long);
        matches.then(|| format!("{short}{}", key.get(long.len()..).unwrap_or_default()))
    };
    let key = root("\\REGISTRY\\MACHINE", "HKLM")
        .or_else(|| root("\\REGISTRY\\USER", "HKU"))
        .unwrap_or_else(|| key.to_owned());
    Some(match event.filled("ObjectValueName") {
        Some(value) => format!("{key}\\{value}"),
        None => key,
    })
}

fn protocol(number: &str) -> Option<&'static str> {
    match number {
        "6" => Some("tcp"),
        "17" => Some("udp"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(id: u32, kind: Security, data: &[(&str, &str)], expected: &[(&str, &str)]) {
        let mut event = Event {
            id,
            ..Event::default()
        };
        for (name, value) in data {
            event.push(name, *value);
        }
        let pairs = pairs(&event, kind).unwrap();
        for (name, value) in expected {
            let found = pairs.iter().find(|(known, _)| known == name);
            assert_eq!(
                found.map(|(_, value)| value.as_str()),
                Some(*value),
                "{name}"
            );
        }
    }

    #[test]
    fn a_created_process_has_decimal_ids_and_a_named_level() {
        check(
            4688,
            Security::Process,
            &[
                ("SubjectUserName", "ann"),
                ("SubjectDomainName", "PC"),
                ("TargetUserName", "-"),
                ("NewProcessId", "0x2a"),
                ("ProcessId", "0x10"),
                ("NewProcessName", "C:\\x.exe"),
                ("CommandLine", "x"),
                ("MandatoryLabel", "S-1-16-12288"),
            ],
            &[
                ("ProcessId", "42"),
                ("ParentProcessId", "16"),
                ("Image", "C:\\x.exe"),
                ("CommandLine", "x"),
                ("User", "PC\\ann"),
                ("IntegrityLevel", "High"),
            ],
        );
    }

    #[test]
    fn a_login_is_one_of_the_contract() {
        let data = [
            ("TargetUserName", "ann"),
            ("IpAddress", "192.0.2.1"),
            ("LogonType", "3"),
        ];
        let expected = [("username", "ann"), ("remote", "192.0.2.1")];
        check(4624, Security::Login, &data, &expected);
        check(4624, Security::Login, &data, &[("status", "true")]);
        check(4625, Security::Login, &data, &[("status", "false")]);
    }

    #[test]
    fn a_service_does_not_log_in() {
        let mut event = Event::default();
        event.push("LogonType", "5");
        assert_eq!(pairs(&event, Security::Login), None);
    }

    #[test]
    fn a_registry_value_has_the_short_name_of_its_root() {
        check(
            4657,
            Security::Registry,
            &[
                ("ObjectName", "\\REGISTRY\\MACHINE\\SOFTWARE\\Run"),
                ("ObjectValueName", "x"),
                ("OperationType", "%%1905"),
                ("NewValue", "y"),
            ],
            &[
                ("TargetObject", "HKLM\\SOFTWARE\\Run\\x"),
                ("EventType", "SetValue"),
                ("Details", "y"),
            ],
        );
    }

    #[test]
    fn an_accessed_object_that_is_no_file_is_none() {
        let mut event = Event::default();
        event.push("ObjectType", "Key");
        assert_eq!(pairs(&event, Security::FileAccess), None);
    }

    #[test]
    fn a_permitted_connection_has_a_named_protocol_and_direction() {
        check(
            5156,
            Security::Connection,
            &[
                ("Protocol", "17"),
                ("Direction", "%%14592"),
                ("SourceAddress", "192.0.2.1"),
                ("DestPort", "53"),
            ],
            &[
                ("Protocol", "udp"),
                ("Initiated", "false"),
                ("SourceIp", "192.0.2.1"),
                ("DestinationPort", "53"),
            ],
        );
    }
}
