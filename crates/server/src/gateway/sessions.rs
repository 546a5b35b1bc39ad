//! Who is connected, and how to reach them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{mpsc, watch};
use yinglong_model::AgentId;
use yinglong_proto::v1;

/// Messages to one agent that may wait; settings and tasks are rare.
const OUTGOING: usize = 32;

/// Why the server ends a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The same agent attached again.
    Replaced,
    /// The agent or its certificate was revoked.
    Revoked,
    /// The server is stopping.
    Stopping,
}

/// Why a message was not handed to a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The agent has no stream.
    #[error("the host is not connected")]
    NotConnected,
    /// It has one, and does not read from it.
    #[error("the host is connected but does not take messages")]
    Blocked,
}

/// The open streams. Cheap to clone; all clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Sessions(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    closed: bool,
    last_id: u64,
    entries: HashMap<AgentId, Entry>,
}

#[derive(Debug)]
struct Entry {
    id: u64,
    outgoing: mpsc::Sender<v1::ServerMessage>,
    cut: watch::Sender<Option<Cut>>,
    ended: watch::Receiver<()>,
}

/// A stream's place among the open ones, until dropped.
#[derive(Debug)]
pub(super) struct Registration {
    sessions: Sessions,
    agent: AgentId,
    id: u64,
    /// Messages for the agent.
    pub(super) outgoing: mpsc::Receiver<v1::ServerMessage>,
    /// Why the stream has to end, once it has to.
    pub(super) cut: watch::Receiver<Option<Cut>>,
    /// The stream this one replaces; its channel closes when that has ended.
    pub(super) predecessor: Option<watch::Receiver<()>>,
    /// Closes its channel when dropped.
    _open: watch::Sender<()>,
}

impl Sessions {
    /// Hands a message to an agent's stream. Whether it arrives shows in the answer, if any.
    ///
    /// # Errors
    /// The agent is not connected or does not read.
    pub fn send(&self, agent: &AgentId, message: v1::ServerMessage) -> Result<(), SendError> {
        let state = self.lock();
        let entry = state.entries.get(agent).ok_or(SendError::NotConnected)?;
        entry
            .outgoing
            .try_send(message)
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => SendError::Blocked,
                mpsc::error::TrySendError::Closed(_) => SendError::NotConnected,
            })
    }

    /// The connected agents, in no order.
    pub fn connected(&self) -> Vec<AgentId> {
        self.lock().entries.keys().cloned().collect()
    }

    /// Whether this agent is connected.
    pub fn is_connected(&self, agent: &AgentId) -> bool {
        self.lock().entries.contains_key(agent)
    }

    /// Ends an agent's stream because it was revoked; false if it had none.
    pub fn disconnect(&self, agent: &AgentId) -> bool {
        self.lock()
            .entries
            .get(agent)
            .is_some_and(|entry| entry.cut.send(Some(Cut::Revoked)).is_ok())
    }

    /// Ends all streams, and those that come.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        for entry in state.entries.values() {
            entry.cut.send_replace(Some(Cut::Stopping));
        }
    }

    /// Takes the agent's place; an earlier stream is told to end.
    pub(super) fn register(&self, agent: &AgentId) -> Registration {
        let (outgoing, outgoing_rx) = mpsc::channel(OUTGOING);
        let (open, ended) = watch::channel(());
        let mut state = self.lock();
        let (cut, cut_rx) = watch::channel(state.closed.then_some(Cut::Stopping));
        state.last_id += 1;
        let id = state.last_id;
        let entry = Entry {
            id,
            outgoing,
            cut,
            ended,
        };
        let replaced = state.entries.insert(agent.clone(), entry);
        drop(state);
        let predecessor = replaced.map(|earlier| {
            earlier.cut.send_replace(Some(Cut::Replaced));
            earlier.ended
        });
        Registration {
            sessions: self.clone(),
            agent: agent.clone(),
            id,
            outgoing: outgoing_rx,
            cut: cut_rx,
            predecessor,
            _open: open,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut state = self.sessions.lock();
        if state
            .entries
            .get(&self.agent)
            .is_some_and(|entry| entry.id == self.id)
        {
            state.entries.remove(&self.agent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_stream_replaces_the_first_and_keeps_its_place_when_that_ends() {
        let sessions = Sessions::default();
        let agent = AgentId::from_bits(1);
        let first = sessions.register(&agent);
        let second = sessions.register(&agent);
        assert_eq!(*first.cut.borrow(), Some(Cut::Replaced));
        assert_eq!(*second.cut.borrow(), None);
        let waiting = second.predecessor.clone().unwrap();
        assert!(waiting.has_changed().is_ok());
        drop(first);
        assert!(waiting.has_changed().is_err());
        assert_eq!(sessions.connected(), std::slice::from_ref(&agent));
        drop(second);
        assert!(!sessions.is_connected(&agent));
    }

    #[test]
    fn messages_reach_the_stream_and_nobody_else() {
        let sessions = Sessions::default();
        let (a, b) = (AgentId::from_bits(1), AgentId::from_bits(2));
        let mut stream = sessions.register(&a);
        assert_eq!(sessions.send(&a, v1::ServerMessage::default()), Ok(()));
        assert!(stream.outgoing.try_recv().is_ok());
        let unknown = sessions.send(&b, v1::ServerMessage::default());
        assert_eq!(unknown, Err(SendError::NotConnected));
        for _ in 0..OUTGOING {
            sessions.send(&a, v1::ServerMessage::default()).unwrap();
        }
        let full = sessions.send(&a, v1::ServerMessage::default());
        assert_eq!(full, Err(SendError::Blocked));
    }

    #[test]
    fn closing_ends_streams_that_are_open_and_streams_that_come() {
        let sessions = Sessions::default();
        let open = sessions.register(&AgentId::from_bits(1));
        sessions.close();
        let late = sessions.register(&AgentId::from_bits(2));
        assert_eq!(*open.cut.borrow(), Some(Cut::Stopping));
        assert_eq!(*late.cut.borrow(), Some(Cut::Stopping));
    }

    #[test]
    fn disconnecting_tells_whether_there_was_a_stream() {
        let sessions = Sessions::default();
        let agent = AgentId::from_bits(1);
        assert!(!sessions.disconnect(&agent));
        let stream = sessions.register(&agent);
        assert!(sessions.disconnect(&agent));
        assert_eq!(*stream.cut.borrow(), Some(Cut::Revoked));
    }
}
