//! Reading back what a container has written, whatever its log driver.

use std::time::Duration;

use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::query_parameters::LogsOptionsBuilder;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use tokio::time::timeout;
use tz::UtcDateTime;

use super::super::{LogPiece, LogRange};
use super::client::Client;
use super::fault::{fault, late, status};
use super::inspect;
use crate::core::api::Fault;

/// A container's log from here on; `idle` is how long the engine may say nothing, unless it is followed.
pub(super) async fn open(
    client: &Client,
    id: &str,
    range: LogRange,
    idle: Duration,
) -> Result<impl Stream<Item = Result<LogPiece, Fault>> + use<>, Fault> {
    let inspected = inspect::inspect(client, id).await.map_err(fault)?;
    let driver = inspected
        .host_config
        .and_then(|host| host.log_config?.driver)
        .unwrap_or_default();
    if driver == "none" {
        return Err(Fault::Refused(
            "its log driver is `none`, which keeps nothing; `logging` in the workload file names another".to_owned(),
        ));
    }
    let tail = range
        .tail
        .map_or_else(|| "all".to_owned(), |lines| lines.to_string());
    let since = range.since.unwrap_or_default();
    let options = LogsOptionsBuilder::new()
        .stdout(true)
        .stderr(true)
        .timestamps(true)
        .follow(range.follow)
        .tail(&tail)
        // The client's number ends in 2038; then too much is given rather than too little.
        .since(i32::try_from(since).unwrap_or(i32::MAX))
        .build();
    let pieces = Box::pin(client.bollard.logs(id, Some(options)));
    let reader = Reader {
        pieces,
        driver,
        wait: (!range.follow).then_some(idle),
        last: 0,
    };
    Ok(stream::unfold(Some(reader), |reader| async {
        let mut reader = reader?;
        match reader.next().await? {
            Ok(piece) => Some((Ok(piece), Some(reader))),
            Err(fault) => Some((Err(fault), None)),
        }
    }))
}

struct Reader<S> {
    pieces: S,
    driver: String,
    wait: Option<Duration>,
    /// When the last piece came, for one that does not say.
    last: u64,
}

impl<S: Stream<Item = Result<LogOutput, Error>> + Unpin> Reader<S> {
    async fn next(&mut self) -> Option<Result<LogPiece, Fault>> {
        let output = match self.wait {
            None => self.pieces.next().await?,
            Some(idle) => match timeout(idle, self.pieces.next()).await {
                Ok(output) => output?,
                Err(_) => return Some(Err(late())),
            },
        };
        Some(match output {
            Ok(output) => Ok(self.piece(output)),
            Err(error) => Err(unreadable(error, &self.driver)),
        })
    }

    fn piece(&mut self, output: LogOutput) -> LogPiece {
        let stderr = matches!(output, LogOutput::StdErr { .. });
        let whole = output.into_bytes();
        let (nanos, bytes) = stamped(&whole).unwrap_or((self.last, whole));
        self.last = nanos;
        LogPiece {
            nanos,
            stderr,
            bytes,
        }
    }
}

/// What an error means while a log is read.
fn unreadable(error: Error, driver: &str) -> Fault {
    let by_driver = matches!(status(&error), Some(500 | 501))
        && error.to_string().contains("does not support reading");
    if by_driver {
        return Fault::Refused(format!(
            "its log driver is `{driver}`, from which the engine cannot read back; look where that driver sends it"
        ));
    }
    fault(error)
}

/// The time at the head of a piece, as nanoseconds since 1970, and what was written.
fn stamped(piece: &Bytes) -> Option<(u64, Bytes)> {
    // The longest is 2026-11-22T15:04:05.123456789+01:00.
    let head = &piece[..piece.len().min(40)];
    let space = head.iter().position(|byte| *byte == b' ')?;
    let nanos = nanos(std::str::from_utf8(&head[..space]).ok()?)?;
    Some((nanos, piece.slice(space + 1..)))
}

/// Nanoseconds since 1970 of a time in RFC 3339; the engine writes them in its own time zone.
fn nanos(text: &str) -> Option<u64> {
    let (date, rest) = text.split_once('T')?;
    let zone = rest.find(['Z', '+', '-'])?;
    let (time, zone) = rest.split_at(zone);
    let (time, fraction) = time.split_once('.').unwrap_or((time, ""));
    let mut date = date.splitn(3, '-');
    let mut time = time.splitn(3, ':');
    let fraction: u32 = match fraction.len() {
        0 => 0,
        1..=9 => format!("{fraction:0<9}").parse().ok()?,
        _ => return None,
    };
    let utc = UtcDateTime::new(
        date.next()?.parse().ok()?,
        date.next()?.parse().ok()?,
        date.next()?.parse().ok()?,
        time.next()?.parse().ok()?,
        time.next()?.parse().ok()?,
        time.next()?.parse().ok()?,
        fraction,
    )
    .ok()?;
    let ahead = match zone.split_at(1) {
        ("Z", "") => 0,
        (sign, offset) => {
            let (hours, minutes) = offset.split_once(':')?;
            let minutes: i64 = hours.parse::<i64>().ok()? * 60 + minutes.parse::<i64>().ok()?;
            if sign == "-" { -minutes } else { minutes }
        }
    };
    let ahead = i128::from(ahead) * 60_000_000_000;
    u64::try_from(utc.total_nanoseconds() - ahead).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let at = 1_795_360_987_000_000_000;
        let table = [
            ("2026-11-22T15:23:07.000000000Z", Some(at)),
            ("2026-11-22T15:23:07.123456789Z", Some(at + 123_456_789)),
            ("2026-11-22T15:23:07.5Z", Some(at + 500_000_000)),
            ("2026-11-22T15:23:07Z", Some(at)),
            ("2026-11-22T16:23:07.000000001+01:00", Some(at + 1)),
            ("2026-11-22T11:53:07.000000001-03:30", Some(at + 1)),
            ("1969-12-31T23:59:59.000000000Z", None),
            ("2026-13-22T15:23:07.000000000Z", None),
            ("2026-11-22T15:23:07.0000000000Z", None),
            ("2026-11-22T15:23:07", None),
            ("yesterday", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(nanos(text), expected, "{text}");
        }
    }

    #[test]
    fn what_was_written_is_left_as_it_is() {
        type Parts<'a> = Option<(u64, &'a [u8])>;
        let table: [(&[u8], Parts<'_>); 5] = [
            (
                b"1970-01-01T00:00:01Z a b\n",
                Some((1_000_000_000, b"a b\n")),
            ),
            (
                b"1970-01-01T00:00:01Z \xff \n",
                Some((1_000_000_000, b"\xff \n")),
            ),
            (b"1970-01-01T00:00:01Z ", Some((1_000_000_000, b""))),
            (b"no time\n", None),
            (b"", None),
        ];
        for (whole, expected) in table {
            let found = stamped(&Bytes::from_static(whole));
            let found = found.as_ref().map(|(nanos, rest)| (*nanos, &rest[..]));
            assert_eq!(found, expected);
        }
    }
}
