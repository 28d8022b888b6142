//! A progress bar on stderr, if that is a terminal.
//!
//! It is one line, drawn over itself some times a second and gone at the end. It must never make the
//! work fail or wait: what the terminal does not take is not shown.

use std::io::{IsTerminal, Write as _, stderr};
use std::time::{Duration, Instant};

use super::table::bytes;
use super::when::span;
use crate::image::Progress;

/// Between two drawings.
const PACE: Duration = Duration::from_millis(200);

/// Columns of the bar itself.
const WIDTH: u64 = 30;

/// Of a terminal that does not say.
const COLUMNS: u16 = 80;

/// Goes to the line's start and empties it.
const CLEAR: &str = "\r\x1b[K";

/// A bar with rate and time left; a counter where nobody knows how much is to come.
pub struct Bar {
    shown: bool,
    work: Option<Work>,
}

/// One piece of work, for as long as it has the same end.
struct Work {
    began: Instant,
    total: Option<u64>,
    done: u64,
    drawn: Option<Instant>,
}

impl Bar {
    /// A bar that is shown once something has moved.
    pub fn new() -> Self {
        Self {
            shown: stderr().is_terminal(),
            work: None,
        }
    }

    /// Takes over how far the work is.
    pub fn show(&mut self, progress: Progress<'_>) {
        if !self.shown {
            return;
        }
        let now = Instant::now();
        let work = match &mut self.work {
            Some(work) if work.total == progress.total && work.done <= progress.done => work,
            work => work.insert(Work {
                began: now,
                total: progress.total,
                done: 0,
                drawn: None,
            }),
        };
        work.done = progress.done;
        if work.drawn.is_some_and(|drawn| now - drawn < PACE) {
            return;
        }
        work.drawn = Some(now);
        let columns = rustix::termios::tcgetwinsize(stderr()).map_or(0, |size| size.ws_col);
        let columns = if columns == 0 { COLUMNS } else { columns };
        let line = line(progress, now - work.began, usize::from(columns));
        let mut out = stderr().lock();
        let _ = write!(out, "{CLEAR}{line}").and_then(|()| out.flush());
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if self.work.is_some() {
            let _ = stderr().write_all(CLEAR.as_bytes());
        }
    }
}

/// How far the work is after `elapsed`, in no more than so many columns.
fn line(progress: Progress<'_>, elapsed: Duration, columns: usize) -> String {
    let done = progress.done;
    let milliseconds = elapsed.as_millis().max(1);
    let rate = u128::from(done) * 1000 / milliseconds;
    let rate = u64::try_from(rate).unwrap_or(u64::MAX);
    let mut line = match progress.total {
        Some(total) => {
            let part = u128::from(done.min(total)) * u128::from(WIDTH) / u128::from(total.max(1));
            let full = usize::try_from(part).unwrap_or(0);
            let empty = usize::try_from(WIDTH).unwrap_or(0) - full;
            let left = match rate {
                0 => "?".to_owned(),
                rate => span(total.saturating_sub(done) / rate),
            };
            format!(
                "{}{} {}/{} {}/s {left} left",
                "█".repeat(full),
                "░".repeat(empty),
                bytes(done),
                bytes(total),
                bytes(rate),
            )
        }
        None => format!("{} {}/s", bytes(done), bytes(rate)),
    };
    line.push_str("  ");
    // What comes out of an archive is not to speak to the terminal.
    line.extend(progress.what.chars().filter(|one| !one.is_control()));
    // The last column is left free: some terminals go on to the next line once it is written to.
    line.chars().take(columns.saturating_sub(1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let full = |count| "█".repeat(count) + &"░".repeat(30 - count);
        let second = Duration::from_secs(1);
        let table = [
            (
                0,
                Some(90),
                second,
                format!("{} 0 B/90 B 0 B/s ? left  x", full(0)),
            ),
            (
                60_000_000,
                Some(255_000_000),
                2 * second,
                format!("{} 60 MB/255 MB 30 MB/s 6 s left  x", full(7)),
            ),
            (
                90,
                Some(90),
                second,
                format!("{} 90 B/90 B 90 B/s 0 s left  x", full(30)),
            ),
            // More than was said, of nothing, at once.
            (
                9,
                Some(0),
                Duration::ZERO,
                format!("{} 9 B/0 B 9.0 kB/s 0 s left  x", full(0)),
            ),
            (5000, None, second, "5.0 kB 5.0 kB/s  x".to_owned()),
        ];
        for (done, total, elapsed, want) in table {
            let what = "x";
            let progress = Progress { done, total, what };
            assert_eq!(line(progress, elapsed, 200), want);
        }
    }

    #[test]
    fn it_fits_its_line_and_keeps_to_it() {
        let progress = |what| Progress {
            done: 1,
            total: None,
            what,
        };
        let name = "a".repeat(100);
        let long = line(progress(&name), Duration::MAX, 40);
        assert_eq!(long.chars().count(), 39, "{long}");
        let line = line(progress("a\r\n\x1b[2Jb"), Duration::MAX, 40);
        assert_eq!(line, "1 B 0 B/s  a[2Jb");
    }
}
