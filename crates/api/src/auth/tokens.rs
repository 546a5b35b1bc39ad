//! API tokens: for scripts, and for the command line on the server itself.

use std::{collections::HashMap, io, path::Path};

use serde::{Deserialize, Serialize};
use yinglong_pki::files::{self, Existing};
use yinglong_store::StateStore;

use super::{Role, secret};

/// Collection of the tokens, by name.
const COLLECTION: &str = "api_tokens";
/// File of the token the command line on the server uses.
pub(crate) const LOCAL_FILE: &str = "admin.token";
/// Name of that token.
const LOCAL: &str = "local";

/// Why the tokens cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file of the local token.
    #[error("the local API token cannot be used")]
    File(#[from] files::Error),
    /// The file holds something else.
    #[error("`{}` holds no API token; remove it and start the server again", .0.display())]
    Malformed(std::path::PathBuf),
    /// The store.
    #[error("API tokens cannot be read")]
    Store(#[from] yinglong_store::Error),
    /// The folder.
    #[error("the data folder cannot be written")]
    Folder(#[from] io::Error),
}

/// A token as stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Stored {
    sha256: String,
    role: Role,
}

/// The tokens in force, by hash.
pub(crate) struct Tokens(HashMap<String, (String, Role)>);

impl Tokens {
    /// Loads what is stored, and makes the local token if its file is missing. Whoever can read
    /// the file administers the server; replacing it takes the old one back.
    pub(crate) fn open(state: &dyn StateStore, data: &Path) -> Result<Self, Error> {
        let path = data.join(LOCAL_FILE);
        let token = match files::read_private(&path)? {
            Some(bytes) => String::from_utf8(bytes)
                .ok()
                .map(|text| text.trim().to_owned())
                .filter(|text| text.len() >= 43)
                .ok_or_else(|| Error::Malformed(path.clone()))?,
            None => {
                let token = secret::fresh();
                files::write_private(&path, format!("{token}\n").as_bytes(), Existing::Keep)?;
                token
            }
        };
        let local = Stored {
            sha256: secret::hash(&token),
            role: Role::Admin,
        };
        let value = serde_json::to_value(&local).ok();
        state.put_documents(COLLECTION, &[(LOCAL.to_owned(), value)])?;
        let mut tokens = HashMap::new();
        for (name, value) in state.documents(COLLECTION)? {
            match serde_json::from_value::<Stored>(value) {
                Ok(stored) => drop(tokens.insert(stored.sha256, (name, stored.role))),
                Err(error) => tracing::error!(name, %error, "a stored API token cannot be read"),
            }
        }
        Ok(Self(tokens))
    }

    /// Name and role of a token. Comparing hashes tells nothing about tokens.
    pub(crate) fn find(&self, token: &str) -> Option<(&str, Role)> {
        self.0
            .get(&secret::hash(token))
            .map(|(name, role)| (name.as_str(), *role))
    }
}
