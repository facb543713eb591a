//! Signatures of outgoing webhooks, after the Standard Webhooks specification 1.0.0 (`v1`, symmetric).

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

/// How long a secret may be, in bytes: 192 to 512 bits.
const LENGTHS: std::ops::RangeInclusive<usize> = 24..=64;

/// The secrets of the webhook's file. Each signs, so that a receiver may know the old or the new one.
///
/// What is kept is the states of the hash after the secret, which wipe themselves when dropped.
#[derive(Clone)]
pub struct WebhookSecrets(Vec<Hmac<Sha256>>);

impl fmt::Debug for WebhookSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebhookSecrets({})", self.0.len())
    }
}

/// What is wrong with a file of secrets. Names lines, never their content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WebhookSecretsError {
    /// No secret in it.
    Empty,
    /// A line is not `whsec_` and base64.
    Malformed {
        /// Number of the line, from 1.
        line: usize,
    },
    /// A secret is shorter or longer than the specification allows.
    Length {
        /// Number of the line, from 1.
        line: usize,
    },
}

impl fmt::Display for WebhookSecretsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("it holds no secret"),
            Self::Malformed { line } => {
                write!(f, "line {line} is not \"whsec_<base64 of the secret>\"")
            }
            Self::Length { line } => write!(
                f,
                "the secret in line {line} does not have {} to {} bytes",
                LENGTHS.start(),
                LENGTHS.end()
            ),
        }
    }
}

impl WebhookSecrets {
    /// Reads the text of a file: a secret a line, blank lines and `#` comments ignored.
    pub fn parse(text: &str) -> Result<Self, WebhookSecretsError> {
        let mut secrets = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line_number = number + 1;
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let malformed = WebhookSecretsError::Malformed { line: line_number };
            let encoded = line.strip_prefix("whsec_").ok_or(malformed.clone())?;
            // Enough room from the start: a buffer that grows leaves copies behind.
            let mut secret = Zeroizing::new(Vec::with_capacity(encoded.len()));
            if STANDARD.decode_vec(encoded, &mut secret).is_err() {
                return Err(malformed);
            }
            if !LENGTHS.contains(&secret.len()) {
                return Err(WebhookSecretsError::Length { line: line_number });
            }
            secrets.push(Hmac::new_from_slice(&secret).map_err(|_| malformed)?);
        }
        if secrets.is_empty() {
            return Err(WebhookSecretsError::Empty);
        }
        Ok(Self(secrets))
    }

    /// The value of the header `webhook-signature`: a signature a secret, in the order of the file.
    ///
    /// `id` is that of the header `webhook-id` (the same at each try, without a full stop, which would
    /// let it pass for a part of what follows), `timestamp` that of `webhook-timestamp`: the seconds
    /// since 1970 of this try. `body` is what is sent, byte for byte.
    pub fn sign(&self, id: &str, timestamp: i64, body: &str) -> String {
        let signatures = self.0.iter().map(|keyed| {
            let mut mac = keyed.clone();
            mac.update(id.as_bytes());
            mac.update(format!(".{timestamp}.").as_bytes());
            mac.update(body.as_bytes());
            format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
        });
        signatures.collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The secret, message and signature that the specification's own libraries test with.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const TIME: i64 = 1_614_265_330;
    const BODY: &str = r#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    /// Another secret, and what Python's hmac makes of the same message with it.
    const OTHER: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    const ITS_SIGNATURE: &str = "v1,78nXHjpFP0tVJQW5D0SBwmVyyW87BV/rL6MgfM/Bw44=";

    fn error(text: &str) -> WebhookSecretsError {
        WebhookSecrets::parse(text).unwrap_err()
    }

    #[test]
    fn the_example_of_the_specification_has_its_signature() {
        let secrets = WebhookSecrets::parse(SECRET).unwrap();
        assert_eq!(secrets.sign(ID, TIME, BODY), SIGNATURE);
        assert_ne!(secrets.sign(ID, TIME + 1, BODY), SIGNATURE);
        assert_ne!(secrets.sign("msg", TIME, BODY), SIGNATURE);
        assert_ne!(secrets.sign(ID, TIME, "{}"), SIGNATURE);
    }

    #[test]
    fn every_secret_signs_in_the_order_of_the_file() {
        let text = format!("# new\r\n\r\n  {OTHER} \r\n# old\n{SECRET}");
        let secrets = WebhookSecrets::parse(&text).unwrap();
        assert_eq!(
            secrets.sign(ID, TIME, BODY),
            format!("{ITS_SIGNATURE} {SIGNATURE}")
        );
    }

    #[test]
    fn secrets_have_24_to_64_bytes() {
        let of = |bytes: usize| format!("whsec_{}", STANDARD.encode(vec![7; bytes]));
        for bytes in [24, 25, 32, 64] {
            assert!(WebhookSecrets::parse(&of(bytes)).is_ok(), "{bytes}");
        }
        for bytes in [0, 1, 23, 65, 1000] {
            let length = WebhookSecretsError::Length { line: 1 };
            assert_eq!(error(&of(bytes)), length, "{bytes}");
        }
    }

    #[test]
    fn errors_name_the_line_and_not_its_content() {
        assert_eq!(error(""), WebhookSecretsError::Empty);
        assert_eq!(error("\n # nothing\n"), WebhookSecretsError::Empty);
        for line in [
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS",
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw # new",
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS\u{e9}",
            "whsk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        ] {
            let found = error(&format!("{OTHER}\n\n{line}"));
            assert_eq!(found, WebhookSecretsError::Malformed { line: 3 }, "{line}");
            assert!(!format!("{found} {found:?}").contains("MfKQ"));
        }
        let short = error("whsec_TWZLUQ==");
        assert_eq!(
            short.to_string(),
            "the secret in line 1 does not have 24 to 64 bytes"
        );
    }

    #[test]
    fn nothing_of_a_secret_is_printed_and_it_is_wiped() {
        fn is_wiped<T: zeroize::ZeroizeOnDrop>() {}
        // An Hmac is two of these.
        is_wiped::<Sha256>();
        let secrets = WebhookSecrets::parse(SECRET).unwrap();
        assert_eq!(format!("{secrets:?}"), "WebhookSecrets(1)");
    }
}
