//! Joins questions and their answers. Pure; bounded.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    time::Duration,
};

use yinglong_model::event::Protocol;

use super::{
    message::{Answer, Question},
    record::Asker,
};

/// Questions that may wait for their answer.
const PENDING: usize = 16_384;
/// How long an answer is awaited: resolvers ask again, or ask somebody else, after 5 s.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// What an answer must have in common with its question.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// Of the socket.
    pub(super) cookie: u64,
    pub(super) id: u16,
    pub(super) server: SocketAddr,
    pub(super) question: Question,
}

/// A question, and its answer when there was one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Exchange {
    /// When it was asked, since boot.
    pub(super) at: Duration,
    pub(super) question: Question,
    pub(super) server: SocketAddr,
    pub(super) protocol: Protocol,
    pub(super) asker: Asker,
    pub(super) answer: Option<Answer>,
}

#[derive(Debug)]
struct Waiting {
    serial: u64,
    at: Duration,
    protocol: Protocol,
    asker: Asker,
}

/// The questions that wait.
#[derive(Debug, Default)]
pub(super) struct Table {
    pending: HashMap<Key, Waiting>,
    /// In the order they came; an answered one stays until its turn.
    turns: VecDeque<(Duration, u64, Key)>,
    serial: u64,
    ready: Vec<Exchange>,
    hurried: u64,
}

impl Table {
    /// Takes a question. One that is sent again on the same socket while it waits is the same one.
    pub(super) fn asked(
        &mut self,
        now: Duration,
        key: Key,
        at: Duration,
        protocol: Protocol,
        asker: Asker,
    ) {
        if self.pending.contains_key(&key) {
            return;
        }
        while self.turns.len() >= PENDING {
            self.hurried += u64::from(self.end_oldest());
        }
        self.serial += 1;
        self.turns
            .push_back((now + PATIENCE, self.serial, key.clone()));
        self.pending.insert(
            key,
            Waiting {
                serial: self.serial,
                at,
                protocol,
                asker,
            },
        );
    }

    /// Takes an answer. `unseen` is who asked, if the question was not seen; without it, an answer
    /// to what was not asked, or not of that server, counts for nothing.
    pub(super) fn answered(
        &mut self,
        key: Key,
        answer: Answer,
        at: Duration,
        protocol: Protocol,
        unseen: Option<Asker>,
    ) {
        if let Some(waiting) = self.pending.remove(&key) {
            self.end(key, waiting, Some(answer));
        } else if let Some(asker) = unseen {
            self.ready.push(Exchange {
                at,
                question: key.question,
                server: key.server,
                protocol,
                asker,
                answer: Some(answer),
            });
        }
    }

    /// The exchanges that are complete, or whose answer is not awaited any more.
    pub(super) fn take_ready(&mut self, now: Duration) -> Vec<Exchange> {
        while self.turns.front().is_some_and(|(due, ..)| *due <= now) {
            self.end_oldest();
        }
        std::mem::take(&mut self.ready)
    }

    /// Every exchange: the end of observation.
    pub(super) fn take_all(&mut self) -> Vec<Exchange> {
        while !self.turns.is_empty() {
            self.end_oldest();
        }
        std::mem::take(&mut self.ready)
    }

    /// Questions that wait for their answer.
    pub(super) fn waiting(&self) -> usize {
        self.pending.len()
    }

    /// Questions told before their answer for want of room.
    pub(super) fn hurried(&self) -> u64 {
        self.hurried
    }

    /// Says whether it was still waiting.
    fn end_oldest(&mut self) -> bool {
        let Some((_, serial, key)) = self.turns.pop_front() else {
            return false;
        };
        let waits = self
            .pending
            .get(&key)
            .is_some_and(|waiting| waiting.serial == serial);
        if waits && let Some(waiting) = self.pending.remove(&key) {
            self.end(key, waiting, None);
        }
        waits
    }

