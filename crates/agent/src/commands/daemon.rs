//! `yinglong-agent daemon`.

use yinglong_agent::daemon;

use super::{Line, State, stop_on_signals};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    state: State,
    #[command(flatten)]
    line: Line,
}

pub(crate) fn run(Args { state, line }: Args) -> anyhow::Result<()> {
    line.check()?;
    let stop = stop_on_signals()?;
    let mut arguments = vec!["--spool-bytes".to_owned(), line.spool_bytes.to_string()];
    for (option, path) in [
        ("--scanner", line.scanner),
        ("--yara-rules", line.yara_rules),
    ] {
        if let Some(path) = path {
            let path = path.into_os_string().into_string();
            let path = path.map_err(|path| anyhow::anyhow!("{path:?} is no text"))?;
            arguments.extend([option.to_owned(), path]);
        }
    }
    for server in line.servers {
        arguments.extend(["--server".to_owned(), server]);
    }
    daemon::run(&state.state, &arguments, &stop)
}
