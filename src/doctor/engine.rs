//! Does the engine answer?

use std::path::Path;

use super::machine::Silence;
use super::{Check, Finding, Run};

/// The check.
pub(super) const CHECK: Check = Check {
    id: "engine",
    title: "the engine's socket: there, and answered",
    run: Run::Asks(|machine| {
        Box::pin(async move {
            let socket = match machine.socket() {
                Ok(socket) => socket,
                Err(why) => return Finding::failure(why),
            };
            let answer = machine.version().await;
            judge(answer, &socket, socket.exists())
        })
    }),
};

fn judge(answer: Result<&String, Silence>, socket: &Path, there: bool) -> Finding {
    match answer {
        Ok(version) => Finding::ok(format!("{version} at {}", socket.display())),
        Err(silence) if silence.denied => Finding::skipped(format!("{}: run as root", silence.why)),
        Err(silence) if there => Finding::failure(silence.why)
            .hint("systemctl status docker; what it says itself: journalctl -u docker"),
        Err(silence) => Finding::failure(silence.why)
            .hint("start it: systemctl enable --now docker")
            .hint("if it listens elsewhere, write [engine] socket = \"unix:///PATH\" in node.toml"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn judgements() {
        let silence = |denied| Silence {
            denied,
            why: "nobody there".to_owned(),
        };
        let version = "Docker 26.1.5".to_owned();
        let table = [
            (Ok(&version), true, State::Ok, 0),
            (Err(silence(true)), true, State::Skipped, 0),
            (Err(silence(false)), true, State::Failure, 1),
            (Err(silence(false)), false, State::Failure, 2),
        ];
        for (answer, there, state, hints) in table {
            let found = judge(answer, Path::new("/s"), there);
            assert_eq!(
                (found.state, found.hints.len()),
                (state, hints),
                "{found:?}"
            );
        }
    }
}
