//! Events as agents send them: decoding, the classic rules, all default rules.

use std::{collections::BTreeMap, hint::black_box};

use yinglong_detect::{Element, Engine, Sample, Scratch};
use yinglong_model::{
    EventData, Observation, Timestamp,
    config::List,
    event::{Connection, File, Process, System},
    rule::Rule,
};
use yinglong_proto::{decode_record, encode_record};
use yinglong_rules::{Class, compile, load_default};

use crate::cpu;

/// Events of a busy web server: mostly programs, then connections, then files. One in a hundred is
/// detected.
fn events() -> Vec<EventData> {
    (0..10_000_u32)
        .map(|number| match number % 10 {
            0..=5 => EventData::Process(Box::new(Process {
                name: format!("/usr/bin/tool{}", number % 200),
                command: format!(
                    "/usr/bin/tool{} --config /etc/tool/{number}.conf --output /var/lib/tool/{number}",
                    number % 200
                ),
                pid: number,
                ppid: 1,
                parentname: if number % 100 == 5 { "nginx" } else { "bash" }.to_owned(),
                info: "PWD=/root LOGNAME=root USER=root".to_owned(),
                uid: Some(0),
                user: Some("root".to_owned()),
                cwd: Some("/root".to_owned()),
                ancestors: vec!["/usr/bin/bash".to_owned(), "/usr/sbin/sshd".to_owned()],
                ..Process::default()
            })),
            6..=8 => EventData::Connection(Connection {
                local: "10.0.0.5:41000".to_owned(),
                remote: format!("192.0.2.{}:443", number % 250),
                remote_ip: format!("192.0.2.{}", number % 250),
                ..Connection::default()
            }),
            _ => EventData::File(Box::new(File {
                action: "WRITE".to_owned(),
                path: format!("/var/www/html/cache/{number}.html"),
                user: "www-data".to_owned(),
                web: Some(true),
                ..File::default()
            })),
        })
        .collect()
}

/// Seconds of CPU per event of the fastest of some rounds.
fn per_event(events: usize, mut round: impl FnMut()) -> f64 {
    const ROUNDS: u32 = 20;
    let seconds = (0..ROUNDS).map(|_| {
        let start = cpu();
        round();
        cpu() - start
    });
    seconds.fold(f64::INFINITY, f64::min) / events as f64
}

fn judge(name: &str, rules: &[Rule], events: &[EventData]) {
    let element = |event| Element {
        class: Class::from(EventData::event_type(event)),
        system: System::Linux,
        fields: event,
        count: Some(7),
        learn: false,
    };
    let mut sample = Sample::default();
    events.iter().for_each(|event| sample.keep(&element(event)));
    let none = List::default();
    let rules = compile(rules, &BTreeMap::new()).rules;
    let (engine, _) = Engine::new(rules, &none, &none, &sample);
    let mut scratch = Scratch::default();
    let mut detections = 0;
    let seconds = per_event(events.len(), || {
        detections = 0;
        for event in events {
            detections += engine
                .evaluate(&element(event), &mut scratch)
                .detections
                .len();
        }
    });
    println!(
        "{name}: {} rules, {detections} detections in {} events, explained: {:.3} us/event, {:.0} events/s",
        engine.rule_count(),
        events.len(),
        seconds * 1e6,
        1.0 / seconds
    );
}

/// Prints the figures.
pub fn run() {
    let events = events();
    let (rules, _) = load_default();
    let classic: Vec<Rule> = rules
        .iter()
        .filter(|rule| rule.sigma.is_empty())
        .cloned()
        .collect();
    judge("classic", &classic, &events);
    judge("default", &rules, &events);
    let at = Timestamp::from_secs(1_764_000_000);
    let records: Vec<Vec<u8>> = events
        .iter()
        .map(|data| {
            let data = data.clone();
            encode_record(
                at,
                &Observation::Event {
                    occurred_at: at,
                    data,
                },
            )
        })
        .collect();
    let bytes: usize = records.iter().map(Vec::len).sum();
    let seconds = per_event(records.len(), || {
        for record in &records {
            black_box(decode_record(record).is_ok());
        }
    });
    println!(
        "decode: {:.3} us/event of {} bytes",
        seconds * 1e6,
        bytes / records.len()
    );
}
