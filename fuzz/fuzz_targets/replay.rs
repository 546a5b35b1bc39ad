//! Recordings from anywhere: reading ends, and every record belongs to a class.

#![no_main]

use std::{io::Cursor, path::Path};

use libfuzzer_sys::fuzz_target;
use yinglong_replay::{Reader, limits};

fuzz_target!(|bytes: &[u8]| {
    let input = Box::new(Cursor::new(bytes.to_vec()));
    let Ok(mut reader) = Reader::new(Path::new("fuzz"), input, None) else {
        return;
    };
    let mut delivered = 0;
    for record in &mut reader {
        let record = record.expect("bytes in memory can be read");
        delivered += 1;
        assert!(!record.views.is_empty());
        assert!(
            record
                .views
                .iter()
                .all(|view| view.fields.len() <= limits::FIELDS)
        );
    }
    assert_eq!(reader.tally().records, delivered);
});
