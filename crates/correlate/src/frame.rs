//! The frame around a snapshot: what it is, of which version, and whether it is whole.
//!
//! `kind (4 bytes) | version (u32) | crc32c of the payload (u32) | payload`, little-endian. The
//! payload is a protocol buffer.

/// Bytes in front of the payload.
const HEADER: usize = 12;

/// Why a snapshot cannot be used. Go on without it: what it held is built up again by what comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// The bytes are something else.
    #[error("these bytes are no snapshot of this kind; delete the file to go on without")]
    OtherKind,
    /// It was written by another version.
    #[error(
        "the snapshot has version {found}, this program reads {known}; delete it to go on without"
    )]
    OtherVersion {
        /// Version of the snapshot.
        found: u32,
        /// Version this program reads and writes.
        known: u32,
    },
    /// Bytes are missing or changed.
    #[error("the snapshot is damaged; delete it to go on without")]
    Damaged,
}

/// Puts a payload into a frame.
pub(crate) fn seal(kind: [u8; 4], version: u32, message: &impl prost::Message) -> Vec<u8> {
    let payload = message.encode_to_vec();
    let mut bytes = Vec::with_capacity(HEADER + payload.len());
    bytes.extend_from_slice(&kind);
    bytes.extend_from_slice(&version.to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&payload).to_le_bytes());
    bytes.extend_from_slice(&payload);
    bytes
}

/// Takes a payload out of its frame.
pub(crate) fn open<M: prost::Message + Default>(
    kind: [u8; 4],
    version: u32,
    bytes: &[u8],
) -> Result<M, SnapshotError> {
    let (found, rest) = bytes
        .split_first_chunk::<4>()
        .ok_or(SnapshotError::OtherKind)?;
    if *found != kind {
        return Err(SnapshotError::OtherKind);
    }
    let (found, rest) = rest
        .split_first_chunk::<4>()
        .ok_or(SnapshotError::Damaged)?;
    let found = u32::from_le_bytes(*found);
    if found != version {
        let known = version;
        return Err(SnapshotError::OtherVersion { found, known });
    }
    let (crc, payload) = rest
        .split_first_chunk::<4>()
        .ok_or(SnapshotError::Damaged)?;
    if u32::from_le_bytes(*crc) != crc32c::crc32c(payload) {
        return Err(SnapshotError::Damaged);
    }
    M::decode(payload).map_err(|_| SnapshotError::Damaged)
}
