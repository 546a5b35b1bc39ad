//! Tables of an SQLite database, read without SQLite.
//!
//! SQLite itself would take locks and write beside the database, and the agent needs nothing but the
//! rows of one table. Read are the tree of the table, overflow pages, and the committed part of a
//! write-ahead log. Nothing is locked: whoever reads a database that somebody may be writing to looks
//! afterwards whether it changed meanwhile. <https://www.sqlite.org/fileformat2.html>

use std::{collections::HashMap, fs::File, io};

const MAGIC: &[u8] = b"SQLite format 3\0";
const FILE_HEAD_BYTES: usize = 100;
const INTERIOR: u8 = 5;
const LEAF: u8 = 13;

/// A tree of more levels than this is none: each level has at least two pages for one above it.
const DEPTH_LIMIT: u8 = 32;

/// Frames of a write-ahead log beyond this number are an error; SQLite starts over at 1,000.
const FRAME_LIMIT: u64 = 1 << 20;

/// Of a description of a table only so many bytes are read.
const SCHEMA_LIMIT_BYTES: usize = 16 << 10;

/// Reads bytes of a place in a file.
pub(crate) trait ReadAt {
    /// Fills the buffer; a file that ends before is an error.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

impl ReadAt for File {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(self, buffer, offset)
    }
}

impl ReadAt for [u8] {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let bytes = usize::try_from(offset)
            .ok()
            .and_then(|start| self.get(start..start.checked_add(buffer.len())?))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }
}

/// An error about content.
pub(crate) fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// A table and the names of its columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    root: u32,
    /// In their order, as the table's description has them, in lower case.
    columns: Vec<String>,
}

impl Table {
    /// Place of a column, by its name in lower case.
    pub(crate) fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column == name)
    }
}

/// A value of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    /// No value. Also a column that is the row's key, and one that was added to the table later.
    Null,
    /// A whole number.
    Integer(i64),
    /// Text or bytes; one that was cut off ends early.
    Bytes(&'a [u8]),
    /// A number that is not whole, or something this reader does not know.
    Other,
}

impl<'a> Value<'a> {
    /// A whole number, if it is one.
    pub(crate) const fn integer(self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(number),
            _ => None,
        }
    }

    /// Text or bytes; empty for anything else.
    pub(crate) const fn bytes(self) -> &'a [u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            _ => &[],
        }
    }
}

/// A database that is read.
pub(crate) struct Database<'a, F: ?Sized> {
    file: &'a F,
    wal: Option<&'a F>,
    /// Where the log has a newer version of a page.
    newer: HashMap<u32, u64>,
    page_bytes: usize,
    /// Bytes of a page that the tree uses.
    usable_bytes: usize,
}

impl<'a, F: ReadAt + ?Sized> Database<'a, F> {
    /// Reads the head, and of the write-ahead log which pages it holds.
    ///
    /// # Errors
    /// A file cannot be read, or is not what it says.
    pub(crate) fn open(file: &'a F, wal: Option<&'a F>) -> io::Result<Self> {
        let mut head = [0; FILE_HEAD_BYTES];
        file.read_at(0, &mut head)?;
        if !head.starts_with(MAGIC) {
            return Err(damaged("it is no SQLite database"));
        }
        let page_bytes = match be16(&head, 16) {
            1 => 65_536,
            size => usize::from(size),
        };
        let reserved = usize::from(head.get(20).copied().unwrap_or_default());
        if !page_bytes.is_power_of_two() || page_bytes < 512 || page_bytes - reserved < 480 {
            return Err(damaged("its pages have an impossible size"));
        }
        let newer = match wal {
            Some(wal) => committed(wal, page_bytes)?,
            None => HashMap::new(),
        };
        Ok(Self {
            file,
            wal,
            newer,
            page_bytes,
            usable_bytes: page_bytes - reserved,
        })
    }

    fn page(&self, number: u32) -> io::Result<Vec<u8>> {
        let mut page = vec![0; self.page_bytes];
        match (self.newer.get(&number), self.wal) {
            (Some(offset), Some(wal)) => wal.read_at(*offset, &mut page)?,
            _ => {
                let before = number.checked_sub(1).ok_or_else(|| damaged("page 0"))?;
                let offset = u64::from(before) * self.page_bytes as u64;
                self.file.read_at(offset, &mut page)?;
            }
        }
        Ok(page)
    }

    /// The table of that name.
    ///
    /// # Errors
    /// The list of tables cannot be read or makes no sense.
    pub(crate) fn table(&self, wanted: &str) -> io::Result<Option<Table>> {
        let mut found = None;
        self.walk(1, i64::MIN, SCHEMA_LIMIT_BYTES, &mut |_, record| {
            let mut values = values(record);
            let mut next = || values.next().unwrap_or(Value::Null);
            let (kind, name, _, root, text) = (next(), next(), next(), next(), next());
            let root = root.integer().and_then(|root| u32::try_from(root).ok());
            if kind.bytes() == b"table"
                && name.bytes() == wanted.as_bytes()
                && let Some(root) = root
            {
                found = Some(Table {
                    root,
                    columns: columns(&String::from_utf8_lossy(text.bytes())),
                });
            }
        })?;
        Ok(found)
    }

