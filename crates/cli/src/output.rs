//! What people and scripts see: tables, JSON lines, and nothing that could steer a terminal.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
};

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use yinglong_model::Timestamp;

/// Text that hosts control, safe to show: control and direction characters are escaped.
pub(crate) fn safe(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => safe.push('\n'),
            // These change how the rest of a line is read.
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                let _ = write!(safe, "\\u{{{:x}}}", u32::from(c));
            }
            c if c.is_control() => {
                let _ = write!(safe, "\\x{:02x}", u32::from(c));
            }
            c => safe.push(c),
        }
    }
    safe
}

/// The same on one line.
pub(crate) fn line(text: &str) -> String {
    safe(text).replace('\n', "\\n")
}

/// The same, at most so long.
pub(crate) fn short(text: &str, chars: usize) -> String {
    let text = line(text);
    if text.chars().count() <= chars {
        return text;
    }
    let cut: String = text.chars().take(chars.saturating_sub(1)).collect();
    format!("{cut}…")
}

/// A time as people read it, in UTC.
pub(crate) fn time(at: Timestamp) -> String {
    Timestamp::from_secs(at.secs())
        .to_string()
        .replace('T', " ")
}

/// Bytes as people read them.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (bytes, 0);
    while value >= 10 * 1024 && unit + 1 < UNITS.len() {
        value /= 1024;
        unit += 1;
    }
    format!("{value} {}", UNITS.get(unit).copied().unwrap_or_default())
}

/// Name of a level.
pub(crate) const fn level(level: yinglong_model::rule::Level) -> &'static str {
    use yinglong_model::rule::Level;
    match level {
        Level::Danger => "danger",
        Level::Suspicious => "suspicious",
        Level::Hint => "hint",
    }
}

/// Name of a status.
pub(crate) const fn status(status: yinglong_model::alert::Status) -> &'static str {
    use yinglong_model::alert::Status;
    match status {
        Status::Open => "open",
        Status::Handled => "handled",
        Status::Ignored => "ignored",
        Status::Learned => "learned",
    }
}

/// Name of a health.
pub(crate) const fn health(health: yinglong_model::host::Health) -> &'static str {
    use yinglong_model::host::Health;
    match health {
        Health::Healthy => "healthy",
        Health::Offline => "offline",
        Health::Blocked => "blocked",
    }
}

/// Prints a table; cells are already safe.
pub(crate) fn table<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> anyhow::Result<()> {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(header);
    for row in rows {
        table.add_row(row);
    }
    print(&format!("{}\n", table.trim_fmt()))
}

/// Prints each item as JSON on its own line. JSON escapes control characters itself.
pub(crate) fn json_lines<T: Serialize>(items: impl IntoIterator<Item = T>) -> anyhow::Result<()> {
    for item in items {
        print(&format!("{}\n", serde_json::to_string(&item)?))?;
    }
    Ok(())
}

/// Prints; unlike `println!` it does not panic when nobody reads any more.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Whether the reader of our output went away, as `head` does.
pub(crate) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<io::Error>();
    io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_cannot_steer_the_terminal() {
        for (text, expected) in [
            ("plain 龙", "plain 龙"),
            ("\u{1b}[2J\u{7}", "\\x1b[2J\\x07"),
            ("a\rb\tc", "a\\x0db\\x09c"),
            ("\u{9b}31m", "\\x9b31m"),
            ("evil\u{202e}txt.exe", "evil\\u{202e}txt.exe"),
        ] {
            assert_eq!(safe(text), expected);
        }
        assert_eq!(line("a\nb"), "a\\nb");
        assert_eq!(short("abcdef", 4), "abc…");
    }

    #[test]
    fn sizes_are_readable() {
        assert_eq!(bytes(10), "10 B");
        assert_eq!(bytes(20 * 1024 * 1024), "20 MiB");
    }
}
