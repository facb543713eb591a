// How an application in Node encrypts its tutors' tokens, in each form that meetlink reads.
//
//   node tokens.mjs encrypt|decrypt <format> <key file> <key id> [<binding>] [--iv=16]
//
// The token, or what is stored of it, comes on stdin and leaves on stdout: arguments can be seen by
// every user of the machine, so neither tokens nor keys belong there. Formats: ml1, gcm_hex,
// gcm_base64, cbc_hex. The binding says whose token an ml1 envelope holds:
// meetlink|<tutor id>|<google_meet or zoom>|<access or refresh>.

import { createCipheriv, createDecipheriv, createHash, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';

/** The key of a line `<id> <64 hex digits>` or `<id> sha256:<passphrase>`. */
function readKey(file, id) {
  for (const line of readFileSync(file, 'utf8').split('\n')) {
    const [, name, key] = /^\s*(\S+)\s+(.*?)\s*$/.exec(line) ?? [];
    if (name !== id) continue;
    const passphrase = /^sha256:(.*)$/.exec(key);
    return passphrase
      ? createHash('sha256').update(passphrase[1], 'utf8').digest()
      : Buffer.from(key, 'hex');
  }
  throw new Error(`no key ${id} in ${file}`);
}

function sealGcm(key, iv, token, binding = '') {
  const cipher = createCipheriv('aes-256-gcm', key, iv);
  cipher.setAAD(Buffer.from(binding, 'utf8'));
  const sealed = Buffer.concat([cipher.update(token, 'utf8'), cipher.final()]);
  return { sealed, tag: cipher.getAuthTag() };
}

function openGcm(key, iv, sealed, tag, binding = '') {
  // Without the length, Node would accept a tag that was cut short.
  const decipher = createDecipheriv('aes-256-gcm', key, iv, { authTagLength: 16 });
  decipher.setAAD(Buffer.from(binding, 'utf8'));
  decipher.setAuthTag(tag);
  return Buffer.concat([decipher.update(sealed), decipher.final()]).toString('utf8');
}

// ml1.<key id>.<nonce>.<ciphertext and tag>: AES-256-GCM that knows its key and its owner.

function encryptMl1(key, token, { id, binding }) {
  const nonce = randomBytes(12);
  const { sealed, tag } = sealGcm(key, nonce, token, binding);
  const all = Buffer.concat([sealed, tag]).toString('base64url');
  return `ml1.${id}.${nonce.toString('base64url')}.${all}`;
}

function decryptMl1(key, stored, { id, binding }) {
  const [version, keyId, nonce, all] = stored.split('.');
  if (version !== 'ml1' || keyId !== id) throw new Error('not an envelope of this key');
  const bytes = Buffer.from(all, 'base64url');
  const iv = Buffer.from(nonce, 'base64url');
  return openGcm(key, iv, bytes.subarray(0, -16), bytes.subarray(-16), binding);
}

// hex(iv):hex(tag):hex(ciphertext)

function encryptGcmHex(key, token, { ivLength }) {
  const iv = randomBytes(ivLength);
  const { sealed, tag } = sealGcm(key, iv, token);
  return [iv, tag, sealed].map((part) => part.toString('hex')).join(':');
}

function decryptGcmHex(key, stored) {
  const [iv, tag, sealed] = stored.split(':').map((part) => Buffer.from(part, 'hex'));
  return openGcm(key, iv, sealed, tag);
}

// base64 of iv, ciphertext and tag together

function encryptGcmBase64(key, token, { ivLength }) {
  const iv = randomBytes(ivLength);
  const { sealed, tag } = sealGcm(key, iv, token);
  return Buffer.concat([iv, sealed, tag]).toString('base64');
}

function decryptGcmBase64(key, stored, { ivLength }) {
  const all = Buffer.from(stored, 'base64');
  return openGcm(key, all.subarray(0, ivLength), all.subarray(ivLength, -16), all.subarray(-16));
}

// hex(iv):hex(ciphertext). Nothing in it shows that a text was changed: prefer one of the others.

function encryptCbcHex(key, token) {
  const iv = randomBytes(16);
  const cipher = createCipheriv('aes-256-cbc', key, iv);
  const sealed = Buffer.concat([cipher.update(token, 'utf8'), cipher.final()]);
  return `${iv.toString('hex')}:${sealed.toString('hex')}`;
}

function decryptCbcHex(key, stored) {
  const [iv, sealed] = stored.split(':').map((part) => Buffer.from(part, 'hex'));
  const decipher = createDecipheriv('aes-256-cbc', key, iv);
  return Buffer.concat([decipher.update(sealed), decipher.final()]).toString('utf8');
}

const formats = {
  ml1: { encrypt: encryptMl1, decrypt: decryptMl1 },
  gcm_hex: { encrypt: encryptGcmHex, decrypt: decryptGcmHex },
  gcm_base64: { encrypt: encryptGcmBase64, decrypt: decryptGcmBase64 },
  cbc_hex: { encrypt: encryptCbcHex, decrypt: decryptCbcHex },
};

const words = process.argv.slice(2).filter((word) => !word.startsWith('--'));
const [operation, format, keyFile, id, binding = ''] = words;
const ivLength = process.argv.includes('--iv=16') ? 16 : 12;
const work = formats[format]?.[operation];
if (!work || !id) {
  console.error('usage: encrypt|decrypt <format> <key file> <key id> [<binding>] [--iv=16]');
  process.exit(2);
}
const input = readFileSync(0, 'utf8');
process.stdout.write(work(readKey(keyFile, id), input, { id, binding, ivLength }));
