//! Executions in the records of the kernel's audit.
//!
//! A record is a line `audit(SECONDS.MILLIS:SERIAL): name=value ...`; all records of one system call
//! have the same stamp (`kernel/audit.c` and `kernel/auditsc.c`, Linux 5.10 to 6.18). Values of
//! strings are in quotes, or in hexadecimal when they contain anything unusual.

use std::collections::BTreeMap;

use yinglong_model::Timestamp;

/// Types of records, `linux/audit.h`.
const SYSCALL: u16 = 1300;
const PATH: u16 = 1302;
const CWD: u16 = 1307;
const EXECVE: u16 = 1309;
const EOE: u16 = 1320;

/// Calls whose records are incomplete, at most; the kernel sends those of one call closely together.
const OPEN_MAX: usize = 256;
/// Longest argument block kept, in bytes, as in the kernel side.
const ARGS_MAX: usize = 32 << 10;
/// More arguments than the block has room for.
const ARGUMENTS_MAX: u32 = 16 << 10;
/// How the kernel writes an id that is not set.
const UNSET: u32 = u32::MAX;

/// An execution, as far as audit tells.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Execution {
    pub(super) at: Option<Timestamp>,
    pub(super) pid: u32,
    pub(super) ppid: u32,
    pub(super) uid: Option<u32>,
    pub(super) euid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) loginuid: Option<u32>,
    pub(super) session: Option<u32>,
    pub(super) terminal: Vec<u8>,
    /// Image that runs; ` (deleted)` at its end when its last name is gone.
    pub(super) image: Vec<u8>,
    /// File named in the call.
    pub(super) file: Vec<u8>,
    pub(super) cwd: Vec<u8>,
    /// Arguments, each with a zero byte behind it.
    pub(super) args: Vec<u8>,
    /// Something of it is missing or was cut.
    pub(super) cut: bool,
}

/// Puts records together.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    open: BTreeMap<(u64, u64), Partial>,
}

#[derive(Debug, Default)]
struct Partial {
    execution: Execution,
    /// The record of the call itself was there.
    called: bool,
    /// Argument that is being put together.
    argument: u32,
    arguments: u32,
    announced: Option<u32>,
}

impl Assembler {
    /// Takes a record; answers an execution that is complete with it, or that is incomplete and was
    /// waited for too long.
    pub(super) fn take(&mut self, kind: u16, text: &[u8]) -> Option<Execution> {
        if !matches!(kind, SYSCALL | PATH | CWD | EXECVE | EOE) {
            return None;
        }
        let (stamp, fields) = stamp(text)?;
        if kind == EOE {
            return self.open.remove(&stamp).and_then(Partial::finish);
        }
        let partial = self.open.entry(stamp).or_default();
        match kind {
            SYSCALL => partial.call(stamp, fields),
            EXECVE => partial.arguments(fields),
            CWD => partial.execution.cwd = value(fields, b"cwd").unwrap_or_default(),
            _ if value(fields, b"item").as_deref() == Some(b"0") => {
                partial.execution.file = value(fields, b"name").unwrap_or_default();
            }
            _ => {}
        }
        if self.open.len() <= OPEN_MAX {
            return None;
        }
        let (_, mut oldest) = self.open.pop_first()?;
        oldest.execution.cut = true;
        oldest.finish()
    }
}

impl Partial {
    fn call(&mut self, stamp: (u64, u64), fields: &[u8]) {
        let number = |name: &[u8]| {
            let text = String::from_utf8(value(fields, name)?).ok()?;
            text.parse().ok().filter(|&number| number != UNSET)
        };
        let to = &mut self.execution;
        to.at = i64::try_from(stamp.0)
            .ok()
            .and_then(|millis| millis.checked_mul(1_000_000))
            .map(Timestamp::from_nanos);
        to.pid = number(b"pid").unwrap_or_default();
        to.ppid = number(b"ppid").unwrap_or_default();
        to.uid = number(b"uid");
        to.euid = number(b"euid");
        to.gid = number(b"gid");
        to.loginuid = number(b"auid");
        to.session = number(b"ses");
        to.terminal = value(fields, b"tty")
            .filter(|name| name != b"(none)")
            .unwrap_or_default();
        to.image = value(fields, b"exe")
            .filter(|name| name != b"(null)")
            .unwrap_or_default();
        self.called = value(fields, b"success").as_deref() == Some(b"yes");
    }

