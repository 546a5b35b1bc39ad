//! `yinglong hosts` and `yinglong host`.

use anyhow::bail;
use yinglong_api::{
    routes::hosts::Hosts,
    views::{Host, Sensor},
};

use crate::{
    client::{Client, Target},
    output,
};

/// Lists hosts.
#[derive(clap::Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    target: Target,
    /// Prints one line of JSON per host.
    #[arg(long)]
    json: bool,
}

/// Changes one host.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Shuts the agent of a host out for good; it must enrol again.
    Revoke {
        #[command(flatten)]
        target: Target,
        /// Agent id, name or address of the host.
        host: String,
    },
}

/// Prints all hosts.
pub(crate) fn list(args: &ListArgs) -> anyhow::Result<()> {
    let Hosts { hosts } = args.target.client()?.get("/hosts", &[])?;
    if args.json {
        return output::json_lines(hosts);
    }
    let rows = hosts.iter().map(|host| {
        let sensors: Vec<String> = host.sensors.iter().map(sensor).collect();
        [
            host.agent_id.to_string(),
            output::short(&host.hostname, 32),
            output::short(&host.ip, 40),
            output::health(host.health).to_owned(),
            output::time(host.uptime),
            host.open_alerts.to_string(),
            output::short(&host.tags.join(","), 24),
            output::short(&host.system, 48),
            output::short(&sensors.join(" "), 80),
        ]
    });
    output::table(
        [
            "AGENT",
            "NAME",
            "ADDRESS",
            "HEALTH",
            "LAST SEEN",
            "OPEN",
            "TAGS",
            "SYSTEM",
            "SENSORS",
        ],
        rows,
    )
}

/// A stream and its source, and the rung if it is not the best one.
fn sensor(sensor: &Sensor) -> String {
    let Sensor { stream, source, .. } = sensor;
    match sensor.rung {
        _ if !sensor.running => format!("{stream}:off"),
        Some(rung) if rung > 1 => format!("{stream}:{source}(rung {rung})"),
        _ => format!("{stream}:{source}"),
    }
}

/// Does what is asked.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    match &args.action {
        Action::Revoke { target, host } => {
            let client = target.client()?;
            let host = find(&client, host)?;
            client.post::<()>(
                &format!("/hosts/{}/revoke", host.agent_id),
                &serde_json::json!({}),
            )?;
            output::print(&format!(
                "{} must enrol again\n",
                output::line(&host.hostname)
            ))
        }
    }
}

/// The host that is meant.
pub(crate) fn find(client: &Client, name: &str) -> anyhow::Result<Host> {
    let Hosts { hosts } = client.get("/hosts", &[])?;
    let mut meant = hosts.into_iter().filter(|host| {
        host.agent_id.as_str() == name
            || host.hostname.eq_ignore_ascii_case(name)
            || host.ip == name
    });
    match (meant.next(), meant.next()) {
        (Some(host), None) => Ok(host),
        (None, _) => bail!("there is no host `{name}`; see `yinglong hosts`"),
        (Some(_), Some(_)) => bail!("several hosts are called `{name}`; use the agent id"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lesser_rung_is_said_with_its_number() {
        let told = |source: &str, running, rung| {
            sensor(&Sensor {
                stream: "process".into(),
                source: source.into(),
                running,
                reason: String::new(),
                rung,
                consequence: String::new(),
            })
        };
        assert_eq!(told("ebpf", true, Some(1)), "process:ebpf");
        assert_eq!(told("audit", true, Some(3)), "process:audit(rung 3)");
        assert_eq!(told("none", false, None), "process:off");
        assert_eq!(told("fanotify", true, None), "process:fanotify");
    }
}
