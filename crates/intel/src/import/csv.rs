//! Columns with names, or by what is in them.

use std::io::{self, BufRead, Read};

use csv::{ByteRecord, Reader, ReaderBuilder, Trim};
use yinglong_model::{Timestamp, rule::Level};

use super::{Facts, Flow, Sink, sniff::Columns};
use crate::{Kind, Value};

/// Longest record that is looked at, in bytes: more is an unclosed quote, not a line.
const RECORD_BYTES: usize = 64 << 10;

/// What a column is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Indicators of any kind, or of the one the type column says.
    Any,
    /// Indicators of one kind.
    Value(Kind),
    /// What kind the indicator is.
    Type,
    Label,
    Level,
    Confidence,
    ValidFrom,
    ValidUntil,
}

impl Role {
    /// By the name of a column, as common feeds have them.
    pub(super) fn of(name: &str) -> Option<Self> {
        let name: String = name
            .trim()
            .trim_matches('"')
            .to_ascii_lowercase()
            .replace([' ', '-'], "_");
        Some(match name.as_str() {
            "indicator" | "ioc" | "ioc_value" | "indicator_value" | "value" | "observable" => {
                Self::Any
            }
            "ip" | "ip_address" | "ipaddress" | "ipv4" | "ipv6" | "dst_ip" | "src_ip"
            | "address" | "cidr" | "network" => Self::Value(Kind::Ip),
            "domain" | "host" | "hostname" | "fqdn" => Self::Value(Kind::Domain),
            "url" => Self::Value(Kind::Url),
            "hash" | "file_hash" => Self::Any,
            "md5" | "md5_hash" => Self::Value(Kind::Md5),
            "sha1" | "sha_1" | "sha1_hash" => Self::Value(Kind::Sha1),
            "sha256" | "sha_256" | "sha256_hash" => Self::Value(Kind::Sha256),
            "filename" | "file_name" => Self::Value(Kind::Name),
            "path" | "file_path" | "filepath" => Self::Value(Kind::Path),
            "type" | "ioc_type" | "indicator_type" | "kind" => Self::Type,
            "label" | "description" | "comment" | "malware" | "malware_printable" | "signature"
            | "threat" | "note" => Self::Label,
            "level" => Self::Level,
            "confidence" | "confidence_level" => Self::Confidence,
            "valid_from" => Self::ValidFrom,
            "valid_until" | "expires" | "expires_at" | "expiry" | "expiration" => Self::ValidUntil,
            _ => return None,
        })
    }
}

pub(super) fn reader<R: Read>(reader: R, separator: u8) -> Reader<R> {
    ReaderBuilder::new()
        .delimiter(separator)
        .has_headers(false)
        .flexible(true)
        .comment(Some(b'#'))
        .trim(Trim::All)
        .from_reader(reader)
}

pub(super) fn read(
    source: &mut impl BufRead,
    columns: &Columns,
    sink: &mut impl Sink,
) -> io::Result<()> {
    let roles: Vec<Option<Role>> = match &columns.names {
        Some(names) => names.iter().map(|name| Role::of(name)).collect(),
        None => {
            let width = columns.values.last().map_or(1, |last| last + 1);
            let of = |at| {
                (columns.values.is_empty() || columns.values.contains(&at)).then_some(Role::Any)
            };
            (0..width).map(of).collect()
        }
    };
    let mut reader = reader(source, columns.separator);
    let mut record = ByteRecord::new();
    loop {
        match reader.read_byte_record(&mut record) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(error) => match error.into_kind() {
                csv::ErrorKind::Io(error) => return Err(error),
                _ => {
                    sink.refuse("", "the record cannot be read");
                    continue;
                }
            },
        }
        let line = record.position().map_or(0, csv::Position::line);
        sink.at(line);
        if record.as_slice().len() > RECORD_BYTES {
            let start = String::from_utf8_lossy(record.get(0).unwrap_or_default()).into_owned();
            sink.refuse(&start, "the record is too long; is a quote not closed?");
            continue;
        }
        let cells: Vec<String> = record
            .iter()
            .map(|cell| String::from_utf8_lossy(cell).into_owned())
            .collect();
        let is_header = columns.names.as_deref().is_some_and(|names| names == cells);
        if is_header || cells.iter().all(String::is_empty) {
            continue;
        }
        if take(&roles, &cells, sink).is_err() {
            return Ok(());
        }
    }
}

