//! The sensor: reads every source in turn, and commits events with positions.

use std::time::{Duration, Instant};

use yinglong_model::{DropReason, EventData, Observation, Timestamp, host::SensorStatus};
use yinglong_sensor::{Context, Error, Outlet, Sensor};

use super::{
    Options, Paths,
    audit::Audit,
    database::{Database, Form},
    duplicates::Duplicates,
    file::LogFile,
    journal::Journal,
    tamper::{Finding, Lastlog},
    told::{Batch, Told, is_unknown},
};
use crate::{
    accounts::Accounts,
    inventory::{Root, facts},
    standing::Standing,
};

/// Time between two looks at the sources; looking costs a few stat(2) per file.
const POLL: Duration = Duration::from_millis(200);

/// Mark of the logins that were reported a short while ago.
const RECENT_MARK: &str = "logins.recent";
/// Mark of the place in the journal.
const JOURNAL_MARK: &str = "logins.journal";
/// Mark of what is known of lastlog.
const LASTLOG_MARK: &str = "logins.lastlog";

/// How long a login of an account that its witness does not know waits for one that does.
const PATIENCE: Duration = Duration::from_millis(1500);

/// Logins that wait at most.
const WAITING: usize = 1024;

/// Reads what tells of logins.
pub(super) struct Reader {
    options: Options,
    files: Vec<LogFile>,
    /// Opened by the first pass: what was remembered is known then.
    rest: Option<Rest>,
    audit: Option<Audit>,
    duplicates: Duplicates,
    waiting: Vec<(Instant, Told)>,
    accounts: Accounts,
    hostname: String,
    /// Words of the marks that were committed.
    marked: Vec<(String, String)>,
}

/// Sources that need their marks to be opened.
struct Rest {
    journal: Option<Journal>,
    databases: Vec<Database>,
    lastlog: Lastlog,
}

impl Reader {
    pub(super) fn new(options: Options) -> Self {
        let accounts = Accounts::default();
        let paths = &options.paths;
        let mut files = vec![LogFile::wtmp(&paths.wtmp), LogFile::btmp(&paths.btmp)];
        let logs = paths.auth.iter().enumerate();
        files.extend(logs.map(|(number, path)| LogFile::log(path, number)));
        Self {
            audit: options.audit.then(|| Audit::open(accounts.clone())),
            files,
            rest: None,
            duplicates: Duplicates::default(),
            waiting: Vec::new(),
            accounts,
            hostname: String::new(),
            marked: Vec::new(),
            options,
        }
    }

    /// Reads what is new; says whether there may be more at once.
    fn pass(&mut self, outlet: &mut dyn Outlet, now: Timestamp) -> Result<bool, Error> {
        let mut batch = Batch::default();
        let more = self.read(&*outlet, now, &mut batch);
        let told = std::mem::take(&mut batch.told);
        let any = self.report(told, outlet, now, more);
        let mut changed = any || !batch.tampered.is_empty();
        for finding in std::mem::take(&mut batch.tampered) {
            outlet.emit(self.tampering(&finding, now));
        }
        for (reason, count) in [
            (DropReason::Malformed, batch.malformed),
            (DropReason::TooLarge, batch.too_large),
            (DropReason::QueueOverflow, batch.overflowed),
        ] {
            if count > 0 {
                outlet.lose(reason, count);
                changed = true;
            }
        }
        if any {
            outlet.mark(RECENT_MARK, self.duplicates.save());
        }
        for file in &mut self.files {
            changed |= file.remember(outlet);
        }
        changed |= self.remember(outlet);
        if changed {
            outlet.commit()?;
        }
        Ok(more)
    }

