//! The envelope of a token at rest: `ml1.<key id>.<nonce>.<ciphertext and tag>`.
//!
//! AES-256-GCM with a 96-bit random nonce (NIST SP 800-38D allows 2^32 of them under one key),
//! base64url without padding (RFC 4648, section 5). The additional data tie an envelope to its
//! row: moved to another tutor, provider or column it does not open.

use std::fmt;

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use zeroize::Zeroizing;

use super::keyring::KeyRing;
use super::secret::Secret;

/// Bytes of a nonce.
pub const NONCE_LEN: usize = 12;

/// Longest envelope that is looked at, in bytes: tokens have at most a few kilobytes.
pub const ENVELOPE_LIMIT: usize = 64 * 1024;

/// Which secret an envelope holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// A tutor's access token.
    Access,
    /// A tutor's refresh token.
    Refresh,
    /// The operator's OAuth client secret.
    ClientSecret,
}

/// Whose secret, for what: the additional authenticated data.
pub fn binding(owner: &str, provider: &str, slot: Slot) -> String {
    let slot = match slot {
        Slot::Access => "access",
        Slot::Refresh => "refresh",
        Slot::ClientSecret => "client_secret",
    };
    format!("meetlink|{owner}|{provider}|{slot}")
}

/// The owner in the binding of an operator's secret; tutors' ids are uuids.
pub const OPERATOR: &str = "operator";

/// Why an envelope does not open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// Not of the form `ml1.…`.
    Foreign,
    /// Made with a key that is not in the key file.
    UnknownKey(String),
    /// Damaged, or made for another row.
    Refused,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign => f.write_str("the stored token is not an ml1 envelope"),
            Self::UnknownKey(id) => write!(
                f,
                "the stored token was encrypted with key \"{id}\", which is not in \
                 meetlink.key_file"
            ),
            Self::Refused => {
                f.write_str("the stored token is damaged or was encrypted for another row")
            }
        }
    }
}

/// Why nothing could be sealed: there is no key, or the text is beyond the cipher's limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealError;

/// Encrypts with the current key. `nonce` must be fresh and random.
pub fn seal(
    keys: &KeyRing,
    binding: &str,
    secret: &Secret,
    nonce: [u8; NONCE_LEN],
) -> Result<String, SealError> {
    let key = keys.current().ok_or(SealError)?;
    let payload = Payload {
        msg: secret.expose().as_bytes(),
        aad: binding.as_bytes(),
    };
    let sealed = Aes256Gcm::new(key.bytes().into())
        .encrypt(&Nonce::from(nonce), payload)
        .map_err(|_| SealError)?;
    Ok(format!(
        "ml1.{}.{}.{}",
        key.id(),
        BASE64.encode(nonce),
        BASE64.encode(sealed)
    ))
}

