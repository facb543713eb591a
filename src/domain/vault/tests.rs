use super::*;
use crate::domain::envelope::{Slot, binding};
use crate::domain::random::Random;
use crate::domain::token_format::Cipher;

/// The application's key is the SHA-256 of a passphrase.
const KEYS: &str = "k1 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n\
                    app sha256:correct horse: battery\n";
/// What Node's `crypto` made of this token with that key.
const TOKEN: &str = "1//0g-node-refresh_token";
const OF_NODE: [(Cipher, &str); 5] = [
    (
        Cipher::GcmHex,
        "0c0c0c0c0c0c0c0c0c0c0c0c:d8bde6e28ffe852bf4c2f197a1867d1c:\
         5c025baa8db909aeae1fc5f51e1b8b0acb8fe9a009ff9e3b",
    ),
    (
        Cipher::GcmHex,
        "10101010101010101010101010101010:662e813017b918028459619e7452f43a:\
         60d2c820552db0b2dfdc0557e10c625aa4eabee3c91bfa9f",
    ),
    (
        Cipher::GcmBase64,
        "DAwMDAwMDAwMDAwMXAJbqo25Ca6uH8X1HhuLCsuP6aAJ/5472L3m4o/+hSv0wvGXoYZ9HA==",
    ),
    (
        Cipher::GcmBase64,
        "EBAQEBAQEBAQEBAQEBAQEGDSyCBVLbCy39wFV+EMYlqk6r7jyRv6n2YugTAXuRgChFlhnnRS9Do=",
    ),
    (
        Cipher::CbcHex,
        "03030303030303030303030303030303:\
         16256d529936a135fb9f076cf0098b870f5824313dd5d4c880b8d2b98ab79d1f",
    ),
];

fn ring(text: &str) -> KeyRing {
    KeyRing::parse(text).unwrap()
}

fn own(cipher: Cipher) -> TokenFormat {
    TokenFormat::Own(cipher, "app".to_owned())
}

fn a_binding() -> String {
    binding("7b0a0c3e-0000-4000-8000-000000000001", "zoom", Slot::Access)
}

#[test]
fn what_an_application_wrote_is_read() {
    let keys = ring(KEYS);
    for (cipher, stored) in OF_NODE {
        let format = own(cipher);
        let vault = Vault {
            keys: &keys,
            format: &format,
        };
        assert_eq!(vault.open("", stored).unwrap().expose(), TOKEN, "{stored}");
        let loud = stored.to_ascii_uppercase();
        if cipher != Cipher::GcmBase64 {
            assert_eq!(vault.open("", &loud).unwrap().expose(), TOKEN, "{loud}");
        }
    }
    // As urlsafe_b64encode writes it, and without padding.
    let format = own(Cipher::GcmBase64);
    let vault = Vault {
        keys: &keys,
        format: &format,
    };
    let other = OF_NODE[2].1.replace('+', "-").replace('/', "_");
    let other = other.trim_end_matches('=');
    assert_eq!(vault.open("", other).unwrap().expose(), TOKEN);
}

#[test]
fn a_new_token_takes_the_form_of_the_one_before() {
    let keys = ring(KEYS);
    let secret = Secret::new("ya29.new");
    for (cipher, stored) in OF_NODE {
        let format = own(cipher);
        let vault = Vault {
            keys: &keys,
            format: &format,
        };
        let fresh = [9; 16];
        let new = vault
            .seal_like(stored, &a_binding(), &secret, fresh)
            .unwrap();
        let lengths = |text: &str| text.split(':').map(str::len).collect::<Vec<_>>();
        match cipher {
            Cipher::GcmHex => assert_eq!(lengths(&new)[..2], lengths(stored)[..2]),
            Cipher::CbcHex => assert_eq!(lengths(&new)[0], lengths(stored)[0]),
            Cipher::GcmBase64 => {
                let spare = |text: &str, token: &str| text.len() * 3 / 4 / 3 - token.len() / 3;
                assert!(spare(&new, "ya29.new").abs_diff(spare(stored, TOKEN)) <= 1);
            }
        }
        assert_eq!(vault.open("", &new).unwrap(), secret);
        // Whoever has come over to ml1 stays there.
        let ml1 = vault.seal_ml1(&a_binding(), &secret, fresh).unwrap();
        let new = vault.seal_like(&ml1, &a_binding(), &secret, fresh).unwrap();
        assert!(is_ml1(&new));
        assert_eq!(vault.open(&a_binding(), &new).unwrap(), secret);
    }
}

