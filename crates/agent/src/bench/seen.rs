//! Which marks of a storm somebody saw.

use std::{net::Ipv4Addr, path::Path};

use anyhow::Context as _;
use yinglong_model::{EventData, Observation, event::Direction};
use yinglong_proto::decode_record;

use super::storm::{Kind, Order};
use crate::spools;

/// Marks by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    marks: Vec<bool>,
}

impl Seen {
    pub(super) fn new(order: &Order) -> Self {
        Self {
            marks: vec![false; order.count as usize],
        }
    }

    /// Takes a number in; one of no operation is passed over.
    pub(super) fn mark(&mut self, number: u32) {
        if let Some(mark) = self.marks.get_mut(number as usize) {
            *mark = true;
        }
    }

    /// Takes the numbers in that follow the mark in a text: in a command line, or a file's name.
    pub(super) fn text(&mut self, mark: &str, text: &str) {
        if let Some((_, rest)) = text.split_once(mark) {
            let number = rest.trim_start_matches(|c: char| !c.is_ascii_digit());
            let end = number
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(number.len());
            if let Some(Ok(number)) = number.get(..end).map(str::parse) {
                self.mark(number);
            }
        }
    }

    /// How many different ones there were.
    pub(super) fn count(&self) -> u32 {
        let count = self.marks.iter().filter(|seen| **seen).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// How many there were not.
    pub(super) fn missing(&self) -> u32 {
        let count = self.marks.iter().filter(|seen| !**seen).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }
}

/// Looks through the spool that an agent left in `state`.
pub(super) fn in_spool(state: &Path, order: &Order) -> anyhow::Result<Seen> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let spools = spools::open(state, boot.trim(), rand::random(), u64::MAX)
        .context("the spool of the measured agent cannot be opened")?;
    let mut seen = Seen::new(order);
    let mark = order.mark();
    let mut next = 1;
    loop {
        let records = spools.current.read(next, 4096, 16 << 20)?;
        let Some((last, _)) = records.last() else {
            return Ok(seen);
        };
        next = last + 1;
        for (_, bytes) in &records {
            let (_, observation) = decode_record(bytes)?;
            if let Observation::Event { data, .. } = observation {
                event(&mut seen, order.kind, &mark, &data);
            }
        }
    }
}

fn event(seen: &mut Seen, kind: Kind, mark: &str, data: &EventData) {
    match data {
        EventData::Process(process) if kind == Kind::Exec => seen.text(mark, &process.command),
        EventData::File(file) if kind == Kind::File => seen.text(mark, &file.path),
        EventData::Connection(connection)
            if kind == Kind::Connect && connection.dir == Direction::Out =>
        {
            let address = connection.local.rsplit_once(':');
            let address = address.and_then(|(ip, _)| ip.parse::<Ipv4Addr>().ok());
            if let Some(number) = address.and_then(Order::number_of) {
                seen.mark(number);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use yinglong_model::event::{Connection, File, Process};

    use super::*;

    fn order(kind: Kind) -> Order {
        Order {
            kind,
            count: 10,
            workers: 1,
            token: "t".into(),
            folder: "/x".into(),
        }
    }

    #[test]
    fn marks_are_found_in_every_kind_of_event_and_counted_once() {
        let process = |command: &str| {
            EventData::Process(Box::new(Process {
                command: command.into(),
                ..Process::default()
            }))
        };
        let file = |path: &str| {
            EventData::File(Box::new(File {
                path: path.into(),
                ..File::default()
            }))
        };
        let connection = |dir, local: &str| {
            EventData::Connection(Connection {
                dir,
                local: local.into(),
                ..Connection::default()
            })
        };
        let events = [
            process("/bin/true ylmark-t 3"),
            process("/bin/true ylmark-t 3"),
            process("/bin/true ylmark-other 4"),
            process("/bin/true ylmark-t 99"),
            file("/x/storm/ylmark-t-5"),
            connection(Direction::Out, "127.64.0.2:1234"),
            connection(Direction::In, "127.64.0.3:1234"),
        ];
        for kind in [Kind::Exec, Kind::File, Kind::Connect] {
            let mut seen = Seen::new(&order(kind));
            for data in &events {
                event(&mut seen, kind, "ylmark-t", data);
            }
            assert_eq!(seen.count(), 1, "{kind:?}");
        }
    }
}
