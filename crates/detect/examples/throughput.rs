//! Prints how many events per second one core judges with the default rules:
//! `cargo run --release -p yinglong-detect --example throughput`.

use std::time::Instant;

use yinglong_detect::{Element, Engine, Sample, Scratch};
use yinglong_model::{
    EventData,
    config::List,
    event::{Connection, File, Process, System},
};
use yinglong_rules::{Class, compile, load_default};

/// Events of a busy web server: mostly programs, then connections, then files. One in a hundred
/// is detected.
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
                ..Process::default()
            })),
            6..=8 => EventData::Connection(Connection {
                local: "10.0.0.5:41000".to_owned(),
                remote: format!("192.0.2.{}:443", number % 250),
                remote_ip: format!("192.0.2.{}", number % 250),
                ..Connection::default()
            }),
            _ => EventData::File(File {
                action: "WRITE".to_owned(),
                path: format!("/var/www/html/cache/{number}.html"),
                user: "www-data".to_owned(),
                web: Some(true),
                ..File::default()
            }),
        })
        .collect()
}

fn main() {
    let (rules, _) = load_default();
    let events = events();
    let element = |event| Element {
        class: Class::from(EventData::event_type(event)),
        system: System::Linux,
        fields: event,
        count: Some(7),
        learn: false,
    };
    let mut sample = Sample::default();
    events.iter().for_each(|event| sample.keep(&element(event)));
    let rules = compile(&rules, &Default::default()).rules;
    let (engine, _) = Engine::new(rules, &List::default(), &List::default(), &sample);
    let mut scratch = Scratch::default();
    let rounds = 20_u32;
    let mut detections = 0_usize;
    let start = Instant::now();
    for event in (0..rounds).flat_map(|_| &events) {
        let verdict = engine.evaluate(&element(event), &mut scratch);
        detections += verdict.detections.len();
    }
    let judged = f64::from(rounds) * events.len() as f64;
    println!(
        "{} rules, {judged} events, {detections} detections: {:.0} events/s per core",
        engine.rule_count(),
        judged / start.elapsed().as_secs_f64()
    );
}
