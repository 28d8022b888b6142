//! What a daemon needs before it begins: to be alone, valid files, an ear for signals.
//!
//! It must never touch a container.

use std::fs::{File, TryLockError};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::error;

use super::load;
use crate::core::api::Notify;
use crate::exit::Exit;
use crate::paths::Paths;
use crate::spec;
use crate::spec::host::ThisHost;
use crate::spec::types::{Node, Workload};
use crate::systemd::notify::{self, Notifier};

/// How often files that are invalid at the start are read again, when systemd waits for us:
/// a device or a mount that they name may come late.
const READ_AGAIN: Duration = Duration::from_secs(5);

/// How often they are read before the start fails. systemd starts us again all the same, and its log
/// then has the reason.
const READS: u32 = 12;

/// The right to be this root's one daemon, for as long as the file is open.
pub fn alone(paths: &Paths) -> Result<File, String> {
    let path = paths.run().join("lock");
    let file =
        File::create(&path).map_err(|error| format!("cannot make {}: {error}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(format!(
            "another monopod daemon runs: it holds {}; stop it first",
            path.display()
        )),
        Err(TryLockError::Error(error)) => Err(format!("cannot lock {}: {error}", path.display())),
    }
}

/// Reads the files; waits for them to become valid where systemd would only start us again.
pub async fn first_files(paths: &Paths, notifier: &mut Notifier) -> Result<(Workload, Node), Exit> {
    let mut told = String::new();
    for _ in 0..READS {
        let invalid = match (
            load(paths),
            spec::load_node(paths, &ThisHost::of_environment()),
        ) {
            (Ok(workload), Ok(node)) => return Ok((workload, node.value)),
            (Err(invalid), _) | (_, Err(invalid)) => invalid,
        };
        let text = invalid.to_string();
        if text != told {
            error!("{text}; `monopod check` shows it in full");
            told = text;
        }
        if !notify::listened_to() {
            return Err(Exit::Invalid);
        }
        let status = format!("Waiting for valid files: {told}");
        notifier.tell(&Notify::Status(status));
        tokio::time::sleep(READ_AGAIN).await;
    }
    Err(Exit::Invalid)
}

/// What the daemon is told by signals.
pub struct Signals {
    /// SIGTERM.
    pub terminate: Signal,
    /// SIGINT.
    pub interrupt: Signal,
    /// SIGHUP.
    pub hangup: Signal,
}

impl Signals {
    /// Begins to listen.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}
