//! minisign's public formats: its keys and signatures, and whether the one made the other.
//!
//! The formats are those of minisign(1), "PUBLIC KEY FORMAT" and "SIGNATURE FORMAT". The curve is ring's, as for
//! signing and for TLS, and `BLAKE2b` is `RustCrypto`'s: here is only what each line holds. Of a signature the
//! one kind is taken that minisign has made by itself since 2021: over the hash of the bytes, not over the bytes.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use blake2::{Blake2b512, Digest as _};
use ring::signature::{ED25519, UnparsedPublicKey};

/// What a public key begins with, and what the checksum of a secret one covers.
pub(super) const ALGORITHM: [u8; 2] = *b"Ed";
/// What a signature begins with that was made over a hash.
pub(super) const PREHASHED: [u8; 2] = *b"ED";
/// What one begins with that was made over the bytes themselves.
const LEGACY: [u8; 2] = *b"Ed";

/// How the line begins that says what anyone likes.
pub(super) const UNTRUSTED: &str = "untrusted comment: ";
/// How the line begins that is signed, too.
pub(super) const TRUSTED: &str = "trusted comment: ";

/// A key's ID, as minisign writes it: 16 upper-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(u64);

impl KeyId {
    /// From the eight bytes of a key or a signature.
    pub(super) fn new(bytes: [u8; 8]) -> Self {
        Self(u64::from_le_bytes(bytes))
    }

    /// The eight bytes.
    pub(super) fn bytes(self) -> [u8; 8] {
        self.0.to_le_bytes()
    }

    /// From its digits, in either case; `None` if `text` is anything else.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let digits = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        u64::from_str_radix(text, 16)
            .ok()
            .filter(|_| digits)
            .map(Self)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016X}", self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A key that verifies.
#[derive(Clone, Debug)]
pub(super) struct PublicKey {
    pub id: KeyId,
    point: [u8; 32],
}

impl PublicKey {
    /// Reads a public key's text: two lines.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        Self::read(text).ok_or("it is not a minisign public key")
    }

    fn read(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let (comment, line) = (lines.next()?, lines.next()?);
        if !comment.starts_with(UNTRUSTED.trim_end()) || lines.any(|line| !line.trim().is_empty()) {
            return None;
        }
        let bytes = STANDARD.decode(line.trim()).ok()?;
        let mut rest = bytes.as_slice();
        let algorithm: [u8; 2] = part(&mut rest)?;
        let key = Self {
            id: KeyId::new(part(&mut rest)?),
            point: part(&mut rest)?,
        };
        (algorithm == ALGORITHM && rest.is_empty()).then_some(key)
    }

    /// Whether it has signed these bytes, and the comment.
    pub fn has_signed(&self, bytes: &[u8], signature: &Signature) -> bool {
        let key = UnparsedPublicKey::new(&ED25519, self.point);
        let global = [&signature.bytes[..], signature.comment.as_bytes()].concat();
        self.id == signature.id
            && key
                .verify(&Blake2b512::digest(bytes), &signature.bytes)
                .is_ok()
            && key.verify(&global, &signature.global).is_ok()
    }
}

/// A signature.
#[derive(Clone, Debug)]
pub(super) struct Signature {
    /// The key that has made it, as it says.
    pub id: KeyId,
    /// Over the hash of what is signed.
    bytes: [u8; 64],
    comment: String,
    /// Over the other one and the comment.
    global: [u8; 64],
}

