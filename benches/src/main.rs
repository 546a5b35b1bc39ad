//! The detection engine beside rsigma-eval: the same rules, the same events, one thread, and every
//! pair of event and rule compared.
//!
//! `cargo run --release --manifest-path benches/Cargo.toml -- --help`

mod agents;
mod corpus;
mod events;
mod templates;

use std::{collections::HashMap, fs, hint::black_box, path::PathBuf};

use clap::{Parser, ValueEnum};
use events::Event;
use rsigma_eval::event::EventValue;
use yinglong_detect::{Element, Engine, Sample, Scratch};
use yinglong_model::{config::List, event::System};
use yinglong_rules::{
    Class,
    sigma::{self, Mapping, Options},
    taxonomy::{Binding, LogSource},
};

#[derive(Parser)]
struct Args {
    /// Archive of public Sigma rules; our own rules are taken where it is not.
    #[arg(long, default_value = "../shared/data/sigma-rules.tar.xz")]
    archive: PathBuf,
    /// Measures decoding, the classic and the default rules over events of agents instead.
    #[arg(long)]
    agents: bool,
    /// Whose rules and events.
    #[arg(long, value_enum, default_value = "windows")]
    system: Platform,
    /// Numbers of rules, by commas; 0 stands for all there are.
    #[arg(long, value_delimiter = ',', default_value = "100,1000,0,3000,10000")]
    rules: Vec<usize>,
    /// Events of a measurement.
    #[arg(long, default_value_t = 20_000)]
    events: usize,
    /// Runs of each engine; the best counts.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Names the rules that are looked at for every event.
    #[arg(long)]
    verbose: bool,
    /// Leaves the peer out.
    #[arg(long)]
    alone: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Platform {
    Windows,
    Linux,
}

/// The events are records of another program, as `yinglong replay` reads them.
const RECORDS: Class = Class::Log("windows/sysmon");

/// Events of this class keep the names that the rules use, so that both engines see the same.
struct AsWritten(System);

impl Mapping for AsWritten {
    fn bindings(&self, _: &LogSource) -> Result<Vec<Binding>, String> {
        Ok(vec![Binding::whole(RECORDS, self.0)])
    }

    fn field(&self, _: &Binding, name: &str) -> String {
        name.to_owned()
    }
}

/// The same event for the peer: a hash table, the fastest of its forms.
struct Peer(HashMap<&'static str, String>);

impl rsigma_eval::Event for Peer {
    fn get_field(&self, path: &str) -> Option<EventValue<'_>> {
        self.0
            .get(path)
            .map(|value| EventValue::Str(value.as_str().into()))
    }

    fn any_string_value(&self, pred: &dyn Fn(&str) -> bool) -> bool {
        self.0.values().any(|value| pred(value))
    }

    fn all_string_values(&self) -> Vec<std::borrow::Cow<'_, str>> {
        self.0.values().map(|value| value.as_str().into()).collect()
    }

    fn to_json(&self) -> serde_json::Value {
        let values = self
            .0
            .iter()
            .map(|(k, v)| ((*k).to_owned(), v.clone().into()));
        serde_json::Value::Object(values.collect())
    }
}

/// CPU time of this thread in seconds: others on the machine do not count.
fn cpu() -> f64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the clock exists on Linux and the structure outlives the call.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn rss_mib() -> f64 {
    // SAFETY: gives free memory back; no pointer is involved.
    unsafe { libc::malloc_trim(0) };
    let text = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: f64 = text
        .split(' ')
        .nth(1)
        .and_then(|n| n.parse().ok())
        .unwrap_or(0.0);
    pages * 4096.0 / 1048576.0
}

fn element(event: &Event, system: System) -> Element<'_> {
    Element {
        class: RECORDS,
        system,
        fields: event,
        count: None,
        learn: false,
    }
}

/// Seconds of the fastest run. Events come in batches whose values were just read, as they are when a
/// decoder has just written them; otherwise a benchmark measures how memory is fetched.
fn best_of<E>(
    runs: usize,
    events: &[E],
    mut judge: impl FnMut(&E),
    values: impl Fn(&E) -> Vec<&str>,
) -> f64 {
    const BATCH: usize = 64;
    (0..runs)
        .map(|_| {
            let mut seconds = 0.0;
            for batch in events.chunks(BATCH) {
                for event in batch {
                    let sum: usize = values(event)
                        .iter()
                        .flat_map(|v| v.bytes())
                        .map(usize::from)
                        .sum();
                    black_box(sum);
                }
                let start = cpu();
                batch.iter().for_each(&mut judge);
                seconds += cpu() - start;
            }
            seconds
        })
        .fold(f64::INFINITY, f64::min)
}

/// Figures of one engine.
struct Figures {
    loaded: usize,
    parse_ms: f64,
    compile_ms: f64,
    rss_mib: f64,
    us_per_event: f64,
    pairs: Vec<(u32, String)>,
}

