//! `monopod plan`, `monopod reload` and `monopod restart`: what is asked of the daemon over the bus.

use clap::Args;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{block_on, check, complain, note, print};
use crate::core::supervisor::{Step, StepKind};
use crate::exit::Exit;
use crate::paths::Paths;
use crate::systemd::BusAddress;
use crate::systemd::client::{Client, ClientError, Refusal};

const PLAN_EXAMPLES: &str = "\
Examples:
  monopod plan          after a change of the files, before systemctl reload monopod
  monopod plan --json

Exit codes: 0 done, 3 a file is invalid (monopod check shows it in full), 5 no daemon.";

/// Arguments of `monopod plan`.
#[derive(Debug, Args)]
#[command(after_help = PLAN_EXAMPLES)]
pub struct Plan {
    /// Print the plan as a JSON list
    #[arg(long)]
    json: bool,
}

const RELOAD_EXAMPLES: &str = "\
Examples:
  monopod reload               after a change of the files; monopod plan shows what it would do
  systemctl reload monopod     the same, and the limits of [slice] in node.toml

What changed is put in force with as little interruption as the change allows. If a file is invalid, the
files in force stay in force, and monopod status says so too.
Exit codes: 0 in force, 1 refused, 3 a file is invalid, 5 no daemon.";

/// Arguments of `monopod reload`.
#[derive(Debug, Args)]
#[command(after_help = RELOAD_EXAMPLES)]
pub struct Reload {}

const RESTART_EXAMPLES: &str = "\
Examples:
  monopod restart          every container, dependencies in order
  monopod restart app      one of them

It returns when the daemon has taken the request; monopod status --watch shows the rest.
Exit codes: 0 taken, 1 no such container, 5 no daemon.";

/// Arguments of `monopod restart`.
#[derive(Debug, Args)]
#[command(after_help = RESTART_EXAMPLES)]
pub struct Restart {
    /// The container's name in the workload file
    name: Option<String>,
}

/// Shows what a reload would do.
pub fn plan(plan: &Plan) -> Exit {
    block_on(async {
        let text = match ask(async |client| client.plan().await).await {
            Ok(text) => text,
            Err(exit) => return exit,
        };
        if plan.json {
            print(text);
            return Exit::Done;
        }
        match serde_json::from_str::<Vec<Step>>(&text) {
            Ok(steps) => {
                for step in &steps {
                    print(line(step));
                }
                if steps.iter().any(|step| step.kind != StepKind::Keep) {
                    note("nothing has been changed; systemctl reload monopod does it");
                }
                Exit::Done
            }
            Err(error) => {
                complain(format_args!(
                    "the daemon's answer is not understood ({error}); is it of another version?"
                ));
                Exit::Failed
            }
        }
    })
}

fn line(step: &Step) -> String {
    let role = &step.role;
    match &step.kind {
        StepKind::Keep => format!("{role}: nothing changes"),
        StepKind::Adjust => {
            format!("{role}: runs on; its health question, grace period or order changes")
        }
        StepKind::Create => format!("{role}: would be made and started"),
        StepKind::Recreate(why) => {
            format!("{role}: would be stopped, removed and made again: {why}")
        }
        StepKind::Remove => format!("{role}: would be stopped and removed"),
    }
}

/// Has the daemon read its files again. It is asked even if they are invalid: it tells everyone so.
pub fn reload(paths: &Paths) -> Exit {
    let checked = check::complaints(paths);
    block_on(async {
        let asked = match Client::connect(&BusAddress::system()).await {
            Ok(client) => client.reload().await,
            Err(error) => Err(error),
        };
        match asked {
            Ok(()) => Exit::Done,
            // It has been said in full.
            Err(ClientError::Refused(Refusal::Invalid, _)) if checked == Exit::Invalid => checked,
            Err(ClientError::NoBus(..) | ClientError::NoDaemon) if signalled() => {
                note(
                    "the daemon was told by a signal, since there is no bus: its journal has the outcome",
                );
                checked
            }
            Err(error) => told(&error),
        }
    })
}

/// Tells the daemon without the bus, where systemd says who it is.
fn signalled() -> bool {
    std::env::var("MAINPID")
        .ok()
        .and_then(|pid| pid.parse().ok())
        .filter(|pid| *pid > 1)
        .is_some_and(|pid| kill(Pid::from_raw(pid), Signal::SIGHUP).is_ok())
}

/// Asks for a restart.
pub fn restart(restart: &Restart) -> Exit {
    let name = restart.name.as_deref();
    block_on(async {
        match ask(async |client| client.restart(name).await).await {
            Ok(()) => {
                print(format_args!(
                    "{}: restart asked for",
                    name.unwrap_or("every container")
                ));
                Exit::Done
            }
            Err(exit) => exit,
        }
    })
}

/// Connects, asks, and says what went wrong.
pub async fn ask<T>(
    question: impl AsyncFnOnce(&Client) -> Result<T, ClientError>,
) -> Result<T, Exit> {
    let answer = match Client::connect(&BusAddress::system()).await {
        Ok(client) => question(&client).await,
        Err(error) => Err(error),
    };
    answer.map_err(|error| told(&error))
}

/// Says what went wrong on the way to the daemon, and what to do next.
pub fn told(error: &ClientError) -> Exit {
    let (exit, hint) = match error {
        ClientError::NoBus(..) => (
            Exit::Unreachable,
            "the daemon supervises without a bus too, but cannot be asked; start dbus, or set DBUS_SYSTEM_BUS_ADDRESS",
        ),
        ClientError::NoDaemon => (
            Exit::Unreachable,
            "start it: systemctl start monopod; why it does not run: systemctl status monopod",
        ),
        ClientError::NoAnswer => (Exit::Unreachable, "see its journal: journalctl -u monopod"),
        ClientError::Refused(Refusal::Invalid, _) => {
            (Exit::Invalid, "monopod check shows it in full")
        }
        ClientError::Refused(Refusal::NotFound, _) => {
            (Exit::Failed, "monopod status lists what there is")
        }
        ClientError::Refused(Refusal::Refused, _) => (
            Exit::Refused,
            "monopod release list shows what there is, and what became of it",
        ),
        ClientError::Refused(Refusal::Denied, _) => (Exit::Failed, "try again as root"),
        ClientError::Refused(Refusal::Failed, _) | ClientError::Other(_) => {
            (Exit::Failed, "see its journal: journalctl -u monopod")
        }
    };
    match error {
        // The bus's own words name rules and process numbers.
        ClientError::Refused(Refusal::Denied, _) => complain("only root may ask for this"),
        error => complain(error),
    }
    super::hint(hint);
    exit
}
