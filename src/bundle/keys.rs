//! Which keys a node trusts, and whether one of them has signed a manifest.
//!
//! Trust is a folder: `*.pub` are minisign's public keys, any of which may sign; `revoked` and
//! `*.revoked` take keys away again, by ID (one in a line, `#` begins a remark) or as the public key
//! itself, so that `mv old.pub old.revoked` revokes it. What is revoked stays revoked, whatever else
//! is in the folder. A public key that cannot be read is reported and the others count all the same;
//! a revocation that cannot be read is reported and nothing is trusted until it is mended, since
//! nobody knows whom it was meant for.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use minisign_verify::{PublicKey, Signature};

use super::error::Refusal;
use super::limits;

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

    fn parse(text: &str) -> Option<Self> {
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

/// The keys that count.
#[derive(Clone, Debug)]
pub struct Trust {
    /// What messages call where they are.
    place: String,
    keys: Vec<(KeyId, PublicKey)>,
    revoked: BTreeSet<KeyId>,
    /// Why nothing is trusted.
    broken: Option<String>,
    faults: Vec<String>,
}

impl Trust {
    /// The keys of a folder; one that is not there holds none.
    ///
    /// # Errors
    ///
    /// The folder cannot be read. What is wrong with a file in it is in [`Trust::faults`].
    pub fn of_folder(folder: &Path) -> io::Result<Self> {
        let mut trust = Self::new(folder.display().to_string());
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(trust),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort_unstable();
        let suffix = |name: &str, wanted: &str| {
            !name.starts_with('.')
                && Path::new(name)
                    .extension()
                    .is_some_and(|extension| extension == wanted)
        };
        let public: Vec<_> = names.iter().filter(|name| suffix(name, "pub")).collect();
        if public.len() > limits::KEY_FILES {
            trust.broken = Some(format!("it holds more than {} keys", limits::KEY_FILES));
        }
        for name in public.into_iter().take(limits::KEY_FILES) {
            trust.add(&folder.join(name));
        }
        for name in &names {
            if name == "revoked" || suffix(name, "revoked") {
                trust.revoke(&folder.join(name));
            }
        }
        Ok(trust)
    }

    /// One key.
    ///
    /// # Errors
    ///
    /// It cannot be read, or is none.
    pub fn of_key(file: &Path) -> io::Result<Self> {
        let mut trust = Self::new(file.display().to_string());
        let (id, key) = public_key(&read_text(file)?).map_err(io::Error::other)?;
        trust.keys.push((id, key));
        Ok(trust)
    }

    /// One key by its text, as in a `.pub` file.
    ///
    /// # Errors
    ///
    /// It is none.
    pub fn of_text(place: &str, text: &str) -> Result<Self, &'static str> {
        let mut trust = Self::new(place.to_owned());
        trust.keys.push(public_key(text)?);
        Ok(trust)
    }

    fn new(place: String) -> Self {
        Self {
            place,
            keys: Vec::new(),
            revoked: BTreeSet::new(),
            broken: None,
            faults: Vec::new(),
        }
    }

    fn add(&mut self, file: &Path) {
        let key = read_text(file)
            .map_err(|error| error.to_string())
            .and_then(|text| public_key(&text).map_err(str::to_owned));
        match key {
            Ok(key) => self.keys.push(key),
            Err(reason) => self.faults.push(format!("{}: {reason}", file.display())),
        }
    }

    fn revoke(&mut self, file: &Path) {
        let list = read_text(file)
            .map_err(|error| error.to_string())
            .and_then(|text| revoked(&text));
        match list {
            Ok(list) => self.revoked.extend(list),
            Err(reason) => {
                let fault = format!("{}: {reason}", file.display());
                self.broken = Some(fault.clone());
                self.faults.push(fault);
            }
        }
    }

    /// The keys that may sign: those that are there and not revoked.
    pub fn usable(&self) -> impl Iterator<Item = KeyId> + '_ {
        self.keys
            .iter()
            .map(|(id, _)| *id)
            .filter(|id| self.broken.is_none() && !self.revoked.contains(id))
    }

    /// One line for each file that cannot be used.
    pub fn faults(&self) -> &[String] {
        &self.faults
    }

    /// Checks a signature's text over a manifest; returns the key that made it.
    ///
    /// # Errors
    ///
    /// Which of the ways in which it does not hold.
    pub fn check(&self, signature: &[u8], manifest: &[u8]) -> Result<KeyId, Refusal> {
        let (id, signature) = read_signature(signature)?;
        if self.revoked.contains(&id) {
            return Err(Refusal::Revoked(id));
        }
        if let Some(reason) = &self.broken {
            return Err(Refusal::NoKey(reason.clone()));
        }
        let usable: BTreeSet<KeyId> = self.usable().collect();
        if usable.is_empty() {
            let why = match self.faults.first() {
                Some(fault) => format!("{} holds no usable key ({fault})", self.place),
                None => format!("{} holds no key", self.place),
            };
            return Err(Refusal::NoKey(why));
        }
        let mut known = self.keys.iter().filter(|(held, _)| *held == id).peekable();
        if known.peek().is_none() {
            let held: Vec<String> = usable.iter().take(8).map(KeyId::to_string).collect();
            return Err(Refusal::UnknownKey {
                id,
                place: self.place.clone(),
                held: held.join(", "),
            });
        }
        if known.any(|(_, key)| key.verify(manifest, &signature, false).is_ok()) {
            Ok(id)
        } else {
            Err(Refusal::OtherBytes(id))
        }
    }
}

