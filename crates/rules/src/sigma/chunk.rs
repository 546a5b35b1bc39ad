//! The documents of a text, cut apart before any of them is read: a broken document ends at the next
//! marker and never takes the others with it.

/// One document of a text, not parsed yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chunk<'t> {
    pub(crate) text: &'t str,
    /// First byte in the whole text.
    pub(crate) start: usize,
    /// Line of the first byte, from 0.
    pub(crate) line: usize,
}

/// Cuts a text at its document markers. A line that begins with one is a marker everywhere in YAML,
/// in block scalars and between quotes as well.
pub(crate) fn chunks(text: &str) -> Vec<Chunk<'_>> {
    let skipped = if text.starts_with('\u{feff}') { 3 } else { 0 };
    let mut chunks = Vec::new();
    let mut start = skipped;
    let mut start_line = 0;
    let mut at = skipped;
    // Directives and comments before a marker belong to the document after it.
    let mut only_prefix = true;
    let mut push = |start: usize, end: usize, line: usize| {
        if let Some(text) = text.get(start..end)
            && !text.trim().is_empty()
        {
            chunks.push(Chunk { text, start, line });
        }
    };
    for (number, line) in text
        .get(skipped..)
        .unwrap_or_default()
        .split_inclusive('\n')
        .enumerate()
    {
        let end = at + line.len();
        if is_marker(line, "---") {
            if !only_prefix {
                push(start, at, start_line);
                start = at;
                start_line = number;
            }
            only_prefix = false;
        } else if is_marker(line, "...") {
            push(start, end, start_line);
            start = end;
            start_line = number + 1;
            only_prefix = true;
        } else {
            let line = line.trim_start();
            only_prefix &= line.is_empty() || line.starts_with(['#', '%']);
        }
        at = end;
    }
    push(start, at, start_line);
    chunks
}

fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}
