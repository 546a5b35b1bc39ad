//! `yinglong setup`: the first administrator, without a browser.

use std::{io::Read as _, path::PathBuf};

use anyhow::Context as _;

use crate::{client::Target, output};

/// Creates the first administrator.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// Name of the administrator.
    #[arg(long, value_name = "NAME")]
    user: String,
    /// File with the password; `-` reads it from standard input.
    #[arg(long, value_name = "FILE")]
    password_file: PathBuf,
    /// The setup code; the one in the data folder when absent.
    #[arg(long)]
    code: Option<String>,
}

/// Sends the setup code with the name and the password.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let password = if args.password_file.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin()
            .lock()
            .read_to_string(&mut text)
            .context("cannot read the password")?;
        text
    } else {
        std::fs::read_to_string(&args.password_file)
            .with_context(|| format!("cannot read `{}`", args.password_file.display()))?
    };
    let client = args.target.anonymous()?;
    let code = match &args.code {
        Some(code) => code.clone(),
        None => {
            let path = args.target.data.join("setup.code");
            std::fs::read_to_string(&path).with_context(|| {
                format!("cannot read `{}`; the server has an administrator already, or the code must be given with --code", path.display())
            })?
        }
    };
    let body = serde_json::json!({
        "setup_code": code.trim(),
        "username": args.user,
        "password": password.trim_end_matches(['\r', '\n']),
    });
    client.post::<()>("/setup", &body)?;
    output::print(&format!(
        "administrator `{}` created; sign in to the console\n",
        output::line(&args.user)
    ))
}
