//! `monopod status`: how the workload is, on one screen.

use std::io::{IsTerminal, Write, stdout};
use std::time::Duration;

use clap::Args;

use super::control::{ask, told};
use super::{block_on, complain, hint, print, table, when};
use crate::core::health::Verdict;
use crate::daemon::{AnswerKind, ContainerStatus, EngineStatus, Status};
use crate::exit::Exit;
use crate::systemd::BusAddress;
use crate::systemd::client::{Change, Client};

/// How long a watcher waits for the daemon to come back before it looks again.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

const EXAMPLES: &str = "\
Examples:
  monopod status
  monopod status --watch        until Ctrl-C, whenever something changes
  monopod status --json | jq .verdict

Exit codes: 0 healthy, 5 no daemon, 6 starting, unhealthy or unknown.";

/// Arguments of `monopod status`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Show {
    /// Show it anew whenever something changes
    #[arg(long)]
    watch: bool,
    /// Print it as JSON, a line each time
    #[arg(long)]
    json: bool,
}

/// Shows.
pub fn run(show: &Show) -> Exit {
    block_on(async {
        if show.watch {
            watch(show.json).await
        } else {
            match ask(async |client| client.status().await).await {
                Ok(text) => show_one(&text, show.json),
                Err(exit) => exit,
            }
        }
    })
}

async fn watch(json: bool) -> Exit {
    let client = match Client::connect(&BusAddress::system()).await {
        Ok(client) => client,
        Err(error) => return told(&error),
    };
    let mut changes = match client.changes().await {
        Ok(changes) => changes,
        Err(error) => return told(&error),
    };
    let clear = !json && stdout().is_terminal();
    loop {
        if clear {
            // Home, and clear from there on.
            let _ = write!(stdout(), "\x1b[H\x1b[2J");
        }
        match client.status().await {
            Ok(text) => {
                show_one(&text, json);
            }
            Err(error) => {
                told(&error);
            }
        }
        if stdout().flush().is_err() {
            return Exit::Done;
        }
        match changes.next().await {
            Some(Change::Status(_)) => {}
            Some(Change::Gone) => tokio::time::sleep(LOOK_AGAIN).await,
            None => {
                complain("the bus is gone");
                return Exit::Unreachable;
            }
        }
    }
}

fn show_one(text: &str, json: bool) -> Exit {
    let status: Status = match serde_json::from_str(text) {
        Ok(status) => status,
        Err(error) => {
            complain(format_args!(
                "the daemon's answer is not understood ({error}); is it of another version?"
            ));
            return Exit::Failed;
        }
    };
    if json {
        print(text);
    } else {
        let colour = super::colour(stdout().is_terminal());
        for line in lines(&status, when::now(), colour) {
            print(line);
        }
        if let Some(text) = next_step(&status) {
            hint(text);
        }
    }
    if status.verdict == Verdict::Healthy {
        Exit::Done
    } else {
        Exit::Unhealthy
    }
}