    fn read(&mut self, outlet: &dyn Outlet, now: Timestamp, batch: &mut Batch) -> bool {
        let rest = self
            .rest
            .get_or_insert_with(|| Rest::open(&self.options, outlet));
        // The better proof first.
        let mut more = false;
        let mut proof = false;
        if let Some(journal) = &mut rest.journal {
            more |= journal.read(now, batch);
            proof = journal.reason().is_none();
        }
        if let Some(audit) = &mut self.audit {
            audit.look();
            more |= audit.read(now, batch);
        }
        for database in &mut rest.databases {
            database.read(now, batch);
        }
        if let Some(kind) = rest.lastlog.look() {
            batch.tampered.push(Finding {
                path: self.options.paths.lastlog.clone(),
                kind,
            });
        }
        for file in &mut self.files {
            if !proof || !file.is_settling() {
                more |= file.read(outlet, now, batch);
            }
        }
        more
    }

    /// Reports what nobody told before; says whether anything was told at all.
    fn report(
        &mut self,
        told: Vec<Told>,
        outlet: &mut dyn Outlet,
        now: Timestamp,
        more: bool,
    ) -> bool {
        // Who knows the account is heard before who does not.
        let (mut ready, waiting): (Vec<Told>, Vec<Told>) = told
            .into_iter()
            .partition(|told| told.forged || !is_unknown(&told.login.username));
        ready.sort_by_key(|told| told.at);
        let until = Instant::now() + PATIENCE;
        self.waiting
            .extend(waiting.into_iter().map(|told| (until, told)));
        let over = self.waiting.len().saturating_sub(WAITING);
        let due = self
            .waiting
            .iter()
            .take_while(|(until, _)| *until <= Instant::now())
            .count();
        ready.extend(self.waiting.drain(..due.max(over)).map(|(_, told)| told));
        let any = !ready.is_empty();
        for told in ready {
            let is_first = self.duplicates.is_first(&told, now);
            let Told {
                at,
                mut login,
                forged,
                ..
            } = told;
            if is_first && !forged {
                login.hostname.clone_from(&self.hostname);
                outlet.emit(Observation::Event {
                    occurred_at: at,
                    data: EventData::Loginlog(login),
                });
            }
        }
        if !more {
            self.duplicates.forget(now);
        }
        any
    }

    fn tampering(&self, finding: &Finding, now: Timestamp) -> Observation {
        Observation::Event {
            occurred_at: now,
            data: finding.event(&self.accounts),
        }
    }

    /// Marks of the sources that are no files of their own; says whether one changed.
    fn remember(&mut self, outlet: &mut dyn Outlet) -> bool {
        let Some(rest) = &self.rest else {
            return false;
        };
        let journal = rest.journal.as_ref().and_then(Journal::mark);
        let mut marks: Vec<(String, String)> = Vec::new();
        marks.extend(journal.map(|mark| (JOURNAL_MARK.to_owned(), mark.to_owned())));
        marks.extend(
            rest.lastlog
                .mark()
                .map(|mark| (LASTLOG_MARK.to_owned(), mark)),
        );
        for database in &rest.databases {
            marks.extend(database.mark().map(|mark| (database_mark(database), mark)));
        }
        let changed = marks != self.marked;
        for mark in marks.iter().filter(|mark| !self.marked.contains(mark)) {
            outlet.mark(&mark.0, mark.1.clone());
        }
        self.marked = marks;
        changed
    }

