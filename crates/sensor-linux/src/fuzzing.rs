//! The door of the fuzz targets to parsers that are nobody else's. Other builds do not have it.

/// Bytes as packets and what they carry: frames, DNS messages, DNS in TCP segments.
pub fn packet(bytes: &[u8]) {
    crate::network::fuzz_frame(bytes);
    crate::dns::fuzz_message(bytes);
    crate::dns::fuzz_stream(bytes);
}

/// Bytes as records of the kernel: of our programs, the process connector, fanotify, the mount table.
pub fn records(bytes: &[u8]) {
    crate::process::fuzz_record(bytes);
    crate::network::fuzz_record(bytes);
    crate::dns::fuzz_record(bytes);
    crate::syscall::fuzz_record(bytes);
    crate::files::fuzz_events(bytes);
}
