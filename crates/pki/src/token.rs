//! Join tokens: what a person carries from the server to a new host.

use std::{fmt, str::FromStr, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rand::{TryRngCore as _, rngs::OsRng};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use yinglong_model::Timestamp;
use zeroize::Zeroizing;

use crate::tls::AuthorityPin;

/// Tells tokens of this kind from later ones.
const PREFIX: &str = "yl1.";

/// Secret that lets a host join, with the authority it must meet when it uses it.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// SHA-256 of the authority's certificate, DER.
    pub authority: AuthorityPin,
    /// Known to the server by its SHA-256 only.
    pub secret: Zeroizing<[u8; 16]>,
}

/// A text that is not a join token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a join token: one looks like `yl1.` followed by 64 letters, digits, `-` or `_`; copy all \
     of what `yinglong token new` prints"
)]
pub struct InvalidToken;

impl JoinToken {
    /// A token with a fresh secret.
    ///
    /// # Panics
    /// The operating system has no randomness; nothing safe can be done then.
    pub fn generate(authority: AuthorityPin) -> Self {
        Self {
            authority,
            secret: Zeroizing::new(random()),
        }
    }

    /// The text to hand out. The only way to see the secret.
    pub fn reveal(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new([0_u8; 48]);
        let (authority, secret) = bytes.split_at_mut(32);
        authority.copy_from_slice(&self.authority.0);
        secret.copy_from_slice(&*self.secret);
        Zeroizing::new(format!(
            "{PREFIX}{}",
            URL_SAFE_NO_PAD.encode(bytes.as_slice())
        ))
    }
}

impl FromStr for JoinToken {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let encoded = text.trim().strip_prefix(PREFIX).ok_or(InvalidToken)?;
        let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(encoded).map_err(|_| InvalidToken)?);
        let (authority, secret) = bytes.split_at_checked(32).ok_or(InvalidToken)?;
        Ok(Self {
            authority: AuthorityPin(authority.try_into().map_err(|_| InvalidToken)?),
            secret: Zeroizing::new(secret.try_into().map_err(|_| InvalidToken)?),
        })
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("authority", &self.authority)
            .finish_non_exhaustive()
    }
}

/// What the server keeps of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// SHA-256 of the secret, lower-case hex.
    pub secret_sha256: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stops working.
    pub expires_at: Timestamp,
    /// Hosts that may still join with it.
    pub uses_left: u32,
    /// What it was made for, in a person's words.
    #[serde(default)]
    pub note: String,
}

/// Why a token does not let a host join.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// No such token was made here.
    #[error("the join token is not known here; create a new one with `yinglong token new`")]
    Unknown,
    /// Too late.
    #[error("the join token has expired; create a new one with `yinglong token new`")]
    Expired,
    /// As many hosts as allowed have joined.
    #[error("the join token is used up; create a new one with `yinglong token new`")]
    UsedUp,
}

impl TokenRecord {
    /// What to keep of `token`, which works for `lifetime` and for so many hosts.
    pub fn new(token: &JoinToken, now: Timestamp, lifetime: Duration, uses: u32) -> Self {
        Self {
            secret_sha256: hash(&token.secret),
            created_at: now,
            expires_at: now.plus(lifetime),
            uses_left: uses,
            note: String::new(),
        }
    }

    /// Short name for lists and for taking the token back; says nothing about the secret.
    pub fn id(&self) -> &str {
        self.secret_sha256.get(..12).unwrap_or(&self.secret_sha256)
    }

    /// Whether this is the record of `secret`. Takes the same time whatever differs.
    pub fn is_of(&self, secret: &[u8; 16]) -> bool {
        self.secret_sha256
            .as_bytes()
            .ct_eq(hash(secret).as_bytes())
            .into()
    }

