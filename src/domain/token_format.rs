//! How an application keeps its tutors' tokens, if not as `ml1`: `options` of `meetlink_attach`.

use serde_json::Value;

use super::keyring::is_key_id;

/// A form of an encrypted token that applications wrote before meetlink came. None of them says
/// which key it needs, or whose token it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cipher {
    /// AES-256-GCM: `hex(iv):hex(tag):hex(ciphertext)`.
    GcmHex,
    /// AES-256-GCM: base64 of iv, ciphertext and tag together.
    GcmBase64,
    /// AES-256-CBC with PKCS#7 padding: `hex(iv):hex(ciphertext)`. Nothing in it tells a changed
    /// text from the one that was written.
    CbcHex,
}

impl Cipher {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::GcmHex, Self::GcmBase64, Self::CbcHex];

    /// Its name in `options.token_format`.
    pub fn name(self) -> &'static str {
        match self {
            Self::GcmHex => "gcm_hex",
            Self::GcmBase64 => "gcm_base64",
            Self::CbcHex => "cbc_hex",
        }
    }
}

/// How the application keeps tokens. An `ml1` envelope is read as one in any case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TokenFormat {
    /// As `ml1` envelopes.
    #[default]
    Ml1,
    /// In a form of its own, with the key of this id.
    Own(Cipher, String),
}

impl TokenFormat {
    /// Reads `token_format` and `token_key` of the options; else what is wrong with them.
    pub fn from_options(options: &Value) -> Result<Self, String> {
        let (format, key) = (&options["token_format"], &options["token_key"]);
        let cipher = match format.as_str() {
            None if format.is_null() => None,
            Some("ml1") => None,
            name => {
                let known = Cipher::ALL.into_iter().find(|c| Some(c.name()) == name);
                Some(known.ok_or(
                    "options.token_format must be \"ml1\", \"gcm_hex\", \"gcm_base64\" or \
                     \"cbc_hex\"",
                )?)
            }
        };
        match (cipher, key.as_str().filter(|id| is_key_id(id))) {
            (None, _) if key.is_null() => Ok(Self::Ml1),
            (None, _) => Err("options.token_key goes with a token_format other than ml1".into()),
            (Some(cipher), Some(key)) => Ok(Self::Own(cipher, key.to_owned())),
            (Some(cipher), None) => Err(format!(
                "options.token_format \"{}\" needs options.token_key, the id of the application's \
                 key in meetlink.key_file",
                cipher.name()
            )),
        }
    }

    /// Id of the application's own key, if it has one.
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Ml1 => None,
            Self::Own(_, key) => Some(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn options_name_a_format_and_its_key() {
        let own = |cipher| Ok(TokenFormat::Own(cipher, "app".to_owned()));
        for (options, read) in [
            (json!({}), Ok(TokenFormat::Ml1)),
            (json!({"token_format": "ml1"}), Ok(TokenFormat::Ml1)),
            (
                json!({"token_format": "gcm_hex", "token_key": "app"}),
                own(Cipher::GcmHex),
            ),
            (
                json!({"token_format": "gcm_base64", "token_key": "app"}),
                own(Cipher::GcmBase64),
            ),
            (
                json!({"token_format": "cbc_hex", "token_key": "app"}),
                own(Cipher::CbcHex),
            ),
        ] {
            assert_eq!(TokenFormat::from_options(&options), read, "{options}");
        }
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        for (options, word) in [
            (
                json!({"token_format": "rot13", "token_key": "app"}),
                "must be",
            ),
            (json!({"token_format": 7}), "must be"),
            (
                json!({"token_format": "cbc_hex"}),
                "needs options.token_key",
            ),
            (
                json!({"token_format": "cbc_hex", "token_key": "a b"}),
                "needs",
            ),
            (json!({"token_key": "app"}), "goes with"),
            (
                json!({"token_format": "ml1", "token_key": "app"}),
                "goes with",
            ),
        ] {
            let said = TokenFormat::from_options(&options).unwrap_err();
            assert!(said.contains(word), "{options}: {said}");
        }
    }
}
