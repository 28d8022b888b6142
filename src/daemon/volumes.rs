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
    let start = || own_hand(paths);
    ask(paths, Deed::Snapshot, release, volumes, PATIENCE, start).await
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
    let start = || own_hand(paths);
    ask(paths, Deed::Restore, release, volumes, PATIENCE, start).await
}

/// Removes the copies that were made before `release`, if there are any.
///
/// # Errors
///
/// A sentence for people. What is left of them takes room only.
pub async fn forget(paths: &Paths, release: &ReleaseId) -> Result<(), String> {
    let start = || own_hand(paths);
    ask(paths, Deed::Forget, release, &[], PATIENCE, start).await
}

async fn ask(
    paths: &Paths,
    deed: Deed,
    release: &ReleaseId,
    volumes: &[SnapshotVolume],
    patience: Patience,
    start: impl FnOnce() -> Option<Result<Child, String>>,
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
    let answered = match start().transpose() {
        Ok(hand) => waited(paths, deed, release, number, &request, hand, patience).await,
        Err(error) => Err(error),
    };
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
    mut hand: Option<Child>,
    patience: Patience,
) -> Result<(), String> {
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
            .map_or(0, |since| {
                since.as_secs() << 30 | u64::from(since.subsec_nanos())
            }),
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::volumes::VolumeName;

    const QUICK: Patience = Patience {
        taken: Duration::from_millis(400),
        still: Duration::from_millis(600),
        whole: Duration::from_secs(20),
    };

    fn release() -> ReleaseId {
        ReleaseId::new("0123456789ab").expect("an id")
    }

    fn volumes() -> Vec<SnapshotVolume> {
        let name = VolumeName::new("w-data").expect("a name");
        vec![SnapshotVolume { name, limit: 1 }]
    }

    /// What root's half does with a request: the answers that it gives, with the request's number or another.
    type Half = fn(u64) -> Vec<(u64, State)>;

    /// Asks where that half takes the request and answers each 300 ms.
    fn asked(deed: Deed, half: Option<Half>) -> (Result<(), String>, bool) {
        let folder = tempfile::tempdir().expect("a folder");
        let paths = Paths::new(folder.path());
        fs::create_dir_all(paths.rescue_answers()).expect("made");
        // What an earlier request of the same name was answered.
        let answer = |number, state| {
            let text = serde_json::to_string(&Answer { number, state }).expect("text");
            let file = paths.rescue_answers().join(deed.answer(&release()));
            let new = paths.run().join("new");
            fs::write(&new, text).expect("written");
            fs::rename(new, file).expect("renamed");
        };
        answer(1, State::Ok);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let file = paths.rescue().join(deed.file());
        let taker = async {
            let Some(half) = half else {
                return;
            };
            while !file.exists() {
                sleep(Duration::from_millis(5)).await;
            }
            let text = fs::read(&file).expect("it is there");
            fs::remove_file(&file).expect("it is there");
            let request: Request = serde_json::from_slice(&text).expect("a request");
            assert_eq!(request.release, release());
            for (number, state) in half(request.number) {
                sleep(Duration::from_millis(300)).await;
                answer(number, state);
            }
            std::future::pending::<()>().await;
        };
        let volumes = volumes();
        let asks = async {
            let (id, wanted) = (release(), &volumes[..]);
            ask(&paths, deed, &id, wanted, QUICK, || None).await
        };
        let answered = runtime.block_on(async {
            tokio::select! {
                answered = asks => answered,
                () = async { taker.await; std::future::pending().await } => Ok(()),
            }
        });
        (answered, file.exists())
    }

    #[test]
    fn what_root_answers_is_believed_and_nothing_else() {
        let table: [(Deed, Option<Half>, &str); 7] = [
            (Deed::Snapshot, Some(|n| vec![(n, State::Ok)]), ""),
            (
                Deed::Restore,
                Some(|n| {
                    (1..=5)
                        .map(|i| (n, State::Moved(i)))
                        .chain([(n, State::Ok)])
                        .collect()
                }),
                "",
            ),
            (
                Deed::Forget,
                Some(|n| vec![(n, State::Error("the disk is full".to_owned()))]),
                "the disk is full",
            ),
            // Another's answer, and an old one.
            (
                Deed::Snapshot,
                Some(|n| vec![(n.wrapping_add(1), State::Ok)]),
                "nothing has moved",
            ),
            (Deed::Snapshot, Some(|_| Vec::new()), "nothing has moved"),
            (
                Deed::Restore,
                Some(|n| vec![(n, State::Moved(1)), (n, State::Moved(1))]),
                "nothing has moved",
            ),
            (Deed::Snapshot, None, "is monopod-volumes.path active?"),
        ];
        for (index, (deed, half, expected)) in table.into_iter().enumerate() {
            let (answered, lies) = asked(deed, half);
            match answered {
                Ok(()) => assert_eq!(expected, "", "{index}"),
                Err(text) => assert!(
                    !expected.is_empty() && text.contains(expected),
                    "{index}: {text}"
                ),
            }
            assert!(!lies, "{index}: nothing is left that nobody waits for");
        }
    }

    #[test]
    fn for_nothing_nobody_is_asked() {
        let folder = tempfile::tempdir().expect("a folder");
        let paths = Paths::new(folder.path());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        for deed in [Deed::Snapshot, Deed::Restore] {
            let start = || panic!("nobody is needed");
            let id = release();
            let asks = ask(&paths, deed, &id, &[], QUICK, start);
            assert_eq!(runtime.block_on(asks), Ok(()));
        }
        assert!(!paths.run().exists());
    }

    #[test]
    fn a_request_that_waits_behind_another_stays_young() {
        let folder = tempfile::tempdir().expect("a folder");
        let paths = Paths::new(folder.path());
        let request = Lying::put(&paths, "restore", "{}", UNIT).expect("put");
        let file = paths.rescue().join("restore");
        let long_ago = SystemTime::now() - Duration::from_secs(3600);
        let opened = fs::OpenOptions::new()
            .write(true)
            .open(&file)
            .expect("open");
        opened.set_modified(long_ago).expect("dated");
        request.keep_young();
        let modified = fs::metadata(&file).and_then(|found| found.modified());
        let age = modified.expect("known").elapsed().unwrap_or_default();
        assert!(age < Duration::from_secs(60), "{age:?}");
    }
}
