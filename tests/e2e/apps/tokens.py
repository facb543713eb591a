"""How an application in Python encrypts its tutors' tokens, in each form that meetlink reads.

  python3 tokens.py encrypt|decrypt <format> <key file> <key id> [<binding>] [--iv=16]

The token, or what is stored of it, comes on stdin and leaves on stdout: arguments can be seen by
every user of the machine, so neither tokens nor keys belong there. Formats: ml1, gcm_hex,
gcm_base64, cbc_hex. The binding says whose token an ml1 envelope holds:
meetlink|<tutor id>|<google_meet or zoom>|<access or refresh>.
"""

import hashlib
import os
import sys
from base64 import b64decode, b64encode, urlsafe_b64decode, urlsafe_b64encode

from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

TAG = 16


def read_key(file, key_id):
    """The key of a line `<id> <64 hex digits>` or `<id> sha256:<passphrase>`."""
    with open(file, encoding="utf-8") as lines:
        for line in lines:
            name, _, key = line.strip().partition(" ")
            key = key.strip()
            if name != key_id:
                continue
            if key.startswith("sha256:"):
                return hashlib.sha256(key.removeprefix("sha256:").encode()).digest()
            return bytes.fromhex(key)
    raise KeyError(f"no key {key_id} in {file}")


# ml1.<key id>.<nonce>.<ciphertext and tag>: AES-256-GCM that knows its key and its owner.


def encrypt_ml1(key, token, key_id, binding, **_):
    nonce = os.urandom(12)
    sealed = AESGCM(key).encrypt(nonce, token.encode(), binding.encode())
    unpadded = [urlsafe_b64encode(part).rstrip(b"=").decode() for part in (nonce, sealed)]
    return ".".join(["ml1", key_id, *unpadded])


def decrypt_ml1(key, stored, key_id, binding, **_):
    version, named, *parts = stored.split(".")
    if (version, named) != ("ml1", key_id):
        raise ValueError("not an envelope of this key")
    nonce, sealed = (urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in parts)
    return AESGCM(key).decrypt(nonce, sealed, binding.encode()).decode()


# hex(iv):hex(tag):hex(ciphertext)


def encrypt_gcm_hex(key, token, iv_length, **_):
    iv = os.urandom(iv_length)
    sealed = AESGCM(key).encrypt(iv, token.encode(), None)
    return ":".join(part.hex() for part in (iv, sealed[-TAG:], sealed[:-TAG]))


def decrypt_gcm_hex(key, stored, **_):
    iv, tag, sealed = (bytes.fromhex(part) for part in stored.split(":"))
    return AESGCM(key).decrypt(iv, sealed + tag, None).decode()


# base64 of iv, ciphertext and tag together


def encrypt_gcm_base64(key, token, iv_length, **_):
    iv = os.urandom(iv_length)
    return b64encode(iv + AESGCM(key).encrypt(iv, token.encode(), None)).decode()


def decrypt_gcm_base64(key, stored, iv_length, **_):
    everything = b64decode(stored)
    return AESGCM(key).decrypt(everything[:iv_length], everything[iv_length:], None).decode()


# hex(iv):hex(ciphertext). Nothing in it shows that a text was changed: prefer one of the others.


def encrypt_cbc_hex(key, token, **_):
    iv = os.urandom(16)
    pad = padding.PKCS7(128).padder()
    cipher = Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
    sealed = cipher.update(pad.update(token.encode()) + pad.finalize()) + cipher.finalize()
    return f"{iv.hex()}:{sealed.hex()}"


def decrypt_cbc_hex(key, stored, **_):
    iv, sealed = (bytes.fromhex(part) for part in stored.split(":"))
    cipher = Cipher(algorithms.AES(key), modes.CBC(iv)).decryptor()
    unpad = padding.PKCS7(128).unpadder()
    padded = cipher.update(sealed) + cipher.finalize()
    return (unpad.update(padded) + unpad.finalize()).decode()


FORMATS = {
    "ml1": {"encrypt": encrypt_ml1, "decrypt": decrypt_ml1},
    "gcm_hex": {"encrypt": encrypt_gcm_hex, "decrypt": decrypt_gcm_hex},
    "gcm_base64": {"encrypt": encrypt_gcm_base64, "decrypt": decrypt_gcm_base64},
    "cbc_hex": {"encrypt": encrypt_cbc_hex, "decrypt": decrypt_cbc_hex},
}


def main():
    words = [word for word in sys.argv[1:] if not word.startswith("--")]
    iv_length = 16 if "--iv=16" in sys.argv else 12
    try:
        operation, form, key_file, key_id, *binding = words
        work = FORMATS[form][operation]
    except (ValueError, KeyError):
        sys.exit("usage: encrypt|decrypt <format> <key file> <key id> [<binding>] [--iv=16]")
    key = read_key(key_file, key_id)
    text = sys.stdin.read()
    sys.stdout.write(
        work(key, text, key_id=key_id, binding="".join(binding), iv_length=iv_length)
    )


if __name__ == "__main__":
    main()