#[test]
fn a_first_token_is_written_as_the_application_writes_them() {
    let keys = ring(KEYS);
    let secret = Secret::new("ya29.first");
    for cipher in Cipher::ALL {
        let format = own(cipher);
        let vault = Vault {
            keys: &keys,
            format: &format,
        };
        let sealed = vault.seal(&a_binding(), &secret, [7; 16]).unwrap();
        assert!(!is_ml1(&sealed));
        assert_eq!(vault.open("", &sealed).unwrap(), secret);
    }
    let vault = Vault {
        keys: &keys,
        format: &TokenFormat::Ml1,
    };
    let sealed = vault.seal(&a_binding(), &secret, [7; 16]).unwrap();
    // Never with a key that somebody may guess.
    assert!(sealed.starts_with("ml1.k1."));
}

#[test]
fn what_no_tutor_could_mend_is_told_apart() {
    let keys = ring(KEYS);
    let ours = Vault {
        keys: &keys,
        format: &TokenFormat::Ml1,
    };
    for (_, stored) in OF_NODE {
        let error = ours.open("", stored).unwrap_err();
        assert!(matches!(error, Unreadable::Unknown(_)), "{error}");
        assert!(error.to_string().contains("token_format"));
    }
    let foreign = own(Cipher::CbcHex);
    let without = ring(&KEYS.replace("app", "other"));
    let vault = Vault {
        keys: &without,
        format: &foreign,
    };
    let error = vault.open("", OF_NODE[4].1).unwrap_err();
    assert!(matches!(error, Unreadable::NoKey(_)), "{error}");
    let wrong = ring(&KEYS.replace("correct", "wrong"));
    for (cipher, stored) in OF_NODE {
        let format = own(cipher);
        let vault = Vault {
            keys: &wrong,
            format: &format,
        };
        let error = vault.open("", stored).unwrap_err();
        assert!(matches!(error, Unreadable::Unknown(_)), "{error}");
    }
    // No header could carry it.
    let odd = Secret::new("x\r\nX-Header: y");
    let sealed = ours.seal("a", &odd, [1; 16]).map_err(|_| "sealed").unwrap();
    assert_eq!(ours.open("a", &sealed).unwrap_err(), Unreadable::Refused);
    // Damaged, or made for another row: connecting again does help.
    let sealed = ours
        .seal("a", &Secret::new("x"), [1; 16])
        .map_err(|_| "sealed")
        .unwrap();
    assert_eq!(ours.open("b", &sealed).unwrap_err(), Unreadable::Refused);
}

/// One character of a stored token becomes another.
fn changed(random: &mut Random, stored: &str) -> String {
    let mut bytes = stored.as_bytes().to_vec();
    let at = random.below(bytes.len());
    let other = random.of(b"0123456789abcdefABCDEF:+/=-_ .");
    match random.below(4) {
        0 => drop(bytes.remove(at)),
        1 => bytes.insert(at, other),
        2 => bytes.truncate(at),
        _ => bytes[at] = other,
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn a_changed_token_is_never_taken_for_another_where_the_form_can_tell() {
    const ROUNDS: usize = 40_000;
    let keys = ring(KEYS);
    let mut random = Random(0xa11e);
    let (mut refused, mut guessed) = (0, 0);
    for _ in 0..ROUNDS {
        let (cipher, stored) = random.of(&OF_NODE);
        let format = own(cipher);
        let vault = Vault {
            keys: &keys,
            format: &format,
        };
        let mut text = stored.to_owned();
        for _ in 0..=random.below(3) {
            if !text.is_empty() {
                text = changed(&mut random, &text);
            }
        }
        match vault.open("", &text) {
            // Another spelling of the same: a letter's case, blanks at the ends, padding.
            Ok(secret) if secret.expose() == TOKEN => {}
            Ok(secret) => {
                assert_eq!(cipher, Cipher::CbcHex, "{stored} became {text}");
                assert!(secret.expose().bytes().all(|b| (b' '..=b'~').contains(&b)));
                guessed += 1;
            }
            Err(_) => refused += 1,
        }
        // And from a row that has it, something can always be written.
        let secret = Secret::new("new");
        let new = vault.seal_like(&text, "", &secret, [1; 16]).unwrap();
        assert_eq!(vault.open("", &new).unwrap(), secret);
    }
    println!("{ROUNDS} cases: {refused} refused, {guessed} times CBC could not tell");
    assert!(refused > ROUNDS / 2);
}
