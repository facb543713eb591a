//! Many made-up envelopes: nothing panics, and nothing opens that is not just what was sealed.

use super::*;
use crate::domain::random::Random;

const TEXT: &[u8] = b"ABCXYZabcxyz0189-_.=+/ \n\0ml";

/// Some bytes of text, now and then beyond ASCII.
fn junk(random: &mut Random, longest: usize) -> String {
    (0..random.below(longest + 1))
        .map(|_| match random.below(20) {
            0 => random.of(&['é', '\u{feff}', '\u{1F600}', '٣']),
            _ => random.of(TEXT) as char,
        })
        .collect()
}

fn key_hex(random: &mut Random) -> String {
    (0..4).map(|_| format!("{:016x}", random.bits())).collect()
}

/// A key ring of one to three keys, k0 first.
fn ring(random: &mut Random) -> KeyRing {
    let lines: String = (0..=random.below(3))
        .map(|n| format!("k{n} {}\n", key_hex(random)))
        .collect();
    KeyRing::parse(&lines).expect("keys")
}

fn some_binding(random: &mut Random) -> String {
    let owner = uuid::Uuid::from_u64_pair(random.bits(), random.bits()).to_string();
    let slots = [Slot::Access, Slot::Refresh, Slot::ClientSecret];
    let provider = random.of(&["zoom", "google_meet"]);
    binding(&owner, provider, random.of(&slots))
}

/// One thing about an envelope's text is changed; never nothing.
fn mutated(random: &mut Random, envelope: &str) -> String {
    let mut bytes = envelope.as_bytes().to_vec();
    let at = random.below(bytes.len());
    match random.below(7) {
        0 => bytes[at] ^= 1 << random.below(7),
        1 => bytes[at] = bytes[at].wrapping_add(1 + random.below(126) as u8) & 0x7f,
        2 => drop(bytes.remove(at)),
        3 => bytes.insert(at, random.of(TEXT)),
        4 => bytes.truncate(at),
        5 => bytes.extend(junk(random, 4).bytes().chain([b'A'])),
        _ => {
            let other = random.below(bytes.len());
            bytes.swap(at, other);
        }
    }
    // Where the change hit nothing, such as a byte swapped with its like.
    if bytes == envelope.as_bytes() {
        bytes.push(b'A');
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn nothing_but_the_very_envelope_with_its_binding_and_key_opens() {
    const ROUNDS: usize = 10_000;
    let mut random = Random(0x5ea1);
    let mut cases = 0;
    for _ in 0..ROUNDS {
        let keys = ring(&mut random);
        let to = some_binding(&mut random);
        let token = junk(&mut random, 60);
        let mut nonce = [0; NONCE_LEN];
        nonce.iter_mut().for_each(|b| *b = random.bits() as u8);
        let sealed = seal(&keys, &to, &Secret::new(token.as_str()), nonce).expect("it is sealed");
        let opened = open(&keys, &to, &sealed).expect("it opens");
        assert_eq!(opened.expose(), token);
        assert!(sealed.len() < 24 + (token.len() + 16) * 4 / 3 + 8);

        for _ in 0..12 {
            let changed = mutated(&mut random, &sealed);
            let answer = open(&keys, &to, &changed);
            assert!(answer.is_err(), "{sealed} became {changed}");
            cases += 1;
        }
        let other = some_binding(&mut random);
        assert_ne!(other, to);
        // And a binding that differs by one character.
        let near = mutated(&mut random, &to);
        for wrong in [other, near, String::new()] {
            assert_eq!(open(&keys, &wrong, &sealed).err(), Some(OpenError::Refused));
            cases += 1;
        }
        // Other keys under the same names; the same key under another name; no such name.
        let stranger = format!("k0 {}", key_hex(&mut random));
        let stranger = KeyRing::parse(&stranger).expect("a key");
        let refused = open(&stranger, &to, &sealed).err();
        assert_eq!(refused, Some(OpenError::Refused));
        let elsewhere = format!("k9 {}", key_hex(&mut random));
        let elsewhere = KeyRing::parse(&elsewhere).expect("a key");
        let unknown = open(&elsewhere, &to, &sealed).err();
        assert_eq!(unknown, Some(OpenError::UnknownKey("k0".to_owned())));
        cases += 3;
    }
    println!("{cases} cases: changed envelopes, bindings and keys");
}

#[test]
fn whatever_stands_in_the_column_is_refused_without_a_panic() {
    const ROUNDS: usize = 200_000;
    let mut random = Random(0xca5e);
    let keys = ring(&mut random);
    let mut foreign = 0;
    for _ in 0..ROUNDS {
        let text = match random.below(4) {
            0 => junk(&mut random, 120),
            // The right number of parts, and a key that is there.
            1 => format!(
                "ml1.{}.{}.{}",
                junk(&mut random, 6),
                junk(&mut random, 20),
                junk(&mut random, 60)
            ),
            2 => format!("ml1.k0.AAAAAAAAAAAAAAAA.{}", junk(&mut random, 80)),
            _ => {
                let bytes: Vec<u8> = (0..random.below(90)).map(|_| random.bits() as u8).collect();
                format!(
                    "ml1.k0.{}.{}",
                    BASE64.encode(&bytes[..bytes.len().min(12)]),
                    BASE64.encode(&bytes)
                )
            }
        };
        let refusal = open(&keys, "a", &text).expect_err("nobody sealed it");
        foreign += usize::from(refusal == OpenError::Foreign);
        let said = refusal.to_string();
        assert!(said.len() < 120 && !said.contains('\0'), "{said}");
    }
    println!("{ROUNDS} cases: {foreign} are no envelopes at all");
    assert!(foreign > ROUNDS / 10 && foreign < ROUNDS * 9 / 10);
}

#[test]
fn whatever_a_key_file_holds_is_read_or_refused_without_its_content() {
    const ROUNDS: usize = 100_000;
    let mut random = Random(0xf11e);
    let mut good = 0;
    for _ in 0..ROUNDS {
        let hex = key_hex(&mut random);
        let mut text = format!("# keys\nk1 {hex}\nk2 {}\n", key_hex(&mut random));
        if random.below(8) > 0 {
            text = mutated(&mut random, &text);
        }
        match KeyRing::parse(&text) {
            Ok(keys) => {
                good += 1;
                assert!(keys.current().is_some_and(|key| is_key(key.id())));
                assert!(!format!("{keys:?}").contains(&hex[..8]));
            }
            Err(error) => assert!(!format!("{error} {error:?}").contains(&hex[..8])),
        }
    }
    println!("{ROUNDS} cases: {good} key files are good");
    assert!(good > ROUNDS / 10 && good < ROUNDS * 9 / 10);
}

fn is_key(id: &str) -> bool {
    super::super::keyring::is_key_id(id)
}
