//! Canaries: secrets that can be recognised wherever they turn up, also in pieces and in disguise,
//! and the search for them.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use uuid::Uuid;

/// Bytes that decide whether a place is looked at more closely.
const KEY: usize = 8;

/// A random text of letters and digits: no two of its pieces are alike, so that compression
/// leaves it readable.
pub fn random_text(length: usize) -> String {
    const LETTERS: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut text = String::with_capacity(length + 16);
    while text.len() < length {
        let random = *Uuid::new_v4().as_bytes();
        // Two bytes of the sixteen are not random throughout.
        for (_, byte) in (0..16).zip(random).filter(|(n, _)| *n != 6 && *n != 8) {
            text.push(char::from(LETTERS[usize::from(byte) % LETTERS.len()]));
        }
    }
    text.truncate(length);
    text
}

/// 32 random bytes as 64 hexadecimal digits.
pub fn random_key() -> String {
    // A v4 UUID has six fixed bits, which is no matter for a test.
    format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple())
}

/// One form of one piece of a canary.
struct Needle {
    name: String,
    form: &'static str,
    text: Vec<u8>,
    /// Length of the first part; behind it comes one byte that does not count (pglz puts a control
    /// byte, here zero, before each eight literal bytes).
    gap: Option<usize>,
}

/// What is searched for.
#[derive(Default)]
pub struct Hunt {
    needles: Vec<Needle>,
    by_key: HashMap<[u8; KEY], Vec<usize>>,
    /// A bit for each first three bytes of a needle.
    filter: Vec<u64>,
}

