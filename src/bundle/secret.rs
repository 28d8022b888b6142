//! Secret keys and signatures, in minisign's own formats.
//!
//! Ed25519 is ring's, `BLAKE2b` and scrypt are `RustCrypto`'s; this is only how minisign puts them
//! together (`minisign.h`; the public half is in [`super::minisign`]). Signing is deterministic, as
//! RFC 8032 has it and as minisign does it: the same key, manifest and comment make the same
//! signature, which is why the `minisign` crate, whose signatures have a random part, does not do.
//! Every signature is checked with the verifier that nodes use before it leaves here.
//!
//! Nodes never come here: they have public keys only.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use blake2::{Blake2b256, Blake2b512, Digest as _};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair};

use super::keys::Trust;
use super::minisign::{ALGORITHM, KeyId, PREHASHED, TRUSTED, UNTRUSTED, part};

/// Why a secret key cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Not a secret key of minisign's.
    #[error("it is not a minisign secret key")]
    Malformed,
    /// Its bytes do not fit together.
    #[error("it is damaged: its checksum is another")]
    Damaged,
    /// It is encrypted, and this is not its password.
    #[error("the password is wrong")]
    Password,
    /// It asks for more memory than anything here has.
    #[error("its password scheme asks for too much memory or time")]
    Kdf,
    /// The machine gives no random bytes.
    #[error("this machine gives no random bytes")]
    Random,
}

/// `scrypt`'s bounds as minisign writes them: N = 2^17, r = 8, p = 1, which takes 128 MiB.
const OPERATIONS: u64 = 4 << 20;
const MEMORY: u64 = 128 << 20;
/// The most memory that a key may ask for: what `minisign -G` itself uses. Bytes.
const MEMORY_MAX: u64 = 1 << 30;
/// The most operations: the same. It keeps p at 1 there.
const OPERATIONS_MAX: u64 = 32 << 20;

const SCRYPT: [u8; 2] = *b"Sc";
const PLAIN: [u8; 2] = [0, 0];
const BLAKE2: [u8; 2] = *b"B2";

/// A key that signs.
pub struct SecretKey {
    id: KeyId,
    /// 32 bytes of seed, then the public key.
    bytes: [u8; 64],
    pair: Ed25519KeyPair,
}

/// The fields of a key file.
struct Fields {
    kdf: [u8; 2],
    salt: [u8; 32],
    operations: u64,
    memory: u64,
    /// ID, key and checksum, perhaps encrypted.
    body: [u8; 104],
}

