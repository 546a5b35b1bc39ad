//! `yinglong-agent status`: whether the agent runs, what each sensor really does and why, where
//! everything observed went, and what it all costs.

use std::{
    fmt::Write as _,
    path::Path,
    process::ExitCode,
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use yinglong_agent::{
    scanner,
    worker::{self, Status},
};
use yinglong_model::{Timestamp, host::SensorStatus, ladder};

use super::{State, books, print};

/// Ends with status 0 when every sensor observes, 1 when the agent does not run or something is amiss.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    state: State,
    /// As JSON, as the agent wrote it; `written_at` tells when.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let path = worker::status_path(&args.state.state);
    let text = std::fs::read_to_string(&path).with_context(|| {
        format!(
            "no status in {}; is the agent running, and is this its --state?",
            path.display()
        )
    })?;
    let status: Status = serde_json::from_str(&text).context("the status is unreadable")?;
    let now = Timestamp::from(SystemTime::now());
    let alive = Path::new("/proc").join(status.pid.to_string()).exists();
    let trouble = trouble(&status, now, alive);
    if args.json {
        print(&format!("{}\n", text.trim_end()))?;
    } else {
        print(&show(&status, now, &trouble))?;
    }
    Ok(match trouble.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// What is amiss, in plain words.
fn trouble(status: &Status, now: Timestamp, alive: bool) -> Vec<String> {
    let mut found = Vec::new();
    let age = status.written_at.map(|at| now.since(at));
    if !alive {
        found.push("the agent is not running; what follows is how it was".to_owned());
    } else if age.is_none_or(|age| age > worker::STATUS_STALE) {
        found.push("the agent has not written its status for a while; it may hang".to_owned());
    }
    for sensor in &status.report.sensors {
        if !sensor.running && !is_optional(sensor) {
            found.push(format!("{} is not observed", sensor.stream));
        }
    }
    for (stream, books) in &status.report.ledger.streams {
        if !books.balances() {
            found.push(format!("the books of {stream} do not balance"));
        }
    }
    found
}

/// The scanner need not be there, and off is a choice.
fn is_optional(sensor: &SensorStatus) -> bool {
    sensor.stream == scanner::STREAM
}

fn show(status: &Status, now: Timestamp, trouble: &[String]) -> String {
    let report = &status.report;
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<12} {value}");
    };
    for words in trouble {
        line("TROUBLE", words.clone());
    }
    let version = &report.agent_version;
    line("agent", format!("{} {version}", status.agent_id));
    let host = format!("{} {} ({})", report.hostname, report.ip, report.system);
    line("host", host);
    line("server", status.link.clone());
    if let (Some(started), Some(written)) = (status.started_at, status.written_at) {
        let (up, age) = (written.since(started), now.since(written));
        let words = format!(
            "process {} for {}, as of {} s ago",
            status.pid,
            duration(up),
            age.as_secs()
        );
        line("worker", words);
        line("cpu", cpu(report.usage.cpu_ms, up));
    }
    let memory = status.memory;
    line(
        "memory",
        format!(
            "{} proportional, {} resident",
            bytes(report.usage.pss_bytes.max(memory.pss_bytes)),
            bytes(memory.rss_bytes)
        ),
    );
    line(
        "spool",
        format!(
            "{} events waiting, {} of {} ({})",
            report.usage.spool_events,
            bytes(report.usage.spool_bytes),
            bytes(status.spool_limit_bytes),
            share(report.usage.spool_bytes, status.spool_limit_bytes)
        ),
    );
    for (stream, ring) in &status.rings {
        let words = format!(
            "{stream}: {} of {} ({})",
            bytes(ring.used_bytes),
            bytes(ring.size_bytes),
            share(ring.used_bytes, ring.size_bytes)
        );
        line("ring", words);
    }
    text.push_str("\nsensors\n");
    for sensor in &report.sensors {
        let words = match sensor.running {
            true => "observing by",
            false if is_optional(sensor) => "off,",
            false => "NOT OBSERVING,",
        };
        let reason = match sensor.reason.is_empty() {
            true => String::new(),
            false => format!(": {}", sensor.reason),
        };
        let rung = match sensor.rung() {
            Some(rung) => format!(" (rung {} of {})", rung.number, ladder::PROCESS.len()),
            None => String::new(),
        };
        let _ = writeln!(
            text,
            "{:<12} {words} {}{rung}{reason}",
            sensor.stream, sensor.source
        );
        if let Some(rung) = sensor.rung().filter(|rung| !rung.consequence.is_empty()) {
            let _ = writeln!(text, "{:<12} costs: {}", "", rung.consequence);
        }
    }
    text.push_str("\nbooks\n");
    text.push_str(&books(&report.ledger));
    text
}

fn cpu(cpu_ms: u64, up: Duration) -> String {
    let share = match up.as_secs_f64() {
        seconds if seconds > 0.0 => cpu_ms as f64 / 10.0 / seconds,
        _ => 0.0,
    };
    format!("{cpu_ms} ms since its start, {share:.2} % of one processor")
}

fn share(part: u64, whole: u64) -> String {
    match whole {
        0 => "-".to_owned(),
        _ => format!("{:.1} %", part as f64 * 100.0 / whole as f64),
    }
}

fn bytes(bytes: u64) -> String {
    match bytes {
        0..10_240 => format!("{bytes} B"),
        10_240..10_485_760 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}

fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> Status {
        let mut status = Status {
            written_at: Some(Timestamp::from_secs(100)),
            started_at: Some(Timestamp::from_secs(40)),
            spool_limit_bytes: 1 << 30,
            ..Status::default()
        };
        status.report.sensors.push(SensorStatus {
            stream: "process".into(),
            source: "proc-connector".into(),
            running: true,
            reason: "no BTF".into(),
        });
        status.report.usage.cpu_ms = 600;
        status
    }

    #[test]
    fn a_worker_that_runs_and_observes_is_no_trouble() {
        let now = Timestamp::from_secs(103);
        assert!(trouble(&status(), now, true).is_empty());
        let text = show(&status(), now, &[]);
        let process = "process      observing by proc-connector (rung 4 of 5): no BTF\n";
        assert!(text.contains(process), "{text}");
        assert!(text.contains("costs: short-lived processes come without command line"));
        assert!(text.contains("600 ms since its start, 1.00 % of one processor"));
    }

    #[test]
    fn what_is_amiss_is_said_first() {
        let now = Timestamp::from_secs(103);
        assert!(trouble(&status(), now, false)[0].contains("not running"));
        assert!(trouble(&status(), Timestamp::from_secs(200), true)[0].contains("may hang"));
        let mut blind = status();
        blind.report.sensors[0].running = false;
        blind.report.ledger.stream("file").emitted = 3;
        assert_eq!(
            trouble(&blind, now, true),
            [
                "process is not observed",
                "the books of file do not balance"
            ]
        );
        let text = show(&blind, now, &trouble(&blind, now, true));
        assert!(text.starts_with("TROUBLE      process is not observed\n"));
    }
}
