//! The page of the documentation about recordings, made of what the readers do.

use yinglong_rules::taxonomy::pages::recorded_table;

use crate::limits;

/// `docs/recordings.md`.
pub fn recordings_page() -> String {
    let (document, line) = (limits::DOCUMENT_BYTES >> 20, limits::LINE_BYTES >> 10);
    format!(
        "# Recordings\n\n\
         Made of the readers in `crates/replay` and the mapping table in \
         `crates/rules/src/taxonomy`; change them there.\n\n\
         Rules run over what was recorded earlier as they run over live events. The format of a file \
         is found by its content. What cannot be read is counted and left out; it never ends a \
         replay.\n\n\
         | format | what is read |\n|---|---|\n\
         | event documents | JSON as exported: one document per line, or an array; also the classic \
         documents, and documents wrapped in `_source` |\n\
         | EVTX | every chunk and record that is intact |\n\
         | Windows events in JSON | the XML of an event as an object (`Event`, `System`, `EventData`), \
         objects under `winlog`, flat objects with `Channel` and `EventID`; one per line, in an array, \
         or one after the other |\n\
         | auditd | raw and enriched records |\n\
         | text logs | lines of syslog daemons, with old times and with RFC 3339 |\n\n\
         JSON documents and EVTX records are read up to {document} MiB, lines of text up to {line} \
         KiB. Compressed files and UTF-16 are refused with a hint.\n\n\
         ## Windows\n\n\
         Every event is a record of its channel, with the names of its data ([log \
         sources](log-sources.md)). Events of this table are of another class as well, with the names \
         of that class ([fields](fields.md)), so that one rule reads live and recorded events.\n\n\
         {}\n\
         A process also has `name` and `parentname`, the last parts of its paths; a connection has \
         `dir`, `local`, `remote`, `remote_ip` and `remote_port`; digests in `Hashes` are also in \
         `md5` (`hash` of files), `sha1`, `sha256` and `Imphash`, in lower case.\n\n\
         ## auditd\n\n\
         Records of one serial are one event. Each record is one of `linux/auditd`, with values \
         decoded from hexadecimal; the name of the system call is added for the calls of x86_64 that \
         rules are written for. A call that did not fail is more:\n\n\
         - with `EXECVE` a process: `name`, `command`, ids, `tty`, `cwd`; `user` if the log is \
         enriched or the user is root; `parent_exe`, `parentname` and `parent_command` if the \
         execution of the parent is in the same log;\n\
         - each `PATH` that was created or deleted is a file with `action` `CREATE` or `REMOVE`.\n\n\
         ## Text logs\n\n\
         Every line is one of `linux/syslog` and of the logs of its program. A time without a year is \
         the last such time before the file was written, in UTC.\n",
        recorded_table()
    )
}
