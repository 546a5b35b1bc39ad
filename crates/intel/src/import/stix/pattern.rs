//! STIX patterns, as far as they name single values.
//!
//! Indicators are looked up one value at a time, so a pattern is usable where it is a choice
//! (`OR`) of comparisons with `=`, `IN` or `ISSUBSET`. What needs several things at once (`AND`,
//! `FOLLOWEDBY`, qualifiers) or a search (`LIKE`, `MATCHES`) would be a different, wider indicator
//! if it were cut to one value, and is refused with the reason.

use crate::{Kind, Value};

/// Deepest nesting of parentheses.
const MAX_DEPTH: usize = 32;

/// What a pattern comes to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Read {
    /// Values each of which is enough.
    pub values: Vec<Value>,
    /// Why other parts of the choice are not used.
    pub refused: Vec<String>,
}

/// A text that is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the pattern is wrong at character {at}: {expected} is expected")]
pub struct Malformed {
    at: usize,
    expected: &'static str,
}

/// Reads a pattern.
///
/// # Errors
/// It is not written as the standard says.
pub fn parse(text: &str) -> Result<Read, Malformed> {
    let mut parser = Parser { text, at: 0 };
    let read = parser.observations(0)?;
    parser.space();
    if parser.rest().is_empty() {
        Ok(read)
    } else {
        Err(parser.expected("OR or the end"))
    }
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Parser<'t> {
    /// Observations joined by `OR`, `AND`, `FOLLOWEDBY`, which bind in this order, the last the
    /// weakest.
    fn observations(&mut self, depth: usize) -> Result<Read, Malformed> {
        let first = self.observation_choice(depth)?;
        let mut joined = vec![first];
        while self.word("FOLLOWEDBY") {
            joined.push(self.observation_choice(depth)?);
        }
        Ok(all_of(joined, "FOLLOWEDBY needs one thing after the other"))
    }

    fn observation_choice(&mut self, depth: usize) -> Result<Read, Malformed> {
        let mut choice = self.observation_group(depth)?;
        while self.word("OR") {
            choice.extend(self.observation_group(depth)?);
        }
        Ok(choice)
    }

    fn observation_group(&mut self, depth: usize) -> Result<Read, Malformed> {
        let mut joined = vec![self.observation(depth)?];
        while self.word("AND") {
            joined.push(self.observation(depth)?);
        }
        Ok(all_of(joined, "AND needs several things at once"))
    }

    fn observation(&mut self, depth: usize) -> Result<Read, Malformed> {
        let mut read = if self.sign("(") {
            let inner = self.observations(self.deeper(depth)?)?;
            self.need(")")?;
            inner
        } else {
            self.need("[")?;
            let inner = self.comparisons(0)?;
            self.need("]")?;
            inner
        };
        while self.qualifier()? {
            read = refused("WITHIN, REPEATS and START ... STOP need several observations");
        }
        Ok(read)
    }

    fn qualifier(&mut self) -> Result<bool, Malformed> {
        if self.word("WITHIN") {
            self.number()?;
            return self
                .word("SECONDS")
                .then_some(true)
                .ok_or(self.expected("SECONDS"));
        }
        if self.word("REPEATS") {
            self.number()?;
            return self
                .word("TIMES")
                .then_some(true)
                .ok_or(self.expected("TIMES"));
        }
        if self.word("START") {
            self.literal()?;
            if !self.word("STOP") {
                return Err(self.expected("STOP"));
            }
            self.literal()?;
            return Ok(true);
        }
        Ok(false)
    }

    fn comparisons(&mut self, depth: usize) -> Result<Read, Malformed> {
        let mut choice = self.comparison_group(depth)?;
        while self.word("OR") {
            choice.extend(self.comparison_group(depth)?);
        }
        Ok(choice)
    }

    fn comparison_group(&mut self, depth: usize) -> Result<Read, Malformed> {
        let mut joined = vec![self.comparison(depth)?];
        while self.word("AND") {
            joined.push(self.comparison(depth)?);
        }
        Ok(all_of(joined, "AND needs several things at once"))
    }

    fn comparison(&mut self, depth: usize) -> Result<Read, Malformed> {
        if self.sign("(") {
            let inner = self.comparisons(self.deeper(depth)?)?;
            self.need(")")?;
            return Ok(inner);
        }
        // `EXISTS path` has no operator.
        if self.word("EXISTS") {
            self.path()?;
            return Ok(refused("EXISTS names no value"));
        }
        let path = self.path()?;
        let mut negated = self.word("NOT");
        let operator = self.operator()?;
        let literals = if operator == "IN" {
            self.literals()?
        } else {
            vec![self.literal()?]
        };
        negated |= matches!(operator, "!=" | "<>");
        if negated {
            return Ok(refused("NOT names what is harmless"));
        }
        Ok(match operator {
            "=" | "==" | "IN" | "ISSUBSET" => compare(&path, operator, &literals),
            other => refused(&format!("{other} names no single value")),
        })
    }

    /// Object path with the quotes of its parts removed: `file:hashes.SHA-256`.
    fn path(&mut self) -> Result<String, Malformed> {
        self.space();
        let mut path = String::new();
        loop {
            let rest = self.rest();
            if rest.starts_with('\'') && path.ends_with('.') {
                path.push_str(&self.quoted()?);
                continue;
            }
            // Lists: `x[0]`, `x[*]`.
            if rest.starts_with('[') && !path.is_empty() {
                let end = rest.find(']').ok_or(self.expected("]"))?;
                path.push_str(rest.get(..=end).unwrap_or_default());
                self.at += end + 1;
                continue;
            }
            let end = rest
                .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ':' | '.')))
                .unwrap_or(rest.len());
            if end == 0 {
                break;
            }
            path.push_str(rest.get(..end).unwrap_or_default());
            self.at += end;
        }
        if path.contains(':') {
            Ok(path)
        } else {
            Err(self.expected("an object path like ipv4-addr:value"))
        }
    }

    fn operator(&mut self) -> Result<&'static str, Malformed> {
        for sign in ["==", "=", "!=", "<>", "<=", ">=", "<", ">"] {
            if self.sign(sign) {
                return Ok(sign);
            }
        }
        for word in ["IN", "LIKE", "MATCHES", "ISSUBSET", "ISSUPERSET"] {
            if self.word(word) {
                return Ok(word);
            }
        }
        Err(self.expected("an operator"))
    }

    fn literals(&mut self) -> Result<Vec<String>, Malformed> {
        self.need("(")?;
        let mut literals = vec![self.literal()?];
        while self.sign(",") {
            literals.push(self.literal()?);
        }
        self.need(")")?;
        Ok(literals)
    }

    /// A text, typed text (`t'...'`), number or flag, as text.
    fn literal(&mut self) -> Result<String, Malformed> {
        self.space();
        if let [b't' | b'h' | b'b', b'\'', ..] = self.rest().as_bytes() {
            self.at += 1;
        }
        if self.rest().starts_with('\'') {
            return self.quoted();
        }
        self.number()
    }

    fn number(&mut self) -> Result<String, Malformed> {
        self.space();
        let rest = self.rest();
        let end = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+')))
            .unwrap_or(rest.len());
        let number = rest.get(..end).unwrap_or_default();
        if number.is_empty() {
            return Err(self.expected("a value"));
        }
        self.at += end;
        Ok(number.to_owned())
    }

    fn quoted(&mut self) -> Result<String, Malformed> {
        let mut text = String::new();
        let mut escaped = false;
        let inside = self.rest().get(1..).unwrap_or_default();
        for (at, c) in inside.char_indices() {
            match c {
                _ if escaped => {
                    text.push(c);
                    escaped = false;
                }
                '\\' => escaped = true,
                '\'' => {
                    self.at += at + 2;
                    return Ok(text);
                }
                _ => text.push(c),
            }
        }
        Err(self.expected("a closing quote"))
    }

    fn deeper(&self, depth: usize) -> Result<usize, Malformed> {
        if depth < MAX_DEPTH {
            Ok(depth + 1)
        } else {
            Err(self.expected("less nesting"))
        }
    }

    fn need(&mut self, sign: &'static str) -> Result<(), Malformed> {
        if self.sign(sign) {
            Ok(())
        } else {
            Err(self.expected(sign))
        }
    }

    fn sign(&mut self, sign: &str) -> bool {
        self.space();
        let there = self.rest().starts_with(sign);
        if there {
            self.at += sign.len();
        }
        there
    }

    fn word(&mut self, word: &str) -> bool {
        self.space();
        let Some(rest) = self.rest().strip_prefix(word) else {
            return false;
        };
        let goes_on =
            rest.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '-' || c == ':');
        if !goes_on {
            self.at += word.len();
        }
        !goes_on
    }

    fn space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn expected(&self, expected: &'static str) -> Malformed {
        let before = self.text.get(..self.at).unwrap_or_default();
        Malformed {
            at: before.chars().count() + 1,
            expected,
        }
    }
}

