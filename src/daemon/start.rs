//! What a daemon needs before it begins: to be alone, valid files, an ear for signals.
//!
//! It must never touch a container.

use std::fs::{File, TryLockError};
use std::rc::Rc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, warn};

use super::in_force::{InForce, LoadError};
use super::local::{self, LocalError};
use super::{deeds, incoming, ledger};
use crate::bundle::Trust;
use crate::core::api::{Notify, Seen};
use crate::core::ledger::{Durable, Entry};
use crate::core::update::{Book, Lying, Origin, ReleaseId};
use crate::engine::{Docker, Engine};
use crate::exit::Exit;
use crate::paths::Paths;
use crate::release::{self, ReleaseError, Releases};
use crate::spec;
use crate::spec::host::ThisHost;
use crate::spec::types::Node;
use crate::systemd::notify::{self, Notifier};

/// How often files that are invalid at the start are read again, when systemd waits for us:
/// a device or a mount that they name may come late.
const READ_AGAIN: Duration = Duration::from_secs(5);

/// How often they are read before the start fails. systemd starts us again all the same, and its log
/// then has the reason.
const READS: u32 = 12;

/// How often systemd hears that the preload folder is still being read.
const STILL_READING: Duration = Duration::from_secs(20);

/// How long the engine is waited for where it alone can say which release ran.
const ENGINE: Duration = Duration::from_secs(20);

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

/// Files that are read again until they are valid, where systemd would only start us again.
struct Patience<'n> {
    notifier: &'n mut Notifier,
    told: String,
    reads: u32,
}

impl<'n> Patience<'n> {
    fn new(notifier: &'n mut Notifier) -> Self {
        Self {
            notifier,
            told: String::new(),
            reads: 0,
        }
    }

    /// Nothing is to be hoped from waiting any more.
    fn is_over(&self) -> bool {
        !notify::listened_to() || self.reads >= READS
    }

    /// Says what is wrong, and waits before they are read again.
    async fn wait(&mut self, text: String) -> Result<(), Exit> {
        let over = self.is_over();
        self.say(text);
        if over {
            return Err(Exit::Invalid);
        }
        self.pause().await;
        Ok(())
    }

    /// The same without an end, where a new beginning would only wear the node out; until the daemon is told to end.
    async fn wait_on(&mut self, text: String, signals: &mut Signals) -> Result<(), Exit> {
        self.say(text);
        if !notify::listened_to() {
            return Err(Exit::Failed);
        }
        self.notifier.tell(&Notify::Extend(READ_AGAIN * 6));
        tokio::select! {
            () = self.pause() => Ok(()),
            _ = signals.terminate.recv() => Err(Exit::Done),
        }
    }

    fn say(&mut self, text: String) {
        if text != self.told {
            error!("{text}");
            self.told = text;
        }
        self.reads += 1;
    }

    async fn pause(&mut self) {
        let status = format!("Waiting for valid files: {}", self.told);
        self.notifier.tell(&Notify::Status(status));
        tokio::time::sleep(READ_AGAIN).await;
    }
}

/// Reads the node file; waits for it to become valid where systemd would only start us again.
pub async fn node_file(paths: &Paths, notifier: &mut Notifier) -> Result<Node, Exit> {
    let mut patience = Patience::new(notifier);
    loop {
        match spec::load_node(paths, &ThisHost::of_environment()) {
            Ok(node) => return Ok(node.value),
            Err(invalid) => {
                let text = format!("{invalid}; `monopod check` shows it in full");
                patience.wait(text).await?;
            }
        }
    }
}

