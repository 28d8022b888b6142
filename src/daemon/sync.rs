//! Has what the engine wrote put on disk before anything depends on it.
//!
//! A process of its own does it, for a medium may hang: the daemon must never wait for one without end.

use std::time::Duration;

use tokio::process::Command;

use super::child::{self, Unended};
use super::deeds::{Shared, helper};
use super::staging::later;
use crate::core::api::NotNow;
use crate::engine::Engine;

/// How long it may take. Less than staging may go without a sign of movement.
const LIMIT: Duration = Duration::from_secs(300);

/// Comes back once what the engine and monopod have written is on disk.
pub(super) async fn to_disk(shared: &Shared) -> Result<(), NotNow> {
    let folder = shared.engine.info().await.map_err(later)?.data_root;
    let words = ["sync", "--", &folder];
    let words = if folder.is_empty() {
        &words[..1]
    } else {
        &words
    };
    let helper = helper(&shared.paths, words);
    ended(helper, LIMIT)
        .await
        .map_err(|why| NotNow::Later(format!("what the engine has written is not on disk: {why}")))
}

/// Runs a process to its good end.
async fn ended(command: Command, limit: Duration) -> Result<(), String> {
    match child::run(command, limit).await {
        Ok(ended) if ended.status.success() => Ok(()),
        Ok(ended) if ended.said.is_empty() => {
            Err(format!("the helper process ended with {}", ended.status))
        }
        Ok(ended) => Err(ended.said),
        Err(Unended::Unstarted(error)) => Err(format!("cannot run the helper process: {error}")),
        Err(Unended::Lost(error)) => Err(error.to_string()),
        Err(Unended::Late) => Err(format!(
            "the medium has not taken it within {} s",
            limit.as_secs()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(script: &str, limit: Duration) -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        runtime.block_on(ended(command, limit))
    }

    #[test]
    fn only_a_good_end_counts() {
        let long = Duration::from_secs(60);
        assert_eq!(run("true", long), Ok(()));
        let table = [
            ("echo monopod: no space >&2; exit 1", "monopod: no space"),
            ("exit 3", "the helper process ended with exit status: 3"),
            (
                "kill -9 $$",
                "the helper process ended with signal: 9 (SIGKILL)",
            ),
        ];
        for (script, expected) in table {
            assert_eq!(run(script, long), Err(expected.to_owned()), "{script}");
        }
        let start = std::time::Instant::now();
        let late = run("exec sleep 1000", Duration::from_millis(50));
        assert!(late.is_err_and(|why| why.contains("has not taken it within")));
        assert!(start.elapsed() < long);
    }
}
