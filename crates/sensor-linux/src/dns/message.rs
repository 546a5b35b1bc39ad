//! What a DNS message says, as events tell it. Pure, over bytes of any origin.
//!
//! The parser follows compressed names only as far as they lead backwards, so loops end; a message
//! that was cut is read as far as it goes.

use std::fmt::Write as _;

use domain::{
    base::{
        Message, Name, ToName,
        iana::{Opcode, Rcode},
        name::ParsedName,
    },
    rdata::AllRecordData,
};

/// Records of an answer that are told; large answers are lists of one kind.
const ANSWERS_MAX: usize = 64;
/// Bytes of one answer that are told: a text may have 64 KiB.
const ANSWER_BYTES: usize = 1024;

/// A question as it is asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Question {
    /// Lower case, no trailing dot; `.` is the root.
    pub(super) name: String,
    pub(super) qtype: String,
}

/// The part of a message that events tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) id: u16,
    pub(super) question: Question,
    /// `None`: it asks.
    pub(super) answer: Option<Answer>,
}

/// What a question was answered.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Answer {
    /// `NOERROR`, `NXDOMAIN` ...
    pub(super) rcode: String,
    pub(super) answers: Vec<String>,
}

/// Bytes that are no DNS message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// Reads a message. `Ok(None)` is one that neither asks nor answers a question: a notification, an
/// update, an answer that does not repeat its question (to a request for a cookie, for example).
pub(super) fn read(bytes: &[u8]) -> Result<Option<Said>, Malformed> {
    let message = Message::from_octets(bytes).map_err(|_| Malformed)?;
    let header = message.header();
    if header.opcode() != Opcode::QUERY || message.header_counts().qdcount() == 0 {
        return Ok(None);
    }
    let question = message
        .question()
        .next()
        .and_then(Result::ok)
        .ok_or(Malformed)?;
    let answer = header.qr().then(|| Answer {
        rcode: rcode(header.rcode()),
        answers: answers(&message),
    });
    Ok(Some(Said {
        id: header.id(),
        question: Question {
            name: name(question.qname()),
            qtype: question.qtype().to_string(),
        },
        answer,
    }))
}

/// Codes by the names that everybody writes.
fn rcode(code: Rcode) -> String {
    match code.to_int() {
        11 => "DSOTYPENI".to_owned(),
        code @ 12..=15 => format!("RCODE{code}"),
        _ => code.to_string(),
    }
}

fn answers(message: &Message<&[u8]>) -> Vec<String> {
    let Ok(section) = message.answer() else {
        return Vec::new();
    };
    let records = section.limit_to::<AllRecordData<&[u8], ParsedName<&[u8]>>>();
    records
        // What a cut message has no more of ends the list.
        .map_while(Result::ok)
        .filter_map(|record| data(record.data()))
        .map(shortened)
        .take(ANSWERS_MAX)
        .collect()
}

fn data(data: &AllRecordData<&[u8], ParsedName<&[u8]>>) -> Option<String> {
    Some(match data {
        AllRecordData::A(a) => a.addr().to_string(),
        AllRecordData::Aaaa(a) => a.addr().to_string(),
        AllRecordData::Cname(to) => name(to.cname()),
        AllRecordData::Dname(to) => name(to.dname()),
        AllRecordData::Ns(to) => name(to.nsdname()),
        AllRecordData::Ptr(to) => name(to.ptrdname()),
        AllRecordData::Mx(mx) => format!("{} {}", mx.preference(), name(mx.exchange())),
        AllRecordData::Srv(srv) => format!(
            "{} {} {} {}",
            srv.priority(),
            srv.weight(),
            srv.port(),
            name(srv.target())
        ),
        AllRecordData::Txt(txt) => text(txt.iter()),
        // Signatures are of use to nobody here.
        AllRecordData::Rrsig(_) => return None,
        other => limited(other),
    })
}

/// The strings of a text, put together as their readers do; what is not printable as `\xNN`.
fn text<'a>(parts: impl Iterator<Item = &'a [u8]>) -> String {
    let mut whole = Vec::new();
    for part in parts {
        whole.extend_from_slice(part);
        if whole.len() > ANSWER_BYTES {
            break;
        }
    }
    crate::text::printable(&whole)
}

/// Other data as zone files write it.
fn limited(data: &AllRecordData<&[u8], ParsedName<&[u8]>>) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write!(text, "{data}");
    text
}

fn shortened(mut text: String) -> String {
    let end = text.floor_char_boundary(ANSWER_BYTES);
    text.truncate(end);
    text
}