impl Read {
    fn extend(&mut self, other: Self) {
        self.values.extend(other.values);
        self.refused.extend(other.refused);
    }
}

fn refused(reason: &str) -> Read {
    Read {
        values: Vec::new(),
        refused: vec![reason.to_owned()],
    }
}

fn all_of(mut joined: Vec<Read>, reason: &str) -> Read {
    match joined.pop() {
        Some(only) if joined.is_empty() => only,
        _ => refused(reason),
    }
}

fn compare(path: &str, operator: &str, literals: &[String]) -> Read {
    let read = |text: &String| match path.to_ascii_lowercase().as_str() {
        "ipv4-addr:value" | "ipv6-addr:value" => Value::parse_as(Kind::Ip, text),
        "domain-name:value" | "hostname:value" => Value::parse_as(Kind::Domain, text),
        "url:value" => Value::parse_as(Kind::Url, text),
        "network-traffic:dst_ref.value" | "network-traffic:src_ref.value" => Value::parse(text),
        "file:hashes.md5" => Value::parse_as(Kind::Md5, text),
        "file:hashes.sha-1" | "file:hashes.sha1" => Value::parse_as(Kind::Sha1, text),
        "file:hashes.sha-256" | "file:hashes.sha256" => Value::parse_as(Kind::Sha256, text),
        "file:name" => Value::parse_as(Kind::Name, text),
        _ => Err(crate::Unusable::WrongKind),
    };
    let mut found = Read::default();
    for text in literals {
        match read(text) {
            Ok(value)
                if operator != "ISSUBSET" || matches!(value, Value::Ip(_) | Value::Cidr(_)) =>
            {
                found.values.push(value);
            }
            Ok(_) => found.refused.push("ISSUBSET is for networks".to_owned()),
            Err(reason) => found.refused.push(format!("{path} '{text}': {reason}")),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, values: &[&str], refused: &[&str]) {
        let read = parse(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
        let shown: Vec<String> = read.values.iter().map(ToString::to_string).collect();
        assert_eq!(shown, values, "{pattern}");
        assert_eq!(
            read.refused.len(),
            refused.len(),
            "{pattern}: {:?}",
            read.refused
        );
        for (reason, part) in read.refused.iter().zip(refused) {
            assert!(reason.contains(part), "{pattern}: {reason}");
        }
    }

    #[test]
    fn single_values_and_choices_are_read() {
        check("[ipv4-addr:value = '198.51.100.7']", &["198.51.100.7"], &[]);
        check("[ipv6-addr:value='2001:DB8::7']", &["2001:db8::7"], &[]);
        check(
            "[ipv4-addr:value ISSUBSET '198.51.100.0/24']",
            &["198.51.100.0/24"],
            &[],
        );
        check(
            "[domain-name:value = 'Evil.example']",
            &["evil.example"],
            &[],
        );
        check(
            "[url:value = 'http://a.example/it\\'s']",
            &["http://a.example/it's"],
            &[],
        );
        let md5 = "d41d8cd98f00b204e9800998ecf8427e";
        check(&format!("[file:hashes.MD5 = '{md5}']"), &[md5], &[]);
        check(&format!("[file:hashes.'MD5' = '{md5}']"), &[md5], &[]);
        let sha256 = "ab".repeat(32);
        check(
            &format!("[file:hashes.MD5 = '{md5}' OR file:hashes.'SHA-256' = '{sha256}']"),
            &[md5, &sha256],
            &[],
        );
        check(
            "[ipv4-addr:value IN ('198.51.100.7', '198.51.100.8')] OR ([domain-name:value = 'a.example'])",
            &["198.51.100.7", "198.51.100.8", "a.example"],
            &[],
        );
        check("[(file:name = 'Evil.exe')]", &["evil.exe"], &[]);
    }

    #[test]
    fn what_is_no_single_value_is_refused_and_the_rest_of_a_choice_is_kept() {
        let and = "AND needs";
        check(
            "[ipv4-addr:value = '198.51.100.7' AND domain-name:value = 'a.example']",
            &[],
            &[and],
        );
        check(
            "[ipv4-addr:value = '198.51.100.7'] AND [url:value = 'http://a.example/']",
            &[],
            &[and],
        );
        check(
            "[ipv4-addr:value = '198.51.100.7' AND a:b = 1 OR domain-name:value = 'a.example']",
            &["a.example"],
            &[and],
        );
        check(
            "[a:b = 1] FOLLOWEDBY [ipv4-addr:value = '198.51.100.7'] WITHIN 300 SECONDS",
            &[],
            &["FOLLOWEDBY"],
        );
        check(
            "[ipv4-addr:value = '198.51.100.7'] REPEATS 5 TIMES",
            &[],
            &["REPEATS"],
        );
        check(
            "[ipv4-addr:value = '198.51.100.7'] START t'2026-01-01T00:00:00Z' STOP t'2026-02-01T00:00:00Z'",
            &[],
            &["START"],
        );
        check("[ipv4-addr:value != '198.51.100.7']", &[], &["harmless"]);
        check("[ipv4-addr:value NOT = '198.51.100.7']", &[], &["harmless"]);
        check("[file:name LIKE 'evil%']", &[], &["LIKE"]);
        check("[file:name MATCHES '^evil']", &[], &["MATCHES"]);
        check(
            "[email-addr:value = 'a@b.example']",
            &[],
            &["email-addr:value"],
        );
        check("[x:y_refs[*].value = 'a']", &[], &["x:y_refs"]);
        check("[ipv4-addr:value = '0.0.0.0/0']", &[], &["wider"]);
    }

    #[test]
    fn what_is_no_pattern_says_where() {
        for (pattern, at) in [
            ("", 1),
            ("ipv4-addr:value = '1.2.3.4'", 1),
            ("[ipv4-addr:value '1.2.3.4']", 18),
            ("[ipv4-addr:value = '1.2.3.4", 20),
            ("[ipv4-addr:value = '1.2.3.4'", 29),
            ("[ipv4-addr:value = '1.2.3.4'] nonsense", 31),
            ("[value = 'x']", 7),
        ] {
            assert_eq!(
                parse(pattern).map_err(|error| error.at),
                Err(at),
                "{pattern}"
            );
        }
        assert!(parse(&"(".repeat(100_000)).is_err());
        assert!(parse(&format!("[{}", "(".repeat(100_000))).is_err());
    }
}
