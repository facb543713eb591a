//! The keys of `meetlink.key_file`.

use std::fmt;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// One AES-256 key with the name by which envelopes refer to it.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    id: String,
    bytes: Zeroizing<[u8; 32]>,
    /// Whether it is random; a digest of something that people type may be guessed.
    random: bool,
}

impl Key {
    /// Name in envelopes.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The key itself.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.bytes
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}, ..)", self.id)
    }
}

/// All keys: the first random one encrypts, every one decrypts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRing {
    keys: Vec<Key>,
}

/// What is wrong with a key file. Names lines, never their content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyRingError {
    /// No key in it that may encrypt.
    Empty,
    /// A line is neither `<key id> <64 hex digits>` nor `<key id> sha256:<passphrase>`.
    Malformed {
        /// Number of the line, from 1.
        line: usize,
    },
    /// A key id stands twice.
    Repeated {
        /// Number of the second line, from 1.
        line: usize,
    },
}

impl fmt::Display for KeyRingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("it holds no key of 64 hex digits"),
            Self::Malformed { line } => {
                write!(
                    f,
                    "line {line} is neither \"<key id> <64 hex digits>\" nor \"<key id> \
                     sha256:<passphrase>\""
                )
            }
            Self::Repeated { line } => write!(f, "line {line} repeats a key id"),
        }
    }
}

impl KeyRing {
    /// Reads the text of a key file: a key a line, blank lines and `#` comments ignored.
    ///
    /// A passphrase is what follows `sha256:`, without blanks at its ends; its SHA-256 is the key.
    pub fn parse(text: &str) -> Result<Self, KeyRingError> {
        let mut keys: Vec<Key> = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line_number = number + 1;
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let key = parse_line(line).ok_or(KeyRingError::Malformed { line: line_number })?;
            if keys.iter().any(|k| k.id == key.id) {
                return Err(KeyRingError::Repeated { line: line_number });
            }
            keys.push(key);
        }
        if !keys.iter().any(|key| key.random) {
            return Err(KeyRingError::Empty);
        }
        Ok(Self { keys })
    }

    /// The key that encrypts.
    pub fn current(&self) -> Option<&Key> {
        self.keys.iter().find(|key| key.random)
    }

    /// The key of that id.
    pub fn find(&self, id: &str) -> Option<&Key> {
        self.keys.iter().find(|k| k.id == id)
    }
}

fn parse_line(line: &str) -> Option<Key> {
    let (id, rest) = line.split_once(|c: char| c.is_ascii_whitespace())?;
    let rest = rest.trim_start();
    let mut bytes = Zeroizing::new([0u8; 32]);
    let passphrase = rest.strip_prefix("sha256:");
    match passphrase {
        Some("") => return None,
        Some(passphrase) => bytes.copy_from_slice(&Sha256::digest(passphrase)),
        None if rest.len() == 64 => {
            base16ct::mixed::decode(rest, bytes.as_mut_slice()).ok()?;
        }
        None => return None,
    }
    is_key_id(id).then(|| Key {
        id: id.to_owned(),
        bytes,
        random: passphrase.is_none(),
    })
}

/// Key ids stand between the dots of an envelope.
pub fn is_key_id(id: &str) -> bool {
    (1..=32).contains(&id.len())
        && id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191A1B1C1D1E1F";

    #[test]
    fn the_first_key_encrypts_and_all_are_found() {
        let ring = KeyRing::parse(&format!("# keys\n\n k2 {HEX}\nk1\t{HEX}\n")).unwrap();
        assert_eq!(ring.current().unwrap().id(), "k2");
        assert_eq!(ring.find("k1").unwrap().bytes()[31], 0x1f);
        assert!(ring.find("k3").is_none());
    }

    #[test]
    fn a_passphrase_makes_a_key_that_encrypts_nothing_of_ours() {
        let text = format!("app sha256:correct horse: battery \nk1 {HEX}\n");
        let ring = KeyRing::parse(&text).unwrap();
        // printf %s 'correct horse: battery' | sha256sum
        let digest = "e30a18035d068ee4";
        let key = ring.find("app").unwrap();
        assert_eq!(base16ct::lower::encode_string(&key.bytes()[..8]), digest);
        assert_eq!(ring.current().unwrap().id(), "k1");
        let alone = KeyRing::parse("app sha256:correct horse").unwrap_err();
        assert_eq!(alone, KeyRingError::Empty);
        let empty = KeyRing::parse("app sha256: ").unwrap_err();
        assert_eq!(empty, KeyRingError::Malformed { line: 1 });
    }

    #[test]
    fn errors_name_the_line_and_not_its_content() {
        let cases = [
            ("", KeyRingError::Empty),
            ("# only a comment", KeyRingError::Empty),
            ("k1", KeyRingError::Malformed { line: 1 }),
            ("\nk1 deadbeef", KeyRingError::Malformed { line: 2 }),
            ("k.1 00", KeyRingError::Malformed { line: 1 }),
        ];
        for (text, error) in cases {
            assert_eq!(KeyRing::parse(text).unwrap_err(), error);
        }
        let twice = format!("k1 {HEX}\nk1 {HEX}");
        let error = KeyRing::parse(&twice).unwrap_err();
        assert_eq!(error, KeyRingError::Repeated { line: 2 });
        let extra = KeyRing::parse(&format!("k1 {HEX} x")).unwrap_err();
        assert!(!extra.to_string().contains("0001"));
        let multibyte = format!("k1 {}", "é".repeat(32));
        assert_eq!(
            KeyRing::parse(&multibyte).unwrap_err(),
            KeyRingError::Malformed { line: 1 }
        );
    }

    #[test]
    fn debug_output_hides_the_bytes() {
        let ring = KeyRing::parse(&format!("k1 {HEX}")).unwrap();
        assert_eq!(format!("{ring:?}"), "KeyRing { keys: [Key(k1, ..)] }");
    }
}
