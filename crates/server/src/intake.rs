//! Makes batches durable: one thread owns the write-ahead log and syncs once for many agents.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{mpsc, oneshot};
use yinglong_model::{AgentId, id::Epoch};
use yinglong_spool::Spool;

use crate::{
    gateway::{Durable, IntakeError},
    log::Entry,
};

/// Batches waiting for the disk. A full queue makes agents wait, who keep their events spooled.
const QUEUE_BATCHES: usize = 256;

/// Most batches made durable by one sync.
const GROUP_BATCHES: usize = 256;

/// Why a batch was not made durable. The agent keeps it and sends it again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The log's disk is full or the log has reached its limit.
    #[error("the server's disk is full; free some space in its data folder")]
    OutOfSpace,
    /// The log cannot be written.
    #[error("the server cannot write its log: {0}")]
    Broken(String),
    /// The batch does not follow what is durable.
    #[error("the batch starts at {first_seq}, but {expected} is next")]
    Gap {
        /// What was sent.
        first_seq: u64,
        /// What was expected.
        expected: u64,
    },
    /// The server is ending.
    #[error("the server is stopping")]
    Stopping,
}

type Acked = HashMap<(AgentId, Epoch), u64>;

struct Request {
    entry: Entry,
    /// The agent said at attach that earlier records are gone.
    may_skip: bool,
    answer: oneshot::Sender<Result<u64, IntakeError>>,
}

/// Cheap to clone; all clones feed the same log.
#[derive(Clone)]
pub struct Intake {
    queue: mpsc::Sender<Request>,
    acked: Arc<Mutex<Acked>>,
}

impl Intake {
    /// Starts the thread. `acked` is what the state store holds, and everything in the log beyond.
    /// The thread ends when the last clone is dropped.
    pub fn start(log: Spool, acked: Acked) -> (Self, std::thread::JoinHandle<()>) {
        let (queue, requests) = mpsc::channel(QUEUE_BATCHES);
        let acked = Arc::new(Mutex::new(acked));
        let writer = Writer {
            log,
            acked: Arc::clone(&acked),
        };
        let thread = std::thread::Builder::new()
            .name("intake".into())
            .spawn(move || writer.run(requests))
            .expect("a thread can be started while the server starts");
        (Self { queue, acked }, thread)
    }

    /// Last durable sequence number of an agent's spool; 0 when there is none.
    pub fn acked(&self, agent: &AgentId, epoch: Epoch) -> u64 {
        let acked = self.acked.lock().unwrap_or_else(PoisonError::into_inner);
        acked
            .get(&(agent.clone(), epoch))
            .copied()
            .unwrap_or_default()
    }

    /// Queues a batch, waiting while the queue is full. The answer comes when it is durable, and is
    /// the last durable sequence number. Records that are durable already are passed over.
    ///
    /// # Errors
    /// The server is stopping. The answer may be any [`Error`]; nothing is durable then.
    pub async fn queue(&self, entry: Entry, may_skip: bool) -> Result<Durable, IntakeError> {
        let (answer, durable) = oneshot::channel();
        let request = Request {
            entry,
            may_skip,
            answer,
        };
        self.queue
            .send(request)
            .await
            .map_err(|_| IntakeError(Box::new(Error::Stopping)))?;
        Ok(durable)
    }
}

struct Writer {
    log: Spool,
    acked: Arc<Mutex<Acked>>,
}

impl Writer {
    fn run(&self, mut requests: mpsc::Receiver<Request>) {
        let mut group = Vec::new();
        while requests.blocking_recv_many(&mut group, GROUP_BATCHES) > 0 {
            self.write(std::mem::take(&mut group));
        }
    }

    /// Appends a group, syncs once, then answers.
    fn write(&self, group: Vec<Request>) {
        let mut pending: Acked = HashMap::new();
        let mut answers = Vec::with_capacity(group.len());
        for request in group {
            let key = (request.entry.agent.clone(), request.entry.epoch);
            let durable = pending
                .get(&key)
                .copied()
                .unwrap_or_else(|| self.acked(&key));
            let outcome = match trim(request.entry, durable, request.may_skip) {
                Ok(Some(entry)) => {
                    let last = entry.last_seq();
                    self.log
                        .append(&[entry.encode()], b"")
                        .map(|_| last)
                        .map_err(refusal)
                }
                Ok(None) => Ok(durable),
                Err(gap) => Err(gap),
            };
            if let Ok(last) = outcome {
                pending.insert(key, last);
            }
            answers.push((request.answer, outcome));
        }
        let synced = if pending.is_empty() {
            Ok(0)
        } else {
            self.log.sync().map_err(refusal)
        };
        if synced.is_ok() {
            let mut acked = self.acked.lock().unwrap_or_else(PoisonError::into_inner);
            acked.extend(pending);
        }
        for (answer, outcome) in answers {
            // An agent that is gone by now sends the batch again when it is back.
            let outcome = synced.clone().and(outcome);
            let _ = answer.send(outcome.map_err(|error| IntakeError(Box::new(error))));
        }
    }

