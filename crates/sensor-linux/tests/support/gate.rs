//! A reader that can be stopped.

use std::sync::{Arc, Condvar, Mutex};

use yinglong_model::{DropReason, Observation, host::SensorStatus, ledger::Origin};
use yinglong_sensor::{Error, Outlet};

use super::Recorder;

/// While it is closed, commits wait.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub(crate) fn close(&self) {
        *self.0.0.lock().unwrap() = true;
    }

    pub(crate) fn open(&self) {
        *self.0.0.lock().unwrap() = false;
        self.0.1.notify_all();
    }

    /// The outlet, behind the gate.
    pub(crate) fn before(&self, outlet: &Recorder) -> Gated {
        Gated {
            outlet: outlet.clone(),
            gate: self.clone(),
        }
    }
}

/// An outlet behind a gate.
pub(crate) struct Gated {
    outlet: Recorder,
    gate: Gate,
}

impl Outlet for Gated {
    fn emit(&mut self, observation: Observation) {
        self.outlet.emit(observation);
    }

    fn lose(&mut self, reason: DropReason, count: u64) {
        self.outlet.lose(reason, count);
    }

    fn lose_in(&mut self, stream: &'static str, reason: DropReason, count: u64) {
        self.outlet.lose_in(stream, reason, count);
    }

    fn lose_of(&mut self, reason: DropReason, origin: &Origin, count: u64) {
        self.outlet.lose_of(reason, origin, count);
    }

    fn filtered(&mut self, count: u64) {
        self.outlet.filtered(count);
    }

    fn status(&mut self, status: SensorStatus) {
        self.outlet.status(status);
    }

    fn mark(&mut self, name: &str, value: String) {
        self.outlet.mark(name, value);
    }

    fn marked(&self, name: &str) -> Option<String> {
        self.outlet.marked(name)
    }

    fn commit(&mut self) -> Result<(), Error> {
        let (closed, opened) = &*self.gate.0;
        drop(
            opened
                .wait_while(closed.lock().unwrap(), |closed| *closed)
                .unwrap(),
        );
        self.outlet.commit()
    }
}
