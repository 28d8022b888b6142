//! The container: a first line, the signature, the manifest; then the members, which have no frame.
//!
//! Nothing here knows what the signature or the manifest say.

use std::io::{self, Read, Write};

use super::error::{BundleError, Place, Refusal};
use super::limits;

const MAGIC: &str = "monopod-bundle";

/// Whether a file that begins like this is a bundle, of whatever format.
pub fn is_bundle(start: &[u8]) -> bool {
    start
        .strip_prefix(MAGIC.as_bytes())
        .is_some_and(|rest| rest.starts_with(b" "))
}

/// The first line: how long the two parts behind it are, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The signature; 0 for a bundle that is not signed.
    pub signature: u64,
    /// The manifest.
    pub manifest: u64,
}

impl Head {
    /// The line.
    pub fn line(&self) -> String {
        format!(
            "{MAGIC} {} {} {}\n",
            limits::FORMAT,
            self.signature,
            self.manifest
        )
    }

    /// Reads the line, byte by byte and no byte more.
    pub fn read(reader: &mut impl Read) -> Result<Self, BundleError> {
        let mut line = Vec::with_capacity(limits::HEAD);
        loop {
            let mut byte = [0];
            reader.read_exact(&mut byte).map_err(|error| {
                if error.kind() == io::ErrorKind::UnexpectedEof && !begins_like_one(&line) {
                    Refusal::NotABundle.into()
                } else {
                    BundleError::read(Place::Head)(error)
                }
            })?;
            if byte == *b"\n" {
                break;
            }
            line.push(byte[0]);
            if !begins_like_one(&line) {
                return Err(Refusal::NotABundle.into());
            }
            if line.len() >= limits::HEAD {
                return Err(Refusal::Head("it is too long").into());
            }
        }
        Ok(Self::parse(&line)?)
    }

    fn parse(line: &[u8]) -> Result<Self, Refusal> {
        let malformed = || Refusal::Head("it is not three numbers");
        let text = std::str::from_utf8(line).map_err(|_| malformed())?;
        let mut words = text.split(' ');
        if words.next() != Some(MAGIC) {
            return Err(Refusal::NotABundle);
        }
        let format = words.next().and_then(number).ok_or_else(malformed)?;
        // What follows is the other format's own matter.
        if format != limits::FORMAT {
            return Err(Refusal::Format(format));
        }
        let mut size = || words.next().and_then(number).ok_or_else(malformed);
        let head = Self {
            signature: size()?,
            manifest: size()?,
        };
        if words.next().is_some() {
            return Err(malformed());
        }
        if head.signature > limits::SIGNATURE {
            return Err(Refusal::Head("its signature would be too large"));
        }
        if head.manifest > limits::MANIFEST {
            return Err(Refusal::Head("its manifest would be too large"));
        }
        if head.manifest == 0 {
            return Err(Refusal::Head("it has no manifest"));
        }
        Ok(head)
    }
}

fn begins_like_one(line: &[u8]) -> bool {
    let start = line.len().min(MAGIC.len());
    start > 0 && line[..start] == MAGIC.as_bytes()[..start]
}

/// A number in its one form: digits without a leading zero.
fn number(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    (plain && (text == "0" || !text.starts_with('0')))
        .then(|| text.parse().ok())
        .flatten()
}

/// The front of a bundle, byte for byte; nothing in it has been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raw {
    /// The signature's text; empty for a bundle that is not signed.
    pub signature: Vec<u8>,
    /// The manifest.
    pub manifest: Vec<u8>,
}

impl Raw {
    /// Bytes of the front.
    pub fn size(&self) -> u64 {
        let line = self.head().line().len() as u64;
        line + self.signature.len() as u64 + self.manifest.len() as u64
    }

    fn head(&self) -> Head {
        Head {
            signature: self.signature.len() as u64,
            manifest: self.manifest.len() as u64,
        }
    }

    /// Writes it.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(self.head().line().as_bytes())?;
        out.write_all(&self.signature)?;
        out.write_all(&self.manifest)
    }
}

