//! Which keys a node trusts, and whether one of them has signed a manifest.
//!
//! Trust is a folder: `*.pub` are minisign's public keys, any of which may sign; `revoked` and
//! `*.revoked` take keys away again, by ID (one in a line, `#` begins a remark) or as the public key
//! itself, so that `mv old.pub old.revoked` revokes it. What is revoked stays revoked, whatever else
//! is in the folder. A public key that cannot be read is reported and the others count all the same;
//! a revocation that cannot be read is reported and nothing is trusted until it is mended, since
//! nobody knows whom it was meant for.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use super::error::Refusal;
use super::limits;
use super::minisign::{KeyId, PublicKey, Signature, UNTRUSTED};

/// The keys that count.
#[derive(Clone, Debug)]
pub struct Trust {
    /// What messages call where they are.
    place: String,
    keys: Vec<PublicKey>,
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
        let key = PublicKey::parse(&read_text(file)?).map_err(io::Error::other)?;
        trust.keys.push(key);
        Ok(trust)
    }

    /// One key by its text, as in a `.pub` file.
    ///
    /// # Errors
    ///
    /// It is none.
    pub fn of_text(place: &str, text: &str) -> Result<Self, &'static str> {
        let mut trust = Self::new(place.to_owned());
        trust.keys.push(PublicKey::parse(text)?);
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
            .and_then(|text| PublicKey::parse(&text).map_err(str::to_owned));
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
            .map(|key| key.id)
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
        let signature = read_signature(signature)?;
        let id = signature.id;
        if self.revoked.contains(&id) {
            return Err(Refusal::Revoked(id));
        }
        if let Some(reason) = &self.broken {
            return Err(Refusal::NoKey(reason.clone()));
        }
        let mut usable = BTreeSet::new();
        for key in self.usable() {
            usable.insert(key);
        }
        if usable.is_empty() {
            let why = match self.faults.first() {
                Some(fault) => format!("{} holds no usable key ({fault})", self.place),
                None => format!("{} holds no key", self.place),
            };
            return Err(Refusal::NoKey(why));
        }
        let mut known = self.keys.iter().filter(|key| key.id == id).peekable();
        if known.peek().is_none() {
            let held: Vec<String> = usable.iter().take(8).map(KeyId::to_string).collect();
            return Err(Refusal::UnknownKey {
                id,
                place: self.place.clone(),
                held: held.join(", "),
            });
        }
        if known.any(|key| key.has_signed(manifest, &signature)) {
            Ok(id)
        } else {
            Err(Refusal::OtherBytes(id))
        }
    }
}

/// Reads a signature's text.
pub(super) fn read_signature(bytes: &[u8]) -> Result<Signature, Refusal> {
    if bytes.is_empty() {
        return Err(Refusal::Unsigned);
    }
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(Refusal::EmptySignature);
    }
    Signature::parse(bytes).map_err(Refusal::Signature)
}

/// Reads what a file revokes: a public key, or IDs.
fn revoked(text: &str) -> Result<BTreeSet<KeyId>, String> {
    if text.starts_with(UNTRUSTED.trim_end()) {
        return Ok([PublicKey::parse(text)?.id].into());
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
        let id = KeyId::new(0x0123_4567_89AB_CDEF_u64.to_le_bytes());
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
