//! Between events and the documents of the index.

use serde::Serialize;
use yinglong_model::Event;

use crate::schema;

/// An event on its way: its index, its id, its document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) index: String,
    pub(crate) id: String,
    pub(crate) document: Vec<u8>,
}

/// The document: the event, and what the index needs besides.
#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    event: &'a Event,
    /// Time to the nanosecond: results are sorted by it.
    time_nanos: i64,
    /// The index may read a value differently from the query language.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    inexact: bool,
}

#[derive(Serialize)]
struct Action<'a> {
    create: Place<'a>,
}

#[derive(Serialize)]
struct Place<'a> {
    #[serde(rename = "_index")]
    index: &'a str,
    #[serde(rename = "_id")]
    id: &'a str,
}

impl Line {
    pub(crate) fn new(prefix: &str, event: &Event) -> serde_json::Result<Self> {
        Ok(Self {
            index: schema::index_name(prefix, event),
            id: event.id.as_str().to_owned(),
            document: serde_json::to_vec(&Document {
                event,
                time_nanos: event.time.nanos(),
                inexact: !schema::is_exact(event),
            })?,
        })
    }

    /// Bytes it takes in a request, roughly.
    pub(crate) const fn bytes(&self) -> usize {
        const ACTION_BYTES: usize = 48;
        self.document.len() + self.index.len() + self.id.len() + ACTION_BYTES
    }

    /// Appends it to the body of a bulk request. An id that is there already is left alone.
    pub(crate) fn write(&self, body: &mut Vec<u8>) -> serde_json::Result<()> {
        let action = Action {
            create: Place {
                index: &self.index,
                id: &self.id,
            },
        };
        serde_json::to_writer(&mut *body, &action)?;
        body.push(b'\n');
        body.extend_from_slice(&self.document);
        body.push(b'\n');
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use yinglong_store::conformance::events;

    use super::*;

    #[test]
    fn a_document_reads_back_as_the_event_and_is_one_line() {
        for mut event in events(4, 200) {
            event.hostname.push_str("\n\r\u{2028}\0\u{fffd}");
            let line = Line::new("monitor", &event).unwrap();
            assert!(!line.document.contains(&b'\n'));
            assert_eq!(
                serde_json::from_slice::<Event>(&line.document).unwrap(),
                event
            );
        }
    }

    #[test]
    fn events_the_index_reads_differently_are_marked() {
        let mut event = events(4, 1).remove(0);
        let marked = |event: &Event| {
            let line = Line::new("monitor", event).unwrap();
            let document: serde_json::Value = serde_json::from_slice(&line.document).unwrap();
            document["inexact"] == true
        };
        event.hostname = "web-1 büro 应龙".to_owned();
        assert!(!marked(&event));
        for odd in [
            "İstanbul",
            "ΣΊΣΥΦΟΣ",
            "\u{1e900}",
            "\u{202e}rtl",
            &"x".repeat(9000),
        ] {
            event.hostname = odd.to_owned();
            assert!(marked(&event), "{odd:.20}");
        }
    }
}