/// Reads the front of a bundle; the reader then stands at the first member.
pub fn read_raw(reader: &mut impl Read) -> Result<Raw, BundleError> {
    let head = Head::read(reader)?;
    Ok(Raw {
        signature: read_part(reader, head.signature, Place::Signature)?,
        manifest: read_part(reader, head.manifest, Place::Manifest)?,
    })
}

/// Reads a part that is to be kept in memory; its size has been bounded.
pub(super) fn read_part(
    reader: &mut impl Read,
    size: u64,
    place: Place,
) -> Result<Vec<u8>, BundleError> {
    let mut bytes = Vec::new();
    // Grows with what is really there.
    let count = reader
        .take(size)
        .read_to_end(&mut bytes)
        .map_err(BundleError::Read)?;
    if count as u64 == size {
        Ok(bytes)
    } else {
        Err(Refusal::Truncated(place).into())
    }
}

/// Refuses a bundle that goes on.
pub(super) fn read_end(reader: &mut impl Read) -> Result<(), BundleError> {
    let mut byte = [0];
    match reader.read_exact(&mut byte) {
        Ok(()) => Err(Refusal::Trailing.into()),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
        Err(error) => Err(BundleError::Read(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(line: &str) -> Result<Head, Refusal> {
        match Head::read(&mut line.as_bytes()) {
            Ok(head) => Ok(head),
            Err(BundleError::Refused(refusal)) => Err(refusal),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn first_lines() {
        let both = Head {
            signature: 300,
            manifest: 1 << 20,
        };
        assert_eq!(head(&both.line()), Ok(both));
        let long = format!("monopod-bundle 1 {}\n", "1".repeat(60));
        let malformed = Refusal::Head("it is not three numbers");
        for (line, refusal) in [
            ("", Refusal::NotABundle),
            ("\n", Refusal::NotABundle),
            ("PK\u{3}\u{4}", Refusal::NotABundle),
            ("monopod-bundles 1 0 1\n", Refusal::NotABundle),
            ("monopod-bund", Refusal::Truncated(Place::Head)),
            ("monopod-bundle 1 0 1", Refusal::Truncated(Place::Head)),
            ("monopod-bundle 2 x\n", Refusal::Format(2)),
            ("monopod-bundle 0 0 1\n", Refusal::Format(0)),
            ("monopod-bundle\n", malformed.clone()),
            ("monopod-bundle 1 0\n", malformed.clone()),
            ("monopod-bundle 1 0 1 1\n", malformed.clone()),
            ("monopod-bundle 1  0 1\n", malformed.clone()),
            ("monopod-bundle 1 0 1 \n", malformed.clone()),
            ("monopod-bundle 1 0 1\r\n", malformed.clone()),
            ("monopod-bundle 1 00 1\n", malformed.clone()),
            ("monopod-bundle 1 +1 1\n", malformed.clone()),
            ("monopod-bundle 1 -1 1\n", malformed.clone()),
            ("monopod-bundle 1 0 18446744073709551616\n", malformed),
            (&long, Refusal::Head("it is too long")),
            (
                "monopod-bundle 1 4097 1\n",
                Refusal::Head("its signature would be too large"),
            ),
            (
                "monopod-bundle 1 1 1048577\n",
                Refusal::Head("its manifest would be too large"),
            ),
            (
                "monopod-bundle 1 1 0\n",
                Refusal::Head("it has no manifest"),
            ),
        ] {
            assert_eq!(head(line), Err(refusal), "{line:?}");
        }
    }

    #[test]
    fn what_begins_like_a_bundle() {
        for (start, is) in [
            (&b"monopod-bundle 1 0 9\n"[..], true),
            (b"monopod-bundle 7", true),
            (b"monopod-bundle", false),
            (b"monopod-bundles 1", false),
            (b"monopod", false),
            (b"", false),
        ] {
            assert_eq!(is_bundle(start), is, "{start:?}");
        }
    }
}
