//! `yinglong token`: what lets new hosts join.

use yinglong_api::routes::administration::{JoinTokens, NewJoinToken};

use crate::{client::Target, output};

/// Makes and lists join tokens.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Makes a token; it is shown once.
    New {
        #[command(flatten)]
        target: Target,
        /// Seconds it works: 60 to 7776000.
        #[arg(long, value_name = "SECS", default_value_t = 3600)]
        ttl: u64,
        /// Hosts that may join with it.
        #[arg(long, default_value_t = 1)]
        uses: u32,
        /// Prints one line of JSON.
        #[arg(long)]
        json: bool,
    },
    /// Lists tokens, without their secrets.
    List {
        #[command(flatten)]
        target: Target,
        /// Prints one line of JSON per token.
        #[arg(long)]
        json: bool,
    },
}

/// Does what is asked. The token alone is on standard output, for scripts.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    match &args.action {
        Action::New {
            target,
            ttl,
            uses,
            json,
        } => {
            let body = serde_json::json!({ "ttl_secs": ttl, "uses": uses });
            let made: NewJoinToken = target.client()?.post("/tokens", &body)?;
            if *json {
                return output::json_lines([made]);
            }
            eprintln!(
                "works until {}; on the host run:\n  {}",
                output::time(made.expires_at),
                made.command
            );
            output::print(&format!("{}\n", made.token))
        }
        Action::List { target, json } => {
            let JoinTokens { tokens } = target.client()?.get("/tokens", &[])?;
            if *json {
                return output::json_lines(tokens);
            }
            let rows = tokens.iter().map(|token| {
                [
                    token.id.clone(),
                    output::time(token.created_at),
                    output::time(token.expires_at),
                    token.uses_left.to_string(),
                ]
            });
            output::table(["ID", "MADE", "EXPIRES", "USES LEFT"], rows)
        }
    }
}
