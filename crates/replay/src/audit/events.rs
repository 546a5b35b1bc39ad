//! Records put together to events.

use std::collections::VecDeque;

use super::Raw;
use crate::limits;

/// Records of one event.
#[derive(Debug, Default)]
pub(crate) struct Event {
    /// Line of the first.
    pub(crate) number: u64,
    /// In the order of the log; never empty.
    pub(crate) records: Vec<Raw>,
    pub(super) bytes: usize,
}

/// Events whose records are still coming.
#[derive(Debug, Default)]
pub(crate) struct Events {
    open: VecDeque<Event>,
    bytes: usize,
}

impl Events {
    /// Takes a record of `bytes` bytes, and gives the events that are complete by now.
    pub(crate) fn take(&mut self, number: u64, raw: Raw, bytes: usize) -> Vec<Event> {
        let mut complete = Vec::new();
        let at = self.open.iter().rposition(|event| {
            event.records.first().is_some_and(|first| {
                first.serial == raw.serial && first.millis == raw.millis && first.node == raw.node
            })
        });
        if raw.kind == "EOE" {
            complete.extend(at.and_then(|at| self.close(at)));
            return complete;
        }
        let full = at.filter(|at| {
            let event = self.open.get(*at);
            event.is_some_and(|event| event.records.len() >= limits::AUDIT_RECORDS)
        });
        if let Some(full) = full {
            complete.extend(self.close(full));
        }
        let alone = is_alone(&raw.kind);
        match at.filter(|_| full.is_none()) {
            Some(at) => {
                if let Some(event) = self.open.get_mut(at) {
                    event.records.push(raw);
                    event.bytes += bytes;
                    self.bytes += bytes;
                }
            }
            None => {
                let event = Event {
                    number,
                    records: vec![raw],
                    bytes,
                };
                if alone {
                    complete.push(event);
                    return complete;
                }
                self.bytes += bytes;
                self.open.push_back(event);
            }
        }
        while self.open.len() > limits::OPEN_AUDIT_EVENTS || self.bytes > limits::OPEN_AUDIT_BYTES {
            match self.close(0) {
                Some(event) => complete.push(event),
                None => break,
            }
        }
        complete
    }

    /// The oldest event, at the end of the log.
    pub(crate) fn finish(&mut self) -> Option<Event> {
        self.close(0)
    }

    fn close(&mut self, at: usize) -> Option<Event> {
        let event = self.open.remove(at)?;
        self.bytes = self.bytes.saturating_sub(event.bytes);
        Some(event)
    }
}

/// Records that programs and the daemon write themselves are events of one record, which no end
/// follows.
fn is_alone(kind: &str) -> bool {
    const PREFIXES: [&str; 7] = [
        "USER_",
        "CRED_",
        "DAEMON_",
        "SERVICE_",
        "SYSTEM_",
        "CRYPTO_",
        "ANOM_LOGIN",
    ];
    const KINDS: [&str; 9] = [
        "ADD_USER",
        "DEL_USER",
        "ADD_GROUP",
        "DEL_GROUP",
        "GRP_MGMT",
        "GRP_AUTH",
        "CHGRP_ID",
        "USYS_CONFIG",
        "TTY",
    ];
    // The kernel writes these as a part of an event.
    let of_kernel = kind == "USER_AVC";
    !of_kernel && (KINDS.contains(&kind) || PREFIXES.iter().any(|prefix| kind.starts_with(prefix)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(kind: &str, serial: u64) -> Raw {
        Raw {
            kind: kind.into(),
            serial,
            ..Raw::default()
        }
    }

    fn serials(events: &[Event]) -> Vec<(u64, usize)> {
        let serial = |event: &Event| event.records.first().unwrap().serial;
        let found = events.iter();
        found
            .map(|event| (serial(event), event.records.len()))
            .collect()
    }

    #[test]
    fn records_of_two_events_that_mix_are_told_apart() {
        let mut events = Events::default();
        for (number, kind, serial) in [(1, "SYSCALL", 1), (2, "SYSCALL", 2), (3, "EXECVE", 1)] {
            assert!(events.take(number, raw(kind, serial), 1).is_empty());
        }
        assert_eq!(serials(&events.take(4, raw("EOE", 1), 1)), [(1, 2)]);
        assert_eq!(serials(&events.take(5, raw("EOE", 2), 1)), [(2, 1)]);
        assert!(events.finish().is_none());
    }

    #[test]
    fn a_record_of_a_program_is_complete_at_once() {
        let mut events = Events::default();
        let complete = events.take(1, raw("USER_LOGIN", 1), 1);
        assert_eq!(serials(&complete), [(1, 1)]);
    }

    #[test]
    fn what_never_ends_is_bounded() {
        let mut events = Events::default();
        let mut complete = 0;
        for serial in 0..1000 {
            complete += events.take(serial, raw("SYSCALL", serial), 1).len();
            assert!(events.open.len() <= limits::OPEN_AUDIT_EVENTS);
        }
        while events.finish().is_some() {
            complete += 1;
        }
        assert_eq!(complete, 1000);
        assert_eq!(events.bytes, 0);
    }

    #[test]
    fn a_huge_event_is_given_in_pieces() {
        let mut events = Events::default();
        let mut records = 0;
        for number in 0..1000 {
            let complete = events.take(number, raw("PATH", 1), 1);
            records += complete.iter().map(|e| e.records.len()).sum::<usize>();
        }
        records += events.finish().unwrap().records.len();
        assert!(events.finish().is_none());
        assert_eq!(records, 1000);
    }

    #[test]
    fn the_bytes_of_open_events_are_bounded() {
        let mut events = Events::default();
        events.take(1, raw("SYSCALL", 1), limits::OPEN_AUDIT_BYTES);
        let complete = events.take(2, raw("SYSCALL", 2), 1);
        assert_eq!(serials(&complete), [(1, 1)]);
    }
}
