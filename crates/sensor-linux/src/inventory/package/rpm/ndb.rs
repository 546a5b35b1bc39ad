//! rpm's own container, `Packages.db`.
//!
//! A head of 32 bytes names how many pages of 4 KiB hold slots, the head being part of the first. A slot
//! of 16 bytes is free or names a package and the block (of 16 bytes) where its header starts, behind
//! a head of its own. Numbers are little-endian. (`lib/backend/ndb/rpmpkg.c` of rpm 4.20.)

use std::io;

use super::{HEADER_LIMIT_BYTES, ReadAt, damaged};

const PAGE_BYTES: usize = 4096;
const SLOT_BYTES: usize = 16;
const BLOCK_BYTES: u64 = 16;
const HEAD_BYTES: usize = 32;

/// Pages of slots beyond this number are not looked at: 250,000 packages.
const PAGE_LIMIT: u32 = 1024;

/// Calls `each` with every header.
///
/// # Errors
/// The file cannot be read or is not what it says.
pub(super) fn headers(
    file: &(impl ReadAt + ?Sized),
    mut each: impl FnMut(&[u8]),
) -> io::Result<()> {
    let mut head = [0; HEAD_BYTES];
    file.read_at(0, &mut head)?;
    if !head.starts_with(b"RpmP") || number(&head, 4) != 0 {
        return Err(damaged("it is no database of rpm, or of a newer version"));
    }
    let mut page = [0; PAGE_BYTES];
    let mut header = Vec::new();
    for index in 0..number(&head, 12).min(PAGE_LIMIT) {
        file.read_at(u64::from(index) * PAGE_BYTES as u64, &mut page)?;
        let skipped = if index == 0 { HEAD_BYTES } else { 0 };
        let slots = page.get(skipped..).unwrap_or_default();
        for slot in slots.chunks_exact(SLOT_BYTES) {
            if !slot.starts_with(b"Slot") {
                return Err(damaged("a slot has no mark"));
            }
            let package = number(slot, 4);
            if package != 0 {
                read(file, package, number(slot, 8), &mut header)?;
                each(&header);
            }
        }
    }
    Ok(())
}

fn read(
    file: &(impl ReadAt + ?Sized),
    package: u32,
    block: u32,
    header: &mut Vec<u8>,
) -> io::Result<()> {
    let offset = u64::from(block) * BLOCK_BYTES;
    let mut head = [0; 16];
    file.read_at(offset, &mut head)?;
    if !head.starts_with(b"BlbS") || number(&head, 4) != package {
        return Err(damaged("a header is not where its slot says"));
    }
    let length = usize::try_from(number(&head, 12)).unwrap_or(usize::MAX);
    header.clear();
    // Grown as far as the file has bytes, whatever length it claims.
    let mut at = offset + head.len() as u64;
    let mut part = [0; PAGE_BYTES];
    let mut left = length.min(HEADER_LIMIT_BYTES);
    while left > 0 {
        let part = part.get_mut(..left.min(PAGE_BYTES)).unwrap_or_default();
        file.read_at(at, part)?;
        header.extend_from_slice(part);
        at += part.len() as u64;
        left -= part.len();
    }
    Ok(())
}

/// A number inside a head or a slot; zero outside.
fn number(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .map_or(0, |bytes| u32::from_le_bytes(*bytes))
}
