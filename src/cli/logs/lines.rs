//! Lines out of the pieces that the engine gives, and following a container across its restarts.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use tokio::sync::mpsc;
use tokio::task::spawn_local;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};

use super::super::note;
use super::screen::Screen;
use super::{Wanted, untold};
use crate::core::api::{Fault, Seen, SeenState};
use crate::engine::{Docker, Engine as _, LogPiece, LogRange};
use crate::exit::Exit;

/// How often is looked for a container that does not run.
const LOOK: Duration = Duration::from_millis(500);

/// How often is looked for containers that a reload has added.
const NEW: Duration = Duration::from_secs(5);

/// A line that is longer is cut there, in bytes, and goes on in the next.
const LONGEST: usize = 256 * 1024;

/// Lines that wait to be shown.
const WAITING: usize = 64;

const SECOND: u64 = 1_000_000_000;

/// A line of a container's log.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    /// When it came, in nanoseconds since 1970.
    pub nanos: u64,
    /// Whether it came on standard error.
    pub stderr: bool,
    /// Without the line feed.
    pub text: Vec<u8>,
}

/// The lines in a stream of pieces.
pub struct Lines<S> {
    pieces: Pin<Box<S>>,
    /// What has no end yet, on standard output and on standard error.
    begun: [Option<Line>; 2],
}

impl<S: Stream<Item = Result<LogPiece, Fault>>> Lines<S> {
    /// Of these pieces.
    pub fn new(pieces: S) -> Self {
        Self {
            pieces: Box::pin(pieces),
            begun: [None, None],
        }
    }

    /// The next line; `None` at the end. One without an end counts when the stream ends.
    pub async fn next(&mut self) -> Result<Option<Line>, Fault> {
        loop {
            let Some(piece) = self.pieces.next().await.transpose()? else {
                return Ok(self.begun.iter_mut().find_map(Option::take));
            };
            let begun = &mut self.begun[usize::from(piece.stderr)];
            let mut line = begun.take().unwrap_or(Line {
                nanos: piece.nanos,
                stderr: piece.stderr,
                text: Vec::new(),
            });
            let whole = piece.bytes.strip_suffix(b"\n");
            line.text.extend_from_slice(whole.unwrap_or(&piece.bytes));
            if whole.is_some() || line.text.len() >= LONGEST {
                return Ok(Some(line));
            }
            *begun = Some(line);
        }
    }
}

/// How far a container's log was shown: so far that reading it again brings each line once.
///
/// The engine can be asked for what came since a second, so those shown of the newest second are counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    id: String,
    /// The newest second of which something was shown, and how much of it.
    second: u64,
    count: u64,
    /// Whether that is all that came in that second, so that counting tells what is new. Times alone do not quite:
    /// what came on one stream may be written after what came a little later on the other.
    whole: bool,
    newest: u64,
}

impl Shown {
    /// Nothing yet of the container with this ID, and it is read from an even second or its beginning on, if `whole`.
    pub fn of(id: String, whole: bool) -> Self {
        Self {
            id,
            second: 0,
            count: 0,
            whole,
            newest: 0,
        }
    }

    /// A line of this time was shown.
    pub fn count(&mut self, nanos: u64) {
        let second = nanos / SECOND;
        if second > self.second {
            self.whole |= self.newest > 0;
            self.second = second;
            self.count = 0;
        }
        // The engine does not give those of earlier seconds again, which came late.
        if second == self.second {
            self.count += 1;
        }
        self.newest = self.newest.max(nanos);
    }

    /// Nothing before this time counts, if nothing was shown so far.
    fn begin(&mut self, nanos: u64) {
        if self.newest == 0 {
            self.second = nanos / SECOND;
            self.newest = nanos;
            self.whole = false;
        }
    }

    /// Whether a line that is read again was shown; to be asked of each in turn, of a copy.
    fn has(&mut self, nanos: u64) -> bool {
        if nanos > self.newest || (self.whole && self.count == 0) {
            // What follows is new, whatever its time.
            self.whole = true;
            self.count = 0;
            return false;
        }
        self.count = self.count.saturating_sub(1);
        true
    }

    /// Where to read on.
    fn range(&self) -> LogRange {
        LogRange {
            since: u32::try_from(self.second).ok().filter(|since| *since > 0),
            tail: None,
            follow: true,
        }
    }
}

