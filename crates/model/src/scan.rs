//! What the agent and its scanner tell each other: one JSON document per line.
//!
//! The scanner first says [`Line::Ready`], then [`Line::Answer`] for each [`Request`], in order.

use serde::{Deserialize, Serialize};

/// Why a file is scanned. Rules see it as the text variable `reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// It was written into a web root.
    Web,
    /// It was executed.
    Exec,
}

impl Reason {
    /// Name in documents and for rules.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Web => "web",
            Self::Exec => "exec",
        }
    }
}

/// A file to look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Given back in the answer.
    pub id: u64,
    /// Absolute path, as events show it: bytes that are not text as `\xNN`.
    pub path: String,
    /// Why.
    pub reason: Reason,
    /// The file comes with the question, as a descriptor: only the agent may look into the
    /// container it is in. A descriptor of its place, from which nothing can be read yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub handed: bool,
}

/// The bytes of a path that events show with those that are not text as `\xNN`.
pub fn unescape(path: &str) -> Vec<u8> {
    let bytes = path.as_bytes();
    let mut raw = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let escaped = bytes
            .get(at..at + 4)
            .and_then(|part| part.strip_prefix(b"\\x"))
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        raw.push(escaped.unwrap_or(byte));
        at += if escaped.is_some() { 4 } else { 1 };
    }
    raw
}

/// What the scanner says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "lowercase")]
pub enum Line {
    /// It can be asked from now on.
    Ready {
        /// Number of rules in force.
        rules: usize,
        /// Files of rules that are left out, each with what is wrong.
        broken: Vec<String>,
    },
    /// About one file.
    Answer(Answer),
}

/// What was found in a file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Answer {
    /// That of the request.
    pub id: u64,
    /// Rules that matched.
    pub matches: Vec<Match>,
    /// Why the file was not scanned to its end: `too_large`, `not_regular`, `gone`, `unreadable`,
    /// `timeout`, `failed`, `malformed`.
    pub skipped: Option<String>,
    /// Bytes looked at.
    pub bytes: u64,
    /// Time it took.
    pub micros: u64,
}

/// A rule that matched.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Match {
    /// Its name.
    pub rule: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// Its `level`: 0 danger, 1 suspicious, 2 hint; 0 when it has none.
    pub level: u8,
    /// Its `description`.
    pub description: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_is_read_back_and_what_only_looks_like_it_stays() {
        assert_eq!(unescape(r"/a\xff\x0ab"), b"/a\xff\x0ab");
        assert_eq!(unescape(r"/a\xf\x\xgg"), br"/a\xf\x\xgg");
        assert_eq!(unescape("/é"), "/é".as_bytes());
    }

    #[test]
    fn a_question_says_only_if_a_file_comes_with_it() {
        let mut request = Request {
            id: 1,
            path: "/a".to_owned(),
            reason: Reason::Web,
            handed: false,
        };
        let text = serde_json::to_string(&request).unwrap();
        assert_eq!(text, r#"{"id":1,"path":"/a","reason":"web"}"#);
        assert_eq!(serde_json::from_str::<Request>(&text).unwrap(), request);
        request.handed = true;
        let text = serde_json::to_string(&request).unwrap();
        assert_eq!(serde_json::from_str::<Request>(&text).unwrap(), request);
    }
}
