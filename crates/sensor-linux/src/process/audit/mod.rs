//! Executions from the kernel's audit, where BPF cannot be used.
//!
//! - **Owner**: where no audit daemon runs, the sensor takes the records for itself, adds rules that
//!   record executions, and takes them away again when it ends. The kernel then lets programs wait
//!   rather than lose records, so this is complete.
//! - **Listener**: where a daemon owns the records, its rules are left alone and a copy of the records
//!   is read. That needs a rule of the daemon's for all executions, and a copy is lost rather than
//!   waited for when reading is too slow.
//! - **Not seen**: executions of processes that run since before audit was first switched on and
//!   execute without a fork (the kernel gave them no audit context); the environment and the group of
//!   processes that have ended when their record is read; ends of processes.
//! - **An agent that is killed** leaves its rules behind. The next one finds them, and takes them away
//!   at its end; without one, records go to the kernel log, rate-limited, until the next boot.

mod netlink;
mod parse;

use std::{
    collections::HashSet,
    io,
    path::Path,
    time::{Duration, Instant},
};

use yinglong_model::{DropReason, Observation, ProcessKey, event::Process};
use yinglong_sensor::{Context, Error, Outlet};

use self::{
    netlink::{ABIS, Received, Socket, State},
    parse::{Assembler, Execution},
};
use super::{
    Options,
    batch::Batch,
    clock::since_boot_ns,
    convert::{Converter, terminal},
    hashing::{Hashing, Wanted},
    lesser::{Lesser, Rounds},
    record::Image,
    snapshot, start_hashing,
};
use crate::{
    accounts::Accounts,
    text::{command_line, printable},
    tree::Tree,
};

/// Room for the records of some thousand executions.
const BUFFER_BYTES: usize = 16 << 20;
/// Records that may wait in the kernel before programs have to.
const BACKLOG: u32 = 8_192;
/// Records of one execution, about: call, arguments, directory, two or three paths, title, end.
const RECORDS_PER_EXECUTION: u32 = 8;
const BATCH: usize = 4_000;
/// How often the kernel is asked what it lost.
const STATE_EVERY: Duration = Duration::from_secs(1);
/// How often the table of processes is compared with `/proc`, since ends are not told.
const SCAN_EVERY: Duration = Duration::from_secs(30);

/// Reads the records.
#[derive(Debug)]
pub(super) struct Audit {
    records: Socket,
    control: Socket,
    /// What to put back at the end; `None` for a listener.
    before: Option<State>,
    assembler: Assembler,
    converter: Converter,
    hashing: Hashing,
    excluded: HashSet<u32>,
    lost: u32,
    asked: Instant,
    scanned: Instant,
}

impl Audit {
    /// Takes the records over, or listens beside the daemon that has them.
    pub(super) fn open(
        tree: Tree,
        accounts: Accounts,
        options: &Options,
        reason: &str,
    ) -> Result<Lesser<Self>, Error> {
        let mut control = Socket::open().map_err(refused)?;
        let state = control.state().map_err(refused)?;
        // The kernel notices only when it sends that an owner has ended.
        let owned = state.owner != 0 && Path::new(&format!("/proc/{}", state.owner)).exists();
        let (records, before) = if !owned {
            (own(&mut control, state)?, Some(state))
        } else {
            (listen(&mut control, state)?, None)
        };
        tree.scan(since_boot_ns());
        let how = match before {
            Some(_) => "with rules of the agent's own".to_owned(),
            None => format!(
                "beside process {}, whose rules record executions",
                state.owner
            ),
        };
        let audit = Self {
            records,
            control,
            before,
            assembler: Assembler::default(),
            converter: Converter::new(tree, accounts),
            hashing: start_hashing(options)?,
            excluded: options.excluded_pids.iter().copied().collect(),
            lost: state.lost,
            asked: Instant::now(),
            scanned: Instant::now(),
        };
        Ok(Lesser::new(audit, format!("{reason}; {how}")))
    }

    /// Takes what the socket has, up to a batch; answers how many executions that were, lost ones
    /// included.
    fn receive(&mut self, outlet: &mut dyn Outlet, limit_bytes: u64) -> Result<u64, Error> {
        let mut buffer = vec![0; 16 << 10];
        let mut told = 0;
        let mut seen = Vec::new();
        for _ in 0..BATCH {
            let received = self.records.receive(&mut buffer);
            let (kind, text) = match received.map_err(|source| broken("receive", source))? {
                Received::Message(kind, text) => (kind, text),
                Received::Overflow => {
                    // How many, nobody says: one at least.
                    outlet.lose(DropReason::QueueOverflow, 1);
                    told += 1;
                    continue;
                }
                Received::Nothing => break,
            };
            let Some(execution) = self.assembler.take(kind, text) else {
                continue;
            };
            if self.is_excluded(&execution) {
                continue;
            }
            seen.push(self.observation(execution));
            told += 1;
        }
        let mut batch = Batch::new(outlet, &mut self.hashing, limit_bytes);
        for (event, image, wanted) in seen {
            batch.execution(event, image, |_| wanted);
        }
        batch.finish(|| false);
        Ok(told)
    }

