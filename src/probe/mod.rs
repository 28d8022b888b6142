//! Asks one health question and returns one answer.
//!
//! A probe is cut off at its timeout for good: all of it lives in the future
//! that [`ask`] returns, so that whoever drops that future closes the
//! connection too. It must never decide what an answer means, never retry, and
//! never leave a task behind.

use std::fmt::Write as _;
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::core::api::{Answer, Fault};
use crate::engine::{Engine, Executed};
use crate::spec::types::{Health, Probe};

mod http;
mod link;
pub mod notify;
mod tls;

/// Most characters of a peer's own text that go into an answer.
const QUOTE: usize = 120;

/// How long the engine has to show that it lives, after a program in a container ran out of time.
const ENGINE_CHECK: Duration = Duration::from_secs(1);

/// The container that is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeTarget {
    /// The engine's ID.
    pub id: String,
    /// Its own address; `None` without a network.
    pub address: Option<IpAddr>,
}

/// Asks once. The answer comes within the question's timeout (for a program in a container, one
/// second later at most: its silence may be the engine's).
///
/// [`Answer::CannotAsk`] is for what says nothing about the container: no address, no file of
/// authorities, a name that does not resolve, a node out of sockets, an engine that is silent.
/// A [`Probe::Notify`] asks nobody: the app speaks on its own socket ([`notify::AppSocket`]).
///
/// A host given by name is resolved by the C library in a thread, which cannot be interrupted: a
/// slow name server keeps that one thread until the resolver's own timeout. Addresses and
/// `localhost` need none.
pub async fn ask(health: &Health, container: &ProbeTarget, engine: &impl Engine) -> Answer {
    let limit = health.timing.timeout;
    let start = Instant::now();
    let verdict = match &health.probe {
        Probe::Http(question) => {
            within(limit, http::ask(question, container.address, start + limit)).await
        }
        Probe::Tcp(target) => within(limit, link::knock(target, container.address)).await,
        Probe::Exec(argv) => exec(engine, &container.id, argv, limit).await,
        Probe::Notify => Err(Trouble::Unasked(
            "the app reports its own health, it is not asked".to_owned(),
        )),
    };
    match verdict {
        Ok((text, when)) => {
            let took = when.saturating_duration_since(start);
            Answer::Pass(format!("{text} in {}", span(took)))
        }
        Err(Trouble::Sick(text)) => Answer::Fail(text),
        Err(Trouble::Unasked(text)) => Answer::CannotAsk(text),
    }
}

/// What went well, and when that was known.
type Verdict = Result<(String, Instant), Trouble>;

/// Why a probe did not pass.
#[derive(Debug, PartialEq, Eq)]
enum Trouble {
    /// The container's fault.
    Sick(String),
    /// Not the container's fault.
    Unasked(String),
}

impl Trouble {
    /// A connection's error, told apart by whose fault it is.
    fn io(error: &io::Error) -> Self {
        use io::ErrorKind as Kind;
        let short = match error.kind() {
            Kind::ConnectionRefused => "connection refused",
            Kind::ConnectionReset | Kind::BrokenPipe => "the peer reset the connection",
            Kind::UnexpectedEof => "the peer closed the connection without an answer",
            Kind::TimedOut => "the connection timed out",
            Kind::HostUnreachable => "no route to the host",
            Kind::NotFound => "the socket does not exist",
            // What the node lacks: descriptors, memory, ports, a network, permission.
            Kind::PermissionDenied
            | Kind::AddrNotAvailable
            | Kind::NetworkUnreachable
            | Kind::NetworkDown
            | Kind::OutOfMemory
            | Kind::InvalidInput => return Self::Unasked(format!("cannot connect: {error}")),
            _ => {
                use nix::libc::{EMFILE, ENFILE, ENOBUFS};
                return match error.raw_os_error() {
                    Some(EMFILE | ENFILE | ENOBUFS) => {
                        Self::Unasked(format!("cannot connect: {error}"))
                    }
                    _ => Self::Sick(quote(&error.to_string())),
                };
            }
        };
        Self::Sick(short.to_owned())
    }
}

/// `question`, or the news that it took too long.
async fn within(limit: Duration, question: impl Future<Output = Verdict>) -> Verdict {
    tokio::time::timeout(limit, question)
        .await
        .unwrap_or_else(|_| Err(too_long(limit)))
}

fn too_long(limit: Duration) -> Trouble {
    Trouble::Sick(format!("no answer within {limit:?}"))
}

/// Runs a program in the container: code 0 is well.
///
/// An engine that refuses to run it is an answer too, as it is for the engines' own health checks:
/// a container that has no room for one more process is sick. The engine's silence is not.
async fn exec(engine: &impl Engine, id: &str, argv: &[String], limit: Duration) -> Verdict {
    match engine.exec(id, argv, limit).await {
        Ok(Executed { code: 0, .. }) => Ok(("exit code 0".to_owned(), Instant::now())),
        Ok(Executed { code, output }) => {
            let mut text = format!("exit code {code}");
            let said = quote(&output);
            if !said.is_empty() {
                // Writing to a String cannot fail.
                let _ = write!(text, ": {said}");
            }
            Err(Trouble::Sick(text))
        }
        Err(Fault::NoAnswer(text)) => {
            // The same fault for a program that hangs and an engine that hangs: ask the engine.
            match tokio::time::timeout(ENGINE_CHECK, engine.version()).await {
                Ok(Ok(_)) => Err(too_long(limit)),
                Ok(Err(_)) | Err(_) => Err(Trouble::Unasked(format!(
                    "the engine does not answer: {}",
                    quote(&text)
                ))),
            }
        }
        Err(Fault::Refused(text)) => Err(Trouble::Sick(format!(
            "the engine cannot run the program: {}",
            quote(&text)
        ))),
        Err(Fault::NotFound(text) | Fault::Conflict(text) | Fault::ImageMissing(text)) => {
            Err(Trouble::Unasked(quote(&text)))
        }
    }
}

/// A time span as short as people write it: `850 us`, `3 ms`, `1.5 s`, `30 s`.
fn span(span: Duration) -> String {
    let (millis, micros) = (span.as_millis(), span.as_micros());
    match millis {
        0 => format!("{micros} us"),
        1..1000 => format!("{millis} ms"),
        _ if millis % 1000 == 0 => format!("{} s", millis / 1000),
        _ => format!("{}.{} s", millis / 1000, millis % 1000 / 100),
    }
}

/// The first line of a stranger's text that says something, fit for one log line.
fn quote(text: &str) -> String {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty());
    tame(line.unwrap_or_default(), QUOTE)
}

/// `text` without control characters, cut to `limit` characters.
pub(crate) fn tame(text: &str, limit: usize) -> String {
    let mut chars = text
        .chars()
        .map(|c| if hostile(c) { ' ' } else { c })
        .skip_while(|c| c.is_whitespace());
    let mut tamed: String = chars.by_ref().take(limit).collect();
    if chars.next().is_some() {
        tamed.pop();
        tamed.push('…');
    }
    tamed.truncate(tamed.trim_end().len());
    tamed
}

/// Whether a character could forge or hide what a terminal or a log line shows: controls, line
/// separators, and the marks that turn the direction of writing.
pub(crate) fn hostile(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests;
