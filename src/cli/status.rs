//! `monopod status`: how the workload is, on one screen.

use std::io::{IsTerminal, Write, stdout};
use std::time::Duration;

use clap::Args;

use super::control::{ask, told};
use super::{block_on, complain, table};
use crate::core::health::Verdict;
use crate::daemon::{ContainerStatus, Status};
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
                Ok(text) => print(&text, show.json),
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
            print!("\x1b[H\x1b[2J");
        }
        match client.status().await {
            Ok(text) => {
                print(&text, json);
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

fn print(text: &str, json: bool) -> Exit {
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
        println!("{text}");
    } else {
        render(&status);
    }
    if status.verdict == Verdict::Healthy {
        Exit::Done
    } else {
        Exit::Unhealthy
    }
}

fn render(status: &Status) {
    let colour =
        stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    println!("{}: {}", status.workload, verdict(status.verdict, colour));
    let mut rows = vec![
        [
            "CONTAINER",
            "STATE",
            "VERDICT",
            "SINCE",
            "RESTARTS",
            "IMAGE",
            "IMAGE ID",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    for (role, container) in &status.containers {
        rows.push(vec![
            role.to_string(),
            container.state.clone(),
            verdict(container.verdict, false),
            container.since.clone(),
            container.restarts.to_string(),
            container.image.clone(),
            container
                .image_id
                .as_deref()
                .map_or_else(|| "-".to_owned(), table::short),
        ]);
    }
    table::print(&rows);
    for (role, container) in &status.containers {
        for line in details(container) {
            println!("{role}: {line}");
        }
    }
    let rung = match status.ladder.as_str() {
        "foot" => "at its foot, nothing to heal".to_owned(),
        "restart" => "restarting containers".to_owned(),
        "recreate" => "recreating containers".to_owned(),
        "withhold" => "the watchdog is withheld, systemd will restart monopod".to_owned(),
        "safe-state" => {
            "used up: safe state. monopod stays up and keeps trying; mend the cause, then: monopod restart".to_owned()
        }
        other => other.to_owned(),
    };
    let withheld = match status.withheld {
        0 => String::new(),
        u32::MAX => "; its budgets count as spent, because the ledger was damaged".to_owned(),
        count => {
            format!("; the watchdog was withheld {count} times since the workload was last stable")
        }
    };
    println!("ladder: {rung}{withheld}");
    if status.engine == crate::daemon::EngineStatus::Silent {
        println!("engine: does not answer; nothing is concluded from that");
    }
    if let Some(deadline) = &status.deadline {
        println!("next: {deadline}");
    }
}

fn details(container: &ContainerStatus) -> Vec<String> {
    let answer = container
        .last
        .as_ref()
        .map(|last| format!("last answer {}: {}", last.time, last.text));
    answer.into_iter().chain(container.note.clone()).collect()
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
