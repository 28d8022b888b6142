//! Bollard's errors as [`Fault`]s: who failed, the engine or only this call.

use std::error::Error as _;

use bollard::errors::Error;

use crate::core::api::Fault;

/// What an error means to the core.
///
/// Whatever leaves open what the engine did is [`Fault::NoAnswer`]; what the engine says itself is not.
pub(super) fn fault(error: Error) -> Fault {
    match error {
        Error::DockerResponseServerError {
            status_code: 404,
            message,
        } => Fault::NotFound(message),
        Error::DockerResponseServerError {
            status_code,
            message,
        } if message.is_empty() => Fault::Refused(format!(
            "the engine answered with status {status_code} and no message"
        )),
        Error::DockerResponseServerError { message, .. }
        | Error::DockerStreamError { error: message } => Fault::Refused(message),
        Error::SocketNotFoundError(_) => Fault::NoAnswer("there is no such socket".to_owned()),
        Error::RequestTimeoutError => late(),
        Error::IOError { .. } | Error::HyperResponseError { .. } => {
            Fault::NoAnswer(innermost(&error))
        }
        Error::JsonSerdeError { ref err } if err.is_eof() || err.is_io() => {
            Fault::NoAnswer("its answer was cut short".to_owned())
        }
        other => Fault::Refused(format!("the engine's answer cannot be read: {other}")),
    }
}

/// The deadline passed.
pub(super) fn late() -> Fault {
    Fault::NoAnswer("no answer in time".to_owned())
}

/// The status of the engine's answer, if the error is one.
pub(super) fn status(error: &Error) -> Option<u16> {
    match error {
        Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// The text of the cause at the end of the chain, which is the one that people know.
fn innermost(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = cause.to_string();
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(status_code: u16, message: &str) -> Error {
        Error::DockerResponseServerError {
            status_code,
            message: message.to_owned(),
        }
    }

    #[test]
    fn who_failed() {
        let eof = serde_json::from_str::<u8>("").expect_err("nothing is no number");
        let table = [
            (server(404, "gone"), Fault::NotFound("gone".to_owned())),
            (server(409, "busy"), Fault::Refused("busy".to_owned())),
            (server(500, "no"), Fault::Refused("no".to_owned())),
            (
                server(502, ""),
                Fault::Refused("the engine answered with status 502 and no message".to_owned()),
            ),
            (
                Error::DockerStreamError {
                    error: "bad tar".to_owned(),
                },
                Fault::Refused("bad tar".to_owned()),
            ),
            (
                Error::from(std::io::Error::other("broken pipe")),
                Fault::NoAnswer("broken pipe".to_owned()),
            ),
            (
                Error::from(eof),
                Fault::NoAnswer("its answer was cut short".to_owned()),
            ),
            (
                Error::RequestTimeoutError,
                Fault::NoAnswer("no answer in time".to_owned()),
            ),
        ];
        for (error, expected) in table {
            let told = error.to_string();
            assert_eq!(fault(error), expected, "{told}");
        }
    }
}
