//! Durations, sizes and shares in Compose's notation.
//!
//! Pure text to number; overflow is an error, never a wrap. The formats are
//! those of the Compose specification ("Specifying durations", "Specifying byte
//! values"), whose readers are Go's `time.ParseDuration` and go-units'
//! `RAMInBytes`.

use std::time::Duration;

/// Why a text is no number of its kind: what is wrong, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadUnit {
    /// What is wrong, to be put behind the value.
    pub why: String,
    /// What to do about it.
    pub hint: String,
}

fn bad(why: impl Into<String>, hint: impl Into<String>) -> BadUnit {
    BadUnit {
        why: why.into(),
        hint: hint.into(),
    }
}

const DURATION_HINT: &str =
    "a duration is numbers with units, for example \"500ms\", \"10s\" or \"1m30s\"";
const SIZE_HINT: &str =
    "a size is a number with b, k, m or g, for example \"64k\", \"256m\" or \"1g\"";

/// Nanoseconds of each unit, longest name first where one is the other's beginning.
const TIME_UNITS: [(&str, u128); 8] = [
    ("ms", 1_000_000),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ns", 1),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
];

/// Reads `1m30s`, `500ms`, `1.5h`.
pub fn duration(text: &str) -> Result<Duration, BadUnit> {
    if text.starts_with('-') {
        return Err(bad("is negative", DURATION_HINT));
    }
    if text.is_empty() {
        return Err(bad("is empty", DURATION_HINT));
    }
    let mut nanos: u128 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let (number, behind) = split_number(rest);
        if number.is_empty() {
            return Err(bad("is not a duration", DURATION_HINT));
        }
        let Some((unit, scale)) = TIME_UNITS.iter().find(|(unit, _)| behind.starts_with(unit))
        else {
            return Err(if behind.is_empty() {
                bad("has no unit", format!("write \"{text}s\" for seconds"))
            } else if behind.starts_with('d') {
                bad(
                    "has no known unit",
                    "write days as hours, for example \"24h\"",
                )
            } else {
                bad("has no known unit", DURATION_HINT)
            });
        };
        let part = scaled(number, *scale).ok_or_else(|| bad("is too long", DURATION_HINT))?;
        nanos = nanos
            .checked_add(part)
            .ok_or_else(|| bad("is too long", DURATION_HINT))?;
        rest = &behind[unit.len()..];
    }
    u64::try_from(nanos)
        .map(Duration::from_nanos)
        .map_err(|_| bad("is too long", DURATION_HINT))
}

/// Writes a duration as [`duration`] reads it.
pub fn show_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let nanos = duration.subsec_nanos();
    let mut out = String::new();
    for (value, unit) in [
        (seconds / 3600, "h"),
        (seconds % 3600 / 60, "m"),
        (seconds % 60, "s"),
        (u64::from(nanos / 1_000_000), "ms"),
        (u64::from(nanos / 1_000 % 1_000), "us"),
        (u64::from(nanos % 1_000), "ns"),
    ] {
        if value != 0 {
            out.push_str(&value.to_string());
            out.push_str(unit);
        }
    }
    if out.is_empty() {
        out.push_str("0s");
    }
    out
}

/// Reads `256m`, `1g`, `512mb`, `1.5gb` or a bare number of bytes. Units are powers of 1024, as Docker's are.
pub fn size(text: &str) -> Result<u64, BadUnit> {
    let (number, behind) = split_number(text);
    if number.is_empty() {
        return Err(bad("is not a size", SIZE_HINT));
    }
    let behind = behind.strip_prefix(' ').unwrap_or(behind);
    let scale: u128 = match behind.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1 << 40,
        _ => return Err(bad("has no known unit", SIZE_HINT)),
    };
    scaled(number, scale)
        .and_then(|bytes| u64::try_from(bytes).ok())
        .filter(|bytes| i64::try_from(*bytes).is_ok())
        .ok_or_else(|| bad("is too large", SIZE_HINT))
}

