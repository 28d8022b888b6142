//! What was dropped for the daemon: looked at beside the loop, before anything is decided that may hang on it.
//!
//! Whoever drops may be a parser that somebody has taken over. So the loop never waits for a round, and
//! nothing that is dropped makes the journal long. It must never offer anything.

use tokio::task::{JoinHandle, spawn_blocking};
use tracing::{info, warn};

use crate::core::update::ReleaseId;
use crate::paths::Paths;
use crate::release::{Adopted, Releases};
use crate::systemd::bus::{ReleaseAsk, Reply};

/// Most rounds in a row. What lies there after them waits for the next word of something new.
const ROUNDS: u32 = 256;

/// Most lines in the journal for what one word of something new has led to.
const LINES: usize = 8;

/// What waits for a look at the drop folder.
#[derive(Debug)]
pub(super) enum Then {
    /// Offer what was brought, and the node's own file if that has changed.
    Look,
    /// Offer what was brought.
    Offer,
    /// Tell the core of new images.
    StoreChanged,
    /// Read the files again.
    Reload(Option<Reply<()>>),
    /// Answer a request about releases.
    Release(ReleaseAsk, Reply<String>),
}

impl Then {
    fn release(&self) -> Option<&ReleaseId> {
        match self {
            Self::Release(ask, _) => ask.release(),
            Self::Look | Self::Offer | Self::StoreChanged | Self::Reload(_) => None,
        }
    }
}

/// The drop folder, and who waits until it was looked at.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    round: Option<JoinHandle<Option<Adopted>>>,
    /// Who waits for the end of this round.
    served: Vec<Then>,
    /// Who came since it began.
    queue: Vec<Then>,
    rounds: u32,
    told: usize,
    /// What the last round with refusals has refused: who asks for it may come later.
    pub(super) refused: Vec<(String, String)>,
}

impl Incoming {
    /// What can be done at once, since nothing lies there; otherwise it waits for a round.
    pub(super) fn first(&mut self, paths: &Paths, then: Then) -> Option<Then> {
        if self.round.is_none() && Releases::incoming(paths).is_empty() {
            return Some(then);
        }
        self.queue.push(then);
        if self.round.is_none() {
            self.begin(paths);
        }
        None
    }

    fn begin(&mut self, paths: &Paths) {
        self.served.append(&mut self.queue);
        let first = self.served.iter().filter_map(Then::release);
        let (paths, first) = (paths.clone(), first.cloned().collect::<Vec<_>>());
        self.round = Some(spawn_blocking(move || round(&paths, &first)));
    }

    /// The end of the round that is under way; never, if there is none.
    pub(super) async fn ended(&mut self) -> Option<Adopted> {
        match &mut self.round {
            // One that panicked has come to nothing.
            Some(round) => round.await.ok().flatten(),
            None => std::future::pending().await,
        }
    }

    /// Takes note of a round's end, and begins the next one if there is more; returns who need not wait any
    /// longer.
    pub(super) fn go_on(&mut self, paths: &Paths, ended: Option<&Adopted>) -> Vec<Then> {
        self.round = None;
        self.rounds += 1;
        if let Some(ended) = ended {
            tell(ended, &mut self.told);
            if !ended.refused.is_empty() {
                self.refused.clone_from(&ended.refused);
            }
        }
        let served = std::mem::take(&mut self.served);
        let more = ended.is_some_and(|ended| ended.more) && self.rounds < ROUNDS;
        if more || !self.queue.is_empty() {
            self.begin(paths);
        } else {
            (self.rounds, self.told) = (0, 0);
        }
        served
    }
}

/// One round, for who has nothing else to do meanwhile.
pub(super) async fn look(paths: &Paths) {
    if Releases::incoming(paths).is_empty() {
        return;
    }
    let place = paths.clone();
    if let Ok(Some(ended)) = spawn_blocking(move || round(&place, &[])).await {
        tell(&ended, &mut 0);
    }
}

fn round(paths: &Paths, first: &[ReleaseId]) -> Option<Adopted> {
    Releases::adopt_here(paths, first)
        .inspect_err(|text| warn!("what was brought is not looked at: {text}"))
        .ok()
}

/// Tells the journal, in so many lines at most.
fn tell(ended: &Adopted, told: &mut usize) {
    for release in &ended.taken {
        info!("release {} was brought, and is taken over", release.id);
    }
    for line in ended.complaints() {
        *told += 1;
        match (*told).cmp(&LINES) {
            std::cmp::Ordering::Less => warn!("{line}"),
            std::cmp::Ordering::Equal => warn!("{line}; of what follows nothing is said"),
            std::cmp::Ordering::Greater => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn who_waits_is_served_by_a_round_that_began_later() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let root = tempfile::tempdir().expect("a folder");
            let paths = Paths::new(root.path());
            let mut incoming = Incoming::default();
            // Nothing lies there, and nobody waits.
            assert!(incoming.first(&paths, Then::Look).is_some());
            fs::create_dir_all(paths.incoming()).expect("a folder");
            for number in 0..100 {
                fs::write(paths.incoming().join(format!("rubbish {number}")), "x").expect("a file");
            }
            assert!(incoming.first(&paths, Then::Look).is_none());
            assert!(incoming.first(&paths, Then::StoreChanged).is_none());
            let ended = incoming.ended().await.expect("looked at");
            assert_eq!((ended.refused.len(), ended.more), (64, true));
            let served = incoming.go_on(&paths, Some(&ended));
            assert!(matches!(served.as_slice(), [Then::Look]), "{served:?}");
            // The second round is for who came during the first one, and for the rest of what lies there.
            let ended = incoming.ended().await.expect("looked at");
            assert_eq!((ended.refused.len(), ended.more), (36, false));
            assert_eq!(
                incoming.told, 64,
                "and one line for each of the first eight"
            );
            let served = incoming.go_on(&paths, Some(&ended));
            assert!(
                matches!(served.as_slice(), [Then::StoreChanged]),
                "{served:?}"
            );
            assert!(incoming.first(&paths, Then::Look).is_some());
            assert_eq!((incoming.rounds, incoming.told), (0, 0));
        });
    }

    #[test]
    fn one_that_is_asked_for_comes_first() {
        let id = ReleaseId::new("0123456789ab").expect("an id");
        let (reply, _) = tokio::sync::oneshot::channel();
        let then = Then::Release(ReleaseAsk::Retry(id.clone()), reply);
        assert_eq!(then.release(), Some(&id));
        let (reply, _) = tokio::sync::oneshot::channel();
        assert_eq!(Then::Release(ReleaseAsk::RollBack, reply).release(), None);
        assert_eq!(Then::Look.release(), None);
    }
}
