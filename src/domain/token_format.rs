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
    /// Reads `token_format` and `token_key` of the options; else all that is wrong with them.
    pub fn from_options(options: &Value) -> Result<Self, Vec<String>> {
        let (format, key) = (&options["token_format"], &options["token_key"]);
        let mut wrong = Vec::new();
        let known = Cipher::ALL.into_iter().find(|c| format == c.name());
        if known.is_none() && !format.is_null() && format != "ml1" {
            wrong.push(
                "options.token_format must be \"ml1\", \"gcm_hex\", \"gcm_base64\" or \"cbc_hex\""
                    .to_owned(),
            );
        }
        let id = key.as_str().filter(|id| is_key_id(id));
        if id.is_none() && !key.is_null() {
            wrong.push("options.token_key must be the id of a key in meetlink.key_file".to_owned());
        }
        match (known, id) {
            (Some(cipher), None) if key.is_null() => wrong.push(format!(
                "options.token_format \"{}\" needs options.token_key, the id of the application's \
                 key in meetlink.key_file",
                cipher.name()
            )),
            (None, Some(_)) if wrong.is_empty() => {
                wrong.push("options.token_key goes with a token_format other than ml1".to_owned());
            }
            _ => {}
        }
        match (known, id) {
            _ if !wrong.is_empty() => Err(wrong),
            (Some(cipher), Some(id)) => Ok(Self::Own(cipher, id.to_owned())),
            _ => Ok(Self::Ml1),
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
                "must be the id",
            ),
            (
                json!({"token_format": "rot13", "token_key": "a b"}),
                "must be the id",
            ),
            (json!({"token_key": "app"}), "goes with"),
            (
                json!({"token_format": "ml1", "token_key": "app"}),
                "goes with",
            ),
        ] {
            let said = TokenFormat::from_options(&options).unwrap_err().join("\n");
            assert!(said.contains(word), "{options}: {said}");
        }
    }
}
