//! `monopod logs`: what the containers themselves have said, through the engine, whatever their log driver.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::oneshot;
use tz::TimeZone;

use super::feed::engine;
use super::{block_on, complain, hint, since, when};
use crate::core::api::{Fault, Seen};
use crate::engine::{self, Docker, Engine as _, LogRange};
use crate::exit::Exit;
use crate::paths::Paths;
use crate::spec;
use crate::spec::host::ThisHost;
use crate::spec::types::Node;

mod lines;
mod screen;

use lines::{Lines, Shown};
use screen::Screen;

const EXAMPLES: &str = "\
Examples:
  monopod logs                    everything that the containers have said, in the order of time
  monopod logs -f                 the last lines, and then what comes, until Ctrl-C
  monopod logs app -n 50
  monopod logs --since 10m
  monopod logs --since \"2026-11-22 10:00\" --json | jq -r .text

Without a zone, a time is this machine's. -f goes on when a container is restarted or made anew. What
the engine keeps of a container's log goes with the container; where the log driver is journald, the
journal keeps it: journalctl CONTAINER_NAME=WORKLOAD-NAME. What monopod itself did: journalctl -u monopod.

Exit codes: 0 done, 1 no such container or a log that cannot be read, 2 wrong usage, 5 no engine.";

/// Lines with which -f begins, unless it is told otherwise.
const FIRST_LINES: u32 = 10;

/// Arguments of `monopod logs`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Logs {
    /// Only this container, by its name in the workload file
    name: Option<String>,
    /// Go on with what comes
    #[arg(short, long)]
    follow: bool,
    /// Only the last N lines of each container [default: all; with --follow 10]
    #[arg(short = 'n', long, value_name = "N")]
    lines: Option<u32>,
    /// Only what came after this: 10m, 2h, today, 10:00, \"2026-11-22 10:00\"
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,
    /// Show when each line came, in UTC
    #[arg(short, long)]
    timestamps: bool,
    /// Print a JSON object a line: container, time, stream, text
    #[arg(long)]
    json: bool,
}

/// What is shown, of whom, from when on.
struct Wanted<'a> {
    node: &'a str,
    name: Option<&'a str>,
    range: LogRange,
}

/// Shows them.
pub fn run(paths: &Paths, logs: &Logs) -> Exit {
    let now = when::now();
    let since = match logs
        .since
        .as_deref()
        .map(|text| moment(text, now))
        .transpose()
    {
        Ok(since) => since,
        Err(text) => {
            complain(format_args!("{text:?} is no time that monopod understands"));
            hint(since::FORMS);
            return Exit::Usage;
        }
    };
    let node = match node(paths) {
        Ok(node) => node,
        Err((exit, text)) => {
            complain(text);
            return exit;
        }
    };
    if let Some(exit) = kept_out(&node) {
        return exit;
    }
    let engine = match engine(&node) {
        Ok(engine) => engine,
        Err((exit, text)) => {
            complain(text);
            return exit;
        }
    };
    if let Some(exit) = unknown_name(paths, logs.name.as_deref()) {
        return exit;
    }
    let root = paths.root().display().to_string();
    let first = (logs.follow && since.is_none()).then_some(FIRST_LINES);
    let wanted = Wanted {
        node: &root,
        name: logs.name.as_deref(),
        range: LogRange {
            since,
            tail: logs.lines.or(first),
            follow: false,
        },
    };
    let begun = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let begun = u64::try_from(begun.as_nanos()).unwrap_or_default();
    let mut screen = Screen::new(logs.json, logs.timestamps, logs.name.is_none());
    block_on(async {
        let work = async {
            let (shown, exit) = match history(&engine, &wanted, &mut screen).await {
                Ok(done) => done,
                Err(exit) => return exit,
            };
            if logs.follow {
                lines::follow(engine.clone(), &wanted, shown, begun, &mut screen).await
            } else {
                exit
            }
        };
        tokio::select! {
            exit = work => exit,
            _ = tokio::signal::ctrl_c() => Exit::Done,
            () = reader_gone() => Exit::Done,
        }
    })
}

fn moment(text: &str, now: u64) -> Result<u32, &str> {
    let zone = TimeZone::local().unwrap_or_else(|_| TimeZone::utc());
    i64::try_from(now)
        .ok()
        .and_then(|now| since::moment(text, now, &zone))
        .and_then(|at| u32::try_from(at).ok())
        .ok_or(text)
}

/// The node file; the usual values for whoever may speak to the engine and not read the file.
fn node(paths: &Paths) -> Result<Node, (Exit, String)> {
    let hidden = std::fs::metadata(paths.node())
        .and_then(|_| std::fs::File::open(paths.node()))
        .is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
    if hidden {
        return Ok(Node::default());
    }
    super::feed::node(paths)
}

