//! `monopod rescue`: does what the daemon asks for and may not do itself. `monopod-rescue.service` runs it as root.
//!
//! A request is a file in a folder of the daemon's; what is in it is only ever logged. It is taken away
//! before anything is done, so that one request is one deed, and whether it is done is decided here, by
//! root's own node file. Nothing else in that folder is believed: not its links, and no name in it.

use std::io;

use self::inbox::{FRESH, Taken, TooOld};
use super::block_on;
use super::feed::node;
use crate::exit::Exit;
use crate::paths::Paths;
use crate::probe::tame;
use crate::spec::types::Node;
use crate::systemd::BusAddress;
use crate::systemd::journal::{self, Rescued};
use crate::systemd::manager::{self, OrderError};

pub(super) mod engine;
pub(super) mod inbox;

/// Most bytes of a request that are read, and most characters of it that are logged.
const LINE: u64 = 512;

/// What can be asked for: the request's file name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Engine,
    Reboot,
}

impl Wish {
    fn file(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::Reboot => "reboot",
        }
    }
}

/// Takes the requests, and does what they ask for as far as it is allowed.
pub fn run(paths: &Paths) -> Exit {
    journal::init(false);
    let folder = paths.rescue();
    let wishes = match inbox::open(&folder) {
        Ok(open) => {
            [Wish::Engine, Wish::Reboot].map(|wish| (wish, inbox::take(&open, wish.file())))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Exit::Done,
        Err(error) => {
            refuse(format_args!("cannot open {}: {error}", folder.display()));
            return Exit::Failed;
        }
    };
    let node = node(paths);
    let mut exit = Exit::Done;
    for (wish, taken) in wishes {
        let done = match (taken, &node) {
            (Ok(None), _) => continue,
            (Ok(Some(Err(TooOld))), _) => {
                refuse(format_args!(
                    "{} was asked for more than {} s ago, and nobody waits for it any more",
                    wish.file(),
                    FRESH.as_secs()
                ));
                Exit::Refused
            }
            (Ok(Some(Ok(taken))), Ok(node)) => fulfil(wish, &words(taken), node),
            (Ok(Some(Ok(taken))), Err((exit, text))) => {
                refuse(format_args!(
                    "{} was asked for ({}), but {text}",
                    wish.file(),
                    words(taken)
                ));
                *exit
            }
            (Err(error), _) => {
                let path = folder.join(wish.file());
                refuse(format_args!("cannot take {} away: {error}", path.display()));
                Exit::Failed
            }
        };
        if done != Exit::Done {
            exit = done;
        }
    }
    exit
}

/// Says that nothing was done.
pub(super) fn refuse(text: std::fmt::Arguments<'_>) {
    journal::rescue(Rescued::Refused, &text.to_string());
}

fn fulfil(wish: Wish, why: &str, node: &Node) -> Exit {
    let address = BusAddress::system();
    match wish {
        Wish::Engine if node.escalation.engine_restarts == 0 => {
            refuse(format_args!(
                "the engine is not restarted ({why}): node.toml does not allow it ([escalation] engine_restarts = 0)"
            ));
            Exit::Refused
        }
        Wish::Engine => block_on(async {
            match engine::unit(node, &address).await {
                Ok(unit) => {
                    journal::rescue(Rescued::Engine, &format!("restarting {unit}: {why}"));
                    ended(manager::restart_unit(&address, &unit).await)
                }
                Err((exit, text)) => {
                    refuse(format_args!("the engine is not restarted ({why}): {text}"));
                    exit
                }
            }
        }),
        Wish::Reboot if !node.escalation.reboot => {
            refuse(format_args!(
                "the node is not rebooted ({why}): node.toml does not allow it ([escalation] reboot = true)"
            ));
            Exit::Refused
        }
        Wish::Reboot => {
            journal::rescue(Rescued::Reboot, &format!("rebooting the node: {why}"));
            block_on(async { ended(manager::reboot(&address).await) })
        }
    }
}

/// What systemd made of an order.
fn ended(order: Result<(), OrderError>) -> Exit {
    match order {
        Ok(()) => Exit::Done,
        Err(error) => {
            refuse(format_args!("{error}"));
            exit(&error)
        }
    }
}

/// The exit code for what systemd did not do.
pub(super) fn exit(error: &OrderError) -> Exit {
    match error {
        OrderError::Unreachable(..) => Exit::Unreachable,
        OrderError::NoSuchUnit(_) | OrderError::Refused(_) => Exit::Failed,
    }
}

fn words(taken: Taken) -> String {
    let bytes = taken.bytes(LINE).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let line = tame(text.lines().next().unwrap_or_default(), 200);
    if line.is_empty() {
        "it is not said why".to_owned()
    } else {
        line
    }
}
