//! Running a program in a container, and ending it for good when its time is up.
//!
//! The engine has no call that ends an exec: closing its stream leaves the
//! program running. So its process is killed from the host, and only after it
//! is shown to be in the container's own process namespace. Where that cannot be
//! shown (the engine hangs, or runs in another process namespace than monopod) or
//! monopod is not root, the program is left alone and lives until it or its
//! container ends. As long as it does, no other one is started beside it: a check
//! that hangs must not fill the container.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bollard::errors::Error;
use bollard::exec::{CreateExecOptions, StartExecResults};
use futures_util::StreamExt;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, timeout, timeout_at};

use super::super::Executed;
use super::answers::Exec;
use super::client::{Client, escaped};
use super::fault::{fault, late, status};
use super::inspect;
use crate::core::api::Fault;

/// Output beyond this is read and dropped, bytes.
const OUTPUT: usize = 4096;

/// What the engine has to tell about a program whose time is up: an engine that hangs must not pass for one.
const CUT_OFF: Duration = Duration::from_secs(2);

/// Between the end of a program's output and that of the program, as the engine knows it.
const SETTLE: Duration = Duration::from_millis(10);

/// Programs whose time was up and that were left alone: container and exec, the last of each container.
#[derive(Debug, Default)]
pub(super) struct Stragglers(Mutex<Vec<(String, String)>>);

impl Stragglers {
    /// As many as a workload has containers: what a removed one has left goes first.
    const MOST: usize = 2;

    fn list(&self) -> MutexGuard<'_, Vec<(String, String)>> {
        // Nobody panics with it; and whatever is in it is asked about before it counts.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, container: &str) -> Option<String> {
        let list = self.list();
        let (_, exec) = list.iter().find(|(of, _)| of == container)?;
        Some(exec.clone())
    }

    fn forget(&self, container: &str) {
        self.list().retain(|(of, _)| of != container);
    }

    fn remember(&self, container: String, exec: &str) {
        let mut list = self.list();
        list.retain(|(of, _)| *of != container);
        if list.len() >= Self::MOST {
            list.remove(0);
        }
        list.push((container, exec.to_owned()));
    }
}

/// Runs `argv` in a container until `limit`. If the last program there was left alone and still
/// runs, that is the answer instead.
pub(super) async fn exec(
    client: &Client,
    stragglers: &Arc<Stragglers>,
    container: &str,
    argv: &[String],
    limit: Instant,
) -> Result<Executed, Fault> {
    if let Some(earlier) = stragglers.of(container) {
        match timeout_at(limit, look_at(client, &earlier)).await {
            Ok(Ok(state)) if state.running == Some(true) => {
                return Ok(Executed {
                    code: Executed::CUT_OFF,
                    output: "the program of an earlier time still runs".to_owned(),
                });
            }
            Ok(Ok(_)) => stragglers.forget(container),
            Ok(Err(error)) if status(&error) == Some(404) => stragglers.forget(container),
            Ok(Err(error)) => return Err(fault(error)),
            Err(_) => return Err(late()),
        }
    }
    let options = CreateExecOptions {
        cmd: Some(argv.to_vec()),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        ..CreateExecOptions::default()
    };
    let id = match timeout_at(limit, client.bollard.create_exec(container, options)).await {
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
        stragglers,
        exec: id,
        held: true,
    };
    let mut output = Vec::new();
    let ran = timeout_at(limit, run(client, &leash.exec, &mut output)).await;
    leash.held = false;
    let code = match ran {
        Ok(code) => code?,
        Err(_) => match timeout(CUT_OFF, cut_off(client, stragglers, &leash.exec)).await {
            Ok(ended) => ended?.unwrap_or(Executed::CUT_OFF),
            Err(_) => return Err(late()),
        },
    };
    Ok(Executed {
        code,
        output: String::from_utf8_lossy(&output).into_owned(),
    })
}

/// How an exec does.
async fn look_at(client: &Client, exec: &str) -> Result<Exec, Error> {
    client.get(&format!("/exec/{}/json", escaped(exec))).await
}

/// Starts an exec and waits for its end.
async fn run(client: &Client, exec: &str, output: &mut Vec<u8>) -> Result<i64, Fault> {
    let started = client.bollard.start_exec(exec, None).await.map_err(fault)?;
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
        let state = look_at(client, exec).await.map_err(fault)?;
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
    stragglers: &'a Arc<Stragglers>,
    exec: String,
    held: bool,
}

impl Drop for Leash<'_> {
    fn drop(&mut self) {
        // Without a runtime the whole daemon is on its way out.
        if let (true, Ok(runtime)) = (self.held, tokio::runtime::Handle::try_current()) {
            let (client, exec) = (self.client.clone(), std::mem::take(&mut self.exec));
            let stragglers = Arc::clone(self.stragglers);
            runtime.spawn(async move {
                // Nobody waits for it any more, so nobody is told.
                let _ = timeout(CUT_OFF, cut_off(&client, &stragglers, &exec)).await;
            });
        }
    }
}

/// Ends an exec's program, or remembers it. Its exit code if it has ended by itself.
async fn cut_off(
    client: &Client,
    stragglers: &Stragglers,
    exec: &str,
) -> Result<Option<i64>, Fault> {
    // Between the request to start it and its process, an exec is neither to be killed nor over.
    let state = loop {
        let state = look_at(client, exec).await.map_err(fault)?;
        match state.running {
            Some(true) if process(state.pid).is_some() => break state,
            Some(false) | None if state.exit_code.is_some() => return Ok(state.exit_code),
            Some(_) | None => tokio::time::sleep(SETTLE).await,
        }
    };
    let container = state.container_id.unwrap_or_default();
    let inspected = match inspect::inspect(client, &container).await {
        Ok(inspected) => inspected,
        // Then the program is gone with it.
        Err(error) if status(&error) == Some(404) => return Ok(None),
        Err(error) => return Err(fault(error)),
    };
    let init = inspected.state.and_then(|state| state.pid);
    let killed = match (process(state.pid), process(init)) {
        (Some(pid), Some(init)) => kill_tree(pid, init),
        _ => false,
    };
    if !killed {
        stragglers.remember(container, exec);
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

/// Kills a process and what it has started, if it is in the namespace of `init` and not in ours; says
/// whether it did.
fn kill_tree(pid: Pid, init: Pid) -> bool {
    let namespace = |of: &str| fs::read_link(PathBuf::from(format!("/proc/{of}/ns/pid"))).ok();
    let theirs = namespace(&init.to_string());
    let (Some(theirs), Some(its), Some(ours)) =
        (theirs, namespace(&pid.to_string()), namespace("self"))
    else {
        return false;
    };
    if pid == init || its != theirs || theirs == ours {
        return false;
    }
    let mut family = vec![pid];
    let mut next = 0;
    while let Some(member) = family.get(next).copied() {
        next += 1;
        // One that is stopped has no more children. That it has ended meanwhile is what is wanted.
        let _ = kill(member, Signal::SIGSTOP);
        family.extend(children(member));
    }
    let mut killed = true;
    for member in family {
        killed &= kill(member, Signal::SIGKILL) != Err(nix::Error::EPERM);
    }
    killed
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
