//! Attributes of MISP events, one attribute in memory at a time.

use std::{
    fmt,
    io::{self, BufRead},
};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::{
    Facts, Flow, Sink,
    json::{self, Lenient, Scalar},
};
use crate::{Kind, Unusable, Value};

/// What is read of an attribute.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Attribute {
    #[serde(rename = "type")]
    kind: Scalar,
    value: Scalar,
    to_ids: Scalar,
    deleted: Scalar,
    comment: Scalar,
}

pub(super) fn read(reader: &mut impl BufRead, sink: &mut impl Sink) -> io::Result<()> {
    let mut json = serde_json::Deserializer::from_reader(reader);
    let node = Node {
        sink,
        info: String::new(),
    };
    let outcome = node.deserialize(&mut json).and_then(|()| json.end());
    if let Err(error) = outcome {
        let reason = json::ended(error)?;
        sink.end_early(reason);
    }
    Ok(())
}

/// An event, a list of events, the envelope of a search, or an object with attributes.
struct Node<'s, S> {
    sink: &'s mut S,
    /// Title of the event that this is in.
    info: String,
}

impl<'de, S: Sink> DeserializeSeed<'de> for Node<'_, S> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, S: Sink> Visitor<'de> for Node<'_, S> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a MISP event")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        loop {
            let node = Node {
                sink: &mut *self.sink,
                info: self.info.clone(),
            };
            if seq.next_element_seed(node)?.is_none() {
                return Ok(());
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "Event" | "response" | "Object" => map.next_value_seed(Node {
                    sink: &mut *self.sink,
                    info: self.info.clone(),
                })?,
                "Attribute" => map.next_value_seed(Attributes {
                    sink: &mut *self.sink,
                    info: &self.info,
                })?,
                // Exporters write it before the attributes.
                "info" => {
                    if let Scalar::Text(text) = map.next_value()? {
                        self.info = text;
                    }
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

struct Attributes<'s, S> {
    sink: &'s mut S,
    info: &'s str,
}

impl<'de, S: Sink> DeserializeSeed<'de> for Attributes<'_, S> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, S: Sink> Visitor<'de> for Attributes<'_, S> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of attributes")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(Lenient(attribute)) = seq.next_element::<Lenient<Attribute>>()? {
            self.sink.next_line();
            match attribute {
                Some(attribute) => take(&attribute, self.info, self.sink)
                    .map_err(|_| A::Error::custom("enough"))?,
                None => self.sink.refuse("", "it is no attribute"),
            }
        }
        Ok(())
    }
}

fn take(attribute: &Attribute, info: &str, sink: &mut impl Sink) -> Flow {
    if attribute.deleted.flag() == Some(true) {
        sink.skip("deleted");
        return Ok(());
    }
    // MISP's own word for "good enough to raise an alarm"; what does not say so is context.
    if attribute.to_ids.flag() != Some(true) {
        sink.skip("not to_ids");
        return Ok(());
    }
    let (Some(kind), Some(text)) = (attribute.kind.text(), attribute.value.text()) else {
        sink.refuse("", "the attribute has no type or no value");
        return Ok(());
    };
    let Some(values) = values(kind, text) else {
        sink.skip("another type of attribute");
        return Ok(());
    };
    let facts = Facts {
        label: attribute.comment.text().unwrap_or(info).to_owned(),
        ..Facts::default()
    };
    for value in values {
        match value {
            Ok(value) => sink.add(value, &facts)?,
            Err(reason) => sink.refuse(text, &reason.to_string()),
        }
    }
    Ok(())
}

/// Values of an attribute; `None` for types this system has no use for.
fn values(kind: &str, text: &str) -> Option<Vec<Result<Value, Unusable>>> {
    let (left, right) = text.split_once('|').unwrap_or((text, ""));
    let one = |kind, text| Some(vec![Value::parse_as(kind, text)]);
    match kind {
        "ip-src" | "ip-dst" => one(Kind::Ip, text),
        "ip-src|port" | "ip-dst|port" => one(Kind::Ip, left),
        "domain" | "hostname" => one(Kind::Domain, text),
        "hostname|port" => one(Kind::Domain, left),
        "domain|ip" => Some(vec![
            Value::parse_as(Kind::Domain, left),
            Value::parse_as(Kind::Ip, right),
        ]),
        "url" => one(Kind::Url, text),
        "md5" => one(Kind::Md5, text),
        "sha1" => one(Kind::Sha1, text),
        "sha256" => one(Kind::Sha256, text),
        "filename" => one(Kind::Name, text),
        // The hash says it all; with the name required as well, a renamed copy would be missed.
        "filename|md5" | "malware-sample" => one(Kind::Md5, right),
        "filename|sha1" => one(Kind::Sha1, right),
        "filename|sha256" => one(Kind::Sha256, right),
        _ => None,
    }
}
