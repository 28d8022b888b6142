//! The client: bollard on connections of our own, and questions whose answers we read ourselves.
//!
//! Bollard's models of what the engine has are whole; monopod wants a few fields of each, and code that
//! reads the rest would be a tenth of the binary. So what is looked at is asked for here, into the
//! types of [`super::answers`]; what changes something goes through bollard, whose errors all share.
//! It must never use a connection twice, and never repeat a request.

use std::fmt::Write as _;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use bollard::errors::Error;
use bollard::{API_DEFAULT_VERSION, BollardRequest, ClientVersion};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue};
use hyper::http::uri::{PathAndQuery, Uri};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::answers::{About, Message};

/// Bollard's own timeout ends at the response's head, so it is set out of the way and each call has a whole one.
const NO_TIMEOUT_SECONDS: u64 = 7 * 24 * 60 * 60;

/// An engine whose API version is agreed on.
#[derive(Clone, Debug)]
pub(super) struct Client {
    /// For all that changes something or streams.
    pub bollard: bollard::Docker,
    socket: Arc<Path>,
    /// `/v1.41`
    prefix: Arc<str>,
}

impl Client {
    /// Asks the engine behind a unix socket which version of the API it speaks.
    pub async fn connect(socket: &Path) -> Result<Self, Error> {
        let socket: Arc<Path> = socket.into();
        let said: About = ask(&socket, "/version").await?;
        let newest = said.api_version.as_deref().and_then(api_version);
        let Some(mut version) = newest else {
            return Err(Error::APIVersionParseError {});
        };
        if version > *API_DEFAULT_VERSION {
            version = *API_DEFAULT_VERSION;
        }
        let transport = {
            let socket = Arc::clone(&socket);
            move |request| send(Arc::clone(&socket), request)
        };
        Ok(Self {
            bollard: bollard::Docker::connect_with_custom_transport(
                transport,
                Some("unix://engine"),
                NO_TIMEOUT_SECONDS,
                &version,
            )?,
            prefix: format!("/v{version}").into(),
            socket,
        })
    }

    /// What the engine says to a question: `path` has its version put before it.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        ask(&self.socket, &format!("{}{path}", self.prefix)).await
    }
}

/// `1.41`
fn api_version(text: &str) -> Option<ClientVersion> {
    let (major, minor) = text.split_once('.')?;
    Some(ClientVersion {
        major_version: major.parse().ok()?,
        minor_version: minor.parse().ok()?,
    })
}

/// Text as a part of a path or of a query: what would end it there, or mean something else, is escaped.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' | b':' => {
                escaped.push(char::from(byte));
            }
            // A String takes all that is written to it.
            _ => {
                let _ = write!(escaped, "%{byte:02X}");
            }
        }
    }
    escaped
}

/// The engine's filter of one kind, as the part of a query.
pub(super) fn filters(kind: &str, values: &[String]) -> String {
    escaped(&serde_json::json!({ kind: values }).to_string())
}

async fn ask<T: DeserializeOwned>(socket: &Arc<Path>, path: &str) -> Result<T, Error> {
    let bytes = answer(Arc::clone(socket), path).await?;
    read(&bytes)
}

/// The body of the engine's answer; an error if that is one. The same code for all questions.
async fn answer(socket: Arc<Path>, path: &str) -> Result<Bytes, Error> {
    let request = Request::get(path).body(bollard::body_full(Bytes::new()))?;
    let (head, body) = send(socket, request).await?.into_parts();
    let bytes = body.collect().await?.to_bytes();
    if head.status.is_success() {
        return Ok(bytes);
    }
    let message = serde_json::from_slice(&bytes).map(|Message { message }| message);
    Err(Error::DockerResponseServerError {
        status_code: head.status.as_u16(),
        // What is no message of the engine's is told as it is.
        message: message.unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into_owned()),
    })
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|error| {
        if error.is_data() || error.is_syntax() {
            Error::JsonDataError {
                message: error.to_string(),
                column: error.column(),
            }
        } else {
            error.into()
        }
    })
}

/// One request on a connection of its own, until the head of the answer.
async fn send(socket: Arc<Path>, mut request: BollardRequest) -> Result<Response<Incoming>, Error> {
    let stream = UnixStream::connect(&socket).await.map_err(|error| {
        if error.kind() == ErrorKind::NotFound {
            Error::SocketNotFoundError(socket.display().to_string())
        } else {
            error.into()
        }
    })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with its one answer, or when nobody wants that any more; what goes wrong the answer tells.
    tokio::spawn(connection.with_upgrades());
    // A server wants its own part of the URL alone.
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = Uri::from(path.unwrap_or(PathAndQuery::from_static("/")));
    let host = HeaderValue::from_static("localhost");
    request.headers_mut().insert(HOST, host);
    Ok(sender.send_request(request).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        let table = [
            ("1.41", Some((1, 41))),
            ("1.5", Some((1, 5))),
            ("1", None),
            ("1.41.2", None),
            ("", None),
        ];
        for (text, expected) in table {
            let found = api_version(text);
            let found = found.map(|version| (version.major_version, version.minor_version));
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn what_ends_a_path_is_escaped() {
        let table = [
            ("host:5000/a/b_c-d.e~f", "host:5000/a/b_c-d.e~f"),
            ("app@sha256:00", "app%40sha256:00"),
            ("a?b#c%d&e=f+g h", "a%3Fb%23c%25d%26e%3Df%2Bg%20h"),
            (r#"{"label":["a"]}"#, "%7B%22label%22:%5B%22a%22%5D%7D"),
            ("ä", "%C3%A4"),
        ];
        for (text, expected) in table {
            assert_eq!(escaped(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_json_is_told_apart_from_what_is_cut_short() {
        assert!(read::<u8>(b"7").is_ok_and(|number| number == 7));
        let table: [(&[u8], bool); 3] = [(b"\"x\"", true), (b"}", true), (b"", false)];
        for (bytes, data) in table {
            let error = read::<u8>(bytes).expect_err("it is no number");
            assert_eq!(
                matches!(error, Error::JsonDataError { .. }),
                data,
                "{error}"
            );
        }
    }
}
