//! Correlations made ready: checked, with their members found by rule.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use sha2::{Digest, Sha256};
use yinglong_rules::{
    About, Diagnostic,
    correlation::{Correlation, CorrelationKind, MemberExpr},
    ir::{Comparison, Number},
};

use crate::{
    Limits,
    order::{self, Term},
};

/// A correlation made ready.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) about: Arc<About>,
    pub(crate) reckoning: Reckoning,
    pub(crate) members: Vec<MemberPlan>,
    pub(crate) group_by: Vec<String>,
    pub(crate) bounds: Vec<(Comparison, f64)>,
    /// Length of the window in nanoseconds.
    pub(crate) span: i64,
    /// How long a match is kept behind the newest, in nanoseconds: the window and the lateness.
    pub(crate) keep: i64,
    /// How long a group is kept after it was last touched, in nanoseconds.
    pub(crate) idle: i64,
    /// Matches a group may hold.
    pub(crate) matches: usize,
    /// What fires is an alert, not only a match for other correlations.
    pub(crate) alerts: bool,
    /// Hash of everything that gives the state of a group its meaning.
    pub(crate) fingerprint: [u8; 32],
}

/// What is computed.
#[derive(Debug)]
pub(crate) enum Reckoning {
    Count,
    Distinct,
    Sum,
    Average,
    Percentile(f64),
    Median,
    Seen(Option<MemberExpr>),
    Ordered(Vec<Term>),
}

/// Where a member's event has what the correlation names.
#[derive(Debug)]
pub(crate) struct MemberPlan {
    /// Fields per group-by name, in the order of the names.
    pub(crate) group: Vec<Vec<String>>,
    /// Fields per aggregated name, in the order of the names.
    pub(crate) counted: Vec<Vec<String>>,
}

impl Plan {
    /// Whether one event counts once, whichever member it matches; otherwise once per member.
    pub(crate) fn counts_events(&self) -> bool {
        !matches!(self.reckoning, Reckoning::Seen(_) | Reckoning::Ordered(_))
    }

    /// Whether the aggregated values are numbers.
    pub(crate) fn counts_numbers(&self) -> bool {
        matches!(
            self.reckoning,
            Reckoning::Sum | Reckoning::Average | Reckoning::Percentile(_) | Reckoning::Median
        )
    }

    /// Whether all bounds hold.
    pub(crate) fn within_bounds(&self, value: f64) -> bool {
        self.bounds
            .iter()
            .all(|(comparison, bound)| comparison.holds(value, *bound))
    }
}

/// Whether a condition holds, given how often each member was seen.
pub(crate) fn holds(expr: &MemberExpr, counts: &[u32]) -> bool {
    match expr {
        MemberExpr::Seen(place) => counts.get(*place).is_some_and(|count| *count > 0),
        MemberExpr::All(parts) => parts.iter().all(|part| holds(part, counts)),
        MemberExpr::Any(parts) => parts.iter().any(|part| holds(part, counts)),
        MemberExpr::Not(part) => !holds(part, counts),
    }
}

/// Correlations made ready, and who takes the matches of which rule.
#[derive(Debug, Default)]
pub(crate) struct Plans {
    pub(crate) all: Vec<Plan>,
    /// Correlation and place among its members, by id of the rule or correlation.
    pub(crate) routes: HashMap<String, Arc<[(usize, u16)]>>,
    /// Rules that raise no alerts of their own.
    pub(crate) silenced: HashSet<String>,
}

