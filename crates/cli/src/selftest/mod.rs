//! The product's own proof: does harmless things an attacker would do, and looks whether each was
//! seen and raised its alert.

mod behaviour;
mod login;
mod traces;

use std::{
    thread,
    time::{Duration, Instant},
};

use serde::Serialize;

pub(crate) use behaviour::Host;
use behaviour::{ALL, Behaviour, Mark, Sight};
use traces::Traces;

/// How long an event and its alert may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long an inventory may take beyond one cycle: collecting, sending, judging.
const COLLECTION: Duration = Duration::from_secs(60);
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// Looks at what the server has.
pub(crate) trait Watch {
    /// When the alert of this rule that contains `text` was shown, and when its event happened.
    ///
    /// # Errors
    /// The server does not answer.
    fn alert(&self, rule: &str, text: &str) -> anyhow::Result<Option<Sighting>>;

    /// Whether an event matches.
    ///
    /// # Errors
    /// The server does not answer.
    fn event(&self, query: &str) -> anyhow::Result<bool>;

    /// Whether an inventory of this host has an element with `word` in it.
    ///
    /// # Errors
    /// The server does not answer.
    fn inventory(&self, kind: &str, word: &str) -> anyhow::Result<bool>;
}

/// An alert that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sighting {
    /// Milliseconds from the observed thing to this look.
    pub(crate) latency_ms: u64,
}

/// What became of one behaviour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Outcome {
    /// What was done.
    pub(crate) behaviour: &'static str,
    /// ATT&CK technique.
    pub(crate) technique: &'static str,
    /// Rule that was expected to match.
    pub(crate) rule: &'static str,
    /// Its mark, to search for.
    pub(crate) mark: String,
    /// It was stored as an event or inventory element.
    pub(crate) event: bool,
    /// The alert was raised.
    pub(crate) alert: bool,
    /// Milliseconds from the observed thing to the alert being visible.
    pub(crate) latency_ms: Option<u64>,
    /// Why it was not done on this host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) skipped: Option<String>,
    /// Why it could not be done, or looked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

impl Outcome {
    /// Whether the proof failed here.
    pub(crate) fn is_missed(&self) -> bool {
        self.skipped.is_none() && !(self.event && self.alert)
    }
}

/// Options of a run.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// What this host can show.
    pub(crate) host: Host,
    /// Time between two looks at the inventories.
    pub(crate) cycle: Duration,
    /// Leave the inventories out.
    pub(crate) quick: bool,
    /// Number that makes the marks of this run unique.
    pub(crate) run: u32,
}

/// Does everything; `progress` is told each outcome as it is known.
pub(crate) fn run(
    plan: &Plan,
    watch: &dyn Watch,
    mut progress: impl FnMut(&Outcome),
) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    let mut waiting = Vec::new();
    for (number, behaviour) in (0..).zip(ALL) {
        let mark = Mark::new(plan.run, number);
        let mut outcome = begin(behaviour, &mark);
        let slow = matches!(behaviour.sight, Sight::Inventory(_));
        outcome.skipped = match (behaviour.obstacle)(&plan.host) {
            None if slow && plan.quick => Some("left out by --quick".to_owned()),
            obstacle => obstacle,
        };
        let mut traces = Traces::default();
        let started = Instant::now();
        if outcome.skipped.is_none()
            && let Err(error) = (behaviour.perform)(&mark, &plan.host, &mut traces)
        {
            outcome.error = Some(format!("{error:#}"));
        }
        if outcome.skipped.is_none() && outcome.error.is_none() {
            if slow {
                // All lists are collected together: they are waited for together, too.
                waiting.push((behaviour, mark, outcome, traces, started));
                continue;
            }
            look(behaviour, &mark, &mut outcome, watch, started + PATIENCE);
        }
        progress(&outcome);
        outcomes.push(outcome);
    }
    for (behaviour, mark, mut outcome, traces, started) in waiting {
        look(
            behaviour,
            &mark,
            &mut outcome,
            watch,
            started + plan.cycle + COLLECTION,
        );
        drop(traces);
        progress(&outcome);
        outcomes.push(outcome);
    }
    outcomes
}

