//! `yinglong store`: where events are kept, and whether it can be used.

use std::{fs, path::PathBuf, sync::Arc};

use anyhow::{Context as _, bail};
use yinglong_server::EventBackend;
use yinglong_store::EventStore;
use yinglong_store_elastic::{Credentials, Elastic, Options};

use crate::output;

/// Where a server keeps events.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct StoreArgs {
    /// Where events are kept: `embedded`, in the data folder, or `elastic=URL[,URL...]`, in a cluster
    /// of Elasticsearch 8 to 9 or OpenSearch 2 to 3.
    #[arg(
        long,
        env = "YINGLONG_STORE",
        value_name = "WHERE",
        default_value = "embedded"
    )]
    store: String,
    /// File with what the cluster lets in: `user:password`, or `ApiKey` and the encoded key.
    #[arg(long, env = "YINGLONG_STORE_CREDENTIALS", value_name = "FILE")]
    store_credentials: Option<PathBuf>,
    /// PEM file of the authority that signed the cluster's certificates; the public ones when absent.
    #[arg(long, env = "YINGLONG_STORE_CA", value_name = "FILE")]
    store_ca: Option<PathBuf>,
}

impl StoreArgs {
    /// The backend chosen; `None` for the embedded one.
    pub(crate) fn backend(&self) -> anyhow::Result<Option<Arc<dyn EventBackend>>> {
        let Some(options) = self.options()? else {
            return Ok(None);
        };
        Ok(Some(Arc::new(Cluster(options))))
    }

    fn options(&self) -> anyhow::Result<Option<Options>> {
        if self.store == "embedded" {
            return Ok(None);
        }
        let Some(addresses) = self.store.strip_prefix("elastic=") else {
            bail!("events are kept in `embedded` or in `elastic=URL`, there is nothing else");
        };
        // The name is that of the log, which a server learns later.
        let mut options = Options::new(addresses, "check")?;
        options.ca_file.clone_from(&self.store_ca);
        if let Some(path) = &self.store_credentials {
            let text = fs::read_to_string(path)
                .with_context(|| format!("cannot read `{}`", path.display()))?;
            options.credentials = Credentials::parse(&text)
                .with_context(|| format!("`{}` holds no credentials", path.display()))?;
        }
        Ok(Some(options))
    }
}

/// A cluster that is yet to be opened.
#[derive(Debug)]
struct Cluster(Options);

impl EventBackend for Cluster {
    fn open(&self, log: &str) -> yinglong_store::Result<Arc<dyn EventStore>> {
        let mut options = self.0.clone();
        log.clone_into(&mut options.node);
        let store = Elastic::open(&options)?;
        let product = store.product();
        tracing::info!(
            product = product.name,
            version = product.version,
            "events are kept in a cluster"
        );
        Ok(Arc::new(store))
    }
}

/// Looks at where events are kept.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Connects to the cluster as a server would, puts the index template in place, and tells what is
    /// there.
    Check(StoreArgs),
}

/// Tells whether a server could use it.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let Command::Check(args) = &args.command;
    let Some(options) = args.options()? else {
        bail!("events in the data folder need no check; give --store elastic=URL");
    };
    let store = Elastic::open(&options)?;
    let (product, usage) = (store.product(), store.usage()?);
    let rows = [
        ("cluster", format!("{} {}", product.name, product.version)),
        (
            "events",
            format!("{} in {}", usage.events, output::bytes(usage.bytes)),
        ),
        (
            "refused",
            match store.kept_refused()? {
                0 => "none".to_owned(),
                count => format!("{count}, kept in the index `yinglong-refused` with the reasons"),
            },
        ),
    ];
    for (name, value) in rows {
        output::print(&format!("{name:<13} {}\n", output::line(&value)))?;
    }
    Ok(())
}