/// Checks correlations. Those that cannot work are left out, each with an error that says why;
/// so are those that need one left out. `knows` tells whether there is a rule of an id.
pub(crate) fn compile(
    correlations: &[Correlation],
    knows: &dyn Fn(&str) -> bool,
    limits: &Limits,
) -> (Plans, Vec<Diagnostic>) {
    let mut found = Vec::new();
    let mut report = |correlation: &Correlation, mut diagnostic: Diagnostic| {
        diagnostic.rule = match correlation.about.name.as_str() {
            "" => correlation.about.id.clone(),
            name => name.to_owned(),
        };
        found.push(diagnostic);
    };
    let mut ready: Vec<(&Correlation, Plan)> = Vec::new();
    let mut ids = HashSet::new();
    for correlation in correlations {
        if !ids.insert(correlation.about.id.as_str()) {
            let reason = "another correlation has the same id; ids are unique";
            report(correlation, Diagnostic::error("id", reason));
            continue;
        }
        match plan(correlation, limits) {
            Ok((plan, warning)) => {
                if let Some(reason) = warning {
                    let warning = Diagnostic::warning("correlation.condition", reason);
                    report(correlation, warning);
                }
                ready.push((correlation, plan));
            }
            Err((path, reason)) => report(correlation, Diagnostic::error(path, reason)),
        }
    }
    // What stands on nothing is taken away until everything stands: what is left has a chain of
    // members down to rules, so there is no circle either.
    let mut standing: HashSet<&str> = HashSet::new();
    loop {
        let before = standing.len();
        for (correlation, _) in &ready {
            let stands = |id: &str| standing.contains(id) || (!ids.contains(id) && knows(id));
            if correlation.members.iter().all(|member| stands(&member.id)) {
                standing.insert(correlation.about.id.as_str());
            }
        }
        if standing.len() == before {
            break;
        }
    }
    ready.retain(|(correlation, _)| {
        let stands = standing.contains(correlation.about.id.as_str());
        if !stands {
            let missing = correlation
                .members
                .iter()
                .find(|m| {
                    !standing.contains(m.id.as_str())
                        && (ids.contains(m.id.as_str()) || !knows(&m.id))
                })
                .map_or("", |member| member.id.as_str());
            let reason = if ids.contains(missing) {
                format!(
                    "`{missing}` is refused itself, or takes the matches of this one in a circle"
                )
            } else {
                format!("there is no rule `{missing}`; load it, or correct the reference")
            };
            report(correlation, Diagnostic::error("correlation.rules", reason));
        }
        stands
    });
    let mut plans = Plans::default();
    let mut routes: HashMap<String, Vec<(usize, u16)>> = HashMap::new();
    for (index, (correlation, _)) in ready.iter().enumerate() {
        for (place, member) in correlation.members.iter().enumerate() {
            let place = u16::try_from(place).unwrap_or(u16::MAX);
            routes
                .entry(member.id.clone())
                .or_default()
                .push((index, place));
            if !correlation.generate {
                plans.silenced.insert(member.id.clone());
            }
        }
    }
    plans.routes = routes
        .into_iter()
        .map(|(id, route)| (id, route.into()))
        .collect();
    plans.all = ready.into_iter().map(|(_, plan)| plan).collect();
    for plan in &mut plans.all {
        plan.alerts = !plans.silenced.contains(&plan.about.id);
    }
    (plans, found)
}