    fn end(&mut self, key: Key, waiting: Waiting, answer: Option<Answer>) {
        self.ready.push(Exchange {
            at: waiting.at,
            question: key.question,
            server: key.server,
            protocol: waiting.protocol,
            asker: waiting.asker,
            answer,
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ASKER: Asker = Asker {
        pid: 7,
        uid: 0,
        start_boottime_ns: 1,
        cgroup_id: 1,
        resolver: false,
        comm: [0; 16],
    };

    fn key(cookie: u64, id: u16, name: &str) -> Key {
        Key {
            cookie,
            id,
            server: "192.0.2.53:53".parse().unwrap(),
            question: Question {
                name: name.to_owned(),
                qtype: "A".to_owned(),
            },
        }
    }

    fn ask(table: &mut Table, now: Duration, key: Key) {
        table.asked(now, key, now, Protocol::Udp, ASKER);
    }

    fn answer(table: &mut Table, key: Key) {
        let answer = Answer {
            rcode: "NOERROR".to_owned(),
            answers: vec!["192.0.2.1".to_owned()],
        };
        table.answered(key, answer, Duration::ZERO, Protocol::Udp, None);
    }

    #[test]
    fn an_answer_ends_its_question_and_nothing_else() {
        let mut table = Table::default();
        ask(&mut table, Duration::ZERO, key(1, 5, "a.example"));
        for other in [
            key(2, 5, "a.example"),
            key(1, 6, "a.example"),
            key(1, 5, "b.example"),
            Key {
                server: "198.51.100.1:53".parse().unwrap(),
                ..key(1, 5, "a.example")
            },
        ] {
            answer(&mut table, other);
        }
        assert_eq!(table.take_ready(Duration::ZERO), []);
        answer(&mut table, key(1, 5, "a.example"));
        let ready = table.take_ready(Duration::ZERO);
        assert_eq!(ready.len(), 1);
        assert_eq!(ready[0].answer.as_ref().unwrap().rcode, "NOERROR");
        answer(&mut table, key(1, 5, "a.example"));
        assert_eq!(table.take_all(), []);
    }

    #[test]
    fn a_question_without_answer_is_told_when_it_is_not_awaited_any_more() {
        let mut table = Table::default();
        ask(&mut table, Duration::ZERO, key(1, 5, "a.example"));
        ask(&mut table, Duration::from_secs(3), key(1, 5, "a.example"));
        assert_eq!(
            table.take_ready(PATIENCE.saturating_sub(Duration::from_nanos(1))),
            []
        );
        let ready = table.take_ready(PATIENCE);
        assert_eq!(ready.len(), 1);
        assert_eq!((ready[0].at, &ready[0].answer), (Duration::ZERO, &None));
        answer(&mut table, key(1, 5, "a.example"));
        assert_eq!(table.take_all(), []);
    }

    #[test]
    fn an_answer_to_what_was_not_seen_is_told_with_who_asked() {
        let mut table = Table::default();
        let told = Answer::default();
        let at = Duration::from_secs(1);
        table.answered(key(1, 5, "a.example"), told, at, Protocol::Udp, Some(ASKER));
        assert_eq!(table.take_ready(Duration::ZERO)[0].asker, ASKER);
    }

    proptest! {
        #[test]
        fn every_question_is_told_once_whatever_is_answered(
            steps in prop::collection::vec((0_u64..4, 0_u16..4, any::<bool>()), 0..200),
        ) {
            let mut table = Table::default();
            let (mut waiting, mut asked, mut told) = (std::collections::HashSet::new(), 0, 0);
            for (cookie, id, asks) in steps {
                let key = key(cookie, id, "a.example");
                if asks {
                    asked += usize::from(waiting.insert(key.clone()));
                    ask(&mut table, Duration::ZERO, key);
                } else {
                    waiting.remove(&key);
                    answer(&mut table, key);
                }
                told += table.take_ready(Duration::ZERO).len();
            }
            told += table.take_all().len();
            prop_assert_eq!(told, asked);
        }
    }

    #[test]
    fn a_full_table_tells_the_oldest_question_early() {
        let mut table = Table::default();
        for number in 0..=PENDING as u64 {
            ask(&mut table, Duration::ZERO, key(number, 0, "a.example"));
        }
        assert_eq!(table.hurried(), 1);
        assert_eq!(table.take_ready(Duration::ZERO).len(), 1);
        assert_eq!(table.take_all().len(), PENDING);
    }
}