fn name(name: &impl ToName) -> String {
    // A name is 255 bytes at most, and following it was checked when it was parsed.
    let name: Name<Vec<u8>> = name.to_vec();
    let text = name.to_string().to_ascii_lowercase();
    if text.is_empty() {
        ".".to_owned()
    } else {
        text
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A message with one question, and answers that name it by a pointer.
    pub(crate) fn message(
        id: u16,
        flags: u16,
        qname: &str,
        qtype: u16,
        answers: &[(u16, &[u8])],
    ) -> Vec<u8> {
        let mut bytes = Vec::new();
        let count = u16::try_from(answers.len()).unwrap();
        for word in [id, flags, 1, count, 0, 0] {
            bytes.extend(word.to_be_bytes());
        }
        bytes.extend(wire_name(qname));
        bytes.extend(qtype.to_be_bytes());
        bytes.extend(1u16.to_be_bytes());
        for (rtype, data) in answers {
            bytes.extend([0xc0, 12]);
            bytes.extend(rtype.to_be_bytes());
            bytes.extend([0, 1, 0, 0, 0, 60]);
            bytes.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
            bytes.extend(*data);
        }
        bytes
    }

    pub(crate) fn wire_name(name: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        for label in name.split('.').filter(|label| !label.is_empty()) {
            bytes.push(u8::try_from(label.len()).unwrap());
            bytes.extend(label.bytes());
        }
        bytes.push(0);
        bytes
    }

    fn answer(bytes: &[u8]) -> Answer {
        read(bytes).unwrap().unwrap().answer.unwrap()
    }

    #[test]
    fn a_question_is_told_in_lower_case_without_its_dot() {
        let said = read(&message(7, 0x0100, "WwW.Example.ORG", 28, &[]))
            .unwrap()
            .unwrap();
        assert_eq!(said.id, 7);
        assert_eq!(said.question.name, "www.example.org");
        assert_eq!(said.question.qtype, "AAAA");
        assert_eq!(said.answer, None);
        let root = read(&message(7, 0, "", 2, &[])).unwrap().unwrap();
        assert_eq!(
            (root.question.name.as_str(), root.question.qtype.as_str()),
            (".", "NS")
        );
        let new = read(&message(7, 0, "a.b", 65, &[])).unwrap().unwrap();
        assert_eq!(new.question.qtype, "HTTPS");
        let unknown = read(&message(7, 0, "a.b", 65_400, &[])).unwrap().unwrap();
        assert_eq!(unknown.question.qtype, "TYPE65400");
    }

    #[test]
    fn answers_are_told_by_their_data() {
        let mut mx = vec![0, 10];
        mx.extend(wire_name("MAIL.example.org"));
        let mut srv = vec![0, 1, 0, 2, 0x14, 0x95];
        srv.extend(wire_name("pool.example.org"));
        let told = answer(&message(
            7,
            0x8180,
            "example.org",
            255,
            &[
                (1, &[192, 0, 2, 7]),
                (
                    28,
                    &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
                ),
                (5, &wire_name("C.example.org")),
                (15, &mx),
                (33, &srv),
                (16, b"\x03abc\x02d\x01"),
                (46, &[0; 40]),
            ],
        ));
        assert_eq!(told.rcode, "NOERROR");
        assert_eq!(
            told.answers,
            [
                "192.0.2.7",
                "2001:db8::1",
                "c.example.org",
                "10 mail.example.org",
                "1 2 5269 pool.example.org",
                "abcd\\x01",
            ]
        );
        assert_eq!(answer(&message(7, 0x8183, "a.b", 1, &[])).rcode, "NXDOMAIN");
        assert_eq!(answer(&message(7, 0x8182, "a.b", 1, &[])).rcode, "SERVFAIL");
    }

    #[test]
    fn a_cut_answer_is_told_as_far_as_it_goes() {
        let whole = message(
            7,
            0x8180,
            "example.org",
            1,
            &[(1, &[192, 0, 2, 1]), (1, &[192, 0, 2, 2])],
        );
        let cut = &whole[..whole.len() - 1];
        assert_eq!(answer(cut).answers, ["192.0.2.1"]);
    }

    #[test]
    fn what_neither_asks_nor_answers_says_nothing_and_no_dns_is_malformed() {
        // NOTIFY
        assert_eq!(read(&message(7, 0x2000, "example.org", 6, &[])), Ok(None));
        let mut none = message(7, 0, "a.b", 1, &[]);
        none[5] = 0;
        assert_eq!(read(&none), Ok(None));
        assert_eq!(read(b"GET / HTTP/"), Err(Malformed));
        assert_eq!(read(&message(7, 0, "a.b", 1, &[])[..14]), Err(Malformed));
    }

    #[test]
    fn names_that_point_at_themselves_end() {
        let mut looped = message(7, 0, "", 1, &[]);
        looped.truncate(12);
        looped.extend([0xc0, 12, 0, 1, 0, 1]);
        assert_eq!(read(&looped), Err(Malformed));
        // Two names that point at each other.
        let told = answer(&message(
            7,
            0x8180,
            "a.b",
            5,
            &[(5, &[0xc0, 33]), (5, &[0xc0, 31])],
        ));
        assert!(told.answers.len() <= 1, "{told:?}");
    }

    #[test]
    fn a_long_text_is_shortened() {
        let mut data = Vec::new();
        for _ in 0..20 {
            data.push(200);
            data.extend([b'x'; 200]);
        }
        let told = answer(&message(7, 0x8180, "a.b", 16, &[(16, &data)]));
        assert_eq!(told.answers[0].len(), ANSWER_BYTES);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..700)) {
            let _ = read(&bytes);
        }

        #[test]
        fn no_damage_to_a_message_makes_the_reader_panic(
            at in 0_usize..120,
            value: u8,
            cut in 0_usize..160,
        ) {
            let mut mx = vec![0, 10];
            mx.extend([4, b'm', b'a', b'i', b'l', 0xc0, 12]);
            let mut bytes = message(
                9,
                0x8180,
                "a.rather.long.name.example.org",
                255,
                &[(1, &[1, 2, 3, 4]), (15, &mx), (16, b"\x05hello"), (5, &[0xc0, 12])],
            );
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
            bytes.truncate(cut);
            if let Ok(Some(said)) = read(&bytes) {
                prop_assert!(said.question.name.len() <= 4 * 255);
                prop_assert!(said.answer.is_none_or(|answer| answer.answers.len() <= ANSWERS_MAX));
            }
        }
    }
}