/// Name of a canary, its form, and the place.
pub type Finding = (String, &'static str, String);

impl Hunt {
    /// Adds a secret that is text, in every form in which it might be written down.
    pub fn text(&mut self, name: &str, secret: &str) {
        assert!(secret.len() >= 15, "{name} is too short to be recognised");
        self.bytes(name, secret.as_bytes());
        let form = form_encoded(secret);
        if form != secret {
            self.windows(name, "percent-encoded", form.as_bytes(), 16, 4);
        }
    }

    /// Adds a secret of any bytes.
    pub fn bytes(&mut self, name: &str, secret: &[u8]) {
        self.windows(name, "plain", secret, 16, 4);
        for skipped in 0..3 {
            let rest = &secret[skipped..];
            let rest = &rest[..rest.len() / 3 * 3];
            let standard = STANDARD_NO_PAD.encode(rest);
            let url_safe = URL_SAFE_NO_PAD.encode(rest);
            self.windows(name, "base64", standard.as_bytes(), 16, 4);
            if standard != url_safe {
                self.windows(name, "base64url", url_safe.as_bytes(), 16, 4);
            }
        }
        let hex = hex(secret);
        self.windows(name, "hex", hex.as_bytes(), 24, 8);
        self.windows(name, "HEX", hex.to_uppercase().as_bytes(), 24, 8);
        let percent: String = secret.iter().map(|byte| format!("%{byte:02X}")).collect();
        self.windows(name, "percent", percent.as_bytes(), 24, 12);
        self.windows(name, "percent", percent.to_lowercase().as_bytes(), 24, 12);
        let little: Vec<u8> = secret.iter().flat_map(|byte| [*byte, 0]).collect();
        let big: Vec<u8> = secret.iter().flat_map(|byte| [0, *byte]).collect();
        self.windows(name, "utf-16le", &little, 24, 8);
        self.windows(name, "utf-16be", &big, 24, 8);
        // As debug_print_plan shows the bytes of a constant.
        for piece in secret.windows(10).step_by(3) {
            let numbers: Vec<String> = piece.iter().map(u8::to_string).collect();
            self.add(name, "decimal", numbers.join(" ").into_bytes(), None);
        }
        for piece in secret.windows(16) {
            self.add(name, "pglz", piece.to_vec(), Some(8));
        }
    }

    fn windows(&mut self, name: &str, form: &'static str, text: &[u8], size: usize, step: usize) {
        if text.len() < size {
            return self.add(name, form, text.to_vec(), None);
        }
        for piece in text.windows(size).step_by(step) {
            self.add(name, form, piece.to_vec(), None);
        }
    }

    fn add(&mut self, name: &str, form: &'static str, text: Vec<u8>, gap: Option<usize>) {
        let Some(key) = text.first_chunk::<KEY>() else {
            panic!("a piece of {name} is too short");
        };
        if self.filter.is_empty() {
            self.filter = vec![0; 1 << 18];
        }
        let bit = leading(key);
        self.filter[bit >> 6] |= 1 << (bit & 63);
        let same = self.by_key.entry(*key).or_default();
        same.push(self.needles.len());
        let name = name.to_owned();
        self.needles.push(Needle {
            name,
            form,
            text,
            gap,
        });
    }

    /// The canaries in `haystack`, with the forms they have there.
    pub fn search(&self, haystack: &[u8]) -> BTreeSet<(String, &'static str)> {
        let mut found = BTreeSet::new();
        for at in 0..haystack.len().saturating_sub(KEY - 1) {
            let bit = leading(&haystack[at..]);
            if self.filter[bit >> 6] & (1 << (bit & 63)) == 0 {
                continue;
            }
            let rest = &haystack[at..];
            let key = rest.first_chunk::<KEY>();
            for needle in key
                .and_then(|key| self.by_key.get(key))
                .into_iter()
                .flatten()
            {
                let needle = &self.needles[*needle];
                if needle.is_at(rest) {
                    found.insert((needle.name.clone(), needle.form));
                }
            }
        }
        found
    }

    /// The same with the place named.
    pub fn search_at(&self, place: &str, haystack: &[u8]) -> BTreeSet<Finding> {
        let found = self.search(haystack).into_iter();
        found
            .map(|(name, form)| (name, form, place.to_owned()))
            .collect()
    }

    /// All files in a folder, whatever they are; places are named by their path below it. Gives
    /// the number of bytes too.
    pub fn search_folder(&self, place: &str, folder: &Path) -> (BTreeSet<Finding>, u64) {
        let (mut found, mut size) = (BTreeSet::new(), 0);
        let mut folders = vec![folder.to_owned()];
        while let Some(next) = folders.pop() {
            // A running server removes files while they are listed.
            let Ok(entries) = std::fs::read_dir(&next) else {
                continue;
            };
            for entry in entries.flatten() {
                let path = entry.path();
                let kind = entry.file_type();
                if kind.as_ref().is_ok_and(std::fs::FileType::is_dir) {
                    folders.push(path);
                } else if kind.is_ok_and(|kind| kind.is_file())
                    && let Ok(bytes) = std::fs::read(&path)
                {
                    size += bytes.len() as u64;
                    let below = path.strip_prefix(folder).unwrap_or(&path).display();
                    found.extend(self.search_at(&format!("{place}: {below}"), &bytes));
                    let name = path.as_os_str().as_encoded_bytes();
                    found.extend(self.search_at(&format!("{place}: the name {below}"), name));
                }
            }
        }
        (found, size)
    }
}

impl Needle {
    fn is_at(&self, text: &[u8]) -> bool {
        match self.gap {
            None => text.starts_with(&self.text),
            Some(first) => {
                let (head, tail) = self.text.split_at(first);
                text.starts_with(head)
                    && text[first..]
                        .split_first()
                        .is_some_and(|(control, rest)| *control == 0 && rest.starts_with(tail))
            }
        }
    }
}

fn leading(text: &[u8]) -> usize {
    usize::from(text[0]) << 16 | usize::from(text[1]) << 8 | usize::from(text[2])
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Hexadecimal digits as bytes.
pub fn unhex(hex: &str) -> Vec<u8> {
    let pairs = (0..hex.len()).step_by(2);
    pairs
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal digits"))
        .collect()
}

/// As `application/x-www-form-urlencoded` writes it.
fn form_encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'_' | b'.' | b'*' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}