    /// Whether a host may still join with it.
    ///
    /// # Errors
    /// It is too late, or the token is used up.
    pub fn check(&self, now: Timestamp) -> Result<(), TokenError> {
        if now >= self.expires_at {
            return Err(TokenError::Expired);
        }
        if self.uses_left == 0 {
            return Err(TokenError::UsedUp);
        }
        Ok(())
    }
}

/// Uses `secret` once among all tokens there are; the caller makes the change durable.
///
/// # Errors
/// There is no such token, or it no longer lets hosts join.
pub fn redeem<'a>(
    records: impl IntoIterator<Item = &'a mut TokenRecord>,
    secret: &[u8; 16],
    now: Timestamp,
) -> Result<&'a TokenRecord, TokenError> {
    let record = records
        .into_iter()
        .find(|record| record.is_of(secret))
        .ok_or(TokenError::Unknown)?;
    record.check(now)?;
    record.uses_left -= 1;
    Ok(record)
}

fn hash(secret: &[u8; 16]) -> String {
    Sha256::digest(secret)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Bytes nobody can guess.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    OsRng
        .try_fill_bytes(&mut bytes)
        .expect("the operating system provides randomness");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_764_000_000);
    const HOUR: Duration = Duration::from_secs(3600);

    fn token() -> JoinToken {
        JoinToken::generate(AuthorityPin([7; 32]))
    }

    #[test]
    fn a_token_survives_being_written_and_read() {
        let token = token();
        let text = token.reveal();
        assert_eq!(text.len(), 68);
        assert_eq!(text.parse(), Ok(token.clone()));
        assert_eq!(format!(" {}\n", *text).parse(), Ok(token));
    }

    #[test]
    fn anything_else_is_refused_and_the_message_shows_what_a_token_looks_like() {
        let text = token().reveal();
        for bad in [
            "",
            "hello",
            "yl1.",
            "yl1.AAAA",
            "yl2.AAAA",
            text.get(..67).unwrap(),
            &format!("{}A", *text),
            &text.replacen('.', "-", 1),
        ] {
            assert_eq!(bad.parse::<JoinToken>(), Err(InvalidToken), "{bad}");
        }
        assert!(InvalidToken.to_string().contains("yl1."));
    }

    #[test]
    fn debug_output_does_not_show_the_secret() {
        let token = JoinToken {
            authority: AuthorityPin([7; 32]),
            secret: Zeroizing::new([0xAB; 16]),
        };
        let shown = format!("{token:?}").to_lowercase();
        assert!(
            !shown.contains("ab, ab") && !shown.contains("171"),
            "{shown}"
        );
        assert!(!shown.contains("abab"), "{shown}");
    }

    #[test]
    fn a_token_lets_as_many_hosts_join_as_it_says_until_it_expires() {
        let (token, other) = (token(), token());
        let mut records = [
            TokenRecord::new(&other, NOW, HOUR, 1),
            TokenRecord::new(&token, NOW, HOUR, 2),
        ];
        assert!(redeem(&mut records, &token.secret, NOW).is_ok());
        assert!(redeem(&mut records, &token.secret, NOW).is_ok());
        let third = redeem(&mut records, &token.secret, NOW).map(|_| ());
        assert_eq!(third, Err(TokenError::UsedUp));
        let late = redeem(&mut records, &other.secret, NOW.plus(HOUR)).map(|_| ());
        assert_eq!(late, Err(TokenError::Expired));
        let forged = redeem(&mut records, &[0; 16], NOW).map(|_| ());
        assert_eq!(forged, Err(TokenError::Unknown));
    }

    #[test]
    fn the_stored_record_does_not_contain_the_secret() {
        let token = token();
        let record = TokenRecord::new(&token, NOW, HOUR, 1);
        let json = serde_json::to_string(&record).unwrap();
        let secret: String = token.secret.iter().map(|b| format!("{b:02x}")).collect();
        assert!(!json.contains(&secret));
        assert_eq!(serde_json::from_str::<TokenRecord>(&json).unwrap(), record);
    }
}
