//! The pages of the documentation that are made of the table.

use std::fmt::Write;

use super::{
    Feed, delivers, fields,
    recorded::{RECORDED, Recorded, Security, Shape},
    sources::{self, CATEGORIES, When},
};
use crate::{Class, Source};

const MADE: &str = "Made of the mapping table in `crates/rules/src/taxonomy`; change it there.";

/// `docs/fields.md`.
pub fn fields_page() -> String {
    let mut page = format!(
        "# Fields\n\n{MADE}\n\n\
         Rules test fields by their canonical names: those of the classic documents. Sigma rules keep \
         the names of Sigma and are translated. A derived field is made of the stored ones when a rule \
         asks for it; it is in no document and cannot be searched. *Agents* says whether agents send \
         the field, *recordings* whether readers of recorded logs find it. Exported events have what \
         agents send.\n"
    );
    for own in fields::OWN {
        let class = Class::from(own.kind);
        let (name, system) = (class.as_str(), own.system.as_str());
        let _ = write!(
            page,
            "\n## {name} on {system}\n\n| field | in Sigma | agents | recordings | |\n|---|---|---|---|---|\n"
        );
        let source = Source::Event(own.kind);
        let kept = own.named.iter().map(|named| named.name);
        let kept = kept.filter(|name| source.rule_fields().all(|field| field != *name));
        for field in source.rule_fields().chain(kept) {
            let sigma: Vec<String> = own
                .named
                .iter()
                .filter(|named| named.name == field)
                .map(|named| format!("`{}`", named.sigma))
                .collect();
            let derived = source.derived_names().contains(&field);
            let _ = writeln!(
                page,
                "| `{field}` | {} | {} | {} | {} |",
                sigma.join(", "),
                yes(fields::provides(class, own.system, field, Feed::Agents)),
                yes(fields::provides(class, own.system, field, Feed::Recordings)),
                if derived { "derived" } else { "" },
            );
        }
    }
    page.push_str(
        "\n## System calls in rules of the audit log\n\nA rule with `service: auditd` reads records of \
         the audit log, and `syscall` events of agents as records of the type SYSCALL:\n\n\
         | in the audit log | field |\n|---|---|\n",
    );
    for named in fields::AUDIT_SYSCALL {
        let _ = writeln!(page, "| `{}` | `{}` |", named.sigma, named.name);
    }
    let _ = write!(
        page,
        "\n## Recorded events of Windows\n\nEvery recorded event of Windows has, in every class: {}.\n\
         `ComputerName` is another name of `Computer`.\n",
        list(fields::WINDOWS_HEAD)
    );
    let _ = write!(
        page,
        "\nEvents of Sysmon also have {}. Fields by class:\n\n| class | fields |\n|---|---|\n",
        list(fields::SYSMON)
    );
    for log in sources::LOGS {
        let _ = writeln!(page, "| `{}` | {} |", log.name, list(log.fields));
    }
    page.push_str(
        "\nRecords of channels have the names of their event data, of user data, and `Data` for data \
         without a name, one per line. A name with spaces is there without them and with underscores.\n\
         \n## Logs of Linux\n\n",
    );
    page.push_str(
        "Lines of text logs have `message`, `program`, `pid` and `host`; lines of sudo also what they \
         say in `NAME=value`. Records of the audit log have the names of the log, with `type`, and \
         values decoded. Keywords search all values.\n",
    );
    page
}

/// `docs/log-sources.md`.
pub fn log_sources_page() -> String {
    let mut page = format!(
        "# Log sources\n\n{MADE}\n\n\
         What a Sigma rule can read. *Agents* means that agents send it as it happens; everything in \
         these tables can be replayed from recordings ([recordings](recordings.md)). A rule over any \
         other log source is refused, and the reason says what is missing.\n\n\
         A rule with a category reads its events whatever its service. A rule with a product only \
         reads every event of that system. A rule without a product reads both systems.\n\n\
         ## Categories\n\n| product | category | class | only | agents |\n|---|---|---|---|---|\n"
    );
    for category in CATEGORIES {
        let only = match category.when {
            When::Always => String::new(),
            When::Action(actions) => format!("`action` has {}", one_of(actions)),
            When::Equal(field, values) => format!("`{field}` is {}", one_of(values)),
        };
        let _ = writeln!(
            page,
            "| {} | `{}` | `{}` | {only} | {} |",
            category.system.as_str(),
            category.name,
            category.class.as_str(),
            yes(delivers(category.class, Feed::Agents)),
        );
    }
    page.push_str("\n## Channels of Windows\n\n| service | class | channels |\n|---|---|---|\n");
    for service in sources::CHANNELS {
        let from = if service.from.is_empty() {
            "every other channel; for rules with the product only".to_owned()
        } else {
            list(service.from)
        };
        let _ = writeln!(
            page,
            "| `{}` | `{}` | {from} |",
            service.name, service.class
        );
    }
    page.push_str("\n## Logs of Linux\n\n| service | class | lines of |\n|---|---|---|\n");
    for service in sources::TEXT_LOGS {
        let from = match service.name {
            "auditd" => "the audit log".to_owned(),
            _ if service.from.is_empty() => "every program".to_owned(),
            _ => list(service.from),
        };
        let _ = writeln!(
            page,
            "| `{}` | `{}` | {from} |",
            service.name, service.class
        );
    }
    page
}

/// The table of Windows events in `docs/recordings.md`.
pub fn recorded_table() -> String {
    let mut table = String::from("| channel | events | class | how |\n|---|---|---|---|\n");
    for Recorded {
        channel,
        ids,
        class,
        shape,
        action,
    } in RECORDED
    {
        let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
        let how = match shape {
            Shape::Sigma if !action.is_empty() => format!("`action` is `{action}`"),
            Shape::Sigma => String::new(),
            Shape::PowerShellLines => "lines `name=value` of its data are fields".to_owned(),
            Shape::Security(Security::Process) => {
                "names of Sysmon; process ids in decimal; `IntegrityLevel` of `MandatoryLabel`"
                    .to_owned()
            }
            Shape::Security(Security::Login) => {
                "log-ons of the system and of services are left out".to_owned()
            }
            Shape::Security(Security::Registry) => {
                "names of Sysmon; keys begin with `HKLM` or `HKU`".to_owned()
            }
            Shape::Security(Security::FileAccess) => "if `ObjectType` is `File`".to_owned(),
            Shape::Security(Security::Connection) => "TCP and UDP; names of Sysmon".to_owned(),
        };
        let (ids, class) = (ids.join(", "), class.as_str());
        let _ = writeln!(table, "| {channel} | {ids} | `{class}` | {how} |");
    }
    table
}

const fn yes(yes: bool) -> &'static str {
    if yes { "yes" } else { "" }
}

fn list(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

fn one_of(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(" or ")
}