    /// Names of what is read, and why others are not.
    fn standing(&self) -> (Vec<String>, Vec<String>) {
        let mut names = Vec::new();
        let mut reasons = Vec::new();
        let mut lines = false;
        if let Some(audit) = &self.audit {
            match audit.reason() {
                None => names.push("audit".to_owned()),
                Some(reason) => reasons.push(reason),
            }
        }
        let journal = match (&self.rest, &self.options.journal) {
            (Some(rest), _) => rest.journal.as_ref().map(|journal| match journal.reason() {
                None => Ok(()),
                Some(reason) => Err(reason.to_owned()),
            }),
            // Before the first turn: what it will find.
            (None, place) => place.as_ref().map(|place| place.program().map(drop)),
        };
        match journal {
            Some(Ok(())) => {
                names.push("journal".to_owned());
                lines = true;
            }
            Some(Err(reason)) => reasons.push(reason),
            None => {}
        }
        for file in &self.files {
            if std::fs::File::open(&file.path).is_ok() {
                names.extend(name_of(&file.path));
                lines |= file.is_log();
            }
        }
        for database in self.rest.iter().flat_map(|rest| &rest.databases) {
            if database.is_there() {
                names.extend(name_of(&database.path));
            }
            reasons.extend(database.failing.clone());
        }
        if self.rest.is_none() {
            let Paths {
                wtmpdb, lastlog2, ..
            } = &self.options.paths;
            let there = wtmpdb.iter().chain(lastlog2).filter(|path| path.is_file());
            names.extend(there.filter_map(|path| name_of(path)));
        }
        let audited = names.iter().any(|name| name == "audit");
        if names.is_empty() {
            reasons.insert(0, "nothing that tells of logins exists yet".to_owned());
        } else if lines || audited {
            // What else is not there is not missed: each of these tells of every login.
            reasons.retain(|reason| !is_absence(reason));
        } else {
            let remedy = "no text log of sshd; set YINGLONG_AUTH_LOG to it if there is one";
            reasons.insert(0, remedy.to_owned());
        }
        for file in &self.files {
            if let (Some(kind), Some(name)) = (file.tampered, name_of(&file.path)) {
                reasons.push(format!("{name} was tampered with ({})", kind.as_str()));
            }
        }
        (names, reasons)
    }
}

fn database_mark(database: &Database) -> String {
    format!("logins.db:{}", database.path.display())
}

fn name_of(path: &std::path::Path) -> Option<String> {
    Some(path.file_name()?.to_string_lossy().into_owned())
}

/// Whether a reason says no more than that this host does not have the source.
fn is_absence(reason: &str) -> bool {
    ["off", "none", "no journalctl", "not read yet"]
        .iter()
        .any(|end| reason.ends_with(end))
}

impl Rest {
    fn open(options: &Options, outlet: &dyn Outlet) -> Self {
        let Paths {
            wtmpdb,
            lastlog2,
            lastlog,
            ..
        } = &options.paths;
        let mut databases = Vec::new();
        for (path, form) in wtmpdb
            .iter()
            .map(|path| (path, Form::Wtmpdb))
            .chain(lastlog2.iter().map(|path| (path, Form::Lastlog2)))
        {
            let database = Database::new(path, form, None);
            let marked = outlet.marked(&database_mark(&database));
            databases.push(Database::new(path, form, marked.as_deref()));
        }
        let place = options.journal.clone();
        Self {
            journal: place.map(|place| Journal::new(place, outlet.marked(JOURNAL_MARK))),
            databases,
            lastlog: Lastlog::new(lastlog, outlet.marked(LASTLOG_MARK).as_deref()),
        }
    }
}

impl Sensor for Reader {
    fn stream(&self) -> &'static str {
        "loginlog"
    }

    fn status(&self) -> SensorStatus {
        let (names, reasons) = self.standing();
        SensorStatus {
            stream: self.stream().to_owned(),
            source: names.join("+"),
            running: true,
            reason: reasons.join("; "),
        }
    }

    fn run(&mut self, context: &Context, outlet: &mut dyn Outlet) -> Result<(), Error> {
        let now = Timestamp::from(std::time::SystemTime::now());
        let saved = outlet.marked(RECENT_MARK).unwrap_or_default();
        self.duplicates = Duplicates::restore(&saved, now);
        self.hostname = facts::hostname(&Root::host());
        let mut standing = Standing::default();
        while !context.stopping() {
            standing.look(self, outlet);
            let now = Timestamp::from(std::time::SystemTime::now());
            if !self.pass(outlet, now)? {
                std::thread::sleep(POLL);
            }
        }
        // Nobody else tells of them any more.
        let left = std::mem::take(&mut self.waiting);
        let now = Timestamp::from(std::time::SystemTime::now());
        let due = Instant::now();
        self.waiting = left.into_iter().map(|(_, told)| (due, told)).collect();
        self.report(Vec::new(), outlet, now, true);
        outlet.mark(RECENT_MARK, self.duplicates.save());
        outlet.commit()
    }
}

#[cfg(test)]
mod tests;
