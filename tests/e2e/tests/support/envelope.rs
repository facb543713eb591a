//! Envelopes as another program makes and reads them, from the description alone.

#![allow(dead_code, reason = "each test program uses a part of it")]

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{Aead, KeyInit, Payload};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use meetlink_e2e::app::{KEY, Person, name_of};
use meetlink_simulator::Provider;
use uuid::Uuid;

fn cipher(hex: &str) -> Aes256Gcm {
    let bytes: Vec<u8> = (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex"))
        .collect();
    Aes256Gcm::new_from_slice(&bytes).expect("a key of 32 bytes")
}

fn binding(tutor: &Person, provider: Provider, slot: &str) -> String {
    format!("meetlink|{}|{}|{slot}", tutor.0, name_of(provider))
}

/// Makes one with the fixture's key.
pub fn seal(token: &str, tutor: &Person, provider: Provider, slot: &str) -> String {
    seal_with(KEY, token, tutor, provider, slot)
}

/// Makes one with a key of one's own.
pub fn seal_with(
    (id, hex): (&str, &str),
    token: &str,
    tutor: &Person,
    provider: Provider,
    slot: &str,
) -> String {
    let random = Uuid::new_v4();
    let nonce = &random.as_bytes()[..12];
    let aad = binding(tutor, provider, slot);
    let payload = Payload {
        msg: token.as_bytes(),
        aad: aad.as_bytes(),
    };
    let sealed = cipher(hex)
        .encrypt(&nonce.try_into().expect("12 bytes"), payload)
        .expect("it is sealed");
    let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    format!("ml1.{id}.{}.{}", text(nonce), text(&sealed))
}

/// Reads one that was made with the fixture's key.
pub fn open(envelope: &str, tutor: &Person, provider: Provider, slot: &str) -> String {
    let parts: Vec<&str> = envelope.split('.').collect();
    let [version, id, nonce, sealed] = parts[..] else {
        panic!("not an envelope: {envelope}")
    };
    assert_eq!((version, id), ("ml1", KEY.0));
    let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).expect("base64url");
    let aad = binding(tutor, provider, slot);
    let sealed = bytes(sealed);
    let payload = Payload {
        msg: &sealed,
        aad: aad.as_bytes(),
    };
    let token = cipher(KEY.1)
        .decrypt(
            &bytes(nonce).as_slice().try_into().expect("12 bytes"),
            payload,
        )
        .expect("it opens");
    String::from_utf8(token).expect("a token is text")
}
