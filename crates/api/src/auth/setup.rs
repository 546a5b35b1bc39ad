//! The first administrator: made by whoever can read a file of the server's data folder.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use yinglong_model::Timestamp;
use yinglong_pki::files::{self, Existing};
use yinglong_store::StateStore;

use super::{Role, secret, users};
use crate::error::{Error, Kind, Result};

/// File of the code.
pub(crate) const FILE: &str = "setup.code";

pub(crate) struct Setup {
    path: PathBuf,
    /// The code, as long as there is no user.
    code: Mutex<Option<String>>,
}

impl Setup {
    /// Reads or makes the code; removes it when there are users.
    pub(crate) fn open(
        state: &dyn StateStore,
        data: &Path,
    ) -> std::result::Result<Self, super::tokens::Error> {
        let path = data.join(FILE);
        let code = if users::any(state)? {
            remove(&path)?;
            None
        } else {
            let stored = files::read_private(&path)?
                .and_then(|bytes| String::from_utf8(bytes).ok())
                .map(|text| text.trim().to_owned())
                .filter(|code| !code.is_empty());
            let code = match stored {
                Some(code) => code,
                None => {
                    let code = secret::fresh_code();
                    files::write_private(&path, format!("{code}\n").as_bytes(), Existing::Replace)?;
                    code
                }
            };
            Some(code)
        };
        Ok(Self {
            path,
            code: Mutex::new(code),
        })
    }

    /// The code, while one is needed.
    pub(crate) fn code(&self) -> Option<String> {
        self.code
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Makes the first administrator. One attempt at a time, so that there is one first.
    pub(crate) fn complete(
        &self,
        state: &dyn StateStore,
        code: &str,
        username: &str,
        password: &str,
        now: Timestamp,
    ) -> Result<()> {
        let mut expected = self.code.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(right) = expected.as_deref() else {
            return Err(Error::new(
                Kind::SetupDone,
                "this server has an administrator already",
            ));
        };
        if !secret::same(&normal(code), &normal(right)) {
            return Err(Error::new(Kind::SetupCode, "the setup code is wrong"));
        }
        users::put(state, username, password, Role::Admin, now)?;
        *expected = None;
        if let Err(error) = remove(&self.path) {
            tracing::warn!(%error, "the used setup code could not be removed; it works no more");
        }
        Ok(())
    }
}

/// People type codes in lower case and leave dashes out.
fn normal(code: &str) -> String {
    code.chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_uppercase())
        .collect()
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