/// Reads a share of processors (`0.5`, `2`) as billionths of a core.
pub fn nano_cpus(text: &str) -> Result<u64, BadUnit> {
    const HINT: &str = "a number of cores, for example 0.5 or 2";
    let (number, behind) = split_number(text);
    if number.is_empty() || !behind.is_empty() {
        return Err(bad("is not a number of cores", HINT));
    }
    scaled(number, 1_000_000_000)
        .and_then(|nanos| i64::try_from(nanos).ok())
        .and_then(|nanos| u64::try_from(nanos).ok())
        .ok_or_else(|| bad("is too large", HINT))
}

/// Splits off digits with at most one point among them; empty if there is no digit.
fn split_number(text: &str) -> (&str, &str) {
    let mut point = false;
    let end = text
        .bytes()
        .position(|byte| match byte {
            b'0'..=b'9' => false,
            b'.' if !point => {
                point = true;
                false
            }
            _ => true,
        })
        .unwrap_or(text.len());
    let (number, behind) = text.split_at(end);
    if number.bytes().any(|byte| byte.is_ascii_digit()) {
        (number, behind)
    } else {
        ("", text)
    }
}

/// A decimal number times `scale`, rounded down; `None` on overflow.
fn scaled(number: &str, scale: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: u128 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    // Digits behind the eighteenth cannot change a result in the units above.
    let fraction = &fraction[..fraction.len().min(18)];
    let mut total = whole.checked_mul(scale)?;
    if !fraction.is_empty() {
        let digits = u32::try_from(fraction.len()).ok()?;
        let part: u128 = fraction.parse().ok()?;
        total = total.checked_add(part.checked_mul(scale)? / 10_u128.pow(digits))?;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, nanos) in [
            ("0s", 0),
            ("500ms", 500_000_000),
            ("1m30s", 90_000_000_000),
            ("2h", 7_200_000_000_000),
            ("1.5s", 1_500_000_000),
            (".5s", 500_000_000),
            ("250us", 250_000),
            ("250\u{b5}s", 250_000),
            ("7ns", 7),
            ("1h1m1s1ms1us1ns", 3_661_001_001_001),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn bad_durations() {
        for (text, why, hint) in [
            ("", "is empty", "numbers with units"),
            ("10", "has no unit", "\"10s\""),
            ("1m30", "has no unit", "seconds"),
            ("1d", "has no known unit", "24h"),
            ("10 s", "has no known unit", "500ms"),
            ("s", "is not a duration", "500ms"),
            (".s", "is not a duration", "500ms"),
            ("1..5s", "has no known unit", "500ms"),
            ("-1s", "is negative", "500ms"),
            ("99999999999h", "is too long", "500ms"),
            (
                "999999999999999999999999999999999999999999h",
                "is too long",
                "500ms",
            ),
        ] {
            let error = duration(text).expect_err(text);
            assert_eq!(error.why, why, "{text}");
            assert!(error.hint.contains(hint), "{text}: {}", error.hint);
        }
    }

    #[test]
    fn shown_durations_read_back() {
        for text in ["0s", "1h30m", "10s", "1s500ms", "2us3ns"] {
            let value = duration(text).expect(text);
            assert_eq!(show_duration(value), text);
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("10b", 10),
            ("1024", 1024),
            ("64k", 65536),
            ("64K", 65536),
            ("64kib", 65536),
            ("256m", 256 << 20),
            ("512mb", 512 << 20),
            ("512 MB", 512 << 20),
            ("1g", 1 << 30),
            ("1.5gb", 3 << 29),
            ("2t", 2 << 40),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for (text, why) in [
            ("", "is not a size"),
            ("m", "is not a size"),
            ("-1m", "is not a size"),
            ("10x", "has no known unit"),
            ("10  m", "has no known unit"),
            ("1.2.3m", "has no known unit"),
            ("9999999999g", "is too large"),
            ("9223372036854775808", "is too large"),
        ] {
            assert_eq!(size(text).expect_err(text).why, why, "{text}");
        }
    }

    #[test]
    fn cores() {
        for (text, nanos) in [
            ("1", 1_000_000_000),
            ("0.5", 500_000_000),
            (".25", 250_000_000),
        ] {
            assert_eq!(nano_cpus(text), Ok(nanos), "{text}");
        }
        for text in ["", "x", "1e3", "-1", "99999999999999999999"] {
            assert!(nano_cpus(text).is_err(), "{text}");
        }
    }
}