/// Finds the release that is to run, and writes down what that changes in the ledger. What it returns
/// beside the release is what the ledger is to say; `durable` is what it says.
///
/// One whose folder is damaged is passed over: a trial is taken back, the one before takes the place of
/// the current one. One that is not valid here is waited for, since a device may come late; so is one that
/// cannot be read, for a minute, and then another one that can be takes its place.
pub async fn first_release(
    paths: &Paths,
    notifier: &mut Notifier,
    durable: &mut Durable,
    how: How<'_>,
) -> Result<(Rc<InForce>, Book), Exit> {
    let How {
        orderly,
        tries,
        engine,
        signals,
    } = how;
    let mut patience = Patience::new(notifier);
    let mut preloaded = false;
    let mut book = durable.book.at_start(orderly, tries);
    for text in book.given_up_since(&durable.book) {
        error!("{text}");
    }
    if *durable == Durable::unreadable() {
        book = book.found_again(lying(paths, engine).await);
        if book.current.is_some() {
            // The file is no news either.
            let local = local::release(paths, None).ok().flatten();
            book.local = local.map(|release| release.id);
        }
    }
    record(paths, durable, &mut book);
    loop {
        // It may be the first release, or mend the folder of the one that is to run.
        incoming::look(paths).await;
        let Some(id) = book.running().cloned() else {
            match first(paths, &book) {
                Ok(first) => {
                    book = first;
                    record(paths, durable, &mut book);
                }
                // A node may be made with nothing but a bundle in it.
                Err(_) if !preloaded => {
                    preloaded = true;
                    preload(paths, patience.notifier).await;
                }
                Err(text) => patience.wait(text).await?,
            }
            continue;
        };
        match InForce::load(paths, &id) {
            Ok(in_force) => return Ok((Rc::new(in_force), book)),
            Err(error @ (LoadError::Invalid(_) | LoadError::Release(ReleaseError::Io { .. })))
                if patience.is_over() && Some(&id) != book.current.as_ref() =>
            {
                error!("release {id}: {error}");
                book = book.taken_back(&error.to_string());
                record(paths, durable, &mut book);
            }
            Err(LoadError::Release(error @ ReleaseError::Io { .. })) => {
                let over = patience.is_over();
                let readable = |other: &ReleaseId| over && InForce::load(paths, other).is_ok();
                match book.previous.clone().filter(readable) {
                    Some(other) => {
                        error!("release {id}: {error}; {other} runs in its place");
                        book.settle_for(&other);
                        record(paths, durable, &mut book);
                    }
                    None => patience.wait_on(error.to_string(), signals).await?,
                }
            }
            Err(error @ LoadError::Invalid(_)) => {
                patience.wait(format!("release {id}: {error}")).await?;
            }
            Err(LoadError::Release(error)) => {
                error!("{error}");
                book = book.without_running("its files were damaged");
                record(paths, durable, &mut book);
            }
        }
    }
}

/// Goes through the preload folder; systemd is told that it may take longer.
async fn preload(paths: &Paths, notifier: &mut Notifier) {
    let mut work = std::pin::pin!(deeds::preload(paths));
    loop {
        tokio::select! {
            () = &mut work => return,
            () = tokio::time::sleep(STILL_READING) => {
                notifier.tell(&Notify::Extend(3 * STILL_READING));
            }
        }
    }
}

/// What is to be known of a start.
pub struct How<'h> {
    /// The daemon before was told to end, and did.
    pub orderly: bool,
    /// After so many deaths in its trial a release is taken back.
    pub tries: u32,
    /// What has the containers.
    pub engine: &'h Docker,
    /// Whether this one is told to end.
    pub signals: &'h mut Signals,
}