    /// `argc=3 a0="x" a1=2F a2_len=9000 a2[0]=... a2[1]=...`; a call with many has several records.
    fn arguments(&mut self, fields: &[u8]) {
        for (name, raw) in words(fields) {
            if name == b"argc" {
                self.announced = text(raw).and_then(|count| count.parse().ok());
                continue;
            }
            let Some(name) = name.strip_prefix(b"a").and_then(text) else {
                continue;
            };
            let (index, part) = match name.split_once('[') {
                Some((index, part)) => (index, part.strip_suffix(']')),
                // Only an announcement of parts.
                None if name.ends_with("_len") => continue,
                None => (name, None),
            };
            let Ok(index) = index.parse::<u32>() else {
                continue;
            };
            // Parts of an argument come in order, and so do arguments.
            let continues = part.is_some_and(|part| part != "0") && index == self.argument;
            if !continues {
                if index != self.arguments || index > ARGUMENTS_MAX {
                    self.execution.cut = true;
                    continue;
                }
                self.argument = index;
                self.arguments = index + 1;
            }
            let args = &mut self.execution.args;
            if continues {
                args.pop();
            }
            args.extend(decode(raw));
            args.push(0);
            if args.len() > ARGS_MAX {
                args.truncate(ARGS_MAX);
                self.execution.cut = true;
            }
        }
    }

    fn finish(mut self) -> Option<Execution> {
        if !self.called || self.execution.pid == 0 {
            return None;
        }
        self.execution.cut |= self.announced != Some(self.arguments);
        Some(self.execution)
    }
}

/// Milliseconds since 1970 and the serial number of a record, and its fields.
fn stamp(record: &[u8]) -> Option<((u64, u64), &[u8])> {
    let record = record.strip_prefix(b"audit(")?;
    let end = record.iter().position(|&byte| byte == b')')?;
    let (time, serial) = text(record.get(..end)?)?.split_once(':')?;
    let (seconds, millis) = time.split_once('.')?;
    let seconds: u64 = seconds.parse().ok()?;
    let millis: u64 = millis.parse().ok()?;
    let at = seconds.checked_mul(1_000)?.checked_add(millis)?;
    let fields = record.get(end + 1..)?;
    Some((
        (at, serial.parse().ok()?),
        fields.strip_prefix(b":").unwrap_or(fields),
    ))
}

/// Names and values as written. The kernel never writes a space into a value.
fn words(fields: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    fields
        .split(|byte| matches!(byte, b' ' | b'\0' | b'\n'))
        .filter_map(|word| {
            let at = word.iter().position(|&byte| byte == b'=')?;
            Some((word.get(..at)?, word.get(at + 1..)?))
        })
}

fn value(fields: &[u8], wanted: &[u8]) -> Option<Vec<u8>> {
    words(fields)
        .find(|(name, _)| *name == wanted)
        .map(|(_, raw)| match PLAIN.contains(&wanted) {
            true => raw.to_vec(),
            false => decode(raw),
        })
}

/// Fields the kernel writes as they are: what looks hexadecimal in them is not.
const PLAIN: [&[u8]; 11] = [
    b"pid", b"ppid", b"uid", b"euid", b"gid", b"auid", b"ses", b"item", b"success", b"tty",
    b"syscall",
];

