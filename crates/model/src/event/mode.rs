//! Permission bits of a file.

use std::{borrow::Cow, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::FieldValue;

/// Permission bits with those for setuid (4), setgid (2) and sticky (1) before them. As text four
/// octal digits, `4755`: what begins with 4 to 7 has the setuid bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mode(u16);

/// Not an octal number of permission bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("permission bits are an octal number up to 7777")]
pub struct NotAMode;

impl Mode {
    const BITS: u16 = 0o7777;

    /// Of the bits in a `st_mode` (`inode(7)`); those for the type of the file are left out.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits as u16 & Self::BITS)
    }

    /// The bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0 as u32
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl FromStr for Mode {
    type Err = NotAMode;

    fn from_str(text: &str) -> Result<Self, NotAMode> {
        match u16::from_str_radix(text, 8) {
            Ok(bits) if bits <= Self::BITS => Ok(Self(bits)),
            _ => Err(NotAMode),
        }
    }
}

impl TryFrom<String> for Mode {
    type Error = NotAMode;

    fn try_from(text: String) -> Result<Self, NotAMode> {
        text.parse()
    }
}

impl From<Mode> for String {
    fn from(mode: Mode) -> Self {
        mode.to_string()
    }
}

impl FieldValue for Mode {
    fn value(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Owned(self.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_four_octal_digits() {
        let check = |bits, text: &str| {
            let mode = Mode::from_bits(bits);
            assert_eq!(mode.to_string(), text);
            assert_eq!(text.parse(), Ok(mode));
            assert_eq!(mode.bits(), bits & 0o7777);
        };
        check(0o100_755, "0755");
        check(0o104_755, "4755");
        check(0o041_777, "1777");
        check(0, "0000");
        for text in ["", "8", "10000", "-1", "u+s"] {
            assert_eq!(text.parse::<Mode>(), Err(NotAMode), "{text}");
        }
        let text = serde_json::to_string(&Mode::from_bits(0o600)).unwrap();
        assert_eq!(text, "\"0600\"");
        assert!(serde_json::from_str::<Mode>("\"x\"").is_err());
    }
}