/// What a follower says.
enum News {
    Line(String, Line),
    Unreadable(String, Fault),
}

/// Shows what comes, from where `shown` ends, and for one of which nothing was shown from `begun` on, in
/// nanoseconds since 1970. Ends only if no log can be read or nobody reads what is shown.
pub async fn follow(
    engine: Docker,
    wanted: &Wanted<'_>,
    mut shown: BTreeMap<String, Shown>,
    begun: u64,
    screen: &mut Screen,
) -> Exit {
    for shown in shown.values_mut() {
        shown.begin(begun);
    }
    let (tell, mut told) = mpsc::channel(WAITING);
    let mut followed = BTreeSet::new();
    let mut unreadable = BTreeSet::new();
    let start = |role: String, shown: Option<Shown>| {
        let one = Follower {
            engine: engine.clone(),
            node: wanted.node.to_owned(),
            role,
            tell: tell.clone(),
            silent: false,
        };
        spawn_local(one.run(shown));
    };
    for (role, shown) in shown {
        followed.insert(role.clone());
        start(role, Some(shown));
    }
    if let Some(name) = wanted.name
        && followed.insert(name.to_owned())
    {
        screen.widen(name);
        start(name.to_owned(), None);
    }
    // Outlives a turn of the loop, so that a talkative container does not put the look off.
    let mut look = interval_at(Instant::now() + NEW, NEW);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            news = told.recv() => match news {
                Some(News::Line(role, line)) => {
                    if screen.show(&role, &line).is_err() {
                        return Exit::Done;
                    }
                }
                Some(News::Unreadable(role, fault)) => {
                    // The history has said so of the same.
                    if unreadable.insert(role.clone()) {
                        untold(&role, &fault);
                    }
                    if unreadable.len() == followed.len() {
                        return Exit::Failed;
                    }
                }
                None => return Exit::Failed,
            },
            _ = look.tick(), if wanted.name.is_none() => {
                // If it does not answer, the followers say so.
                for seen in engine.containers(wanted.node, None).await.unwrap_or_default() {
                    let role = seen.role.to_string();
                    if followed.insert(role.clone()) {
                        screen.widen(&role);
                        start(role, None);
                    }
                }
            }
        }
        if told.is_empty() && screen.flush().is_err() {
            return Exit::Done;
        }
    }
}

/// Follows one container of a role after the other.
struct Follower {
    engine: Docker,
    node: String,
    role: String,
    tell: mpsc::Sender<News>,
    /// Whether the engine's silence has been told.
    silent: bool,
}

impl Follower {
    async fn run(mut self, mut shown: Option<Shown>) {
        loop {
            if let Some(now) = self.there(shown.as_ref()).await {
                match self.read(now).await {
                    Ok(now) => shown = Some(now),
                    Err(()) => return,
                }
            }
            sleep(LOOK).await;
        }
    }

    /// What is to be read now: the same container on from where it was, or another one from its beginning.
    async fn there(&mut self, shown: Option<&Shown>) -> Option<Shown> {
        let seen = match self.engine.containers(&self.node, Some(&self.role)).await {
            Ok(seen) => seen,
            Err(fault) => {
                if !self.silent {
                    note(format_args!(
                        "{}: the engine does not say ({}); waiting for it",
                        self.role,
                        text(&fault)
                    ));
                    self.silent = true;
                }
                return None;
            }
        };
        self.silent = false;
        seen.into_iter().find_map(|Seen { id, state, .. }| {
            let known = shown.filter(|shown| shown.id == id);
            match (known, state) {
                (Some(_), SeenState::Created | SeenState::Exited { .. })
                | (None, SeenState::Created) => None,
                (Some(shown), SeenState::Running(_)) => Some(shown.clone()),
                (None, SeenState::Running(_) | SeenState::Exited { .. }) => {
                    Some(Shown::of(id, true))
                }
            }
        })
    }