/// Says so if the engine's socket is not for this user.
fn kept_out(node: &Node) -> Option<Exit> {
    let host = std::env::var("DOCKER_HOST").ok();
    let socket = engine::socket(node, host.as_deref()).ok()?;
    let error = std::os::unix::net::UnixStream::connect(&socket).err()?;
    (error.kind() == io::ErrorKind::PermissionDenied).then(|| {
        complain(format_args!(
            "this user may not speak to the engine at {}, which has the logs",
            Path::display(&socket)
        ));
        hint("try again as root, or as a member of the group docker");
        Exit::Unreachable
    })
}

/// Says so if the workload file can be read and has no such container.
fn unknown_name(paths: &Paths, name: Option<&str>) -> Option<Exit> {
    let name = name?;
    // An invalid file is for `monopod check`; the containers of the last valid one are there all the same.
    let workload = spec::load(paths, &ThisHost::default()).ok()?.value;
    let names: Vec<&str> = workload
        .containers
        .iter()
        .map(|container| container.name.as_str())
        .collect();
    (!names.contains(&name)).then(|| {
        complain(format_args!(
            "the workload has no container named {name}; it has {}",
            names.join(" and ")
        ));
        Exit::Failed
    })
}

/// Ends when nobody reads standard output any more; never where that cannot be known.
async fn reader_gone() {
    let (tell, told) = oneshot::channel();
    // A thread, since a file cannot be waited for otherwise. It ends with the process.
    std::thread::spawn(move || {
        let output = io::stdout();
        let mut wanted = [PollFd::new(output.as_fd(), PollFlags::empty())];
        // A signal interrupts it.
        while poll(&mut wanted, PollTimeout::NONE) == Err(Errno::EINTR) {}
        let seen = wanted[0].revents().unwrap_or(PollFlags::empty());
        if seen.contains(PollFlags::POLLERR) {
            // Whoever waits for it may be gone.
            let _ = tell.send(());
        }
    });
    if told.await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Shows what there is so far, in the order of time. Returns how far each container was shown.
async fn history(
    engine: &Docker,
    wanted: &Wanted<'_>,
    screen: &mut Screen,
) -> Result<(BTreeMap<String, Shown>, Exit), Exit> {
    let seen = match engine.containers(wanted.node, wanted.name).await {
        Ok(seen) => seen,
        Err(fault) => return Err(failed(&fault)),
    };
    if seen.is_empty() {
        let whose = wanted.name.unwrap_or("the workload");
        complain(format_args!("there is no container of {whose} so far"));
        hint("why it was not made: monopod status");
    }
    let mut exit = if seen.is_empty() {
        Exit::Failed
    } else {
        Exit::Done
    };
    let mut shown = BTreeMap::new();
    let mut heads = Vec::new();
    for Seen { role, id, .. } in seen {
        let role = role.to_string();
        screen.widen(&role);
        let mut lines = Lines::new(engine.logs(&id, wanted.range));
        shown.insert(role.clone(), Shown::of(id, wanted.range.tail.is_none()));
        match lines.next().await {
            Ok(Some(line)) => heads.push((role, line, lines)),
            Ok(None) => {}
            Err(fault) => exit = untold(&role, &fault),
        }
    }
    while let Some(first) = heads
        .iter()
        .enumerate()
        .min_by_key(|(_, (_, line, _))| line.nanos)
        .map(|(index, _)| index)
    {
        let (role, line, lines) = &mut heads[first];
        if screen.show(role, line).is_err() {
            return Err(Exit::Done);
        }
        if let Some(shown) = shown.get_mut(role) {
            shown.count(line.nanos);
        }
        match lines.next().await {
            Ok(Some(next)) => *line = next,
            Ok(None) => drop(heads.remove(first)),
            Err(fault) => {
                exit = untold(role, &fault);
                heads.remove(first);
            }
        }
    }
    if screen.flush().is_err() {
        return Err(Exit::Done);
    }
    Ok((shown, exit))
}

/// Says that the engine has not done what was asked.
fn failed(fault: &Fault) -> Exit {
    let (Fault::NoAnswer(text)
    | Fault::NotFound(text)
    | Fault::Conflict(text)
    | Fault::ImageMissing(text)
    | Fault::Refused(text)) = fault;
    complain(text);
    match fault {
        Fault::NoAnswer(_) => {
            hint("look at the engine: systemctl status docker");
            Exit::Unreachable
        }
        Fault::NotFound(_) | Fault::Conflict(_) | Fault::ImageMissing(_) | Fault::Refused(_) => {
            Exit::Failed
        }
    }
}

/// Says that a container's log cannot be read, and why.
fn untold(role: &str, fault: &Fault) -> Exit {
    match fault {
        Fault::Refused(text) => {
            complain(format_args!("{role}: {text}"));
            Exit::Failed
        }
        Fault::NotFound(_) => {
            complain(format_args!(
                "{role}: its container was removed in the meantime; try again"
            ));
            Exit::Failed
        }
        Fault::NoAnswer(_) | Fault::Conflict(_) | Fault::ImageMissing(_) => failed(fault),
    }
}