fn begin(behaviour: &Behaviour, mark: &Mark) -> Outcome {
    let by_address = matches!(behaviour.sight, Sight::Event("connection" | "loginlog"));
    Outcome {
        behaviour: behaviour.name,
        technique: behaviour.technique,
        rule: behaviour.rule,
        mark: if by_address {
            mark.address.to_string()
        } else {
            mark.word.clone()
        },
        event: false,
        alert: false,
        latency_ms: None,
        skipped: None,
        error: None,
    }
}

/// Looks until both event and alert are there, or the time is up.
fn look(
    behaviour: &Behaviour,
    mark: &Mark,
    outcome: &mut Outcome,
    watch: &dyn Watch,
    until: Instant,
) {
    loop {
        match look_once(behaviour, mark, outcome, watch) {
            Ok(()) => outcome.error = None,
            Err(error) => outcome.error = Some(format!("{error:#}")),
        }
        if (outcome.event && outcome.alert) || Instant::now() >= until {
            return;
        }
        let slow = matches!(behaviour.sight, Sight::Inventory(_));
        thread::sleep(if slow { LOOK * 10 } else { LOOK });
    }
}

fn look_once(
    behaviour: &Behaviour,
    mark: &Mark,
    outcome: &mut Outcome,
    watch: &dyn Watch,
) -> anyhow::Result<()> {
    if !outcome.alert
        && let Some(sighting) = watch.alert(behaviour.rule, &outcome.mark)?
    {
        outcome.alert = true;
        outcome.latency_ms = Some(sighting.latency_ms);
    }
    if outcome.alert && !outcome.event {
        outcome.event = match behaviour.sight {
            Sight::Event("connection") => watch.event(&format!(
                "type:connection | remote_ip.keyword:{}",
                mark.address
            ))?,
            Sight::Event("loginlog") => {
                watch.event(&format!("type:loginlog | remote.keyword:{}", mark.address))?
            }
            Sight::Event(kind) => watch.event(&format!("type:{kind} | all:{}", mark.word))?,
            Sight::Inventory(kind) => watch.inventory(kind, &mark.word)?,
        };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// A server that shows everything at the second look, but for one rule.
    struct Fake {
        blind_for: &'static str,
        looks: Cell<u32>,
    }

    impl Watch for Fake {
        fn alert(&self, rule: &str, _: &str) -> anyhow::Result<Option<Sighting>> {
            self.looks.set(self.looks.get() + 1);
            let seen = rule != self.blind_for && self.looks.get().is_multiple_of(2);
            Ok(seen.then_some(Sighting { latency_ms: 5 }))
        }

        fn event(&self, query: &str) -> anyhow::Result<bool> {
            assert!(query.starts_with("type:"));
            Ok(true)
        }

        fn inventory(&self, _: &str, _: &str) -> anyhow::Result<bool> {
            Ok(true)
        }
    }

    fn outcome_of(behaviour: &Behaviour, blind_for: &'static str) -> Outcome {
        let mark = Mark::new(1, 1);
        let mut outcome = begin(behaviour, &mark);
        let watch = Fake {
            blind_for,
            looks: Cell::new(0),
        };
        let until = Instant::now() + LOOK * 3;
        look(behaviour, &mark, &mut outcome, &watch, until);
        outcome
    }

    #[test]
    fn what_is_seen_counts_and_what_is_not_is_missed() {
        for behaviour in ALL {
            let seen = outcome_of(behaviour, "");
            assert!(seen.event && seen.alert && !seen.is_missed());
            assert_eq!(seen.latency_ms, Some(5));
            assert!(outcome_of(behaviour, behaviour.rule).is_missed());
        }
    }

    #[test]
    fn what_this_host_cannot_show_is_not_missed() {
        let outcome = Outcome {
            skipped: Some("no".into()),
            ..begin(&ALL[0], &Mark::new(1, 1))
        };
        assert!(!outcome.is_missed());
    }
}
