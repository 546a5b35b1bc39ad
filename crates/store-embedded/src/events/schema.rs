//! How an event lies in an index.
//!
//! | field | kept as | for |
//! |---|---|---|
//! | `id` | term | [`get`](yinglong_store::EventStore::get) |
//! | `time` | column | order, time range, histogram |
//! | `tie` | column | order among equal times: the first 64 bits of the id |
//! | `data` | JSON of strings: words as terms, whole values as columns | conditions, `top` |
//! | `event` | the whole event as JSON, zstd | results |
//!
//! `data` holds every field of the event's data, and type and host values with an `@` before the
//! name. One JSON field instead of one schema field per name: a new field of an event needs no new
//! index format. Word positions are not kept, because no query asks for phrases.
//!
//! Columns end at 65,535 bytes in tantivy, so longer values are cut and the event is marked
//! `@long`; every condition on it is decided on the stored event. Terms are cut at
//! [`LONGEST_TERM_BYTES`], in queries too, and what they find is checked against the column.

use std::collections::BTreeMap;

use tantivy::{
    TantivyDocument, Term,
    schema::{
        Field, IndexRecordOption, JsonObjectOptions, OwnedValue, Schema, TextFieldIndexing,
        TextOptions,
    },
    tokenizer::{RAW_TOKENIZER_NAME, Token, TokenStream, Tokenizer},
};
use yinglong_model::{Event, EventData, EventId, EventType};
use yinglong_store::query::{HostKey, each_word};

/// Words longer than this are indexed by their beginning.
pub(super) const LONGEST_TERM_BYTES: usize = 200;
/// Values longer than this are cut in columns.
const LONGEST_COLUMN_BYTES: usize = 60_000;
/// Name of our tokenizer in index files.
pub(super) const WORDS: &str = "yinglong_words_1";
/// Path of the event type.
pub(super) const TYPE: &str = "@type";
/// Path that marks events with cut columns.
pub(super) const LONG: &str = "@long";

/// Fields of the schema.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields {
    pub(super) id: Field,
    pub(super) time: Field,
    pub(super) tie: Field,
    pub(super) data: Field,
    pub(super) event: Field,
}

/// The schema of every partition.
pub(super) fn schema() -> (Schema, Fields) {
    let mut builder = Schema::builder();
    let terms = |tokenizer: &str| {
        TextFieldIndexing::default()
            .set_tokenizer(tokenizer)
            .set_index_option(IndexRecordOption::Basic)
            .set_fieldnorms(false)
    };
    let fields = Fields {
        id: builder.add_text_field(
            "id",
            TextOptions::default().set_indexing_options(terms(RAW_TOKENIZER_NAME)),
        ),
        time: builder.add_i64_field("time", tantivy::schema::FAST),
        tie: builder.add_u64_field("tie", tantivy::schema::FAST),
        data: builder.add_json_field(
            "data",
            JsonObjectOptions::default()
                .set_indexing_options(terms(WORDS))
                .set_fast(RAW_TOKENIZER_NAME),
        ),
        event: builder.add_bytes_field("event", tantivy::schema::STORED),
    };
    (builder.build(), fields)
}

/// Path of a host value below `data`.
pub(super) fn host_path(key: HostKey) -> &'static str {
    match key {
        HostKey::Ip => "@ip",
        HostKey::Hostname => "@hostname",
        HostKey::AgentId => "@agent_id",
        HostKey::System => "@system",
    }
}

/// Name of the column of a path.
pub(super) fn column(path: &str) -> String {
    format!("data.{path}")
}

/// First 64 bits of an id. Ids are hexadecimal digits, so this order is theirs.
pub(super) fn tie(id: &EventId) -> u64 {
    id.as_str()
        .get(..16)
        .and_then(|digits| u64::from_str_radix(digits, 16).ok())
        .unwrap_or_default()
}

/// The event as a document; `json` is the whole event.
pub(super) fn document(fields: Fields, event: &Event, json: &[u8]) -> TantivyDocument {
    let mut data = BTreeMap::new();
    let mut long = false;
    let mut add = |path: &str, value: &str| {
        let kept = cut(value, LONGEST_COLUMN_BYTES);
        long |= kept.len() < value.len();
        data.insert(path.to_owned(), OwnedValue::Str(kept.to_owned()));
    };
    let kind = event.data.event_type();
    add(TYPE, kind.as_str());
    for key in HostKey::ALL {
        add(host_path(key), key.of_event(event));
    }
    for name in EventData::field_names(kind) {
        if let Some(value) = event.data.field(name) {
            add(name, &value);
        }
    }
    if long {
        data.insert(LONG.to_owned(), OwnedValue::Str("1".to_owned()));
    }
    let mut document = TantivyDocument::default();
    document.add_text(fields.id, event.id.as_str());
    document.add_i64(fields.time, event.time.nanos());
    document.add_u64(fields.tie, tie(&event.id));
    document.add_object(fields.data, data);
    document.add_bytes(fields.event, json);
    document
}

/// The type of that name.
pub(super) fn event_type(name: &str) -> Option<EventType> {
    EventType::ALL
        .into_iter()
        .find(|kind| kind.as_str() == name)
}

/// The beginning of a text, at most `limit` bytes, whole characters.
fn cut(text: &str, limit: usize) -> &str {
    text.get(..text.floor_char_boundary(limit)).unwrap_or(text)
}

/// The term of a word below a path.
pub(super) fn word_term(data: Field, path: &str, word: &str) -> Term {
    let mut term = Term::from_field_json_path(data, path, false);
    term.append_type_and_str(cut(word, LONGEST_TERM_BYTES));
    term
}

/// Splits as [`yinglong_store::query::words`] does, and cuts long words.
#[derive(Debug, Clone, Default)]
pub(super) struct Words {
    token: Token,
}

/// Words of one text.
#[derive(Debug)]
pub(super) struct WordStream<'a> {
    words: std::vec::IntoIter<String>,
    token: &'a mut Token,
}

impl Tokenizer for Words {
    type TokenStream<'a> = WordStream<'a>;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> WordStream<'a> {
        let mut words = Vec::new();
        each_word(text, |word| {
            words.push(cut(word, LONGEST_TERM_BYTES).to_owned())
        });
        words.sort_unstable();
        words.dedup();
        self.token.reset();
        WordStream {
            words: words.into_iter(),
            token: &mut self.token,
        }
    }
}

impl TokenStream for WordStream<'_> {
    fn advance(&mut self) -> bool {
        let Some(word) = self.words.next() else {
            return false;
        };
        self.token.text = word;
        self.token.position = self.token.position.wrapping_add(1);
        true
    }

    fn token(&self) -> &Token {
        self.token
    }

    fn token_mut(&mut self) -> &mut Token {
        self.token
    }
}
