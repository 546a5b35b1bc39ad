//! Where in a JSON text something is that a finding names, such as `[3].rules.command.data`.
//!
//! The text was parsed before; this only follows its structure, and answers the nearest place above
//! when it does not get to the end of the path.

use yinglong_rules::Place;

/// Place of a path in a text that is JSON. What is missing is where the object is that lacks it.
pub(crate) fn find(text: &str, file: &str, path: &str) -> Place {
    let start = Walk(text).follow(path);
    at(text, file, start)
}

/// Place of a line and a column in bytes, both from 1, as the parser says them.
pub(crate) fn line_and_column(text: &str, file: &str, line: usize, column: usize) -> Place {
    let lines = text.split_inclusive('\n').map(str::len);
    let before: usize = lines.take(line.saturating_sub(1)).sum();
    at(text, file, before + column.saturating_sub(1))
}

fn at(text: &str, file: &str, start: usize) -> Place {
    let mut start = start.min(text.len());
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    let before = text.get(..start).unwrap_or_default();
    let line_start = before.rfind('\n').map_or(0, |end| end + 1);
    let within = before.get(line_start..).unwrap_or_default();
    Place {
        file: file.to_owned(),
        line: before.matches('\n').count() + 1,
        column: within.chars().count() + 1,
        start,
        end: start,
    }
}

struct Walk<'t>(&'t str);

impl Walk<'_> {
    fn byte(&self, at: usize) -> u8 {
        self.0.as_bytes().get(at).copied().unwrap_or(0)
    }

    fn space(&self, mut at: usize) -> usize {
        while self.byte(at).is_ascii_whitespace() {
            at += 1;
        }
        at
    }

    fn follow(&self, mut path: &str) -> usize {
        let mut value = self.space(0);
        let mut shown = value;
        while !path.is_empty() {
            let step = match path.strip_prefix('[') {
                Some(rest) => self.element(value, rest),
                None => self.member(value, path.strip_prefix('.').unwrap_or(path)),
            };
            let Some((found, inner, rest)) = step else {
                return shown;
            };
            (shown, value, path) = (found, inner, rest);
        }
        shown
    }

    /// Place of an element, and what of the path follows `3].`.
    fn element<'p>(&self, array: usize, path: &'p str) -> Option<(usize, usize, &'p str)> {
        let (number, rest) = path.split_once(']')?;
        let number: usize = number.parse().ok()?;
        if self.byte(array) != b'[' {
            return None;
        }
        let mut at = self.space(array + 1);
        for _ in 0..number {
            at = self.space(self.value_end(at));
            if self.byte(at) != b',' {
                return None;
            }
            at = self.space(at + 1);
        }
        (self.byte(at) != b']').then_some((at, at, rest))
    }

    /// Places of the key and the value of the longest key the path begins with: keys may have dots.
    fn member<'p>(&self, object: usize, path: &'p str) -> Option<(usize, usize, &'p str)> {
        if self.byte(object) != b'{' {
            return None;
        }
        let mut best: Option<(usize, usize, &'p str)> = None;
        let mut at = self.space(object + 1);
        while self.byte(at) == b'"' {
            let end = self.value_end(at);
            let key: String = serde_json::from_str(self.0.get(at..end)?).ok()?;
            let colon = self.space(end);
            let value = self.space(colon + 1);
            if let Some(rest) = path.strip_prefix(key.as_str())
                && (rest.is_empty() || rest.starts_with(['.', '[']))
                && best.is_none_or(|(_, _, known)| rest.len() <= known.len())
            {
                best = Some((at, value, rest));
            }
            at = self.space(self.value_end(value));
            if self.byte(at) != b',' {
                break;
            }
            at = self.space(at + 1);
        }
        best
    }

    /// Byte after a value.
    fn value_end(&self, start: usize) -> usize {
        let (mut at, mut depth, mut quoted) = (start, 0_usize, false);
        while at < self.0.len() {
            match self.byte(at) {
                b'\\' if quoted => at += 1,
                b'"' => quoted = !quoted,
                _ if quoted => {}
                b'[' | b'{' => depth += 1,
                b']' | b'}' | b',' if depth == 0 => return at,
                b']' | b'}' => depth -= 1,
                b':' if depth == 0 => return at,
                byte if depth == 0 && byte.is_ascii_whitespace() && at > start => return at,
                _ => {}
            }
            at += 1;
            let closed = matches!(self.byte(at - 1), b'"' | b']' | b'}');
            if closed && !quoted && depth == 0 {
                return at;
            }
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_followed_to_its_line_and_column() {
        let text = "[{\"a\": 1},\n {\"r\\\"s\": [1, \"],\"],\n  \"rules\": {\"d.e\": {\n   \"data\": \"é\"}, \"d\" : 2}}]";
        for (path, line, column) in [
            ("", 1, 1),
            ("[0]", 1, 2),
            ("[0].a", 1, 3),
            ("[1]", 2, 2),
            ("[1].r\"s[1]", 2, 15),
            ("[1].rules.d.e.data", 4, 4),
            ("[1].rules.d", 4, 18),
            // What is missing is shown where it is missing.
            ("[1].rules.nothing", 3, 3),
            ("[7].rules", 1, 1),
            ("[1].rules.d.deeper", 4, 18),
        ] {
            let place = find(text, "f", path);
            assert_eq!((place.line, place.column), (line, column), "{path}");
        }
        let place = line_and_column("ab\ncdé\n", "f", 2, 5);
        assert_eq!((place.line, place.column), (2, 4));
    }

    #[test]
    fn texts_that_are_not_json_have_a_place_too() {
        for text in [
            "",
            "[",
            "{\"a\"",
            "{\"a\":",
            "[1,",
            "\"\\",
            "]]",
            "{\"a\":\"é",
        ] {
            for path in ["", "a", "[0]", "[1].a", "a.b[2"] {
                assert!(find(text, "", path).start <= text.len(), "{text} {path}");
            }
        }
    }
}