/// The string a value stands for.
fn decode(raw: &[u8]) -> Vec<u8> {
    if let Some(rest) = raw.strip_prefix(b"\"") {
        return rest.strip_suffix(b"\"").unwrap_or(rest).to_vec();
    }
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|d| u8::try_from(d).ok())
    };
    let pair = |pair: &[u8]| match *pair {
        [high, low] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    };
    let bytes: Option<Vec<u8>> = raw.chunks(2).map(pair).collect();
    bytes.unwrap_or_else(|| raw.to_vec())
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CALL: &[u8] =
        b"audit(1364481363.243:24287): arch=c000003e syscall=59 success=yes exit=0 \
        a0=1 a1=2 a2=3 a3=4 items=2 ppid=2686 pid=3538 auid=1000 uid=0 gid=5 euid=6 suid=0 fsuid=0 \
        egid=0 sgid=0 fsgid=0 tty=pts0 ses=4294967295 comm=\"cat\" exe=\"/usr/bin/cat\" key=(null)";

    fn records(assembler: &mut Assembler, records: &[(u16, &str)]) -> Vec<Execution> {
        let mut found = Vec::new();
        for (kind, fields) in records {
            let text = format!("audit(1364481363.243:24287): {fields}");
            found.extend(assembler.take(*kind, text.as_bytes()));
        }
        found
    }

    #[test]
    fn the_records_of_a_call_become_one_execution() {
        let mut assembler = Assembler::default();
        assert_eq!(assembler.take(SYSCALL, CALL), None);
        let found = records(
            &mut assembler,
            &[
                (EXECVE, "argc=3 a0=\"cat\" a1=\"--\" a2=2F746D702F612062"),
                (CWD, "cwd=\"/root\""),
                (PATH, "item=0 name=\"/bin/cat\" inode=7 dev=fe:00"),
                (PATH, "item=1 name=\"/lib64/ld-linux-x86-64.so.2\" inode=8"),
                (1327, "proctitle=636174"),
                (EOE, ""),
            ],
        );
        let expected = Execution {
            at: Some(Timestamp::from_nanos(1_364_481_363_243_000_000)),
            pid: 3538,
            ppid: 2686,
            uid: Some(0),
            euid: Some(6),
            gid: Some(5),
            loginuid: Some(1000),
            session: None,
            terminal: b"pts0".to_vec(),
            image: b"/usr/bin/cat".to_vec(),
            file: b"/bin/cat".to_vec(),
            cwd: b"/root".to_vec(),
            args: b"cat\0--\0/tmp/a b\0".to_vec(),
            cut: false,
        };
        assert_eq!(found, [expected]);
        assert!(assembler.open.is_empty());
    }

    #[test]
    fn arguments_in_parts_and_in_several_records_are_put_together() {
        let mut assembler = Assembler::default();
        assembler.take(SYSCALL, CALL);
        let found = records(
            &mut assembler,
            &[
                (EXECVE, "argc=4 a0=\"x\" a1_len=4 a1[0]=\"ab\""),
                (EXECVE, "a1[1]=6320 a2=\"\""),
                (EXECVE, "a3=\"end\""),
                (EOE, ""),
            ],
        );
        assert_eq!(found[0].args, b"x\0abc \0\0end\0");
        assert!(!found[0].cut);
    }

    #[test]
    fn what_is_missing_or_too_long_is_said() {
        for fields in ["argc=2 a0=\"x\"", "argc=2 a0=\"x\" a2=\"z\"", ""] {
            let mut assembler = Assembler::default();
            assembler.take(SYSCALL, CALL);
            let found = records(&mut assembler, &[(EXECVE, fields), (EOE, "")]);
            assert!(found[0].cut, "{fields}");
        }
        let mut assembler = Assembler::default();
        assembler.take(SYSCALL, CALL);
        let long = format!("argc=1 a0=\"{}\"", "y".repeat(40_000));
        let found = records(&mut assembler, &[(EXECVE, &long), (EOE, "")]);
        assert_eq!((found[0].args.len(), found[0].cut), (ARGS_MAX, true));
    }

    #[test]
    fn failed_calls_and_records_of_others_are_no_executions() {
        let mut assembler = Assembler::default();
        let failed = String::from_utf8_lossy(CALL).replace("success=yes", "success=no");
        assembler.take(SYSCALL, failed.as_bytes());
        assert!(records(&mut assembler, &[(EOE, "")]).is_empty());
        assert!(records(&mut assembler, &[(1112, "pid=1 uid=0"), (EOE, "")]).is_empty());
    }

    #[test]
    fn a_call_whose_end_never_comes_is_told_when_too_many_wait() {
        let mut assembler = Assembler::default();
        let mut found = Vec::new();
        for serial in 0..OPEN_MAX as u64 + 10 {
            let record = String::from_utf8_lossy(CALL).replace("24287", &serial.to_string());
            found.extend(assembler.take(SYSCALL, record.as_bytes()));
        }
        assert_eq!((found.len(), assembler.open.len()), (10, OPEN_MAX));
        assert!(found.iter().all(|execution| execution.cut));
    }

    proptest! {
        #[test]
        fn arbitrary_records_never_panic(
            kind in prop_oneof![Just(SYSCALL), Just(EXECVE), Just(CWD), Just(PATH), Just(EOE)],
            tail in proptest::collection::vec(any::<u8>(), 0..200),
            words in "(argc=[0-9]{1,3} )?(a[0-9]{1,2}(_len|\\[[0-9]\\])?=\"?[0-9A-Fa-z]{0,8}\"? ){0,9}",
        ) {
            let mut assembler = Assembler::default();
            assembler.take(SYSCALL, CALL);
            let mut record = b"audit(1364481363.243:24287): ".to_vec();
            record.extend(words.bytes());
            record.extend(&tail);
            assembler.take(kind, &record);
            assembler.take(kind, &tail);
            if let Some(execution) = assembler.take(EOE, b"audit(1364481363.243:24287): ") {
                prop_assert!(execution.args.len() <= ARGS_MAX);
            }
        }
    }
}