impl Signature {
    /// Reads a signature's text: four lines, and not a byte besides them.
    pub fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        let text = std::str::from_utf8(bytes).map_err(|_| "it is not text")?;
        let lines: Vec<&str> = text.lines().collect();
        let &[untrusted, line, trusted, last] = lines.as_slice() else {
            return Err("minisign's has four lines");
        };
        let comment = trusted.strip_prefix(TRUSTED);
        let (true, Some(comment)) = (untrusted.starts_with(UNTRUSTED), comment) else {
            return Err("its comments are not where they should be");
        };
        let own = STANDARD
            .decode(line)
            .map_err(|_| "its second line is not base64")?;
        if own.starts_with(&LEGACY) {
            return Err(
                "it is of minisign's old kind, without prehashing; sign with a newer minisign",
            );
        }
        let own = own.strip_prefix(&PREHASHED);
        let (id, bytes) = own
            .and_then(|own| own.split_first_chunk::<8>())
            .and_then(|(id, rest)| Some((*id, rest.try_into().ok()?)))
            .ok_or("its second line is no Ed25519 signature")?;
        let global = STANDARD.decode(last).ok();
        Ok(Self {
            id: KeyId::new(id),
            bytes,
            comment: comment.to_owned(),
            global: global
                .and_then(|global| global.try_into().ok())
                .ok_or("its last line is no Ed25519 signature")?,
        })
    }
}

/// Takes the first bytes of what is left of a key.
pub(super) fn part<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, others) = rest.split_first_chunk::<N>()?;
    *rest = others;
    Some(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key and the signature over "test" with which minisign-verify, the Rust crate of minisign's author, is tested.
    const KEY: &str = "untrusted comment: minisign public key E7620F1842B4E81F
RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3
";
    const SIGNATURE: &str = "untrusted comment: signature from minisign secret key
RUQf6LRCGA9i559r3g7V1qNyJDApGip8MfqcadIgT9CuhV3EMhHoN1mGTkUidF/z7SrlQgXdy8ofjb7bNJJylDOocrCo8KLzZwo=
trusted comment: timestamp:1556193335\tfile:test
y/rUw2y8/hOUYjZU71eHp/Wo1KZ40fGy2VJEDl34XMJM+TX48Ss/17u3IvIfbVR1FkZZSNCisQbuQY+bHwhEBg==
";

    #[test]
    fn a_known_signature_holds_and_nothing_like_it() {
        let key = PublicKey::parse(KEY).expect("a key");
        assert_eq!(key.id.to_string(), "E7620F1842B4E81F");
        let good = Signature::parse(SIGNATURE.as_bytes()).expect("a signature");
        assert!(key.has_signed(b"test", &good));
        assert!(!key.has_signed(b"Test", &good));
        assert!(!key.has_signed(b"", &good));
        // Every bit that is signed, or signs.
        let flipped = |change: &dyn Fn(&mut Signature)| {
            let mut bad = good.clone();
            change(&mut bad);
            assert!(!key.has_signed(b"test", &bad), "{bad:?}");
        };
        for bit in 0..512 {
            flipped(&|bad| bad.bytes[bit / 8] ^= 1 << (bit % 8));
            flipped(&|bad| bad.global[bit / 8] ^= 1 << (bit % 8));
        }
        flipped(&|bad| bad.comment.push('x'));
        flipped(&|bad| bad.comment.clear());
        flipped(&|bad| bad.id = KeyId(1));
        let mut other = key.clone();
        other.point[0] ^= 1;
        assert!(!other.has_signed(b"test", &good));
    }

    #[test]
    fn what_is_not_minisigns() {
        for text in [
            "",
            "untrusted comment: x\n",
            "untrusted comment: x\n====\n",
            "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3\n",
            // Without its last byte, and of another kind.
            "untrusted comment: x\nRWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFM=\n",
            "untrusted comment: x\nRUQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3\n",
        ] {
            assert!(PublicKey::parse(text).is_err(), "{text}");
        }
        let lines: Vec<&str> = SIGNATURE.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            let mut rest = lines.clone();
            rest.remove(number);
            assert!(Signature::parse(rest.join("\n").as_bytes()).is_err());
            let cut = SIGNATURE.replace(line, &line[..line.len() - 4]);
            // A comment may be any.
            let comment = number % 2 == 0;
            assert_eq!(Signature::parse(cut.as_bytes()).is_ok(), comment, "{cut}");
        }
        let longer = format!("{SIGNATURE}\n");
        assert!(Signature::parse(longer.as_bytes()).is_err());
        let old = SIGNATURE.replace("RUQf", "RWQf");
        let why = Signature::parse(old.as_bytes()).expect_err("old");
        assert!(why.contains("old kind"), "{why}");
    }
}
