//! `yinglong-agent enrol`.

use yinglong_agent::enrol;

use super::State;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    state: State,
    /// The server, HOST:PORT.
    #[arg(long, env = "YINGLONG_SERVER")]
    server: String,
    /// The token; better given in the environment, where other users cannot see it.
    #[arg(long, env = "YINGLONG_TOKEN", hide_env_values = true)]
    token: String,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let token = args.token.parse()?;
    let identity = runtime.block_on(enrol::enrol(&args.server, &token, &args.state.state))?;
    println!("joined as {}", identity.agent.id);
    Ok(())
}