/// The releases that lie on disk and can be used: what is left to go by where the ledger is lost.
async fn lying(paths: &Paths, engine: &Docker) -> Vec<Lying> {
    let node = paths.root().display().to_string();
    let asked = tokio::time::timeout(ENGINE, engine.containers(&node, None)).await;
    let seen = if let Ok(Ok(seen)) = asked {
        seen
    } else {
        warn!("the engine does not say which release its containers are of");
        Vec::new()
    };
    let releases = Releases::new(paths).list().unwrap_or_else(|error| {
        error!("cannot read {}: {error}", paths.releases().display());
        Vec::new()
    });
    let mut lying = Vec::new();
    for release in releases.into_iter().flatten() {
        let Ok(in_force) = InForce::load(paths, &release.id) else {
            continue;
        };
        let desired = in_force.desired(paths);
        let made = desired.iter().all(|desired| {
            let is_made = |seen: &Seen| seen.role == desired.role && seen.hash == desired.hash;
            seen.iter().any(is_made)
        });
        let signed = match release.origin {
            release::Origin::Local => None,
            release::Origin::Bundle { key, sequence, .. } => Some((key, sequence)),
        };
        lying.push(Lying {
            release: release.id,
            signed,
            made,
        });
    }
    lying
}

/// A node without a release: its own file's, or the newest that was brought and is signed.
fn first(paths: &Paths, book: &Book) -> Result<Book, String> {
    match local::release(paths, None) {
        Ok(Some(release)) => Ok(book.with_first(&release.id, true)),
        Ok(None) => match signed(paths, book, |sequence, accepted| sequence >= accepted).pop() {
            Some((release, origin)) => {
                let mut book = book.with_first(&release, false);
                if let Origin::Bundle { key, sequence } = origin {
                    book.sequences.insert(key, sequence);
                }
                Ok(book)
            }
            None => Err(format!(
                "there is no workload: {} is missing, and no signed release is in {}",
                paths.workload().display(),
                paths.releases().display()
            )),
        },
        Err(LocalError::Invalid(invalid)) => {
            Err(format!("{invalid}; `monopod check` shows it in full"))
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Signed releases that were brought and that the ledger does not know, the oldest first: whoever brought
/// them could not reach a daemon.
pub fn brought(paths: &Paths, book: &Book) -> Vec<(ReleaseId, Origin)> {
    let known = book.kept();
    let mut news = signed(paths, book, |sequence, accepted| sequence > accepted);
    news.retain(|(id, _)| !known.contains(id));
    news
}

/// Signed releases that may run here, those with the highest sequence last.
fn signed(paths: &Paths, book: &Book, may: impl Fn(u64, u64) -> bool) -> Vec<(ReleaseId, Origin)> {
    let releases = Releases::new(paths);
    let trust = match Trust::of_folder(&paths.keys()) {
        Ok(trust) => trust,
        Err(error) => {
            error!("cannot read {}: {error}", paths.keys().display());
            return Vec::new();
        }
    };
    let found = releases.list().unwrap_or_else(|error| {
        error!("cannot read {}: {error}", paths.releases().display());
        Vec::new()
    });
    let mut news: Vec<(u64, ReleaseId, Origin)> = Vec::new();
    for release in found.into_iter().flatten() {
        let release::Origin::Bundle { .. } = release.origin else {
            continue;
        };
        if book.rejected(&release.id).is_some() {
            continue;
        }
        match releases.verify(&release.id, &trust) {
            Ok(origin @ release::Origin::Bundle { .. }) => {
                let origin = Origin::from(&origin);
                if let Origin::Bundle { key, sequence } = &origin
                    && (book.sequences.get(key)).is_none_or(|accepted| may(*sequence, *accepted))
                {
                    news.push((*sequence, release.id, origin));
                }
            }
            Ok(release::Origin::Local) => {}
            Err(error) => error!("{error}"),
        }
    }
    news.sort_by_key(|(sequence, ..)| *sequence);
    news.into_iter()
        .map(|(_, release, origin)| (release, origin))
        .collect()
}

/// Writes the ledger before anything runs. A trial that cannot be recorded is not gone on with.
fn record(paths: &Paths, durable: &mut Durable, book: &mut Book) {
    if durable.book == *book {
        return;
    }
    let new = durable.clone().with(Entry::Book(Box::new(book.clone())));
    match ledger::write(paths, &new) {
        Ok(()) => *durable = new,
        Err(error) => {
            error!("the ledger cannot be written: {error}");
            *book = book.taken_back("the ledger cannot be written");
        }
    }
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
