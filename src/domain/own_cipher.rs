//! The forms in which applications encrypt tokens by themselves: AES-256-GCM and AES-256-CBC.
//!
//! They are read and written for the applications' sake. GCM without additional data does not notice
//! a token that was moved to another row; CBC notices nothing at all: RFC 7516, appendix C, and
//! Vaudenay, "Security Flaws Induced by CBC Padding", 2002, say what that leads to.

use aes_gcm::aead::consts::{U12, U16};
use aes_gcm::aead::{Aead, KeyInit, Nonce};
use aes_gcm::aes::Aes256;
use aes_gcm::{AesGcm, Tag};
use base16ct::lower::encode_string as hex;
use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use zeroize::Zeroizing;

use super::keyring::Key;
use super::secret::Secret;
use super::token_format::Cipher;

/// Bytes of GCM's tag, and of CBC's initialization vector and blocks.
const BLOCK: usize = 16;
const TAG: usize = std::mem::size_of::<Tag>();

/// How one token is written: what a reader of it may rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    cipher: Cipher,
    /// Bytes of the initialization vector.
    iv: usize,
}

impl Form {
    /// What is written where there is no other token to go by.
    pub fn usual(cipher: Cipher) -> Self {
        let iv = match cipher {
            Cipher::GcmHex | Cipher::GcmBase64 => 12,
            Cipher::CbcHex => BLOCK,
        };
        Self { cipher, iv }
    }
}

/// Reads both alphabets, with and without padding, as Node's `Buffer` does.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Decrypts a token; `None` where it is not of that form, or not of that key as far as can be told.
pub fn open(cipher: Cipher, key: &Key, stored: &str) -> Option<(Secret, Form)> {
    let stored = stored.trim();
    let parts: Vec<&str> = stored.split(':').collect();
    let (clear, iv) = match (cipher, parts.as_slice()) {
        (Cipher::GcmHex, [iv, tag, sealed]) => {
            let (iv, tag, mut sealed) = (unhex(iv)?, unhex(tag)?, unhex(sealed)?);
            if tag.len() != TAG {
                return None;
            }
            sealed.extend_from_slice(&tag);
            (decrypt_gcm(key, &iv, &sealed)?, iv.len())
        }
        (Cipher::GcmBase64, [_]) => {
            let all = LENIENT
                .decode(stored.replace('-', "+").replace('_', "/"))
                .ok()?;
            // The length of the vector is not written down; the tag tells which one it is.
            [12, 16].into_iter().find_map(|length| {
                let (iv, sealed) = all.split_at_checked(length)?;
                Some((decrypt_gcm(key, iv, sealed)?, length))
            })?
        }
        (Cipher::CbcHex, [iv, sealed]) => (decrypt_cbc(key, &unhex(iv)?, &unhex(sealed)?)?, BLOCK),
        _ => return None,
    };
    let text = std::str::from_utf8(&clear).ok()?;
    Some((Secret::new(text), Form { cipher, iv }))
}

/// Encrypts a token; `None` beyond the cipher's limit. `fresh` must be fresh and random.
pub fn seal(form: Form, key: &Key, secret: &Secret, fresh: [u8; BLOCK]) -> Option<String> {
    let iv = fresh.get(..form.iv)?;
    let clear = secret.expose().as_bytes();
    Some(match form.cipher {
        Cipher::GcmHex => {
            let all = encrypt_gcm(key, iv, clear)?;
            let (sealed, tag) = all.split_at_checked(all.len().checked_sub(TAG)?)?;
            format!("{}:{}:{}", hex(iv), hex(tag), hex(sealed))
        }
        Cipher::GcmBase64 => {
            let mut all = iv.to_vec();
            all.extend(encrypt_gcm(key, iv, clear)?);
            STANDARD.encode(all)
        }
        Cipher::CbcHex => {
            let cipher = cbc::Encryptor::<Aes256>::new_from_slices(key.bytes(), iv).ok()?;
            format!(
                "{}:{}",
                hex(iv),
                hex(&cipher.encrypt_padded_vec::<Pkcs7>(clear))
            )
        }
    })
}

fn decrypt_gcm(key: &Key, iv: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let clear = match iv.len() {
        12 => gcm::<U12>(key).decrypt(&Nonce::<AesGcm<Aes256, U12>>::try_from(iv).ok()?, sealed),
        16 => gcm::<U16>(key).decrypt(&Nonce::<AesGcm<Aes256, U16>>::try_from(iv).ok()?, sealed),
        _ => return None,
    };
    clear.ok().map(Zeroizing::new)
}

fn encrypt_gcm(key: &Key, iv: &[u8], clear: &[u8]) -> Option<Vec<u8>> {
    let sealed = match iv.len() {
        12 => gcm::<U12>(key).encrypt(&Nonce::<AesGcm<Aes256, U12>>::try_from(iv).ok()?, clear),
        16 => gcm::<U16>(key).encrypt(&Nonce::<AesGcm<Aes256, U16>>::try_from(iv).ok()?, clear),
        _ => return None,
    };
    sealed.ok()
}

fn gcm<N: aes_gcm::aead::array::ArraySize>(key: &Key) -> AesGcm<Aes256, N> {
    AesGcm::new(key.bytes().into())
}

/// With another key one text in 256 seems well padded; a token is printable besides (RFC 6749,
/// appendices A.12 and A.17), which what comes of the wrong key practically never is.
fn decrypt_cbc(key: &Key, iv: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let cipher = cbc::Decryptor::<Aes256>::new_from_slices(key.bytes(), iv).ok()?;
    let clear = Zeroizing::new(cipher.decrypt_padded_vec::<Pkcs7>(sealed).ok()?);
    let printable = clear.iter().all(|byte| (b' '..=b'~').contains(byte));
    (printable && !clear.is_empty()).then_some(clear)
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    base16ct::mixed::decode_vec(text).ok()
}