/// Path and reason of what is wrong.
type Refused = (&'static str, String);

const CONDITION: &str = "correlation.condition";

fn plan(
    correlation: &Correlation,
    limits: &Limits,
) -> Result<(Plan, Option<&'static str>), Refused> {
    check_members(correlation)?;
    let span = nanos(correlation.timespan);
    if span == 0 {
        let reason = "the window needs a length, for example `5m`".to_owned();
        return Err(("correlation.timespan", reason));
    }
    let counted: &[String] = match &correlation.kind {
        CorrelationKind::ValueCount(names) => names,
        CorrelationKind::ValueSum(name)
        | CorrelationKind::ValueAvg(name)
        | CorrelationKind::ValuePercentile(name, _)
        | CorrelationKind::ValueMedian(name) => std::slice::from_ref(name),
        _ => &[],
    };
    let (reckoning, bounds) = reckoning(correlation, counted)?;
    let matches = room(&reckoning, &bounds, limits)?;
    let upper_only = !bounds.is_empty()
        && matches!(reckoning, Reckoning::Count | Reckoning::Distinct)
        && bounds.iter().all(|(comparison, bound)| {
            matches!(comparison, Comparison::Less | Comparison::LessOrEqual)
                && comparison.holds(1.0, *bound)
        });
    let members = correlation
        .members
        .iter()
        .map(|member| {
            let fields = |name: &String| match member.fields.get(name) {
                Some(fields) if !fields.is_empty() => fields.clone(),
                _ => vec![name.clone()],
            };
            MemberPlan {
                group: correlation.group_by.iter().map(fields).collect(),
                counted: counted.iter().map(fields).collect(),
            }
        })
        .collect();
    let keep = span.saturating_add(nanos(limits.lateness));
    let plan = Plan {
        about: Arc::clone(&correlation.about),
        reckoning,
        members,
        group_by: correlation.group_by.clone(),
        bounds,
        span,
        keep,
        idle: keep.saturating_add(nanos(limits.idle)),
        matches,
        alerts: true,
        fingerprint: fingerprint(correlation),
    };
    let warning = upper_only.then_some(
        "there is no lower bound, so it holds from the first match on; a window is judged when a \
         match arrives, not when it ends",
    );
    Ok((plan, warning))
}

fn check_members(correlation: &Correlation) -> Result<(), Refused> {
    let members = &correlation.members;
    let refused = |reason: String| Err(("correlation.rules", reason));
    if correlation.about.id.is_empty() {
        return Err(("id", "a correlation needs an id".to_owned()));
    }
    if members.is_empty() {
        return refused("name at least one rule".to_owned());
    }
    if members.len() > 1000 {
        return refused("more than 1000 rules; split them over several correlations".to_owned());
    }
    let mut ids = HashSet::new();
    for member in members {
        if member.id == correlation.about.id {
            return refused("it takes its own matches; name another rule".to_owned());
        }
        if !ids.insert(member.id.as_str()) {
            return refused(format!("`{}` is named twice; name it once", member.id));
        }
    }
    Ok(())
}

type Bounds = Vec<(Comparison, f64)>;

fn reckoning(
    correlation: &Correlation,
    counted: &[String],
) -> Result<(Reckoning, Bounds), Refused> {
    let members = correlation.members.len();
    let mut bounds: Bounds = correlation
        .bounds
        .iter()
        .map(|(comparison, bound)| (*comparison, bound.get()))
        .collect();
    let temporal = matches!(
        correlation.kind,
        CorrelationKind::Temporal | CorrelationKind::TemporalOrdered
    );
    if !temporal && bounds.is_empty() {
        return Err((
            CONDITION,
            "say what to compare with, for example `gte: 10`".into(),
        ));
    }
    if !temporal && correlation.condition.is_some() {
        return Err((
            CONDITION,
            "only temporal kinds have a condition over rules".into(),
        ));
    }
    if matches!(correlation.kind, CorrelationKind::ValueCount(_)) && counted.is_empty() {
        return Err((CONDITION, "name the field whose values are counted".into()));
    }
    if let Some(place) = correlation
        .condition
        .as_ref()
        .and_then(|e| beyond(e, members))
    {
        return Err((
            CONDITION,
            format!("it names rule number {place}, but there are {members}"),
        ));
    }
    let reckoning = match &correlation.kind {
        CorrelationKind::EventCount => Reckoning::Count,
        CorrelationKind::ValueCount(_) => Reckoning::Distinct,
        CorrelationKind::ValueSum(_) => Reckoning::Sum,
        CorrelationKind::ValueAvg(_) => Reckoning::Average,
        CorrelationKind::ValueMedian(_) => Reckoning::Median,
        CorrelationKind::ValuePercentile(_, percent) => {
            let percent = percent.get();
            if !(0.0..=100.0).contains(&percent) {
                return Err((CONDITION, "a percentile lies between 0 and 100".into()));
            }
            Reckoning::Percentile(percent)
        }
        CorrelationKind::Temporal => Reckoning::Seen(correlation.condition.clone()),
        CorrelationKind::TemporalOrdered => {
            let terms = match &correlation.condition {
                Some(expr) => order::terms(expr),
                None => {
                    let needed = needed(&bounds, members).ok_or_else(|| {
                        let reason = "ordered kinds can be bounded below only (`gt`, `gte`), by at \
                                      most the number of rules";
                        (CONDITION, reason.to_owned())
                    })?;
                    bounds.clear();
                    order::choices(members, needed)
                }
            };
            match terms {
                None => {
                    let reason = "there are more than 64 ways to satisfy it; split it over several \
                                  correlations";
                    return Err((CONDITION, reason.into()));
                }
                Some(terms) if terms.is_empty() => {
                    return Err((CONDITION, "it contradicts itself and can never hold".into()));
                }
                Some(terms) => Reckoning::Ordered(terms),
            }
        }
    };
    Ok((reckoning, bounds))
}

/// Number of members that must be seen in order; all when nothing is said.
fn needed(bounds: &[(Comparison, f64)], members: usize) -> Option<usize> {
    let mut needed = if bounds.is_empty() { members } else { 1 };
    for (comparison, bound) in bounds {
        let least = match comparison {
            Comparison::GreaterOrEqual => bound.ceil(),
            Comparison::Greater => bound.floor() + 1.0,
            Comparison::Equal if *bound == members as f64 => *bound,
            _ => return None,
        };
        needed = needed.max(least.clamp(0.0, 1e9) as usize);
    }
    (needed <= members).then_some(needed)
}

/// A place in the condition that no member has.
fn beyond(expr: &MemberExpr, members: usize) -> Option<usize> {
    match expr {
        MemberExpr::Seen(place) => (*place >= members).then_some(*place),
        MemberExpr::All(parts) | MemberExpr::Any(parts) => {
            parts.iter().find_map(|part| beyond(part, members))
        }
        MemberExpr::Not(part) => beyond(part, members),
    }
}

/// Matches a group must have room for.
fn room(
    reckoning: &Reckoning,
    bounds: &[(Comparison, f64)],
    limits: &Limits,
) -> Result<usize, Refused> {
    let largest = match reckoning {
        Reckoning::Count | Reckoning::Distinct => {
            bounds.iter().map(|(_, bound)| *bound).fold(0.0, f64::max)
        }
        _ => 0.0,
    };
    let most = Limits::MOST_MATCHES;
    if largest * 2.0 > most as f64 {
        let reason = format!("more than {} cannot be counted in one group", most / 2);
        return Err((CONDITION, reason));
    }
    let room = limits.matches_per_group.max(largest as usize * 2);
    Ok(room.clamp(8, most))
}

/// Nanoseconds, at most half of what a time can be: sums of two stay in range.
pub(crate) fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).map_or(i64::MAX / 4, |nanos| nanos.min(i64::MAX / 4))
}

fn fingerprint(correlation: &Correlation) -> [u8; 32] {
    let Correlation {
        about: _,
        kind,
        members,
        group_by,
        timespan,
        bounds,
        condition,
        generate: _,
    } = correlation;
    let bounds: Vec<(&str, Number)> = bounds.iter().map(|(c, n)| (c.sign(), *n)).collect();
    let text = format!("{kind:?}{members:?}{group_by:?}{timespan:?}{bounds:?}{condition:?}");
    Sha256::digest(text.as_bytes()).into()
}