    /// Counts what the kernel lost, as executions.
    fn lost(&mut self, outlet: &mut dyn Outlet) -> Result<u64, Error> {
        let state = self.control.state();
        let state = state.map_err(|source| broken("ask about lost", source))?;
        let records = state.lost.wrapping_sub(self.lost);
        // A number that went back was set back by somebody.
        let records = if records < u32::MAX / 2 { records } else { 0 };
        self.lost = state.lost;
        let executions = u64::from(records.div_ceil(RECORDS_PER_EXECUTION));
        outlet.lose(DropReason::QueueOverflow, executions);
        Ok(executions)
    }

    fn is_excluded(&self, execution: &Execution) -> bool {
        self.excluded.contains(&execution.pid) || self.excluded.contains(&execution.ppid)
    }

    /// The event, the content that was executed if it could be told, and where it may be found.
    fn observation(&mut self, execution: Execution) -> (Observation, Option<Image>, Wanted) {
        let image = printable(&execution.image);
        let (name, unlinked) = match image.strip_suffix(" (deleted)") {
            Some(name) => (name.to_owned(), true),
            None => (image, false),
        };
        let command = command_line(&execution.args);
        // What audit does not tell, of the same execution if it still runs.
        let live = snapshot::take(execution.pid)
            .filter(|live| live.process.name == name && live.process.command == command);
        let unknown = |pid| ProcessKey {
            pid,
            start_boottime_ns: 0,
        };
        let key = live
            .as_ref()
            .map_or(unknown(execution.pid), |live| live.key);
        let image = live.as_ref().and_then(|live| live.image);
        let live = live.map(|live| live.process).unwrap_or_default();
        let process = Process {
            exe: Some(name.clone()),
            name,
            command,
            pid: execution.pid,
            ppid: execution.ppid,
            uid: execution.uid,
            euid: execution.euid,
            gid: execution.gid,
            loginuid: execution.loginuid,
            session: execution.session,
            tty: terminal(&execution.terminal),
            cwd: Some(printable(&execution.cwd)).filter(|path| !path.is_empty()),
            memfd: unlinked.then_some(true),
            truncated: execution.cut.then_some(true),
            info: live.info,
            container_id: live.container_id,
            cgroup: live.cgroup,
            ..Process::default()
        };
        let now = since_boot_ns();
        let at = execution
            .at
            .map_or(now, |at| self.converter.clock.boot_ns(at));
        let parent = unknown(execution.ppid);
        let wanted = Wanted::live(&process, image, self.converter.since_epoch(now));
        let event = self.converter.complete(process, key, parent, at.min(now));
        (event, image, wanted)
    }
}

impl Rounds for Audit {
    const SOURCE: &'static str = "audit";

    fn round(&mut self, context: &Context, outlet: &mut dyn Outlet) -> Result<bool, Error> {
        self.records
            .wait(Context::PATIENCE)
            .map_err(|source| broken("wait for", source))?;
        self.converter.refresh();
        let limit_bytes = context.config().client.hash_limit_bytes;
        let mut told = self.receive(outlet, limit_bytes)?;
        if self.asked.elapsed() >= STATE_EVERY {
            self.asked = Instant::now();
            told += self.lost(outlet)?;
        }
        if self.scanned.elapsed() >= SCAN_EVERY {
            self.scanned = Instant::now();
            self.converter.tree.scan(since_boot_ns());
        }
        Ok(told > 0)
    }
}

fn own(control: &mut Socket, before: State) -> Result<Socket, Error> {
    if before.enabled == 2 {
        return Err(unavailable(
            "the rules of audit are locked until the next boot (auditctl -e 2)",
        ));
    }
    let mut records = Socket::open().map_err(refused)?;
    records.set_buffer(BUFFER_BYTES).map_err(refused)?;
    records
        .own(before.backlog_limit.max(BACKLOG))
        .map_err(refused)?;
    for (index, abi) in ABIS.into_iter().enumerate() {
        match control.add_rule(abi) {
            Ok(_) => {}
            // A kernel without 32-bit programs has no such rules, nor such executions.
            Err(_) if index > 0 => {}
            Err(error) => {
                let _ = records.disown(before);
                return Err(refused(error));
            }
        }
    }
    Ok(records)
}

fn listen(control: &mut Socket, state: State) -> Result<Socket, Error> {
    if !control.records_executions().map_err(refused)? {
        return Err(unavailable(format!(
            "process {} owns the kernel's audit and has no rule for all executions; add one to its \
             rules: -a always,exit -F arch=b64 -S execve,execveat",
            state.owner
        )));
    }
    let records = Socket::listen().map_err(refused)?;
    records.set_buffer(BUFFER_BYTES).map_err(refused)?;
    Ok(records)
}

impl Drop for Audit {
    fn drop(&mut self) {
        let Some(before) = self.before else { return };
        for abi in ABIS {
            // It may be gone, or was never there.
            let _ = self.control.delete_rule(abi);
        }
        if let Err(error) = self.records.disown(before) {
            tracing::warn!(%error, "audit cannot be given up");
        }
    }
}

fn refused(source: io::Error) -> Error {
    Error::Os {
        what:
            "cannot use the kernel's audit; run the agent as root, or with CAP_AUDIT_CONTROL and \
               CAP_AUDIT_READ, on a kernel built with CONFIG_AUDITSYSCALL=y"
                .into(),
        source,
    }
}

fn unavailable(reason: impl Into<String>) -> Error {
    Error::Unavailable {
        source_name: Audit::SOURCE,
        reason: reason.into(),
    }
}

fn broken(what: &str, source: io::Error) -> Error {
    Error::Os {
        what: format!("cannot {what} records of the kernel's audit"),
        source,
    }
}