fn ours(
    rules: &[corpus::Rule],
    events: &[Event],
    system: System,
    runs: usize,
    verbose: bool,
) -> Figures {
    let before = rss_mib();
    let start = cpu();
    let mut documents = Vec::new();
    for rule in rules {
        documents.extend(sigma::parse(&rule.text, "").0);
    }
    let parse_ms = (cpu() - start) * 1e3;
    let mut sample = Sample::default();
    events
        .iter()
        .take(4096)
        .for_each(|event| sample.keep(&element(event, system)));
    let start = cpu();
    let loaded = sigma::compile_with(&documents, &Options::default(), &AsWritten(system));
    drop(documents);
    let ids: Vec<String> = loaded
        .rules
        .iter()
        .map(|rule| rule.about.id.clone())
        .collect();
    let none = List::default();
    let (engine, diagnostics) = Engine::new(loaded.rules, &none, &none, &sample);
    drop(sample);
    let compile_ms = (cpu() - start) * 1e3;
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    let mut scratch = Scratch::default();
    let mut pairs = Vec::new();
    let mut found = Vec::new();
    for (number, event) in (0_u32..).zip(events) {
        found.clear();
        engine.matches(&element(event, system), &mut scratch, &mut found);
        pairs.extend(
            found
                .iter()
                .map(|rule| (number, ids[*rule as usize].clone())),
        );
    }
    let rss_mib = rss_mib() - before;
    let best = best_of(
        runs,
        events,
        |event| {
            found.clear();
            engine.matches(&element(event, system), &mut scratch, &mut found);
            black_box(&found);
        },
        |event| {
            event
                .values
                .iter()
                .map(|(_, value)| value.as_str())
                .collect()
        },
    );
    let always = engine.always_evaluated();
    eprintln!(
        "  {} of {} rules have no text to look for",
        always.len(),
        ids.len()
    );
    if verbose {
        always
            .iter()
            .for_each(|about| eprintln!("    {}", about.name));
    }
    Figures {
        loaded: ids.len(),
        parse_ms,
        compile_ms,
        rss_mib,
        us_per_event: best * 1e6 / events.len() as f64,
        pairs,
    }
}

fn peer(rules: &[corpus::Rule], events: &[Event], runs: usize) -> Figures {
    let events: Vec<Peer> = events
        .iter()
        .map(|event| Peer(event.values.iter().cloned().collect()))
        .collect();
    let before = rss_mib();
    let start = cpu();
    let parsed: Vec<_> = rules
        .iter()
        .filter_map(|rule| rsigma_parser::parse_sigma_yaml(&rule.text).ok())
        .collect();
    let parse_ms = (cpu() - start) * 1e3;
    let start = cpu();
    let mut engine = rsigma_eval::Engine::new();
    engine.add_rules(parsed.iter().flat_map(|collection| &collection.rules));
    drop(parsed);
    let compile_ms = (cpu() - start) * 1e3;
    let mut pairs = Vec::new();
    for (number, event) in (0_u32..).zip(&events) {
        for result in engine.evaluate(event) {
            pairs.push((number, result.header.rule_id.unwrap_or_default()));
        }
    }
    let rss_mib = rss_mib() - before;
    let best = best_of(
        runs,
        &events,
        |event| {
            black_box(engine.evaluate(event));
        },
        |event| event.0.values().map(String::as_str).collect(),
    );
    Figures {
        loaded: engine.rule_count(),
        parse_ms,
        compile_ms,
        rss_mib,
        us_per_event: best * 1e6 / events.len() as f64,
        pairs,
    }
}

fn print(name: &str, figures: &Figures) {
    println!(
        "{name:<10} {:>6} rules  parse {:>7.0} ms  compile {:>6.0} ms  RSS +{:>5.1} MiB  \
         {:>8.3} us/event  {:>9.0} events/s  {} matches",
        figures.loaded,
        figures.parse_ms,
        figures.compile_ms,
        figures.rss_mib,
        figures.us_per_event,
        1e6 / figures.us_per_event,
        figures.pairs.len()
    );
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if args.agents {
        agents::run();
        return Ok(());
    }
    let (system, name, category, events) = match args.system {
        Platform::Windows => (
            System::Windows,
            "windows",
            Some("process_creation"),
            events::windows(args.events),
        ),
        Platform::Linux => (System::Linux, "linux", None, events::linux(args.events)),
    };
    let (base, whose) = if args.archive.exists() {
        (corpus::read(&args.archive, name, category)?, "public")
    } else {
        (corpus::own(name)?, "our own")
    };
    println!(
        "{} {whose} rules for {name}, {} events",
        base.len(),
        events.len()
    );
    let (mut different, mut equal) = (0, 0);
    for count in &args.rules {
        let count = if *count == 0 { base.len() } else { *count };
        let rules = corpus::scale(&base, count);
        let mut mine = ours(&rules, &events, system, args.runs, args.verbose);
        print("yinglong", &mine);
        if args.alone {
            continue;
        }
        let mut other = peer(&rules, &events, args.runs);
        print("rsigma", &other);
        mine.pairs.sort_unstable();
        other.pairs.sort_unstable();
        let only_mine: Vec<_> = mine
            .pairs
            .iter()
            .filter(|pair| other.pairs.binary_search(pair).is_err())
            .collect();
        let only_other: Vec<_> = other
            .pairs
            .iter()
            .filter(|pair| mine.pairs.binary_search(pair).is_err())
            .collect();
        println!(
            "           {:.1} times as fast; {} pairs only ours, {} only the peer's\n",
            other.us_per_event / mine.us_per_event,
            only_mine.len(),
            only_other.len()
        );
        different += only_mine.len() + only_other.len();
        equal += mine.pairs.len() - only_mine.len();
        for (who, pairs) in [("ours", only_mine), ("peer", only_other)] {
            for (event, rule) in pairs.into_iter().take(5) {
                let command = events[*event as usize]
                    .values
                    .iter()
                    .find(|v| v.0 == "CommandLine");
                println!("  only {who}: {rule} {command:?}");
            }
        }
    }
    if different > 0 {
        anyhow::bail!("{different} pairs of event and rule differ");
    }
    if equal == 0 && !args.alone {
        anyhow::bail!("nothing matched, so nothing was compared; give more events");
    }
    Ok(())
}
