//! `yinglong-agent replay`: what this agent's filter does to recorded events. Rules are the
//! server's, and so is running recordings through them.

use std::{
    fs::File,
    io::{BufRead, BufReader, BufWriter, Read as _, Write as _},
    path::PathBuf,
};

use anyhow::Context as _;
use serde::Deserialize;
use yinglong_agent::filter::Filter;
use yinglong_model::EventData;

use super::{Follow, Stream};

/// Longest line that is read, in bytes; as in `yinglong replay`.
const LINE_BYTES: u64 = 4 << 20;

/// Prints the events of a recording that the filter of this agent's configuration keeps, as they
/// were written. No rules are run: for that there is `yinglong replay FILE`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Recording made by `yinglong-agent record`, or exported events, one per line.
    file: PathBuf,
    #[command(flatten)]
    follow: Follow,
    /// Print what the filter leaves out instead.
    #[arg(long)]
    excluded: bool,
    /// Look at these only.
    #[arg(long, value_delimiter = ',')]
    types: Vec<Stream>,
}

/// What a line must have to be an event.
#[derive(Deserialize)]
struct Recorded {
    #[serde(flatten)]
    data: EventData,
}

#[derive(Default)]
struct Counts {
    kept: u64,
    excluded: u64,
    others: u64,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let config = args.follow.config()?;
    let (filter, refused) = Filter::new(&config.filter);
    for entry in refused {
        eprintln!("the filter entry `{entry}` cannot be used and is left out");
    }
    let file =
        File::open(&args.file).with_context(|| format!("cannot open {}", args.file.display()))?;
    let mut input = BufReader::new(file);
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut counts = Counts::default();
    let mut line = Vec::new();
    while next(&mut input, &mut line)? {
        let Ok(Recorded { data }) = serde_json::from_slice::<Recorded>(&line) else {
            counts.others += u64::from(!line.iter().all(u8::is_ascii_whitespace));
            continue;
        };
        let of_type = |stream: &Stream| stream.as_str() == data.event_type().as_str();
        if !args.types.is_empty() && !args.types.iter().any(of_type) {
            continue;
        }
        let excluded = filter.excludes(&data);
        match excluded {
            true => counts.excluded += 1,
            false => counts.kept += 1,
        }
        if excluded == args.excluded {
            out.write_all(line.trim_ascii_end())?;
            out.write_all(b"\n")?;
        }
    }
    out.flush()?;
    eprintln!(
        "{} kept, {} left out by the filter, {} lines that are no event; rules were not run: yinglong replay {}",
        counts.kept,
        counts.excluded,
        counts.others,
        args.file.display()
    );
    Ok(())
}

/// Reads a line; of one that is too long only the beginning, which is no event then. `false` at
/// the end.
fn next(input: &mut impl BufRead, line: &mut Vec<u8>) -> std::io::Result<bool> {
    line.clear();
    if input.by_ref().take(LINE_BYTES).read_until(b'\n', line)? == 0 {
        return Ok(false);
    }
    if !line.ends_with(b"\n") {
        // Also at the end of a file without a last line feed, where this reads nothing.
        let mut rest = Vec::new();
        while input.by_ref().take(64 << 10).read_until(b'\n', &mut rest)? > 0 {
            if rest.ends_with(b"\n") {
                break;
            }
            rest.clear();
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_whole_also_the_last_one_without_an_end() {
        let mut input = &b"one\n\ntwo"[..];
        let mut line = Vec::new();
        let mut lines = Vec::new();
        while next(&mut input, &mut line).unwrap() {
            lines.push(line.clone());
        }
        assert_eq!(lines, [&b"one\n"[..], b"\n", b"two"]);
    }

    #[test]
    fn a_line_that_is_too_long_does_not_take_the_next_one_with_it() {
        let mut text = vec![b'x'; LINE_BYTES as usize + 100_000];
        text.extend(b"\nnext\n");
        let mut input = &text[..];
        let mut line = Vec::new();
        assert!(next(&mut input, &mut line).unwrap());
        assert!(next(&mut input, &mut line).unwrap());
        assert_eq!(line, b"next\n");
    }
}
