//! Ways to change an input: blindly, and with some knowledge of the formats.

/// xorshift64*: the same numbers for the same seed, everywhere.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `bound`, which may be 0.
    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).expect("it is below")
    }

    fn pick<'p, T>(&mut self, from: &'p [T]) -> &'p T {
        &from[self.below(from.len())]
    }

    /// Often short, sometimes long.
    fn length(&mut self, most: usize) -> usize {
        let most = most >> self.below(12);
        self.below(most + 1)
    }
}

/// Numbers on which arithmetic trips.
const NUMBERS: [&str; 12] = [
    "0",
    "1",
    "-1",
    "00",
    "1e3",
    "4096",
    "1048577",
    "4294967296",
    "9007199254740992",
    "18446744073709551615",
    "18446744073709551616",
    "99999999999999999999999999",
];

const WORDS: [&str; 16] = [
    "\"format\":1",
    "\"absent\":[",
    "\"members\":[",
    "null",
    "{}",
    "[]",
    "\"\"",
    "\"\\u0000\"",
    "sha256:",
    "\"size\":",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "../",
    "\n",
    "\u{1b}[2J",
    "monopod-bundle 1 0 1\n",
    "untrusted comment: ",
];

/// A seed, changed blindly in one to six places.
fn blind(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = random.pick(seeds).clone();
    for _ in 0..=random.below(6) {
        let at = random.below(bytes.len() + 1);
        let end = (at + random.length(bytes.len() - at)).min(bytes.len());
        match random.below(9) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => {
                bytes[at] = u8::try_from(random.below(256)).expect("it is below");
            }
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..end)),
            4 => {
                let part = bytes[at..end].to_vec();
                let to = random.below(bytes.len() + 1);
                bytes.splice(to..to, part);
            }
            5 => {
                let other = random.pick(seeds);
                let from = random.below(other.len());
                let to = (from + random.length(other.len() - from)).min(other.len());
                bytes.splice(at..end, other[from..to].iter().copied());
            }
            6 => drop(bytes.splice(at..at, random.pick(&WORDS).bytes())),
            7 => bytes[at..end].fill(0),
            _ => number(random, &mut bytes),
        }
    }
    bytes
}

/// Another number for one that is written out.
fn number(random: &mut Random, bytes: &mut Vec<u8>) {
    let starts: Vec<usize> = (0..bytes.len().min(4000))
        .filter(|&at| {
            bytes[at].is_ascii_digit() && (at == 0 || !bytes[at - 1].is_ascii_alphanumeric())
        })
        .collect();
    if starts.is_empty() {
        return;
    }
    let at = *random.pick(&starts);
    let length = bytes[at..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    bytes.splice(at..at + length, random.pick(&NUMBERS).bytes());
}

/// A bundle: half of them changed within one part, with lengths that fit again.
pub fn bundle(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let Some([signature, manifest, members]) = parts(random.pick::<Vec<u8>>(seeds)) else {
        return blind(random, seeds);
    };
    if random.below(2) == 0 {
        return blind(random, seeds);
    }
    let mut parts = [signature, manifest, members];
    let which = *random.pick(&[0, 1, 1, 1, 2, 2]);
    let part = [parts[which].clone()];
    parts[which] = blind(random, &part);
    let head = format!("monopod-bundle 1 {} {}\n", parts[0].len(), parts[1].len());
    [head.as_bytes(), &parts[0], &parts[1], &parts[2]].concat()
}

/// Signature, manifest and members, by the lengths of the first line.
fn parts(bytes: &[u8]) -> Option<[Vec<u8>; 3]> {
    let line = bytes.iter().position(|&byte| byte == b'\n')?;
    let text = std::str::from_utf8(&bytes[..line]).ok()?;
    let mut sizes = text.strip_prefix("monopod-bundle 1 ")?.split(' ');
    let signature: usize = sizes.next()?.parse().ok()?;
    let manifest: usize = sizes.next()?.parse().ok()?;
    let rest = &bytes[line + 1..];
    let (signature, rest) = rest.split_at_checked(signature)?;
    let (manifest, rest) = rest.split_at_checked(manifest)?;
    Some([signature.to_vec(), manifest.to_vec(), rest.to_vec()])
}

/// An archive: half of the plain ones changed in one header, with a checksum that fits again.
pub fn archive(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let seed = random.pick(seeds);
    if seed.len() < 1024 || seed[257..262] != *b"ustar" || random.below(2) == 0 {
        return blind(random, seeds);
    }
    let mut bytes = seed.clone();
    for _ in 0..=random.below(3) {
        let blocks: Vec<usize> = (0..bytes.len() / 512)
            .map(|block| block * 512)
            .filter(|&start| bytes[start + 257..start + 262] == *b"ustar")
            .collect();
        if blocks.is_empty() {
            break;
        }
        let start = *random.pick(&blocks);
        match random.below(3) {
            0 => drop(bytes.drain(start..start + 512)),
            1 => {
                let block = bytes[start..start + 512].to_vec();
                bytes.splice(start..start, block);
            }
            _ => {
                let at = start + random.below(345);
                bytes[at] = u8::try_from(random.below(256)).expect("it is below");
                let header = &mut bytes[start..start + 512];
                header[148..156].fill(b' ');
                let sum: u32 = header.iter().copied().map(u32::from).sum();
                header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
        }
    }
    bytes
}