fn take(roles: &[Option<Role>], cells: &[String], sink: &mut impl Sink) -> Flow {
    let with_role = || {
        let pairs = roles.iter().zip(cells);
        pairs.filter_map(|(role, cell)| Some(((*role)?, cell.as_str())))
    };
    let first = |wanted: Role| {
        with_role()
            .find(|(role, cell)| *role == wanted && !cell.is_empty())
            .map(|(_, cell)| cell)
    };
    let stated = first(Role::Type).map(kind_of);
    let facts = Facts {
        label: first(Role::Label).unwrap_or_default().to_owned(),
        level: first(Role::Level).and_then(level),
        confidence: first(Role::Confidence).and_then(|text| text.parse().ok()),
        valid_from: first(Role::ValidFrom).and_then(time),
        valid_until: first(Role::ValidUntil).and_then(time),
    };
    // A wrong end must not make an indicator live forever.
    if let Some(text) = first(Role::ValidUntil).filter(|_| facts.valid_until.is_none()) {
        sink.refuse(
            text,
            "the end of the validity is no time like 2026-01-31T09:30:00Z",
        );
        return Ok(());
    }
    let mut any = false;
    for (role, cell) in with_role().filter(|(_, cell)| !cell.is_empty()) {
        let value = match (role, stated) {
            (Role::Any, Some(Some(kind))) => Value::parse_as(kind, cell),
            (Role::Any, Some(None)) => {
                any = true;
                sink.skip("another type of indicator");
                continue;
            }
            (Role::Any, None) => Value::parse(cell),
            (Role::Value(kind), _) => Value::parse_as(kind, cell),
            _ => continue,
        };
        any = true;
        match value {
            Ok(value) => sink.add(value, &facts)?,
            Err(reason) => sink.refuse(cell, &reason.to_string()),
        }
    }
    if !any {
        sink.refuse(&cells.join(","), "no column holds an indicator");
    }
    Ok(())
}

/// `None` for types this system has no use for (mail addresses, mutexes, ...).
fn kind_of(text: &str) -> Option<Kind> {
    let text = text.to_ascii_lowercase().replace(['_', ' '], "-");
    Some(match text.as_str() {
        "ip" | "ipv4" | "ipv6" | "ipv4-addr" | "ipv6-addr" | "ip:port" | "ip-dst" | "ip-src"
        | "address" | "cidr" | "network" => Kind::Ip,
        "domain" | "hostname" | "domain-name" | "host" | "fqdn" => Kind::Domain,
        "url" | "uri" => Kind::Url,
        "md5" | "md5-hash" | "filehash-md5" => Kind::Md5,
        "sha1" | "sha-1" | "sha1-hash" | "filehash-sha1" => Kind::Sha1,
        "sha256" | "sha-256" | "sha256-hash" | "filehash-sha256" => Kind::Sha256,
        "filename" | "file-name" => Kind::Name,
        "filepath" | "file-path" | "path" => Kind::Path,
        _ => return None,
    })
}

fn level(text: &str) -> Option<Level> {
    match text.to_ascii_lowercase().as_str() {
        "0" | "danger" => Some(Level::Danger),
        "1" | "suspicious" => Some(Level::Suspicious),
        "2" | "hint" => Some(Level::Hint),
        _ => None,
    }
}

/// RFC 3339, a date, or `2026-01-31 09:30:00` with or without `UTC`.
fn time(text: &str) -> Option<Timestamp> {
    let text = text.trim().trim_end_matches("UTC").trim();
    let filled = match text.len() {
        10 => format!("{text}T00:00:00Z"),
        19 => format!("{}Z", text.replacen(' ', "T", 1)),
        _ => text.replacen(' ', "T", 1),
    };
    Timestamp::parse_rfc3339(&filled).ok()
}