/// Reads a signature's text: minisign's four lines, and not a byte besides them.
pub(super) fn read_signature(bytes: &[u8]) -> Result<(KeyId, Signature), Refusal> {
    if bytes.is_empty() {
        return Err(Refusal::Unsigned);
    }
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(Refusal::EmptySignature);
    }
    let malformed = Refusal::Signature;
    let text = std::str::from_utf8(bytes).map_err(|_| malformed("it is not text"))?;
    let lines: Vec<&str> = text.lines().collect();
    let &[untrusted, bones, trusted, _] = lines.as_slice() else {
        return Err(malformed("minisign's has four lines"));
    };
    if !untrusted.starts_with("untrusted comment: ") || !trusted.starts_with("trusted comment: ") {
        return Err(malformed("its comments are not where they should be"));
    }
    let bones = STANDARD
        .decode(bones)
        .map_err(|_| malformed("its second line is not base64"))?;
    let id = match bones.as_slice() {
        [b'E', b'D', rest @ ..] => rest.first_chunk::<8>().filter(|_| rest.len() == 72),
        [b'E', b'd', ..] => {
            return Err(malformed(
                "it is of minisign's old kind, without prehashing; sign with a newer minisign",
            ));
        }
        _ => None,
    };
    let id = id.ok_or(malformed("its second line is no Ed25519 signature"))?;
    let signature =
        Signature::decode(text).map_err(|_| malformed("its last line is no Ed25519 signature"))?;
    Ok((KeyId::new(*id), signature))
}

/// Reads a public key's text: two lines.
fn public_key(text: &str) -> Result<(KeyId, PublicKey), &'static str> {
    const NONE: &str = "it is not a minisign public key";
    let mut lines = text.lines();
    let (Some(comment), Some(line)) = (lines.next(), lines.next()) else {
        return Err(NONE);
    };
    if !comment.starts_with("untrusted comment:") || lines.any(|line| !line.trim().is_empty()) {
        return Err(NONE);
    }
    let bytes = STANDARD.decode(line.trim()).map_err(|_| NONE)?;
    let [b'E', b'd', rest @ ..] = bytes.as_slice() else {
        return Err(NONE);
    };
    let id = rest.first_chunk::<8>().ok_or(NONE)?;
    let key = PublicKey::from_base64(line.trim()).map_err(|_| NONE)?;
    Ok((KeyId::new(*id), key))
}

/// Reads what a file revokes: a public key, or IDs.
fn revoked(text: &str) -> Result<BTreeSet<KeyId>, String> {
    if text.starts_with("untrusted comment:") {
        let (id, _) = public_key(text)?;
        return Ok([id].into());
    }
    let mut list = BTreeSet::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let id = KeyId::parse(line).ok_or_else(|| {
            format!(
                "line {} is not a key's ID, which has 16 hexadecimal digits",
                number + 1
            )
        })?;
        list.insert(id);
    }
    Ok(list)
}

/// A small text file.
pub(super) fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?
        .take(limits::KEY_FILE + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > limits::KEY_FILE {
        return Err(io::Error::other("it is too large for a file with keys"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_the_revoked() {
        let id = KeyId(0x0123_4567_89AB_CDEF);
        assert_eq!(id.to_string(), "0123456789ABCDEF");
        for text in [
            "0123456789ABCDEF",
            "# lost in the train\n\n0123456789abcdef # laptop\n",
        ] {
            assert_eq!(revoked(text), Ok([id].into()), "{text}");
        }
        assert_eq!(revoked(""), Ok(BTreeSet::new()));
        for text in [
            "0123456789ABCDE",
            "+123456789ABCDEF",
            "gateway.pub",
            "untrusted comment: x\n",
        ] {
            assert!(revoked(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_revoked_list_that_cannot_be_read_trusts_nobody() {
        let folder = tempfile::tempdir().expect("a folder");
        let key =
            "untrusted comment: x\nRWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3\n";
        fs::write(folder.path().join("a.pub"), key).expect("a file");
        fs::write(folder.path().join("b.pub"), "nonsense").expect("a file");
        let trust = Trust::of_folder(folder.path()).expect("a folder");
        assert_eq!((trust.usable().count(), trust.faults().len()), (1, 1));
        fs::write(folder.path().join("revoked"), "the old one\n").expect("a file");
        let trust = Trust::of_folder(folder.path()).expect("a folder");
        assert_eq!((trust.usable().count(), trust.faults().len()), (0, 2));
        fs::remove_file(folder.path().join("revoked")).expect("a file");
        fs::write(folder.path().join("old.revoked"), key).expect("a file");
        let trust = Trust::of_folder(folder.path()).expect("a folder");
        assert_eq!((trust.usable().count(), trust.faults().len()), (0, 1));
    }
}
