//! Opening and sealing stored tokens, in whichever form a row has them.

use std::fmt;

use super::envelope::{self, ENVELOPE_LIMIT, OpenError, SealError};
use super::keyring::KeyRing;
use super::own_cipher::{self, Form};
use super::secret::Secret;
use super::token_format::TokenFormat;

/// Fresh random bytes for one token: a nonce of 12, or an initialization vector of up to 16.
pub type Fresh = [u8; 16];

/// The keys, and how the application keeps its tokens.
#[derive(Clone, Copy, Debug)]
pub struct Vault<'a> {
    /// Keys.
    pub keys: &'a KeyRing,
    /// What a text that is no `ml1` envelope is taken for.
    pub format: &'a TokenFormat,
}

/// Why a stored token does not open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// An `ml1` envelope that was damaged, or made for another row.
    Refused,
    /// Nothing that could be the tutor's fault: another form, or another key, than meetlink knows.
    Unknown(String),
    /// Its key is not there.
    NoKey(String),
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => OpenError::Refused.fmt(f),
            Self::Unknown(text) | Self::NoKey(text) => f.write_str(text),
        }
    }
}

impl Vault<'_> {
    /// Decrypts a stored token. `binding` says whose it is to be; only `ml1` can tell.
    pub fn open(&self, binding: &str, stored: &str) -> Result<Secret, Unreadable> {
        let secret = self.decrypt(binding, stored)?;
        if is_token(secret.expose()) {
            Ok(secret)
        } else {
            Err(Unreadable::Refused)
        }
    }

    fn decrypt(&self, binding: &str, stored: &str) -> Result<Secret, Unreadable> {
        match self.format {
            TokenFormat::Own(cipher, id) if !is_ml1(stored) => {
                let key = self.keys.find(id).ok_or_else(|| {
                    Unreadable::NoKey(format!(
                        "the application's key \"{id}\" (options.token_key) is not in \
                         meetlink.key_file"
                    ))
                })?;
                let read = own_cipher::open(*cipher, key, limited(stored));
                read.map(|(secret, _)| secret).ok_or_else(|| {
                    Unreadable::Unknown(format!(
                        "the stored token does not open as {} with key \"{id}\": it has another \
                         form or another key, or is damaged",
                        cipher.name()
                    ))
                })
            }
            _ => envelope::open(self.keys, binding, stored).map_err(|error| match error {
                OpenError::Foreign if self.format == &TokenFormat::Ml1 && !is_ml1(stored) => {
                    Unreadable::Unknown(format!(
                        "{error}; if the application encrypts tokens itself, name its \
                         token_format to meetlink_attach"
                    ))
                }
                OpenError::Foreign | OpenError::Refused => Unreadable::Refused,
                OpenError::UnknownKey(_) => Unreadable::NoKey(error.to_string()),
            }),
        }
    }

    /// Encrypts a token for a row that has none yet: as the application keeps them.
    pub fn seal(&self, binding: &str, secret: &Secret, fresh: Fresh) -> Result<String, SealError> {
        match self.format {
            TokenFormat::Own(cipher, id) => {
                let key = self.keys.find(id).ok_or(SealError)?;
                own_cipher::seal(Form::usual(*cipher), key, secret, fresh).ok_or(SealError)
            }
            TokenFormat::Ml1 => self.seal_ml1(binding, secret, fresh),
        }
    }

    /// Encrypts a token in place of another, in the form of that one: who could read it before can
    /// read it still.
    pub fn seal_like(
        &self,
        stored: &str,
        binding: &str,
        secret: &Secret,
        fresh: Fresh,
    ) -> Result<String, SealError> {
        match self.format {
            TokenFormat::Own(cipher, id) if !is_ml1(stored) => {
                let key = self.keys.find(id).ok_or(SealError)?;
                let form = own_cipher::open(*cipher, key, limited(stored))
                    .map_or(Form::usual(*cipher), |(_, form)| form);
                own_cipher::seal(form, key, secret, fresh).ok_or(SealError)
            }
            _ => self.seal_ml1(binding, secret, fresh),
        }
    }

    /// Encrypts as `ml1`, with the first key.
    pub fn seal_ml1(
        &self,
        binding: &str,
        secret: &Secret,
        fresh: Fresh,
    ) -> Result<String, SealError> {
        let [nonce @ .., _, _, _, _] = fresh;
        envelope::seal(self.keys, binding, secret, nonce)
    }
}

/// Whether a text can be a token: printable ASCII (RFC 6749, appendices A.12 and A.17), and nothing
/// that a header could not carry.
pub fn is_token(text: &str) -> bool {
    text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

/// Whether a text says that it is an `ml1` envelope.
pub fn is_ml1(stored: &str) -> bool {
    stored.starts_with("ml1.")
}

/// Nothing of a sensible length is longer.
fn limited(stored: &str) -> &str {
    if stored.len() > ENVELOPE_LIMIT {
        ""
    } else {
        stored
    }
}

#[cfg(test)]
mod tests;