    /// Reads until the container ends. `Err` if there is no use in going on.
    async fn read(&mut self, mut shown: Shown) -> Result<Shown, ()> {
        let mut again = shown.clone();
        let mut lines = Lines::new(self.engine.logs(&shown.id, shown.range()));
        loop {
            match lines.next().await {
                Ok(Some(line)) => {
                    if again.has(line.nanos) {
                        continue;
                    }
                    shown.count(line.nanos);
                    let news = News::Line(self.role.clone(), line);
                    self.tell.send(news).await.map_err(drop)?;
                }
                Ok(None) | Err(Fault::NoAnswer(_) | Fault::NotFound(_)) => return Ok(shown),
                Err(fault) => {
                    let news = News::Unreadable(self.role.clone(), fault);
                    self.tell.send(news).await.map_err(drop)?;
                    return Err(());
                }
            }
        }
    }
}

fn text(fault: &Fault) -> &str {
    match fault {
        Fault::NoAnswer(text)
        | Fault::NotFound(text)
        | Fault::Conflict(text)
        | Fault::ImageMissing(text)
        | Fault::Refused(text) => text,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::stream;

    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "as the stream has them")]
    fn piece(nanos: u64, stderr: bool, text: &'static str) -> Result<LogPiece, Fault> {
        Ok(LogPiece {
            nanos,
            stderr,
            bytes: Bytes::from_static(text.as_bytes()),
        })
    }

    #[tokio::test]
    async fn pieces_become_lines() {
        let pieces = [
            piece(1, false, "one\n"),
            piece(2, false, "two "),
            piece(3, true, "other\n"),
            piece(4, false, "goes on\n"),
            piece(5, true, ""),
            piece(6, true, "\n"),
            piece(7, false, "no end"),
            piece(8, true, "neither"),
        ];
        let mut lines = Lines::new(stream::iter(pieces));
        let mut found = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            found.push((
                line.nanos,
                line.stderr,
                String::from_utf8(line.text).unwrap(),
            ));
        }
        let expected = [
            (1, false, "one"),
            (3, true, "other"),
            (2, false, "two goes on"),
            (5, true, ""),
            (7, false, "no end"),
            (8, true, "neither"),
        ];
        let expected = expected.map(|(nanos, stderr, text)| (nanos, stderr, text.to_owned()));
        assert_eq!(found, expected);
    }

    #[tokio::test]
    async fn a_line_without_end_is_cut() {
        const PIECE: &str = "0123456789abcdef";
        let pieces = stream::repeat_with(|| piece(1, false, PIECE)).take(LONGEST / PIECE.len() + 1);
        let mut lines = Lines::new(pieces);
        let mut lengths = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            lengths.push(line.text.len());
        }
        assert_eq!(lengths, [LONGEST, PIECE.len()]);
    }

    /// What was shown is left out when the log is read again from where it says, and nothing else.
    #[test]
    fn each_line_once() {
        const S: u64 = SECOND;
        // The log, how many lines of it were shown first, and whether from an even second on.
        let table: [(&[u64], std::ops::Range<usize>, bool); 8] = [
            (&[S + 1, S + 2, S + 3], 0..2, true),
            (&[S + 1, S + 1, S + 1], 0..2, true),
            // Written in another order than it came.
            (&[S + 1, S + 5, S + 4, S + 3, S + 6], 0..3, true),
            (&[S + 1, 2 * S, S + 9, 2 * S + 1], 0..3, true),
            // Only the last lines were shown.
            (&[S + 1, S + 2, S + 3, S + 4], 1..3, false),
            (&[S + 1, S + 2, 2 * S, 2 * S, 2 * S], 1..4, false),
            (&[S + 1, 2 * S, 3 * S], 0..3, true),
            (&[S + 1], 0..0, true),
        ];
        for (log, first, whole) in table {
            let mut shown = Shown::of("id".to_owned(), whole);
            for nanos in &log[first.clone()] {
                shown.count(*nanos);
            }
            let since = shown.range().since.unwrap_or_default();
            let mut again = shown.clone();
            let new: Vec<_> = log
                .iter()
                .filter(|nanos| **nanos / S >= since.into())
                .filter(|nanos| !again.has(**nanos))
                .collect();
            let expected: Vec<_> = log[first.end..].iter().collect();
            assert_eq!(new, expected, "{log:?} {first:?}");
        }
        // Nothing was shown, and only what comes from now on counts.
        let mut shown = Shown::of("id".to_owned(), false);
        shown.begin(S + 5);
        assert_eq!(shown.range().since, Some(1));
        assert!(shown.has(S + 4));
        assert!(!shown.has(S + 6));
    }
}
