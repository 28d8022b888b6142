//! A program that is run to its end, or to the end of its time, with the last line that it said.
//!
//! Nothing that it or its children do may hold the daemon longer than that.

use std::cell::RefCell;
use std::io;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::AsyncReadExt;
use tokio::process::{ChildStderr, Command};
use tokio::time::timeout;

/// How long its last words are waited for after its end: a child of it may hold the pipe for ever.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How much of its last line is shown, characters.
const SHOWN: usize = 200;

/// How much of what it says is kept, bytes.
const KEPT: usize = 4 << 10;

/// How it ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// With what.
    pub status: ExitStatus,
    /// The last line on its stderr that is not empty, tamed for a status line.
    pub said: String,
}

/// Why it has not ended by itself.
#[derive(Debug)]
pub(super) enum Unended {
    /// It cannot be run.
    Unstarted(io::Error),
    /// Its time was up. It was killed with its children, and is not waited for: a medium that hangs keeps even
    /// that from its end.
    Late,
    /// What became of it is not known.
    Lost(io::Error),
}

/// Runs it for so long at most, with nothing on its standard input.
pub(super) async fn run(mut command: Command, most: Duration) -> Result<Ended, Unended> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        // Whatever it has started ends with it when its time is up.
        .process_group(0)
        .kill_on_drop(true);
    let mut child = command.spawn().map_err(Unended::Unstarted)?;
    let group = child.id().and_then(|id| i32::try_from(id).ok());
    let said = RefCell::new(Vec::new());
    let stderr = child.stderr.take();
    let ended = timeout(most, async {
        let mut listening = pin!(async {
            if let Some(stderr) = stderr {
                listen(stderr, &said).await;
            }
        });
        tokio::select! {
            ended = child.wait() => {
                let _ = timeout(LAST_WORDS, &mut listening).await;
                ended
            }
            () = &mut listening => child.wait().await,
        }
    })
    .await;
    let Ok(ended) = ended else {
        if let Some(group) = group {
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
        return Err(Unended::Late);
    };
    let status = ended.map_err(Unended::Lost)?;
    let said = last_line(&said.borrow());
    Ok(Ended { status, said })
}

/// Keeps the end of what it says. All of it is read: one whose pipe is full would hang.
async fn listen(mut stderr: ChildStderr, said: &RefCell<Vec<u8>>) {
    let mut buffer = [0; KEPT];
    while let Ok(read @ 1..) = stderr.read(&mut buffer).await {
        let mut said = said.borrow_mut();
        said.extend_from_slice(&buffer[..read]);
        let over = said.len().saturating_sub(KEPT);
        said.drain(..over);
    }
}

fn last_line(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let line = text.lines().rev().find(|line| !line.trim().is_empty());
    line.unwrap_or_default()
        .trim()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(SHOWN)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How a shell's script ends.
    fn ended(script: &str, most: Duration) -> Result<Ended, Unended> {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(script);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.expect("a runtime needs no more than this process has");
        runtime.block_on(run(command, most))
    }

    const LONG: Duration = Duration::from_secs(300);

    #[test]
    fn one_that_says_much_is_listened_to_to_the_end() {
        // More than a pipe holds, which is 64 KiB.
        let much =
            "head -c 300000 /dev/zero | tr '\\0' 'x' >&2; echo >&2; echo the end >&2; exit 1";
        let ended = ended(much, LONG).expect("it ends");
        assert_eq!(
            (ended.status.code(), ended.said.as_str()),
            (Some(1), "the end")
        );
    }

    #[test]
    fn what_it_leaves_behind_is_not_waited_for() {
        // The child holds the pipe for longer than the test may run.
        let pid = tempfile::NamedTempFile::new().expect("the temporary folder can be written");
        let left = format!("sleep 600 & echo $! >{}; exit 0", pid.path().display());
        assert!(ended(&left, LONG).is_ok_and(|ended| ended.status.success()));
        let child = std::fs::read_to_string(pid.path()).expect("it was written");
        let child = Pid::from_raw(child.trim().parse().expect("the shell says a number"));
        nix::sys::signal::kill(child, Signal::SIGKILL).expect("it still runs");
    }

    #[test]
    fn one_that_does_not_end_is_ended_with_its_children() {
        let folder = tempfile::tempdir().expect("the temporary folder can be written");
        let lock = folder.path().join("lock");
        // The child holds the lock as long as it lives.
        let hangs = format!("exec 9>{}; flock 9; sleep 600; true", lock.display());
        let late = ended(&hangs, Duration::from_millis(500));
        assert!(matches!(late, Err(Unended::Late)), "{late:?}");
        let free = std::process::Command::new("flock")
            .args(["--timeout", "60"])
            .arg(&lock)
            .arg("true")
            .status();
        assert!(free.expect("there is a flock").success());
    }
}