impl SecretKey {
    /// A new one.
    pub fn generate() -> Result<Self, SecretError> {
        let mut random = [0; 40];
        fill(&mut random)?;
        let (seed, id) = random.split_at(32);
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| SecretError::Random)?;
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(seed);
        bytes[32..].copy_from_slice(pair.public_key().as_ref());
        let mut number = [0; 8];
        number.copy_from_slice(id);
        Ok(Self {
            id: KeyId::new(number),
            bytes,
            pair,
        })
    }

    /// Whether a key file needs a password.
    pub fn is_encrypted(text: &str) -> Result<bool, SecretError> {
        Ok(Fields::parse(text)?.kdf == SCRYPT)
    }

    /// Reads a key file; `password` is not looked at if the key is not encrypted.
    pub fn parse(text: &str, password: &str) -> Result<Self, SecretError> {
        let mut fields = Fields::parse(text)?;
        let encrypted = fields.kdf == SCRYPT;
        if encrypted {
            fields.crypt(password)?;
        }
        let (id, rest) = fields.body.split_at(8);
        let (key, sum) = rest.split_at(64);
        // minisign leaves the sum of a key without a password empty; the key's two halves are still
        // compared below.
        let unsummed = !encrypted && sum.iter().all(|&byte| byte == 0);
        if !unsummed && checksum(id, key) != sum {
            let fault = if encrypted {
                SecretError::Password
            } else {
                SecretError::Damaged
            };
            return Err(fault);
        }
        let (mut number, mut bytes) = ([0; 8], [0; 64]);
        number.copy_from_slice(id);
        bytes.copy_from_slice(key);
        let pair = Ed25519KeyPair::from_seed_and_public_key(&bytes[..32], &bytes[32..])
            .map_err(|_| SecretError::Damaged)?;
        Ok(Self {
            id: KeyId::new(number),
            bytes,
            pair,
        })
    }

    /// The key file's text, encrypted if there is a password.
    pub fn text(&self, password: Option<&str>) -> Result<String, SecretError> {
        let mut fields = Fields {
            kdf: PLAIN,
            salt: [0; 32],
            operations: 0,
            memory: 0,
            body: [0; 104],
        };
        let id = self.id.bytes();
        fields.body[..8].copy_from_slice(&id);
        fields.body[8..72].copy_from_slice(&self.bytes);
        fields.body[72..].copy_from_slice(&checksum(&id, &self.bytes));
        let mut comment = "minisign secret key";
        if let Some(password) = password {
            comment = "minisign encrypted secret key";
            fields.kdf = SCRYPT;
            fields.operations = OPERATIONS;
            fields.memory = MEMORY;
            fill(&mut fields.salt)?;
            fields.crypt(password)?;
        }
        Ok(format!(
            "{UNTRUSTED}{comment}\n{}\n",
            STANDARD.encode(fields.bytes())
        ))
    }

    /// The text of its public half, as in a `.pub` file.
    pub fn public(&self) -> String {
        let mut bytes = Vec::with_capacity(42);
        bytes.extend(ALGORITHM);
        bytes.extend(self.id.bytes());
        bytes.extend(&self.bytes[32..]);
        format!(
            "{UNTRUSTED}minisign public key {}\n{}\n",
            self.id,
            STANDARD.encode(bytes)
        )
    }

    /// Its ID.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// Trust in it alone.
    pub fn trust(&self) -> Trust {
        match Trust::of_text("the key itself", &self.public()) {
            Ok(trust) => trust,
            Err(reason) => unreachable!("public() writes what of_text() reads: {reason}"),
        }
    }

    /// Signs `bytes`: minisign's text, with a comment that is signed too. The comment is one line.
    pub fn sign(&self, bytes: &[u8], comment: &str) -> String {
        let prehash = Blake2b512::digest(bytes);
        let signature = self.pair.sign(&prehash);
        let mut bones = Vec::with_capacity(74);
        bones.extend(PREHASHED);
        bones.extend(self.id.bytes());
        bones.extend(signature.as_ref());
        let global = self
            .pair
            .sign(&[signature.as_ref(), comment.as_bytes()].concat());
        let mut text = format!(
            "{UNTRUSTED}signature from monopod key {}\n{}\n",
            self.id,
            STANDARD.encode(bones)
        );
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{TRUSTED}{comment}\n{}",
            STANDARD.encode(global.as_ref())
        );
        text
    }
}

impl Fields {
    fn parse(text: &str) -> Result<Self, SecretError> {
        let mut lines = text.lines();
        let (Some(comment), Some(line)) = (lines.next(), lines.next()) else {
            return Err(SecretError::Malformed);
        };
        let bytes = STANDARD
            .decode(line.trim())
            .map_err(|_| SecretError::Malformed)?;
        let fields: Option<Self> = (|| {
            let mut rest = bytes.as_slice();
            let algorithm: [u8; 2] = part(&mut rest)?;
            let kdf = part(&mut rest)?;
            let checksum: [u8; 2] = part(&mut rest)?;
            let fields = Self {
                kdf,
                salt: part(&mut rest)?,
                operations: u64::from_le_bytes(part(&mut rest)?),
                memory: u64::from_le_bytes(part(&mut rest)?),
                body: part(&mut rest)?,
            };
            let known = algorithm == ALGORITHM
                && checksum == BLAKE2
                && (kdf == SCRYPT || kdf == PLAIN)
                && rest.is_empty();
            known.then_some(fields)
        })();
        fields
            .filter(|_| comment.starts_with(UNTRUSTED.trim_end()))
            .ok_or(SecretError::Malformed)
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(158);
        bytes.extend(ALGORITHM);
        bytes.extend(self.kdf);
        bytes.extend(BLAKE2);
        bytes.extend(self.salt);
        bytes.extend(self.operations.to_le_bytes());
        bytes.extend(self.memory.to_le_bytes());
        bytes.extend(self.body);
        bytes
    }

