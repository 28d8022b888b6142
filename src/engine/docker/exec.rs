//! Running a program in a container, and ending it for good when its time is up.
//!
//! The engine has no call that ends an exec: closing its stream leaves the
//! program running. So its process is killed from the host, and only after it
//! is shown to be in the container's own process namespace. Where that cannot be
//! shown (the engine hangs, or runs in another process namespace than monopod)
//! the program is left alone and lives until it or its container ends.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use bollard::Docker as Client;
use bollard::exec::{CreateExecOptions, StartExecResults};
use futures_util::StreamExt;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, timeout, timeout_at};

use super::super::Executed;
use super::fault::{fault, late, status};
use crate::core::api::Fault;

/// Output beyond this is read and dropped, bytes.
const OUTPUT: usize = 4096;

/// What the engine has to tell about a program whose time is up: an engine that hangs must not pass for one.
const CUT_OFF: Duration = Duration::from_secs(2);

/// Between the end of a program's output and that of the program, as the engine knows it.
const SETTLE: Duration = Duration::from_millis(10);

/// Runs `argv` in a container until `limit`.
pub(super) async fn exec(
    client: &Client,
    container: &str,
    argv: &[String],
    limit: Instant,
) -> Result<Executed, Fault> {
    let options = CreateExecOptions {
        cmd: Some(argv.to_vec()),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        ..CreateExecOptions::default()
    };
    let id = match timeout_at(limit, client.create_exec(container, options)).await {
        Ok(Ok(created)) => created.id,
        // Not running, or paused.
        Ok(Err(error)) if status(&error) == Some(409) => {
            return Err(match fault(error) {
                Fault::Refused(message) => Fault::NotFound(message),
                other => other,
            });
        }
        Ok(Err(error)) => return Err(fault(error)),
        Err(_) => return Err(late()),
    };
    let mut leash = Leash {
        client,
        exec: id,
        held: true,
    };
    let mut output = Vec::new();
    let ran = timeout_at(limit, run(client, &leash.exec, &mut output)).await;
    leash.held = false;
    let code = match ran {
        Ok(code) => code?,
        Err(_) => match timeout(CUT_OFF, cut_off(client, &leash.exec)).await {
            Ok(ended) => ended?.unwrap_or(Executed::CUT_OFF),
            Err(_) => return Err(late()),
        },
    };
    Ok(Executed {
        code,
        output: String::from_utf8_lossy(&output).into_owned(),
    })
}

/// Starts an exec and waits for its end.
async fn run(client: &Client, exec: &str, output: &mut Vec<u8>) -> Result<i64, Fault> {
    let started = client.start_exec(exec, None).await.map_err(fault)?;
    if let StartExecResults::Attached {
        output: mut pieces, ..
    } = started
    {
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(fault)?.into_bytes();
            let room = OUTPUT.saturating_sub(output.len()).min(piece.len());
            output.extend_from_slice(&piece[..room]);
        }
    }
    loop {
        let state = client.inspect_exec(exec).await.map_err(fault)?;
        match (state.running, state.exit_code) {
            (Some(false), Some(code)) => return Ok(code),
            (Some(false), None) => {
                return Err(Fault::Refused(
                    "the engine does not say how the program ended".to_owned(),
                ));
            }
            _ => tokio::time::sleep(SETTLE).await,
        }
    }
}

/// Cuts the program off if the future that waits for it is dropped.
struct Leash<'a> {
    client: &'a Client,
    exec: String,
    held: bool,
}

impl Drop for Leash<'_> {
    fn drop(&mut self) {
        // Without a runtime the whole daemon is on its way out.
        if let (true, Ok(runtime)) = (self.held, tokio::runtime::Handle::try_current()) {
            let (client, exec) = (self.client.clone(), std::mem::take(&mut self.exec));
            runtime.spawn(async move {
                // Nobody waits for it any more, so nobody is told.
                let _ = timeout(CUT_OFF, cut_off(&client, &exec)).await;
            });
        }
    }
}

/// Ends an exec's program. Its exit code if it has ended by itself.
async fn cut_off(client: &Client, exec: &str) -> Result<Option<i64>, Fault> {
    let state = client.inspect_exec(exec).await.map_err(fault)?;
    if state.running != Some(true) {
        return Ok(state.exit_code);
    }
    let container = state.container_id.unwrap_or_default();
    let inspected = match client.inspect_container(&container, None).await {
        Ok(inspected) => inspected,
        // Then the program is gone with it.
        Err(error) if status(&error) == Some(404) => return Ok(None),
        Err(error) => return Err(fault(error)),
    };
    let init = inspected.state.and_then(|state| state.pid);
    if let (Some(pid), Some(init)) = (process(state.pid), process(init)) {
        kill_tree(pid, init);
    }
    Ok(None)
}

/// A real process, no group and not the host's first.
fn process(pid: Option<i64>) -> Option<Pid> {
    i32::try_from(pid?)
        .ok()
        .filter(|pid| *pid > 1)
        .map(Pid::from_raw)
}

/// Kills a process and what it has started, if it is in the namespace of `init` and not in ours.
fn kill_tree(pid: Pid, init: Pid) {
    let namespace = |of: &str| fs::read_link(PathBuf::from(format!("/proc/{of}/ns/pid"))).ok();
    let theirs = namespace(&init.to_string());
    let (Some(theirs), Some(its), Some(ours)) =
        (theirs, namespace(&pid.to_string()), namespace("self"))
    else {
        return;
    };
    if pid == init || its != theirs || theirs == ours {
        return;
    }
    let mut family = vec![pid];
    let mut next = 0;
    while let Some(member) = family.get(next).copied() {
        next += 1;
        // One that is stopped has no more children. That it has ended meanwhile is what is wanted.
        let _ = kill(member, Signal::SIGSTOP);
        family.extend(children(member));
    }
    for member in family {
        let _ = kill(member, Signal::SIGKILL);
    }
}

fn children(pid: Pid) -> Vec<Pid> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    let lists = threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| {
            list.split_ascii_whitespace()
                .filter_map(|pid| process(pid.parse().ok()))
                .collect::<Vec<_>>()
        })
        .collect()
}
