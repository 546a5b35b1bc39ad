//! Indicator objects of STIX bundles and TAXII envelopes, one object in memory at a time.

pub mod pattern;

use std::{
    fmt,
    io::{self, BufRead},
};

use serde::{
    Deserialize, Deserializer as _,
    de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use yinglong_model::Timestamp;

use super::{
    Facts, Flow, Sink,
    json::{self, Lenient, Scalar, Texts},
};

/// What is read of a STIX object.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Object {
    #[serde(rename = "type")]
    kind: Scalar,
    pattern: Scalar,
    pattern_type: Scalar,
    revoked: Scalar,
    valid_from: Scalar,
    valid_until: Scalar,
    confidence: Scalar,
    name: Scalar,
    description: Scalar,
    indicator_types: Texts,
}

pub(super) fn read(reader: &mut impl BufRead, sink: &mut impl Sink) -> io::Result<()> {
    let mut json = serde_json::Deserializer::from_reader(reader);
    let outcome = json.deserialize_any(Root(sink)).and_then(|()| json.end());
    if let Err(error) = outcome {
        let reason = json::ended(error)?;
        // Keeps the reason of a sink that had enough.
        sink.end_early(reason);
    }
    Ok(())
}

/// The document: a bundle, an array of objects, or one object.
struct Root<'s, S>(&'s mut S);

impl<'de, S: Sink> Visitor<'de> for Root<'_, S> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a STIX bundle")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<(), A::Error> {
        Objects(self.0).visit_seq(seq)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut alone = Object::default();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "objects" => map.next_value_seed(Objects(&mut *self.0))?,
                "type" => alone.kind = map.next_value()?,
                "pattern" => alone.pattern = map.next_value()?,
                "pattern_type" => alone.pattern_type = map.next_value()?,
                "revoked" => alone.revoked = map.next_value()?,
                "valid_from" => alone.valid_from = map.next_value()?,
                "valid_until" => alone.valid_until = map.next_value()?,
                "confidence" => alone.confidence = map.next_value()?,
                "name" => alone.name = map.next_value()?,
                "description" => alone.description = map.next_value()?,
                "indicator_types" => alone.indicator_types = map.next_value()?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        if alone.kind.text() == Some("indicator") {
            self.0.next_line();
            take(&alone, self.0).map_err(|_| A::Error::custom("enough"))?;
        }
        Ok(())
    }
}

struct Objects<'s, S>(&'s mut S);

impl<'de, S: Sink> DeserializeSeed<'de> for Objects<'_, S> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, S: Sink> Visitor<'de> for Objects<'_, S> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of STIX objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(Lenient(object)) = seq.next_element::<Lenient<Object>>()? {
            self.0.next_line();
            match object {
                Some(object) => {
                    take(&object, self.0).map_err(|_| A::Error::custom("enough"))?;
                }
                None => self.0.refuse("", "it is no STIX object"),
            }
        }
        Ok(())
    }
}

fn take(object: &Object, sink: &mut impl Sink) -> Flow {
    if object.kind.text() != Some("indicator") {
        sink.skip("not an indicator");
        return Ok(());
    }
    if object.revoked.flag() == Some(true) {
        sink.skip("revoked");
        return Ok(());
    }
    let types = &object.indicator_types.0;
    if !types.is_empty() && types.iter().all(|kind| kind == "benign") {
        sink.skip("benign");
        return Ok(());
    }
    let Some(text) = object.pattern.text() else {
        sink.refuse("", "the indicator has no pattern");
        return Ok(());
    };
    // STIX 2.0 knows one language and does not name it.
    if let Some(language) = object
        .pattern_type
        .text()
        .filter(|language| *language != "stix")
    {
        sink.refuse(
            text,
            &format!("patterns of type `{language}` are not read, only `stix`"),
        );
        return Ok(());
    }
    let (Ok(valid_from), Ok(valid_until)) = (time(&object.valid_from), time(&object.valid_until))
    else {
        sink.refuse(text, "valid_from or valid_until is no time");
        return Ok(());
    };
    let name = object.name.text().or(object.description.text());
    let facts = Facts {
        label: name.map_or_else(|| types.join(", "), str::to_owned),
        level: None,
        confidence: object.confidence.percent(),
        valid_from,
        valid_until,
    };
    match pattern::parse(text) {
        Ok(read) => {
            for reason in &read.refused {
                sink.refuse(text, reason);
            }
            read.values
                .into_iter()
                .try_for_each(|value| sink.add(value, &facts))
        }
        Err(error) => {
            sink.refuse(text, &error.to_string());
            Ok(())
        }
    }
}

/// Absent is fine; there and unreadable is not.
fn time(scalar: &Scalar) -> Result<Option<Timestamp>, ()> {
    match scalar {
        Scalar::Other => Ok(None),
        Scalar::Text(text) => Timestamp::parse_rfc3339(text).map(Some).map_err(|_| ()),
        Scalar::Flag(_) | Scalar::Number(_) => Err(()),
    }
}