    /// Calls `each` with the key and the record of every row whose key is above `after`, in the order
    /// of keys. Of a record at most `limit_bytes` are read.
    ///
    /// # Errors
    /// The file cannot be read, or the table makes no sense; some rows may have been told then.
    pub(crate) fn rows(
        &self,
        table: &Table,
        after: i64,
        limit_bytes: usize,
        mut each: impl FnMut(i64, &[u8]),
    ) -> io::Result<()> {
        self.walk(table.root, after, limit_bytes, &mut each)
    }

    fn walk(
        &self,
        root: u32,
        after: i64,
        limit_bytes: usize,
        each: &mut dyn FnMut(i64, &[u8]),
    ) -> io::Result<()> {
        // A page is in one place of one tree, so a damaged tree that leads back to itself ends.
        let mut seen = std::collections::HashSet::new();
        let mut ahead = vec![(root, 0)];
        let mut record = Vec::new();
        while let Some((number, depth)) = ahead.pop() {
            if !seen.insert(number) || depth > DEPTH_LIMIT {
                return Err(damaged("its tree of pages is not one"));
            }
            let page = self.page(number)?;
            let start = if number == 1 { FILE_HEAD_BYTES } else { 0 };
            let kind = page.get(start).copied().unwrap_or_default();
            let head_bytes = if kind == INTERIOR { 12 } else { 8 };
            let pointers = page.get(start + head_bytes..).unwrap_or_default();
            let cells = pointers
                .chunks_exact(2)
                .take(usize::from(be16(&page, start + 3)))
                .map(|pointer| usize::from(be16(pointer, 0)));
            match kind {
                INTERIOR => {
                    let first = ahead.len();
                    for cell in cells {
                        // The key is the highest below that page.
                        let key = page.get(cell + 4..).and_then(varint);
                        let (key, _) =
                            key.ok_or_else(|| damaged("a key reaches out of its page"))?;
                        if key.cast_signed() > after {
                            ahead.push((be32(&page, cell), depth + 1));
                        }
                    }
                    ahead.push((be32(&page, start + 8), depth + 1));
                    // The last in is the first out.
                    ahead.get_mut(first..).unwrap_or_default().reverse();
                }
                LEAF => {
                    for cell in cells {
                        if let Some(key) =
                            self.record(&page, cell, after, limit_bytes, &mut record)?
                        {
                            each(key, &record);
                        }
                    }
                }
                _ => return Err(damaged("a page of the table is of another kind")),
            }
        }
        Ok(())
    }

