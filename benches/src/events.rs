//! Events from templates: 99 in 100 are everyday work, drawn deterministically.

use std::borrow::Cow;

use yinglong_detect::{Fields, Name};

use crate::templates::{self, Template};

/// Fields of one execution by Sigma name. All events of a system have the same fields in the same
/// order, so that a name has one place.
pub struct Event {
    pub values: Vec<(&'static str, String)>,
}

impl Fields for Event {
    fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        self.values
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| Cow::Borrowed(value.as_str()))
    }

    fn find(&self, name: &Name) -> Option<Cow<'_, str>> {
        const NOWHERE: u16 = u16::MAX - 1;
        if name.place() == Name::UNKNOWN {
            let place = self
                .values
                .iter()
                .position(|(known, _)| *known == name.as_str());
            name.note(place.map_or(NOWHERE, |place| place as u16));
        }
        let (_, value) = self.values.get(usize::from(name.place()))?;
        Some(Cow::Borrowed(value))
    }

    fn each(&self, visit: &mut dyn FnMut(&str, &str)) {
        for (name, value) in &self.values {
            visit(name, value);
        }
    }
}

/// xorshift64*: the same events on every machine.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 33) as usize % limit
    }

    fn of<'t, T>(&mut self, list: &'t [T]) -> &'t T {
        &list[self.below(list.len())]
    }

    fn hex(&mut self, digits: usize) -> String {
        let mut text = String::new();
        while text.len() < digits {
            text.push_str(&format!("{:016x}", self.next()));
        }
        text.truncate(digits);
        text
    }

    fn fill(&mut self, template: &str) -> String {
        const WORDS: [&str; 24] = [
            "billing",
            "catalog",
            "shop",
            "orders",
            "search",
            "Contoso",
            "Spooler",
            "inventory",
            "metrics",
            "gateway",
            "Fabrikam",
            "ledger",
            "mailer",
            "queue",
            "report",
            "session",
            "stock",
            "ticket",
            "update",
            "vendor",
            "wiki",
            "portal",
            "journal",
            "archive",
        ];
        const USERS: [&str; 8] = [
            "alice",
            "bob",
            "svc_backup",
            "chen",
            "deploy",
            "maria",
            "root",
            "www-data",
        ];
        let mut text = String::with_capacity(template.len() * 2);
        let mut rest = template;
        while let Some(at) = rest.find('{') {
            text.push_str(&rest[..at]);
            let value = match rest.as_bytes().get(at + 1) {
                Some(b'n') => (self.next() % 100_000).to_string(),
                Some(b'g') => {
                    let h = self.hex(32);
                    format!(
                        "{}-{}-{}-{}-{}",
                        &h[..8],
                        &h[8..12],
                        &h[12..16],
                        &h[16..20],
                        &h[20..]
                    )
                }
                Some(b'h') => self.hex(40),
                Some(b'u') => (*self.of(&USERS)).to_owned(),
                Some(b'w') => (*self.of(&WORDS)).to_owned(),
                Some(b'i') => format!("192.0.2.{}", self.below(250)),
                _ => {
                    text.push('{');
                    rest = &rest[at + 1..];
                    continue;
                }
            };
            text.push_str(&value);
            rest = &rest[at + 3..];
        }
        text.push_str(rest);
        text
    }
}

fn base(path: &str) -> &str {
    path.rsplit(['\\', '/']).next().unwrap_or(path)
}

pub fn windows(count: usize) -> Vec<Event> {
    let mut draw = Draw(0x9e37_79b9_7f4a_7c15);
    (0..count)
        .map(|_| {
            let attack = draw.below(100) == 0;
            let list = if attack {
                templates::WINDOWS_ATTACKS
            } else {
                templates::WINDOWS
            };
            let (image, command, parent, parent_command): Template = *draw.of(list);
            let image = draw.fill(image);
            let command = draw.fill(command);
            let parent = draw.fill(parent);
            let parent_command = draw.fill(parent_command);
            let system = image.starts_with(r"C:\Windows");
            let name = base(&image).to_owned();
            let hashes = format!(
                "MD5={},SHA256={},IMPHASH={}",
                draw.hex(32).to_uppercase(),
                draw.hex(64).to_uppercase(),
                draw.hex(32).to_uppercase()
            );
            let user = if system {
                r"NT AUTHORITY\SYSTEM"
            } else {
                r"CORP\alice"
            };
            let company = if system {
                "Microsoft Corporation"
            } else {
                "Contoso Ltd."
            };
            Event {
                values: vec![
                    ("UtcTime", "2026-11-25 10:00:00.000".to_owned()),
                    ("ProcessGuid", draw.hex(32)),
                    ("ProcessId", draw.below(65_000).to_string()),
                    ("Image", image),
                    ("FileVersion", "10.0.19041.1".to_owned()),
                    ("Description", format!("{name} program")),
                    ("Product", "Microsoft® Windows® Operating System".to_owned()),
                    ("Company", company.to_owned()),
                    ("OriginalFileName", name),
                    ("CommandLine", command),
                    ("CurrentDirectory", r"C:\Windows\system32\".to_owned()),
                    ("User", user.to_owned()),
                    ("LogonGuid", draw.hex(32)),
                    ("LogonId", format!("0x{}", draw.hex(5))),
                    ("TerminalSessionId", "1".to_owned()),
                    (
                        "IntegrityLevel",
                        if system { "System" } else { "Medium" }.to_owned(),
                    ),
                    ("Hashes", hashes),
                    ("ParentProcessGuid", draw.hex(32)),
                    ("ParentProcessId", draw.below(65_000).to_string()),
                    ("ParentImage", parent),
                    ("ParentCommandLine", parent_command),
                ],
            }
        })
        .collect()
}

pub fn linux(count: usize) -> Vec<Event> {
    let mut draw = Draw(0x2545_f491_4f6c_dd1d);
    (0..count)
        .map(|_| {
            let attack = draw.below(100) == 0;
            let list = if attack {
                templates::LINUX_ATTACKS
            } else {
                templates::LINUX
            };
            let (image, command, parent, parent_command): Template = *draw.of(list);
            Event {
                values: vec![
                    ("UtcTime", "2026-11-25 10:00:00.000".to_owned()),
                    ("ProcessId", draw.below(4_000_000).to_string()),
                    ("Image", draw.fill(image)),
                    ("CommandLine", draw.fill(command)),
                    ("CurrentDirectory", "/root".to_owned()),
                    ("User", "root".to_owned()),
                    ("LogonId", "1000".to_owned()),
                    ("TerminalSessionId", "3".to_owned()),
                    ("ParentProcessId", draw.below(4_000_000).to_string()),
                    ("ParentImage", draw.fill(parent)),
                    ("ParentCommandLine", draw.fill(parent_command)),
                ],
            }
        })
        .collect()
}
