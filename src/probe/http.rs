//! The question of an http or https probe: one request, one status, perhaps a look at the body.
//!
//! It must never follow a redirect, reuse a connection, or keep more of an
//! answer than its first 64 KiB.

use std::error::Error as _;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::pin::pin;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::{Either, select};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Trouble, Verdict, link, quote, tls};
use crate::spec::types::{HttpProbe, Target};

/// How much of a body is read.
const BODY_MAX: usize = 64 << 10;

/// Most bytes of an answer's head.
const HEAD_MAX: usize = 64 << 10;

/// How long a peer may take to end an answer that is good already. Closing in the middle of it
/// would fill the app's log with broken pipes.
const LINGER: Duration = Duration::from_millis(100);

/// Asks once, until `deadline` at most as far as mere politeness goes; the caller cuts the rest.
pub(super) async fn ask(question: &HttpProbe, own: Option<IpAddr>, deadline: Instant) -> Verdict {
    let request = request(question, own)?;
    let link = link::open(&question.target, own).await?;
    match &question.tls {
        None => exchange(question, request, link, deadline).await,
        Some(tls) => {
            let name = match (&question.target, own) {
                (Target::Own(_), Some(address)) => address.to_string(),
                (Target::Host(host, _), _) => host.trim_matches(['[', ']']).to_owned(),
                (Target::Own(_), None) | (Target::Unix(_), _) => "localhost".to_owned(),
            };
            let link = tls::wrap(link, tls, &name).await?;
            exchange(question, request, link, deadline).await
        }
    }
}

fn request(question: &HttpProbe, own: Option<IpAddr>) -> Result<Request<Empty<Bytes>>, Trouble> {
    let mut request = Request::builder()
        .uri(question.path.as_str())
        .body(Empty::new())
        .map_err(|e| Trouble::Unasked(format!("path {}: {e}", question.path)))?;
    let headers = request.headers_mut();
    let host = match &question.host {
        Some(host) => host.clone(),
        None => authority(question, own),
    };
    headers.insert(HOST, value("host", &host)?);
    headers.insert(
        USER_AGENT,
        HeaderValue::from_static(concat!("monopod/", env!("CARGO_PKG_VERSION"))),
    );
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    for (name, text) in &question.headers {
        let header = HeaderName::from_bytes(name.as_bytes())
            .map_err(|e| Trouble::Unasked(format!("header {name}: {e}")))?;
        headers.insert(header, value(name, text)?);
    }
    Ok(request)
}

fn value(name: &str, text: &str) -> Result<HeaderValue, Trouble> {
    HeaderValue::from_str(text).map_err(|e| Trouble::Unasked(format!("header {name}: {e}")))
}

/// Host and port as the `Host` header has them.
pub(super) fn authority(question: &HttpProbe, own: Option<IpAddr>) -> String {
    let (host, port) = match &question.target {
        Target::Own(port) => (
            own.map(|address| address.to_string()).unwrap_or_default(),
            *port,
        ),
        Target::Host(host, port) => (host.clone(), *port),
        Target::Unix(_) => return "localhost".to_owned(),
    };
    let host = if host.parse::<Ipv6Addr>().is_ok() {
        format!("[{host}]")
    } else {
        host
    };
    let default = if question.tls.is_some() { 443 } else { 80 };
    if port == default {
        host
    } else {
        format!("{host}:{port}")
    }
}

/// One request and its answer on an open connection, all within this future.
async fn exchange(
    question: &HttpProbe,
    request: Request<Empty<Bytes>>,
    link: impl AsyncRead + AsyncWrite + Unpin + 'static,
    deadline: Instant,
) -> Verdict {
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD_MAX)
        .handshake(TokioIo::new(link))
        .await
        .map_err(|e| trouble(&e))?;
    let answer = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(|e| trouble(&e))?;
        // No second request: the connection ends with this one.
        drop(sender);
        let (head, body) = response.into_parts();
        judge(question, head.status, body, deadline).await
    };
    match select(pin!(answer), pin!(connection)).await {
        Either::Left((answer, connection)) => {
            if answer.is_ok() {
                let _ = tokio::time::timeout(linger(deadline), connection).await;
            }
            answer
        }
        // The connection's half is done; what it brought waits in the answer's.
        Either::Right((_, answer)) => answer.await,
    }
}

fn linger(deadline: Instant) -> Duration {
    LINGER.min(deadline.saturating_duration_since(Instant::now()) / 2)
}

async fn judge(
    question: &HttpProbe,
    status: StatusCode,
    mut body: Incoming,
    deadline: Instant,
) -> Verdict {
    let code = status.as_u16();
    let title = match status.canonical_reason() {
        Some(reason) => format!("{code} {reason}"),
        None => code.to_string(),
    };
    if !question
        .status
        .iter()
        .any(|&(low, high)| (low..=high).contains(&code))
    {
        return Err(Trouble::Sick(title));
    }
    let when = match &question.body {
        None => {
            let when = Instant::now();
            let rest = async {
                let mut left = BODY_MAX;
                while let Some(Ok(frame)) = body.frame().await {
                    left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
                    if left == 0 {
                        break;
                    }
                }
            };
            let _ = tokio::time::timeout(linger(deadline), rest).await;
            when
        }
        Some(wanted) => {
            if !contains(&mut body, wanted.as_bytes()).await? {
                return Err(Trouble::Sick(format!(
                    "{code} but the body lacks {:?}",
                    quote(wanted)
                )));
            }
            Instant::now()
        }
    };
    Ok((title, when))
}

/// Whether the first 64 KiB of `body` contain `wanted`.
async fn contains(body: &mut Incoming, wanted: &[u8]) -> Result<bool, Trouble> {
    if wanted.is_empty() {
        return Ok(true);
    }
    let mut text = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| trouble(&e))?;
        let Some(data) = frame.data_ref() else {
            continue;
        };
        // What was searched already can only be the beginning of a match.
        let from = text.len().saturating_sub(wanted.len() - 1);
        text.extend_from_slice(&data[..data.len().min(BODY_MAX - text.len())]);
        if text[from..]
            .windows(wanted.len())
            .any(|window| window == wanted)
        {
            return Ok(true);
        }
        if text.len() == BODY_MAX {
            break;
        }
    }
    Ok(false)
}

/// An HTTP error in a technician's words.
fn trouble(error: &hyper::Error) -> Trouble {
    if error.is_parse() {
        return Trouble::Sick("the answer is not HTTP".to_owned());
    }
    if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        return Trouble::Sick("the peer closed the connection without an answer".to_owned());
    }
    let cause = error
        .source()
        .and_then(|source| source.downcast_ref::<io::Error>());
    match cause {
        Some(cause) => Trouble::io(cause),
        None => Trouble::Sick(quote(&error.to_string())),
    }
}
