//! `yinglong server`: the server and its console, until a signal ends them.

use std::{
    fs::Permissions,
    io::{self, IsTerminal as _},
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use yinglong_server::Server;

use crate::{
    client::{CA_FILE, RUN_FILE, RunFile},
    commands::store::StoreArgs,
};

/// Runs the server and its console.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Folder of everything the server keeps.
    #[arg(long, env = "YINGLONG_DATA", default_value = "/var/lib/yinglong")]
    data: PathBuf,
    /// Address agents connect to; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:33433")]
    listen_agents: SocketAddr,
    /// Address of the console; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:8443")]
    listen_console: SocketAddr,
    /// Name or address that agents and people use for this server; repeat it for more. This
    /// machine's host name when absent.
    #[arg(long = "name", value_name = "NAME")]
    names: Vec<String>,
    /// Largest write-ahead log in bytes; agents keep their events while it is full.
    #[arg(long, value_name = "BYTES", default_value_t = 4 << 30)]
    log_max_bytes: u64,
    #[command(flatten)]
    store: StoreArgs,
}

/// Runs until SIGTERM or SIGINT.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    // The folder holds password hashes and everything hosts reported; nobody else reads it.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime cannot be started")?;
    runtime.block_on(serve(args))
}

async fn serve(args: Args) -> anyhow::Result<()> {
    // Before anything runs, so that a signal during the start ends it cleanly too.
    let mut terminate = signal(SignalKind::terminate()).context("signals cannot be received")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("signals cannot be received")?;
    let names = names(args.names);
    let server = Server::start(yinglong_server::Options {
        data: args.data.clone(),
        listen: args.listen_agents,
        names: names.clone(),
        log_max_bytes: args.log_max_bytes,
        events: args.store.backend()?,
    })
    .await?;
    let options = yinglong_api::Options {
        listen: args.listen_console,
        names,
    };
    let console = match yinglong_api::serve(server.clone(), options).await {
        Ok(console) => console,
        Err(error) => {
            server.stop().await;
            return Err(error.into());
        }
    };
    let data = std::path::absolute(&args.data).unwrap_or(args.data);
    let announced = announce(&data, &server, &console);
    if announced.is_ok() {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        // First, so that nobody is sent to a server that is going away.
        if let Err(error) = std::fs::remove_file(data.join(RUN_FILE)) {
            tracing::warn!(%error, "the file that names the running server was not removed");
        }
    }
    console.stop().await;
    server.stop().await;
    announced
}

/// Writes where the server is, and says so to whoever started it.
fn announce(data: &Path, server: &Server, console: &yinglong_api::Running) -> anyhow::Result<()> {
    let ca = data.join(CA_FILE);
    write_whole(&ca, server.authority().certificate_pem().as_bytes())?;
    let run = RunFile {
        pid: std::process::id(),
        console: reachable(console.address()).to_string(),
        agents: reachable(server.address()).to_string(),
        ca,
    };
    write_whole(&data.join(RUN_FILE), &serde_json::to_vec(&run)?)?;
    tracing::info!(console = %console.address(), agents = %server.address(), "ready");
    println!("console: https://{}", run.console);
    println!("agents:  {}", run.agents);
    if let Some(code) = console.setup_code() {
        println!(
            "setup code: {code} (also in {})",
            data.join("setup.code").display()
        );
    }
    Ok(())
}

/// The address to use on this machine.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address {
        SocketAddr::V4(_) if address.ip().is_unspecified() => std::net::Ipv4Addr::LOCALHOST.into(),
        SocketAddr::V6(_) if address.ip().is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
        _ => address.ip(),
    };
    SocketAddr::new(ip, address.port())
}

fn names(given: Vec<String>) -> Vec<String> {
    if !given.is_empty() {
        return given;
    }
    let own = nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok());
    own.filter(|name| !name.is_empty()).into_iter().collect()
}

/// Everybody who can enter the folder may read it; it is there completely or not at all.
fn write_whole(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let next = path.with_extension("new");
    let written = std::fs::write(&next, bytes)
        .and_then(|()| std::fs::set_permissions(&next, Permissions::from_mode(0o644)))
        .and_then(|()| std::fs::rename(&next, path));
    written.with_context(|| format!("cannot write `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_means_all_is_reached_on_this_machine() {
        for (listening, expected) in [
            ("0.0.0.0:8443", "127.0.0.1:8443"),
            ("[::]:8443", "[::1]:8443"),
            ("192.0.2.1:8443", "192.0.2.1:8443"),
        ] {
            assert_eq!(reachable(listening.parse().unwrap()).to_string(), expected);
        }
    }
}