    fn acked(&self, key: &(AgentId, Epoch)) -> u64 {
        let acked = self.acked.lock().unwrap_or_else(PoisonError::into_inner);
        acked.get(key).copied().unwrap_or_default()
    }
}

/// Removes what is durable already; `None` when nothing is left.
fn trim(mut entry: Entry, durable: u64, may_skip: bool) -> Result<Option<Entry>, Error> {
    let expected = durable + 1;
    if entry.first_seq > expected && !may_skip {
        return Err(Error::Gap {
            first_seq: entry.first_seq,
            expected,
        });
    }
    let known = expected.saturating_sub(entry.first_seq);
    if known >= entry.records.len() as u64 {
        return Ok(None);
    }
    entry.records.drain(..known as usize);
    entry.first_seq += known;
    Ok(Some(entry))
}

fn refusal(error: yinglong_spool::Error) -> Error {
    if error.is_out_of_space() {
        Error::OutOfSpace
    } else {
        tracing::error!(
            error = &error as &dyn std::error::Error,
            "cannot write the log"
        );
        Error::Broken(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use yinglong_model::{Timestamp, event::System};
    use yinglong_spool::Options;

    use super::*;

    fn entry(first_seq: u64, records: usize) -> Entry {
        Entry {
            agent: AgentId::from_bits(1),
            epoch: Epoch(1),
            first_seq,
            ingested_at: Timestamp::from_secs(1),
            ip: String::new(),
            hostname: String::new(),
            system: System::Linux,
            records: (0..records).map(|n| vec![n as u8]).collect(),
        }
    }

    fn log(dir: &std::path::Path) -> Spool {
        let options = Options {
            new_epoch: 1,
            segment_bytes: 1 << 20,
            max_bytes: 1 << 20,
        };
        Spool::open(dir, options).unwrap().0
    }

    fn logged(log: &Spool) -> Vec<(u64, usize)> {
        let entries = log.read(1, 100, 1 << 20).unwrap();
        entries
            .iter()
            .map(|(_, bytes)| Entry::decode(bytes).unwrap())
            .map(|entry| (entry.first_seq, entry.records.len()))
            .collect()
    }

    async fn accept(intake: &Intake, entry: Entry, may_skip: bool) -> Result<u64, String> {
        let durable = intake.queue(entry, may_skip).await.unwrap();
        durable.await.unwrap().map_err(|error| error.0.to_string())
    }

    #[tokio::test]
    async fn a_replayed_batch_is_logged_once() {
        let dir = tempfile::tempdir().unwrap();
        let log = log(dir.path());
        let (intake, thread) = Intake::start(log.clone(), HashMap::new());
        assert_eq!(accept(&intake, entry(1, 3), false).await, Ok(3));
        assert_eq!(accept(&intake, entry(1, 3), false).await, Ok(3));
        assert_eq!(accept(&intake, entry(2, 4), false).await, Ok(5));
        assert_eq!(intake.acked(&AgentId::from_bits(1), Epoch(1)), 5);
        assert_eq!(intake.acked(&AgentId::from_bits(2), Epoch(1)), 0);
        assert_eq!(logged(&log), [(1, 3), (4, 2)]);
        drop(intake);
        thread.join().unwrap();
    }

    #[tokio::test]
    async fn a_gap_is_refused_unless_the_agent_said_so() {
        let dir = tempfile::tempdir().unwrap();
        let (intake, _) = Intake::start(log(dir.path()), HashMap::new());
        let gap = Error::Gap {
            first_seq: 5,
            expected: 1,
        };
        assert_eq!(
            accept(&intake, entry(5, 1), false).await,
            Err(gap.to_string())
        );
        assert_eq!(accept(&intake, entry(5, 1), true).await, Ok(5));
    }

    #[tokio::test]
    async fn a_full_log_refuses_and_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            new_epoch: 1,
            segment_bytes: 1 << 20,
            max_bytes: 64,
        };
        let log = Spool::open(dir.path(), options).unwrap().0;
        let (intake, _) = Intake::start(log, HashMap::new());
        let refusal = Err(Error::OutOfSpace.to_string());
        assert_eq!(accept(&intake, entry(1, 50), false).await, refusal);
        assert_eq!(intake.acked(&AgentId::from_bits(1), Epoch(1)), 0);
    }
}