    /// Collects the record of a leaf's cell, from the page and those it overflows to, if its key is
    /// above `after`.
    fn record(
        &self,
        page: &[u8],
        cell: usize,
        after: i64,
        limit_bytes: usize,
        record: &mut Vec<u8>,
    ) -> io::Result<Option<i64>> {
        record.clear();
        let broken = || damaged("a record reaches out of its page");
        let cell = page.get(cell..self.usable_bytes).ok_or_else(broken)?;
        let (length, rest) = varint(cell).ok_or_else(broken)?;
        let (key, rest) = varint(rest).ok_or_else(broken)?;
        let key = key.cast_signed();
        if key <= after && after != i64::MIN {
            return Ok(None);
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let local = self.local_bytes(length);
        record.extend_from_slice(rest.get(..local).ok_or_else(broken)?);
        let wanted = length.min(limit_bytes);
        let mut next = be32(rest, local);
        while record.len() < wanted {
            let page = self.page(next)?;
            next = be32(&page, 0);
            let part = (wanted - record.len()).min(self.usable_bytes - 4);
            record.extend_from_slice(page.get(4..4 + part).ok_or_else(broken)?);
        }
        Ok(Some(key))
    }

    /// How many bytes of a record are in the leaf itself.
    fn local_bytes(&self, length: usize) -> usize {
        let most = self.usable_bytes - 35;
        if length <= most {
            return length;
        }
        let least = (self.usable_bytes - 12) * 32 / 255 - 23;
        let filling = least + (length - least) % (self.usable_bytes - 4);
        if filling <= most { filling } else { least }
    }
}

/// Pages in the committed part of a write-ahead log, with the place of their newest version.
fn committed<F: ReadAt + ?Sized>(wal: &F, page_bytes: usize) -> io::Result<HashMap<u32, u64>> {
    const HEAD_BYTES: usize = 32;
    const FRAME_HEAD_BYTES: usize = 24;
    let mut newer = HashMap::new();
    let mut head = [0; HEAD_BYTES];
    let whole = wal.read_at(0, &mut head).is_ok();
    // Words are summed in the byte order of who wrote the log.
    let little = match be32(&head, 0) {
        0x377f_0682 => true,
        0x377f_0683 => false,
        _ => return Ok(newer),
    };
    let mut sum = (0, 0);
    add_to_sum(&mut sum, head.get(..24).unwrap_or_default(), little);
    let sum_of = |bytes: &[u8], at| (be32(bytes, at), be32(bytes, at + 4));
    if !whole || sum != sum_of(&head, 24) || be32(&head, 8) as usize != page_bytes {
        return Ok(newer);
    }
    let mut frame = vec![0; FRAME_HEAD_BYTES + page_bytes];
    let mut pending = Vec::new();
    let mut offset = HEAD_BYTES as u64;
    for _ in 0..FRAME_LIMIT {
        // The valid part ends where the file ends, or where an older use of the log remains.
        if wal.read_at(offset, &mut frame).is_err() || frame.get(8..16) != head.get(16..24) {
            return Ok(newer);
        }
        add_to_sum(&mut sum, frame.get(..8).unwrap_or_default(), little);
        add_to_sum(
            &mut sum,
            frame.get(FRAME_HEAD_BYTES..).unwrap_or_default(),
            little,
        );
        if sum != sum_of(&frame, 16) {
            return Ok(newer);
        }
        pending.push((be32(&frame, 0), offset + FRAME_HEAD_BYTES as u64));
        let commits = be32(&frame, 4) != 0;
        if commits {
            newer.extend(pending.drain(..));
        }
        offset += frame.len() as u64;
    }
    Err(damaged("its write-ahead log has too many frames"))
}

fn add_to_sum((first, second): &mut (u32, u32), bytes: &[u8], little: bool) {
    let word = |bytes: &[u8]| {
        let word = be32(bytes, 0);
        if little { word.swap_bytes() } else { word }
    };
    for pair in bytes.chunks_exact(8) {
        let (low, high) = pair.split_at(4);
        *first = first.wrapping_add(word(low)).wrapping_add(*second);
        *second = second.wrapping_add(word(high)).wrapping_add(*first);
    }
}

/// The values of a record in the order of the columns. One that is cut off ends early.
pub(crate) fn values(record: &[u8]) -> impl Iterator<Item = Value<'_>> {
    let (length, types) = varint(record).unwrap_or_default();
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let head_bytes = record.len() - types.len();
    let mut types = record.get(head_bytes..length).unwrap_or_default();
    let mut content = record.get(length..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (kind, rest) = varint(types)?;
        types = rest;
        let bytes = match kind {
            0 | 8..12 => 0,
            1..=4 => kind,
            5 => 6,
            6 | 7 => 8,
            _ => (kind - 12) / 2,
        };
        let bytes = usize::try_from(bytes)
            .unwrap_or(usize::MAX)
            .min(content.len());
        let (value, rest) = content.split_at_checked(bytes)?;
        content = rest;
        Some(match kind {
            0 => Value::Null,
            1..=6 => Value::Integer(signed(value)),
            8 => Value::Integer(0),
            9 => Value::Integer(1),
            7 | 10 | 11 => Value::Other,
            _ => Value::Bytes(value),
        })
    })
}

/// A number of up to eight bytes, the first of which has the sign.
fn signed(bytes: &[u8]) -> i64 {
    let negative = bytes.first().is_some_and(|byte| byte & 0x80 != 0);
    let start = if negative { -1 } else { 0 };
    bytes
        .iter()
        .fold(start, |number: i64, byte| number << 8 | i64::from(*byte))
}

/// Names of the columns in the text that made a table, in lower case. Constraints of the table, which
/// stand behind the columns, may be among them; they are no names anybody asks for.
fn columns(text: &str) -> Vec<String> {
    let Some((_, inner)) = text.split_once('(') else {
        return Vec::new();
    };
    let mut depth = 0_usize;
    let parts = inner.split(|c: char| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    });
    parts
        .map(|part| {
            let name = part.split_ascii_whitespace().next().unwrap_or_default();
            let quotes = ['"', '`', '[', ']', '\''];
            name.trim_matches(quotes).to_ascii_lowercase()
        })
        .collect()
}

/// Seven bits a byte, the high bit saying that more follow; the ninth byte counts whole.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(9).enumerate() {
        let rest = bytes.get(index + 1..).unwrap_or_default();
        if index == 8 {
            return Some((value << 8 | u64::from(*byte), rest));
        }
        value = value << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((value, rest));
        }
    }
    None
}

/// A number at a place; zero where there is none.
fn be16(bytes: &[u8], at: usize) -> u16 {
    let rest = bytes.get(at..).and_then(|rest| rest.first_chunk());
    rest.map_or(0, |bytes| u16::from_be_bytes(*bytes))
}

/// A number at a place; zero where there is none.
fn be32(bytes: &[u8], at: usize) -> u32 {
    let rest = bytes.get(at..).and_then(|rest| rest.first_chunk());
    rest.map_or(0, |bytes| u32::from_be_bytes(*bytes))
}
