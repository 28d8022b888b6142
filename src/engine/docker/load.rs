//! Sending an image archive to the engine.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::query_parameters::ImportImageOptionsBuilder;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::client::Client;
use super::fault::fault;
use crate::core::api::Fault;

/// Streams `archive` to the engine; returns the IDs or references that it says it loaded.
///
/// `on_progress` is called whenever the engine takes a piece or says something. If neither happens for `idle`, the
/// engine does not answer.
pub(super) async fn load(
    client: &Client,
    archive: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    idle: Duration,
    mut on_progress: impl FnMut(),
) -> Result<Vec<String>, Fault> {
    let moved = Arc::new(Notify::new());
    // An archive that cannot be read ends the request, and must not look as if the engine did.
    let unreadable = Arc::new(Mutex::new(None));
    let archive = {
        let (moved, unreadable) = (moved.clone(), unreadable.clone());
        archive.inspect(move |piece| {
            moved.notify_one();
            if let Err(error) = piece {
                *unreadable.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some(error.to_string());
            }
        })
    };
    let options = ImportImageOptionsBuilder::new().quiet(false).build();
    let mut lines = std::pin::pin!(client.bollard.import_image_stream(options, archive, None));
    let mut loaded = Vec::new();
    let mut deadline = Instant::now() + idle;
    loop {
        let line = tokio::select! {
            line = lines.next() => line,
            () = moved.notified() => {
                on_progress();
                deadline = Instant::now() + idle;
                continue;
            }
            () = sleep_until(deadline) => {
                return Err(Fault::NoAnswer(format!(
                    "it has taken nothing of an image and said nothing for {} s",
                    idle.as_secs_f32()
                )));
            }
        };
        on_progress();
        deadline = Instant::now() + idle;
        match line {
            None => return Ok(loaded),
            Some(Ok(line)) => loaded.extend(line.stream.as_deref().and_then(name_in)),
            Some(Err(error)) => {
                let unreadable = unreadable
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .take();
                return Err(match unreadable {
                    Some(why) => Fault::Refused(format!("the image cannot be read: {why}")),
                    None => fault(error),
                });
            }
        }
    }
}

/// `Loaded image ID: sha256:...` or `Loaded image: REFERENCE`; Podman joins several with commas.
fn name_in(line: &str) -> Option<String> {
    let (_, name) = line
        .split_once("Loaded image ID:")
        .or_else(|| line.split_once("Loaded image:"))?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_engine_says() {
        let table = [
            ("Loaded image ID: sha256:ab\n", Some("sha256:ab")),
            ("Loaded image: example/app:1\n", Some("example/app:1")),
            ("Loading layer\n", None),
            ("Loaded image: \n", None),
            ("", None),
        ];
        for (line, expected) in table {
            assert_eq!(name_in(line).as_deref(), expected, "{line:?}");
        }
    }
}
