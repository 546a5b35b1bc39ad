//! What gives way first when there is no room for everything.
//!
//! The one place that says so: the agent's spool goes by it, and the programs in the kernel do the
//! same for their records (`bpf/include/share.h`), where starts and ends of processes, outcomes of
//! connections and answers of name servers give way before executions, attempts and questions.

use crate::{EventData, Observation, event::Protocol};

/// How much an observation is worth keeping, cheapest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Worth {
    /// Numerous, and mostly told by something else as well.
    Cheap,
    /// What most investigations need, but which a busy host makes a lot of.
    Middle,
    /// Who ran what, who came in, and what was tampered with: the last to go.
    Precious,
    /// That something is missing.
    Loss,
}

impl Worth {
    /// All classes, cheapest first.
    pub const ALL: [Self; 4] = [Self::Cheap, Self::Middle, Self::Precious, Self::Loss];

    /// Class of an observation.
    pub fn of(observation: &Observation) -> Self {
        match observation {
            Observation::Event { data, .. } => Self::of_event(data),
            Observation::Inventory(_) => Self::Precious,
        }
    }

    fn of_event(data: &EventData) -> Self {
        match data {
            EventData::Loss(_) => Self::Loss,
            // A fault may be an attack; an end by itself tells little more than its execution.
            EventData::Exit(exit) if exit.signal.is_some() => Self::Precious,
            EventData::Exit(_) => Self::Cheap,
            EventData::Process(_) | EventData::Loginlog(_) | EventData::Syscall(_) => {
                Self::Precious
            }
            EventData::File(file) if file.yara.is_some() => Self::Precious,
            EventData::File(_) => Self::Middle,
            EventData::Connection(connection) => match connection.protocol {
                Protocol::Tcp => Self::Middle,
                Protocol::Udp => Self::Cheap,
            },
            EventData::Dns(_) => Self::Cheap,
        }
    }

    /// Part of a store that may be full while such an observation is still taken, in percent.
    pub const fn limit_percent(self) -> u64 {
        match self {
            Self::Cheap => 70,
            Self::Middle => 85,
            Self::Precious => 98,
            Self::Loss => 100,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Inventory, InventoryType, Timestamp,
        event::{Connection, Exit, File, Login},
    };

    #[test]
    fn what_is_numerous_gives_way_before_what_is_rare_and_telling() {
        let worth = |data| {
            Worth::of(&Observation::Event {
                occurred_at: Timestamp::from_secs(1),
                data,
            })
        };
        let udp = Connection {
            protocol: Protocol::Udp,
            ..Connection::default()
        };
        let fault = Exit {
            signal: Some("SIGSEGV".into()),
            ..Exit::default()
        };
        let found = File {
            yara: Some("x".into()),
            ..File::default()
        };
        for (expected, data) in [
            (Worth::Cheap, EventData::Connection(udp)),
            (Worth::Cheap, EventData::Dns(Box::default())),
            (Worth::Cheap, EventData::Exit(Box::default())),
            (Worth::Precious, EventData::Exit(Box::new(fault))),
            (Worth::Middle, EventData::Connection(Connection::default())),
            (Worth::Middle, EventData::File(Box::default())),
            (Worth::Precious, EventData::File(Box::new(found))),
            (Worth::Precious, EventData::Process(Box::default())),
            (Worth::Precious, EventData::Loginlog(Login::default())),
            (Worth::Precious, EventData::Syscall(Box::default())),
            (Worth::Loss, EventData::Loss(Box::default())),
        ] {
            assert_eq!(worth(data.clone()), expected, "{data:?}");
        }
        let inventory = Observation::Inventory(Inventory {
            kind: InventoryType::Userlist,
            data: Vec::new(),
        });
        assert_eq!(Worth::of(&inventory), Worth::Precious);
    }

    #[test]
    fn the_dearer_the_more_room_and_all_of_it_for_the_news_of_a_loss() {
        assert!(Worth::ALL.is_sorted());
        assert!(Worth::ALL.map(Worth::limit_percent).is_sorted());
        assert_eq!(Worth::Loss.limit_percent(), 100);
    }
}
