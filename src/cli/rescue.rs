//! `monopod rescue`: does what the daemon asks for and may not do itself. `monopod-rescue.service` runs it as root.
//!
//! A request is a file in a folder of the daemon's; what is in it is only ever logged. It is taken away
//! before anything is done, so that one request is one deed, and whether it is done is decided here, by
//! root's own node file. Nothing else in that folder is believed: not its links, and no name in it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::block_on;
use super::feed::node;
use crate::engine;
use crate::exit::Exit;
use crate::paths::Paths;
use crate::probe::tame;
use crate::spec::types::Node;
use crate::systemd::BusAddress;
use crate::systemd::journal::{self, Rescued};
use crate::systemd::manager::{self, Environment, OrderError};

/// Most bytes of a request that are read, and most characters of it that are logged.
const LINE: u64 = 512;

/// Whose engine it is.
const DAEMON: &str = "monopod.service";

/// What helps where the engine's unit cannot be told.
const NAME_IT: &str = "name the unit in node.toml: [engine] unit = \"...service\"";

/// A request that is older is nobody's wish any more: the daemon takes its own back after 30 s.
const FRESH: Duration = Duration::from_secs(60);

/// Nobody waits for what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TooOld;

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
    let wishes = match open_folder(&folder) {
        Ok(open) => [Wish::Engine, Wish::Reboot].map(|wish| (wish, take(&open, wish))),
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
            (Ok(Some(Ok(why))), Ok(node)) => fulfil(wish, &why, node),
            (Ok(Some(Ok(why))), Err((exit, text))) => {
                refuse(format_args!(
                    "{} was asked for ({why}), but {text}",
                    wish.file()
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

fn refuse(text: std::fmt::Arguments<'_>) {
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
            match engine_unit(node, &address).await {
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

fn exit(error: &OrderError) -> Exit {
    match error {
        OrderError::Unreachable(..) => Exit::Unreachable,
        OrderError::NoSuchUnit(_) | OrderError::Refused(_) => Exit::Failed,
    }
}

/// The unit of the daemon's engine: as node.toml names it, or by the socket that the daemon speaks to.
async fn engine_unit(node: &Node, address: &BusAddress) -> Result<String, (Exit, String)> {
    let host = if node.engine_unit.is_some() || node.engine_socket.is_some() {
        None
    } else {
        let environment = manager::environment(address, DAEMON).await;
        let environment = environment.map_err(|error| (exit(&error), error.to_string()))?;
        docker_host(&environment).map_err(|text| (Exit::Invalid, text))?
    };
    let socket = engine::socket(node, host.as_deref()).map_err(|text| (Exit::Invalid, text))?;
    engine::unit(node, &socket).ok_or_else(|| {
        let text = format!(
            "nothing tells which unit listens on {}; {NAME_IT}",
            socket.display()
        );
        (Exit::Invalid, text)
    })
}

/// `DOCKER_HOST` as the daemon has it: of its unit, or of all that systemd starts.
fn docker_host(environment: &Environment) -> Result<Option<String>, String> {
    // They may name it as well, and are not for root to parse.
    if !environment.files.is_empty() {
        return Err(format!(
            "{DAEMON} has an EnvironmentFile=, which may name another engine; {NAME_IT}"
        ));
    }
    let own = environment.variables.iter().rev();
    Ok(own
        .filter_map(|variable| variable.strip_prefix("DOCKER_HOST="))
        .map(str::to_owned)
        .next()
        .or_else(|| std::env::var("DOCKER_HOST").ok()))
}

/// The folder of the requests, itself and nothing that it may point to.
fn open_folder(folder: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW).bits())
        .open(folder)
}

/// Removes a request and returns its words, or that it is too old; `None` if there is none.
fn take(folder: &File, wish: Wish) -> io::Result<Option<Result<String, TooOld>>> {
    // A pipe must not keep us waiting.
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let opened = openat(folder, wish.file(), flags, Mode::empty());
    match unlinkat(folder, wish.file(), UnlinkatFlags::NoRemoveDir) {
        Ok(()) => {}
        Err(nix::Error::ENOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let opened = opened.map(File::from);
    if age(&opened).is_some_and(|age| age > FRESH) {
        return Ok(Some(Err(TooOld)));
    }
    Ok(Some(Ok(words(opened))))
}

/// How old a request is; `None` where that cannot be told, or lies ahead.
fn age(opened: &nix::Result<File>) -> Option<Duration> {
    let metadata = opened.as_ref().ok()?.metadata().ok()?;
    metadata.modified().ok()?.elapsed().ok()
}

fn words(opened: nix::Result<File>) -> String {
    let unsaid = "it is not said why".to_owned();
    let Ok(file) = opened else { return unsaid };
    if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return unsaid;
    }
    let mut bytes = Vec::new();
    if file.take(LINE).read_to_end(&mut bytes).is_err() {
        return unsaid;
    }
    let text = String::from_utf8_lossy(&bytes);
    let line = tame(text.lines().next().unwrap_or_default(), 200);
    if line.is_empty() { unsaid } else { line }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn a_request_is_taken_while_it_is_fresh() {
        let folder = tempfile::tempdir().expect("a folder");
        let open = open_folder(folder.path()).expect("open");
        assert_eq!(take(&open, Wish::Reboot).expect("nothing"), None);
        let second = Duration::from_secs(1);
        let now = SystemTime::now();
        let table = [
            (now - 30 * second, Ok("spent".to_owned())),
            (now - 90 * second, Err(TooOld)),
            // The clock was set: nobody knows how old it is.
            (now + 3600 * second, Ok("spent".to_owned())),
        ];
        for (modified, expected) in table {
            let path = folder.path().join(Wish::Reboot.file());
            std::fs::write(&path, "spent\n").expect("asked for");
            let file = OpenOptions::new().append(true).open(&path).expect("open");
            file.set_modified(modified).expect("dated");
            assert_eq!(take(&open, Wish::Reboot).expect("taken"), Some(expected));
            assert!(!path.exists(), "it is taken away all the same");
        }
    }
}