    /// Encrypts the body, or decrypts it: it is combined (xor) with what scrypt makes of the password.
    fn crypt(&mut self, password: &str) -> Result<(), SecretError> {
        let (log_n, r, p) = scrypt_bounds(self.operations, self.memory).ok_or(SecretError::Kdf)?;
        let params = scrypt::Params::new(log_n, r, p).map_err(|_| SecretError::Kdf)?;
        let mut stream = [0; 104];
        scrypt::scrypt(password.as_bytes(), &self.salt, &params, &mut stream)
            .map_err(|_| SecretError::Kdf)?;
        for (byte, key) in self.body.iter_mut().zip(stream) {
            *byte ^= key;
        }
        Ok(())
    }
}

/// scrypt's log2(N), r and p for libsodium's two limits, as its `pickparams` picks them.
fn scrypt_bounds(operations: u64, memory: u64) -> Option<(u8, u32, u32)> {
    const R: u64 = 8;
    if memory > MEMORY_MAX || operations > OPERATIONS_MAX {
        return None;
    }
    let operations = operations.max(32768);
    let by_memory = operations >= memory / 32;
    let most = if by_memory {
        memory / (R * 128)
    } else {
        operations / (R * 4)
    };
    let log_n = (1..63u8).find(|log_n| 1u64 << log_n > most / 2)?;
    let p = if by_memory {
        ((operations / 4) >> log_n).min(0x3fff_ffff) / R
    } else {
        1
    };
    Some((log_n, u32::try_from(R).ok()?, u32::try_from(p).ok()?))
}

fn checksum(id: &[u8], key: &[u8]) -> [u8; 32] {
    let mut state = Blake2b256::new();
    state.update(ALGORITHM);
    state.update(id);
    state.update(key);
    state.finalize().into()
}

fn fill(bytes: &mut [u8]) -> Result<(), SecretError> {
    SystemRandom::new()
        .fill(bytes)
        .map_err(|_| SecretError::Random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounds_that_libsodium_picks() {
        // minisign -G, and its fall-back by halves; our own.
        assert_eq!(scrypt_bounds(32 << 20, 1 << 30), Some((20, 8, 1)));
        assert_eq!(scrypt_bounds(16 << 20, 512 << 20), Some((19, 8, 1)));
        assert_eq!(scrypt_bounds(OPERATIONS, MEMORY), Some((17, 8, 1)));
        assert_eq!(scrypt_bounds(0, 1 << 30), Some((10, 8, 1)));
        assert_eq!(scrypt_bounds(u64::MAX, 1 << 20), None);
        assert_eq!(scrypt_bounds(1, u64::MAX), None);
    }

    #[test]
    fn a_key_there_and_back() {
        let key = SecretKey::generate().expect("a key");
        let text = key.text(None).expect("a text");
        assert_eq!(SecretKey::is_encrypted(&text), Ok(false));
        let again = SecretKey::parse(&text, "").expect("the key");
        assert_eq!((again.id, again.bytes), (key.id, key.bytes));
        let signature = again.sign(b"bytes", "a comment");
        assert_eq!(signature, key.sign(b"bytes", "a comment"));
        assert_eq!(
            key.trust().check(signature.as_bytes(), b"bytes"),
            Ok(key.id)
        );
        assert!(key.trust().check(signature.as_bytes(), b"byte").is_err());
        let other = signature.replace("a comment", "another one");
        assert!(key.trust().check(other.as_bytes(), b"bytes").is_err());

        let mut bytes = STANDARD
            .decode(text.lines().nth(1).expect("a line"))
            .expect("base64");
        bytes[60] ^= 1;
        let damaged = format!("untrusted comment: x\n{}\n", STANDARD.encode(&bytes));
        assert_eq!(
            SecretKey::parse(&damaged, "").err(),
            Some(SecretError::Damaged)
        );
        for text in ["", "untrusted comment: x\n", &key.public(), "x\n====\n"] {
            assert_eq!(
                SecretKey::parse(text, "").err(),
                Some(SecretError::Malformed),
                "{text}"
            );
        }
    }
}
