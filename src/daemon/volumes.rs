//! Has volumes copied before an update, and put back: by root's half, which may read them.
//!
//! Each function asks, waits for the answer, and gives up when nothing moves any more. What was asked
//! for may then still be done, so the same is to be asked again, which root's half does from the
//! beginning. This module never looks into a volume.
//!
//! Requests are taken by `monopod-volumes.service`. A daemon that is root, on another root than `/` or
//! without systemd, where that unit does not look, starts root's half itself.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use tokio::process::Child;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use super::deeds::helper;
use super::rescue::{LOOK, Lying, TAKEN_BY};
use crate::core::update::ReleaseId;
use crate::paths::Paths;
use crate::volumes::{Answer, Deed, LONGEST, MOST, Request, SnapshotVolume, State, units_watch};

/// The unit that looks for these requests.
const UNIT: &str = "monopod-volumes.path";

/// How often a request that lies is made young again.
const YOUNG: Duration = Duration::from_secs(10);

/// How long is waited.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// Until it is taken, while root's half is not seen at work on something else.
    taken: Duration,
    /// From one move to the next.
    still: Duration,
    /// In all.
    whole: Duration,
}

const PATIENCE: Patience = Patience {
    taken: TAKEN_BY,
    still: Duration::from_secs(120),
    whole: Duration::from_secs(30 * 60),
};

/// Copies the volumes, before `release` is tried. Nothing may run that uses them. A copy that is there for `release`
/// is replaced. Done at once if there are none.
///
/// # Errors
///
/// A sentence for people: refused (a limit, no room, a volume that is in use or not plain), or no answer within 30 min.
/// There is no copy then that [`restore`] would take.
pub async fn snapshot(
    paths: &Paths,
    release: &ReleaseId,
    volumes: &[SnapshotVolume],
) -> Result<(), String> {
    ask(paths, Deed::Snapshot, release, volumes, PATIENCE).await
}

/// Puts the volumes back as they were when they were copied before `release`. Nothing may run that uses them. May be
/// asked for as often as need be, until [`forget`]. Done at once if there are none.
///
/// # Errors
///
/// A sentence for people, as [`snapshot`]; also if there is no copy. Some of the volumes may have been put back.
pub async fn restore(
    paths: &Paths,
    release: &ReleaseId,
    volumes: &[SnapshotVolume],
) -> Result<(), String> {
    ask(paths, Deed::Restore, release, volumes, PATIENCE).await
}

/// Removes the copies that were made before `release`, if there are any.
///
/// # Errors
///
/// A sentence for people. What is left of them takes room only.
pub async fn forget(paths: &Paths, release: &ReleaseId) -> Result<(), String> {
    ask(paths, Deed::Forget, release, &[], PATIENCE).await
}

async fn ask(
    paths: &Paths,
    deed: Deed,
    release: &ReleaseId,
    volumes: &[SnapshotVolume],
    patience: Patience,
) -> Result<(), String> {
    // There is a file for each deed and not for each release.
    static ONE: Mutex<()> = Mutex::const_new(());
    if volumes.is_empty() && deed != Deed::Forget {
        return Ok(());
    }
    if volumes.len() > MOST {
        return Err(format!("more than {MOST} volumes are to be copied"));
    }
    let _one_at_a_time = ONE.lock().await;
    let number = number();
    let text = serde_json::to_string(&Request {
        number,
        release: release.clone(),
        volumes: volumes.to_vec(),
    })
    .map_err(|error| format!("the request cannot be written: {error}"))?;
    let request = Lying::put(paths, deed.file(), &text, UNIT)?;
    let hand = own_hand(paths);
    let answered = waited(paths, deed, release, number, &request, hand, patience).await;
    if answered.is_err() {
        // It is nobody's wish any more, wherever it is.
        let _ = request.take_back(Duration::ZERO);
    }
    answered
}

/// Root's half as a child, which ends when it is let go of; `None` where a unit does its work.
fn own_hand(paths: &Paths) -> Option<Result<Child, String>> {
    let ours = nix::unistd::geteuid().is_root() && !units_watch(paths);
    ours.then(|| {
        let started = helper(paths, &["volumes"]).spawn();
        started.map_err(|error| format!("monopod volumes cannot be started: {error}"))
    })
}

async fn waited(
    paths: &Paths,
    deed: Deed,
    release: &ReleaseId,
    number: u64,
    request: &Lying,
    hand: Option<Result<Child, String>>,
    patience: Patience,
) -> Result<(), String> {
    let mut hand = hand.transpose()?;
    let folder = paths.rescue_answers();
    let file = deed.answer(release);
    let began = Instant::now();
    let (mut moved, mut young) = (began, began);
    let mut taken = false;
    let mut seen = BTreeMap::new();
    loop {
        // Looked at before the answer: who ends after it was given has given it.
        let ended = match &mut hand {
            Some(hand) => hand.try_wait().ok().flatten(),
            None => None,
        };
        let now = answers(&folder);
        match now.get(&file) {
            Some(answer) if answer.number == number => match &answer.state {
                State::Ok => return Ok(()),
                State::Error(text) => return Err(text.clone()),
                State::Moved(_) => {}
            },
            Some(_) | None => {}
        }
        if let Some(status) = ended {
            return Err(format!(
                "root's half has ended without an answer ({status}); it says more in the log"
            ));
        }
        if now != seen || (!taken && request.is_taken()) {
            moved = Instant::now();
        }
        seen = now;
        taken = taken || request.is_taken();
        if began.elapsed() >= patience.whole {
            let minutes = patience.whole.as_secs() / 60;
            return Err(format!("{} was not done in {minutes} min", deed.file()));
        }
        if !taken && moved.elapsed() >= patience.taken {
            request.take_back(patience.taken)?;
            (taken, moved) = (true, Instant::now());
        }
        if taken && moved.elapsed() >= patience.still {
            return Err(format!(
                "{} was begun, and nothing has moved for {} s; journalctl -u monopod-volumes says more",
                deed.file(),
                patience.still.as_secs()
            ));
        }
        if !taken && young.elapsed() >= YOUNG {
            request.keep_young();
            young = Instant::now();
        }
        sleep(LOOK).await;
    }
}

/// What root's half has to say at the moment, by the files' names; what cannot be read says nothing.
fn answers(folder: &Path) -> BTreeMap<String, Answer> {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    files
        .filter_map(|file| {
            let name = file.file_name().into_string().ok()?;
            let mut text = String::new();
            let opened = fs::File::open(file.path()).ok()?;
            opened.take(LONGEST).read_to_string(&mut text).ok()?;
            Some((name, serde_json::from_str(&text).ok()?))
        })
        .collect()
}

/// A number that no other request has had, as far as chance can be trusted.
fn number() -> u64 {
    let mut bytes = [0; 8];
    // Without randomness (a kernel that has just started) the clock tells requests apart as well.
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::NONBLOCK) {
        Ok(8) => u64::from_ne_bytes(bytes),
        Ok(_) | Err(_) => std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs() << 30 | u64::from(since.subsec_nanos())),
    }
}