/// Decrypts an envelope that was made for `binding`.
pub fn open(keys: &KeyRing, binding: &str, envelope: &str) -> Result<Secret, OpenError> {
    if envelope.len() > ENVELOPE_LIMIT {
        return Err(OpenError::Foreign);
    }
    let mut parts = envelope.split('.');
    let (Some("ml1"), Some(id), Some(nonce), Some(sealed), None) = (
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
    ) else {
        return Err(OpenError::Foreign);
    };
    if !super::keyring::is_key_id(id) {
        return Err(OpenError::Foreign);
    }
    let nonce: [u8; NONCE_LEN] = BASE64
        .decode(nonce)
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(OpenError::Foreign)?;
    let sealed = BASE64.decode(sealed).map_err(|_| OpenError::Foreign)?;
    let key = keys
        .find(id)
        .ok_or_else(|| OpenError::UnknownKey(id.to_owned()))?;
    let payload = Payload {
        msg: &sealed,
        aad: binding.as_bytes(),
    };
    let clear = Aes256Gcm::new(key.bytes().into())
        .decrypt(&Nonce::from(nonce), payload)
        .map(Zeroizing::new)
        .map_err(|_| OpenError::Refused)?;
    let text = std::str::from_utf8(&clear).map_err(|_| OpenError::Refused)?;
    Ok(Secret::new(text))
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests {
    use super::*;

    fn ring(lines: &[(&str, u8)]) -> KeyRing {
        let text: String = lines
            .iter()
            .map(|(id, byte)| format!("{id} {}\n", format!("{byte:02x}").repeat(32)))
            .collect();
        KeyRing::parse(&text).unwrap()
    }

    const TUTOR: &str = "7b0a0c3e-0000-4000-8000-000000000001";

    #[test]
    fn an_envelope_opens_for_its_own_row_only() {
        let keys = ring(&[("k1", 7)]);
        let aad = binding(TUTOR, "zoom", Slot::Access);
        let sealed = seal(&keys, &aad, &Secret::new("token"), [9; 12]).unwrap();
        assert!(sealed.starts_with("ml1.k1.") && !sealed.contains('='));
        assert_eq!(open(&keys, &aad, &sealed).unwrap().expose(), "token");
        for other in [
            binding(TUTOR, "zoom", Slot::Refresh),
            binding(TUTOR, "google_meet", Slot::Access),
            binding("another", "zoom", Slot::Access),
        ] {
            assert_eq!(
                open(&keys, &other, &sealed).unwrap_err(),
                OpenError::Refused
            );
        }
    }

    /// Made with Python's `cryptography`: AESGCM(bytes(range(32))), nonce bytes(range(12)).
    #[test]
    fn an_envelope_of_another_program_opens() {
        let hex: String = (0..32).map(|b| format!("{b:02x}")).collect();
        let keys = KeyRing::parse(&format!("app {hex}")).unwrap();
        let aad = binding(TUTOR, "google_meet", Slot::Refresh);
        let sealed = FOREIGN_ENVELOPE;
        assert_eq!(
            open(&keys, &aad, sealed).unwrap().expose(),
            "1//refresh-token"
        );
    }
    const FOREIGN_ENVELOPE: &str =
        "ml1.app.AAECAwQFBgcICQoL.di35aaCDsH7-Kbr_3oIdA_js267tWhTdyl_iUzAk4ms";

    #[test]
    fn old_keys_open_and_unknown_keys_are_named() {
        let old = ring(&[("k1", 1)]);
        let both = ring(&[("k2", 2), ("k1", 1)]);
        let sealed = seal(&old, "a", &Secret::new("x"), [0; 12]).unwrap();
        assert_eq!(open(&both, "a", &sealed).unwrap().expose(), "x");
        let newer = seal(&both, "a", &Secret::new("x"), [0; 12]).unwrap();
        assert_eq!(
            open(&old, "a", &newer).unwrap_err(),
            OpenError::UnknownKey("k2".into())
        );
        let swapped = ring(&[("k1", 2)]);
        assert_eq!(
            open(&swapped, "a", &sealed).unwrap_err(),
            OpenError::Refused
        );
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let keys = ring(&[("k1", 3)]);
        let sealed = seal(&keys, "a", &Secret::new("secret"), [5; 12]).unwrap();
        for at in 0..sealed.len() {
            for bit in 0..7 {
                let mut bytes = sealed.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                let text = String::from_utf8(bytes).unwrap();
                assert!(open(&keys, "a", &text).is_err(), "byte {at}, bit {bit}");
            }
        }
    }

    #[test]
    fn junk_is_foreign() {
        let keys = ring(&[("k1", 3)]);
        for junk in [
            "",
            "ml1",
            "ml1.k1",
            "ml1.k1.AAAA.AAAA",
            "ml2.k1.a.b",
            "ml1.k1.a.b.c",
            "é.é",
        ] {
            assert_eq!(
                open(&keys, "a", junk).unwrap_err(),
                OpenError::Foreign,
                "{junk}"
            );
        }
        let huge = format!("ml1.k1.AAAAAAAAAAAAAAAA.{}", "A".repeat(ENVELOPE_LIMIT));
        assert_eq!(open(&keys, "a", &huge).unwrap_err(), OpenError::Foreign);
    }
}
