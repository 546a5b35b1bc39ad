//! Writes EVTX files as Windows lays them out, without templates and checksums, which readers need
//! not have: a head of 4 KiB, chunks of 64 KiB, records of binary XML.

/// An event.
#[derive(Clone)]
pub(crate) struct Written<'e> {
    pub(crate) channel: &'e str,
    pub(crate) provider: &'e str,
    pub(crate) id: u32,
    pub(crate) data: &'e [(&'e str, &'e str)],
}

const CHUNK_BYTES: usize = 65_536;
const FIRST_RECORD: usize = 512;
/// 2026-01-01 00:00:00 UTC in units of 100 ns since 1601.
const FILETIME: u64 = 134_116_992_000_000_000;

/// A file with a chunk for each slice of events.
pub(crate) fn file(chunks: &[&[Written<'_>]]) -> Vec<u8> {
    let mut file = vec![0; 4096];
    put(&mut file, 0, b"ElfFile\0");
    put(&mut file, 16, &(chunks.len() as u64 - 1).to_le_bytes());
    put(&mut file, 32, &128_u32.to_le_bytes());
    put(&mut file, 36, &1_u16.to_le_bytes());
    put(&mut file, 38, &3_u16.to_le_bytes());
    put(&mut file, 40, &4096_u16.to_le_bytes());
    put(&mut file, 42, &(chunks.len() as u16).to_le_bytes());
    let mut next = 1;
    for events in chunks {
        file.extend(chunk(events, next));
        next += events.len() as u64;
    }
    file
}

fn put(bytes: &mut [u8], at: usize, what: &[u8]) {
    bytes[at..at + what.len()].copy_from_slice(what);
}

fn chunk(events: &[Written<'_>], first: u64) -> Vec<u8> {
    let mut chunk = vec![0; FIRST_RECORD];
    let mut last = FIRST_RECORD;
    for (number, event) in (first..).zip(events) {
        last = chunk.len();
        record(&mut chunk, number, event);
    }
    let final_number = first + events.len() as u64 - 1;
    put(&mut chunk, 0, b"ElfChnk\0");
    for (at, number) in [
        (8, first),
        (16, final_number),
        (24, first),
        (32, final_number),
    ] {
        put(&mut chunk, at, &number.to_le_bytes());
    }
    put(&mut chunk, 40, &128_u32.to_le_bytes());
    put(&mut chunk, 44, &(last as u32).to_le_bytes());
    let free = chunk.len() as u32;
    put(&mut chunk, 48, &free.to_le_bytes());
    assert!(chunk.len() <= CHUNK_BYTES, "too many events for a chunk");
    chunk.resize(CHUNK_BYTES, 0);
    chunk
}

fn record(chunk: &mut Vec<u8>, number: u64, event: &Written<'_>) {
    let start = chunk.len();
    chunk.extend([0x2a, 0x2a, 0, 0]);
    chunk.extend([0; 4]);
    chunk.extend(number.to_le_bytes());
    chunk.extend(FILETIME.to_le_bytes());
    chunk.extend([0x0f, 1, 1, 0]);
    element(chunk, "Event", &[], |chunk| {
        element(chunk, "System", &[], |chunk| {
            element(chunk, "Provider", &[("Name", event.provider)], |_| {});
            let id = event.id.to_string();
            element(chunk, "EventID", &[], |chunk| text(chunk, &id));
            element(chunk, "Channel", &[], |chunk| text(chunk, event.channel));
            element(chunk, "Computer", &[], |chunk| text(chunk, "pc-1"));
        });
        element(chunk, "EventData", &[], |chunk| {
            for (name, value) in event.data {
                let attributes = [("Name", *name)];
                let attributes = if name.is_empty() {
                    &[][..]
                } else {
                    &attributes
                };
                element(chunk, "Data", attributes, |chunk| text(chunk, value));
            }
        });
    });
    chunk.push(0);
    let size = (chunk.len() - start + 4) as u32;
    chunk.extend(size.to_le_bytes());
    put(chunk, start + 4, &size.to_le_bytes());
}

fn element(
    chunk: &mut Vec<u8>,
    name: &str,
    attributes: &[(&str, &str)],
    content: impl FnOnce(&mut Vec<u8>),
) {
    chunk.push(if attributes.is_empty() { 0x01 } else { 0x41 });
    let size_at = chunk.len();
    chunk.extend([0; 4]);
    name_of(chunk, name);
    if !attributes.is_empty() {
        let list_at = chunk.len();
        chunk.extend([0; 4]);
        for (at, (name, value)) in attributes.iter().enumerate() {
            let more = at + 1 < attributes.len();
            chunk.push(if more { 0x46 } else { 0x06 });
            name_of(chunk, name);
            text(chunk, value);
        }
        let size = (chunk.len() - list_at - 4) as u32;
        put(chunk, list_at, &size.to_le_bytes());
    }
    chunk.push(0x02);
    content(chunk);
    chunk.push(0x04);
    let size = (chunk.len() - size_at - 4) as u32;
    put(chunk, size_at, &size.to_le_bytes());
}

/// A reference to a name, and the name, which may follow it at once.
fn name_of(chunk: &mut Vec<u8>, name: &str) {
    let offset = chunk.len() as u32 + 4;
    chunk.extend(offset.to_le_bytes());
    chunk.extend([0; 4]);
    let hash = name.encode_utf16().fold(0_u32, |hash, unit| {
        hash.wrapping_mul(65599).wrapping_add(u32::from(unit))
    });
    chunk.extend((hash as u16).to_le_bytes());
    units(chunk, name);
    chunk.extend([0; 2]);
}

fn text(chunk: &mut Vec<u8>, value: &str) {
    chunk.extend([0x05, 0x01]);
    units(chunk, value);
}

fn units(chunk: &mut Vec<u8>, text: &str) {
    let units: Vec<u16> = text.encode_utf16().collect();
    chunk.extend((units.len() as u16).to_le_bytes());
    chunk.extend(units.into_iter().flat_map(u16::to_le_bytes));
}