/// The screen; `now` in seconds since 1970.
fn lines(status: &Status, now: u64, colour: bool) -> Vec<String> {
    let mut screen = vec![format!(
        "{}: {}{}",
        status.workload,
        verdict(status.verdict, colour),
        status
            .release
            .as_ref()
            .map(|id| format!(", release {id}"))
            .unwrap_or_default()
    )];
    let head = [
        "CONTAINER",
        "STATE",
        "FOR",
        "VERDICT",
        "RESTARTS",
        "IMAGE",
        "IMAGE ID",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(status.containers.iter().map(|(role, container)| {
        let id = container.image_id.as_deref();
        vec![
            role.to_string(),
            container.state.clone(),
            when::lasted(&container.since, now),
            verdict(container.verdict, false),
            container.restarts.to_string(),
            container.image.clone(),
            id.map_or_else(|| "-".to_owned(), table::short),
        ]
    }));
    screen.extend(table::lines(&rows));
    for (role, container) in &status.containers {
        screen.extend(
            details(container, now)
                .into_iter()
                .map(|line| format!("{role}: {line}")),
        );
    }
    screen.push(format!("ladder: {}", ladder(status)));
    if let Some(why) = &status.reload_error {
        screen.push(format!(
            "files: refused, those before them are in force: {why}"
        ));
    }
    screen.extend(
        status
            .store_damaged
            .iter()
            .map(|line| format!("store: {line}")),
    );
    if status.engine == EngineStatus::Silent {
        screen.push("engine: does not answer; nothing is concluded from that".to_owned());
    }
    if let Some(text) = &status.medium {
        screen.push(format!("stick: {text}"));
    }
    let told = |deadline: &String| {
        let mut containers = status.containers.values();
        containers.any(|container| container.next.as_ref() == Some(deadline))
    };
    if let Some(deadline) = &status.deadline
        && !told(deadline)
    {
        screen.push(format!("next: {}", when::future(deadline, now)));
    }
    screen
}

/// Since when, what it answered, what is wrong with it, and when something is due.
fn details(container: &ContainerStatus, now: u64) -> Vec<String> {
    let mut lines = vec![format!(
        "{} since {}",
        container.state,
        when::past(&container.since, now)
    )];
    if let Some(last) = &container.last {
        let kind = match last.answer {
            AnswerKind::Pass => "good",
            AnswerKind::Fail => "bad",
            AnswerKind::CannotAsk => "nobody could ask",
        };
        let time = when::past(&last.time, now);
        lines.push(format!("last answer {time}, {kind}: {}", last.text));
    }
    let answered = container.last.as_ref().map(|last| &last.text);
    if let Some(note) = &container.note
        && answered != Some(note)
    {
        lines.push(note.clone());
    }
    if let Some(next) = &container.next {
        let what = match container.state.as_str() {
            "running" => "next question",
            "backoff" => "next attempt",
            _ => "next look",
        };
        lines.push(format!("{what} {}", when::future(next, now)));
    }
    lines
}

fn ladder(status: &Status) -> String {
    let rung = match status.ladder.as_str() {
        "foot" => "at its foot, nothing to heal",
        "restart" => "restarting containers",
        "recreate" => "recreating containers",
        "rebuild" => "rebuilding a container's image from the store",
        "engine-restart" => "restarting the engine",
        "reboot" => "the node is about to be rebooted",
        "withhold" => "the watchdog is withheld, systemd will restart monopod",
        "safe-state" => "used up: safe state; monopod stays up and keeps trying",
        other => other,
    };
    match status.withheld {
        0 => rung.to_owned(),
        u32::MAX => format!("{rung}; its budgets count as spent, because the ledger was damaged"),
        1 => format!("{rung}; the watchdog was withheld once since the workload was last stable"),
        count => format!(
            "{rung}; the watchdog was withheld {count} times since the workload was last stable"
        ),
    }
}

/// What whoever reads this does next, if not all is well.
fn next_step(status: &Status) -> Option<String> {
    if status.engine == EngineStatus::Silent {
        return Some("look at the engine: systemctl status docker".to_owned());
    }
    if status.reload_error.is_some() {
        return Some("mend the files (monopod check), then: systemctl reload monopod".to_owned());
    }
    if status.ladder == "safe-state" {
        return Some("mend the cause, then: monopod restart".to_owned());
    }
    let (role, sick) = status
        .containers
        .iter()
        .find(|(_, container)| container.verdict == status.verdict)?;
    match sick.verdict {
        Verdict::Healthy => None,
        Verdict::Starting => Some("monopod status --watch shows how it comes up".to_owned()),
        Verdict::Unknown => Some("the daemon's own words: journalctl -u monopod".to_owned()),
        Verdict::Unhealthy if ["stopping", "created", "exited"].contains(&sick.state.as_str()) => {
            Some("monopod status --watch shows how it goes on".to_owned())
        }
        // What was never made has said nothing itself, and its note says what it lacks.
        Verdict::Unhealthy if sick.id.is_none() => None,
        Verdict::Unhealthy => Some(format!(
            "what it said itself: monopod logs {role}; to try at once: monopod restart {role}"
        )),
    }
}

fn verdict(verdict: Verdict, colour: bool) -> String {
    let (word, code) = match verdict {
        Verdict::Starting => ("Starting", "33"),
        Verdict::Healthy => ("Healthy", "32"),
        Verdict::Unhealthy => ("Unhealthy", "31"),
        Verdict::Unknown => ("Unknown", "35"),
    };
    if colour {
        format!("\x1b[{code}m{word}\x1b[0m")
    } else {
        word.to_owned()
    }
}
