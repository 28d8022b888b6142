//! What is remembered of releases: which one runs, which one ran before, what is on trial, and what
//! must never be taken again by itself.
//!
//! All of it is in the durable ledger, and changes there before anything that runs is touched.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::ReleaseId;

/// Most rejected releases that are remembered; one that is forgotten is refused for its sequence.
const REJECTED: usize = 64;

/// The releases' part of the durable ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Book {
    /// The one that is committed: it runs, unless another one is on trial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<ReleaseId>,
    /// The one that was committed before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<ReleaseId>,
    /// The one that runs to see whether it is any good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial: Option<TrialRecord>,
    /// The one that is to be tried next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Next>,
    /// Those that are never taken again by themselves, the newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rejected: Vec<Rejected>,
    /// The release that was last made of the node's own workload file: that file is no news.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<ReleaseId>,
    /// The highest sequence of each key that has proved itself: what is older is refused. What fails its trial
    /// changes nothing here, so that it cannot bar the way of what mends it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sequences: BTreeMap<String, u64>,
    /// Nothing is activated by itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
    /// Those that are never pruned.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub pinned: BTreeSet<ReleaseId>,
}

/// What a release's signature says of its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    /// The key that signed it.
    pub key: String,
    /// Its place in the order of that key's releases.
    pub sequence: u64,
    /// The node's owner has allowed that it is older than what was accepted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub downgrade: bool,
}

/// A release on trial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrialRecord {
    /// Which.
    pub release: ReleaseId,
    /// Its signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<Signed>,
    /// How often the daemon or the node died in it.
    #[serde(default)]
    pub deaths: u32,
    /// Volumes were copied before it; a rollback puts them back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub snapshot: bool,
    /// It has failed for this reason, and the volumes are being put back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reverting: Option<String>,
}

/// A release that is to be tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Next {
    /// Which.
    pub release: ReleaseId,
    /// Who activates it.
    pub by: By,
    /// Its signature, if it is not on record already what it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<Signed>,
    /// Its hook is asked, or volumes are copied for it: if that ends the daemon or the node, its successor knows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub begun: bool,
    /// How often that has ended one of them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub deaths: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Next {
    /// Nothing has been done for it yet.
    pub fn new(release: ReleaseId, by: By, signed: Option<Signed>) -> Self {
        Self {
            release,
            by,
            signed,
            begun: false,
            deaths: 0,
        }
    }
}

/// Who activates a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// It is activated by itself, when the node's policy allows it.
    Policy,
    /// It waits for somebody's word.
    Manual,
    /// Somebody has said so: window, hold and policy do not count, only what the workload says.
    Hand,
    /// Somebody insists: what the workload says does not count either.
    Force,
    /// Somebody wants the release before back: nothing may stand in the way of that, its hook included.
    Back,
}

/// A release that lies on disk.
#[derive(Clone, Debug)]
pub struct Lying {
    /// Which.
    pub release: ReleaseId,
    /// The key that signed it, and its place in the order of that key's releases; `None` for the node's own.
    pub signed: Option<(String, u64)>,
    /// The engine has containers that were made of it.
    pub made: bool,
}

/// A release that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rejected {
    /// Which.
    pub release: ReleaseId,
    /// Why, in words.
    pub why: String,
    /// Its signature, for when it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<Signed>,
}

impl Book {
    /// There is nothing in it.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The release whose containers should be there: the one on trial, unless it is being taken back.
    /// `None` on a node that never had one.
    pub fn running(&self) -> Option<&ReleaseId> {
        match &self.trial {
            Some(trial) if trial.reverting.is_none() => Some(&trial.release),
            Some(_) | None => self.current.as_ref(),
        }
    }

    /// Why a release is never taken again by itself.
    pub fn rejected(&self, release: &ReleaseId) -> Option<&str> {
        self.rejected
            .iter()
            .find(|rejected| rejected.release == *release)
            .map(|rejected| rejected.why.as_str())
    }

    /// What is on record of a release's signature.
    pub(super) fn signed(&self, release: &ReleaseId) -> Option<&Signed> {
        let trial = self.trial.as_ref().filter(|one| one.release == *release);
        let next = self.next.as_ref().filter(|one| one.release == *release);
        let rejected = self.rejected.iter().find(|one| one.release == *release);
        trial
            .and_then(|one| one.signed.as_ref())
            .or_else(|| next?.signed.as_ref())
            .or_else(|| rejected?.signed.as_ref())
    }

    /// A release of the same key that comes first, since it is newer.
    pub(super) fn newer(&self, signed: &Signed) -> Option<(&ReleaseId, u64)> {
        let trial = self.trial.as_ref().filter(|one| one.reverting.is_none());
        let trial = trial.and_then(|one| Some((&one.release, one.signed.as_ref()?)));
        let next = self.next.as_ref();
        let next = next.and_then(|one| Some((&one.release, one.signed.as_ref()?)));
        let mut found = [trial, next].into_iter().flatten();
        found
            .find(|(_, one)| one.key == signed.key && one.sequence > signed.sequence)
            .map(|(release, one)| (release, one.sequence))
    }

    /// What was to be tried next is not, for something of another kind: it is no news any more, and may be brought again.
    pub(super) fn pass_over(&mut self, instead: Option<&Signed>) {
        let passed = self.next.take().and_then(|next| next.signed);
        let passed = passed.filter(|passed| instead.is_none_or(|one| one.key != passed.key));
        if let Some(passed) = passed {
            self.accept(&Signed {
                downgrade: false,
                ..passed
            });
        }
    }

    /// A release has proved itself: what is older is refused from now on.
    pub(super) fn accept(&mut self, signed: &Signed) {
        let accepted = self.sequences.entry(signed.key.clone()).or_default();
        // With a downgrade what is accepted goes down, or the next update would be one, too.
        *accepted = if signed.downgrade {
            signed.sequence
        } else {
            signed.sequence.max(*accepted)
        };
    }

    /// Every release that must stay on disk.
    pub fn kept(&self) -> BTreeSet<ReleaseId> {
        let mut kept = self.pinned.clone();
        kept.extend(self.current.clone());
        kept.extend(self.previous.clone());
        kept.extend(self.trial.as_ref().map(|trial| trial.release.clone()));
        kept.extend(self.next.as_ref().map(|next| next.release.clone()));
        // Somebody may want to know why, and try it again.
        kept.extend(
            self.rejected
                .last()
                .map(|rejected| rejected.release.clone()),
        );
        // The file that it was made of is compared with it.
        kept.extend(self.local.clone());
        kept
    }

    /// A node's first release: there is nothing to go back to, so there is no trial.
    #[must_use]
    pub fn with_first(&self, release: &ReleaseId, local: bool) -> Self {
        let mut book = self.clone();
        book.current = Some(release.clone());
        book.trial = None;
        book.next = None;
        if local {
            book.local = Some(release.clone());
        }
        book
    }

    /// A daemon begins. One that ended in a trial without having been told to counts as dead, and so does one
    /// that ended in what comes before a trial; after `tries` of them the release is taken back.
    #[must_use]
    pub fn at_start(&self, orderly: bool, tries: u32) -> Self {
        let mut book = self.clone();
        book.outlived(orderly, tries);
        let Some(trial) = &mut book.trial else {
            return book;
        };
        if orderly || trial.reverting.is_some() {
            return book;
        }
        trial.deaths = trial.deaths.saturating_add(1);
        if trial.deaths < tries {
            return book;
        }
        let why = format!(
            "monopod or the node died {} in its trial",
            times(trial.deaths)
        );
        book.taken_back(&why)
    }

    /// As [`Self::at_start`], for a release that is not on trial yet.
    fn outlived(&mut self, orderly: bool, tries: u32) {
        let Some(next) = self.next.as_mut().filter(|next| next.begun) else {
            return;
        };
        next.begun = false;
        if orderly {
            return;
        }
        next.deaths = next.deaths.saturating_add(1);
        if next.deaths < tries {
            return;
        }
        if next.by == By::Back {
            self.stay();
            return;
        }
        let (release, times) = (next.release.clone(), times(next.deaths));
        let why = format!(
            "monopod or the node died {times} when its hook was asked or volumes were copied"
        );
        self.reject(&release, &why);
    }

    /// What [`Self::at_start`] has given up, a sentence each, for people.
    pub fn given_up_since(&self, before: &Self) -> Vec<String> {
        let mut told = Vec::new();
        for Rejected { release, why, .. } in &self.rejected {
            if before.rejected(release).is_none() {
                told.push(format!(
                    "release {release} is rejected: {why}; to try it once more: monopod release retry {release}"
                ));
            }
        }
        if let Some(Next {
            release, deaths, ..
        }) = before.next.as_ref().filter(|next| next.by == By::Back)
            && self.next.is_none()
        {
            told.push(format!(
                "release {release} cannot come back: monopod or the node died {} when volumes were copied; \
                 what runs stays",
                times(deaths.saturating_add(1))
            ));
        }
        told
    }

    /// The release that somebody wanted back cannot come: what runs stays, and is not rejected any more.
    pub(super) fn stay(&mut self) {
        self.next = None;
        let current = self.current.clone();
        self.rejected
            .retain(|one| Some(&one.release) != current.as_ref());
    }

    /// The release on trial has failed: it is rejected, or will be when its volumes are as they were.
    #[must_use]
    pub fn taken_back(&self, why: &str) -> Self {
        let mut book = self.clone();
        match &mut book.trial {
            Some(trial) if trial.snapshot && trial.reverting.is_none() => {
                trial.reverting = Some(why.to_owned());
                book
            }
            Some(_) => book.ended(why),
            None => book,
        }
    }

    /// The volumes are as they were before the trial, or there was nothing to put back.
    #[must_use]
    pub fn ended(&self, why: &str) -> Self {
        let mut book = self.clone();
        if let Some(trial) = self.trial.as_ref() {
            book.reject(&trial.release, trial.reverting.as_deref().unwrap_or(why));
            book.trial = None;
        }
        book.want_no_more();
        book
    }

    /// The release on trial is good.
    #[must_use]
    pub fn committed(&self) -> Self {
        let mut book = self.clone();
        if let Some(trial) = book.trial.take() {
            // What was tried again and is good now is no longer rejected.
            book.rejected
                .retain(|rejected| rejected.release != trial.release);
            if let Some(signed) = &trial.signed {
                book.accept(signed);
            }
            if book.current.as_ref() != Some(&trial.release) {
                book.previous = book.current.replace(trial.release);
            }
        }
        book.want_no_more();
        book
    }

    /// The release that should run cannot be used any more: one on trial is taken back for this reason, the one
    /// before takes the place of the current one. Without one before, the node is as it was before its first.
    #[must_use]
    pub fn without_running(&self, why: &str) -> Self {
        match &self.trial {
            Some(trial) if trial.reverting.is_none() => self.taken_back(why),
            Some(_) | None => {
                let mut book = self.clone();
                book.current = book.previous.take();
                if book.current.is_none() {
                    // The node's own file is news again.
                    book.local = None;
                }
                book
            }
        }
    }

    /// A node whose ledger is lost: what is known of the releases that lie there, the best to run first.
    ///
    /// That is the one whose containers are there, and otherwise the oldest: nobody knows any more whether a newer
    /// one has proved itself. None of them is news, so none is tried by itself.
    #[must_use]
    pub fn found_again(&self, mut lying: Vec<Lying>) -> Self {
        lying.sort_by_key(|one| {
            let sequence = one.signed.as_ref().map_or(0, |(_, sequence)| *sequence);
            (!one.made, sequence, one.release.clone())
        });
        let mut book = self.clone();
        let mut releases = lying.iter().map(|one| one.release.clone());
        book.current = releases.next();
        book.previous = releases.next();
        for (key, sequence) in lying.into_iter().filter_map(|one| one.signed) {
            book.accept(&Signed {
                key,
                sequence,
                downgrade: false,
            });
        }
        book
    }

    /// This one runs, since what was current could not be put in force; that is kept, for whoever mends it.
    pub(crate) fn settle_for(&mut self, release: &ReleaseId) {
        if self.current.as_ref() != Some(release) {
            self.previous = self.current.replace(release.clone());
        }
        self.want_no_more();
    }

    /// What runs for good is not to be tried next.
    fn want_no_more(&mut self) {
        let next = self.next.as_ref().map(|next| &next.release);
        if next.is_some() && next == self.current.as_ref() && self.trial.is_none() {
            self.next = None;
        }
    }

    /// Remembers a release as one that is not taken again by itself.
    pub fn reject(&mut self, release: &ReleaseId, why: &str) {
        let signed = self.signed(release).cloned();
        self.rejected
            .retain(|rejected| rejected.release != *release);
        self.rejected.push(Rejected {
            release: release.clone(),
            why: why.to_owned(),
            signed,
        });
        let over = self.rejected.len().saturating_sub(REJECTED);
        let forgotten: Vec<Rejected> = self.rejected.drain(..over).collect();
        for signed in forgotten.into_iter().filter_map(|one| one.signed) {
            self.accept(&Signed {
                sequence: signed.sequence.saturating_add(1),
                downgrade: false,
                ..signed
            });
        }
        if self
            .next
            .as_ref()
            .is_some_and(|next| next.release == *release)
        {
            self.next = None;
        }
    }
}

/// A number of times, for people.
fn times(number: u32) -> String {
    match number {
        1 => "once".to_owned(),
        number => format!("{number} times"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> ReleaseId {
        ReleaseId::new(&format!("{number:012x}")).expect("an id")
    }

    fn on_trial(snapshot: bool) -> Book {
        Book {
            current: Some(id(1)),
            trial: Some(TrialRecord {
                release: id(2),
                signed: None,
                deaths: 0,
                snapshot,
                reverting: None,
            }),
            ..Book::default()
        }
    }

    #[test]
    fn a_trial_survives_so_many_deaths_and_no_more() {
        let mut book = on_trial(false);
        for _ in 0..5 {
            book = book.at_start(true, 3);
        }
        assert_eq!(book, on_trial(false), "an orderly end is no death");
        for death in 1..3 {
            book = book.at_start(false, 3);
            assert_eq!(book.running(), Some(&id(2)), "{death}");
        }
        book = book.at_start(false, 3);
        assert_eq!(book.running(), Some(&id(1)));
        assert_eq!(
            book.rejected(&id(2)),
            Some("monopod or the node died 3 times in its trial")
        );
    }

    #[test]
    fn so_does_what_comes_before_it() {
        let waits = |by, begun| Book {
            current: Some(id(1)),
            next: Some(Next {
                begun,
                ..Next::new(id(2), by, None)
            }),
            ..Book::default()
        };
        let mut book = waits(By::Policy, false);
        book = book.at_start(false, 1);
        assert_eq!(book, waits(By::Policy, false), "nothing was done for it");
        book = waits(By::Policy, true).at_start(true, 1);
        assert_eq!(book, waits(By::Policy, false), "an orderly end is no death");
        for death in 1..3 {
            book.next.as_mut().expect("it waits").begun = true;
            book = book.at_start(false, 3);
            assert_eq!(book.next.as_ref().map(|next| next.deaths), Some(death));
        }
        book.next.as_mut().expect("it waits").begun = true;
        let out = book.at_start(false, 3);
        let why = out.rejected(&id(2)).map(str::to_owned);
        assert!(why.is_some_and(|why| why.contains("died 3 times when its hook")));
        assert!(out.given_up_since(&book)[0].contains("release retry 000000000002"));

        let mut back = waits(By::Back, true);
        back.reject(&id(1), "it was taken back by hand");
        let stays = back.at_start(false, 1);
        assert!(stays.given_up_since(&back)[0].contains("cannot come back"));
        assert_eq!((stays.next, stays.rejected), (None, Vec::new()));
    }

    #[test]
    fn volumes_are_put_back_before_a_trial_is_over() {
        let book = on_trial(true).taken_back("it is ill");
        assert_eq!(book.running(), Some(&id(1)));
        assert!(book.trial.is_some() && book.rejected.is_empty());
        // Whatever happens meanwhile, the reason stays the first one.
        let book = book.at_start(false, 3).taken_back("another").ended("third");
        assert_eq!(book.trial, None);
        assert_eq!(book.rejected(&id(2)), Some("it is ill"));
        assert_eq!(book.current, Some(id(1)));
    }

    #[test]
    fn a_commit_keeps_the_one_before() {
        let mut book = on_trial(false);
        book.reject(&id(2), "it failed once");
        let book = book.committed();
        assert_eq!(book.current, Some(id(2)));
        assert_eq!(book.previous, Some(id(1)));
        assert_eq!(book.rejected(&id(2)), None);
        let back = book.without_running("damaged");
        assert_eq!(back.current, Some(id(1)));
        let local = Some(id(1));
        let none = Book { local, ..back }.without_running("damaged");
        assert_eq!((none.current, none.local), (None, None));
        let tried = on_trial(false).without_running("damaged");
        assert_eq!(tried.running(), Some(&id(1)));
        assert_eq!(tried.rejected(&id(2)), Some("damaged"));
    }

    #[test]
    fn a_rejected_release_is_not_the_next_one_and_memory_is_bounded() {
        let mut book = Book {
            next: Some(Next::new(id(3), By::Policy, None)),
            ..Book::default()
        };
        for number in 0..=u8::MAX {
            book.reject(&id(number), "it failed");
        }
        assert_eq!(book.next, None);
        assert_eq!(book.rejected.len(), REJECTED);
        assert!(book.rejected(&id(u8::MAX)).is_some());
    }

    #[test]
    fn with_a_lost_ledger_what_runs_runs_on_and_otherwise_the_oldest() {
        let lying = |number: u8, made| Lying {
            release: id(number),
            signed: Some(("A".to_owned(), u64::from(number))),
            made,
        };
        let book = Book::default();
        let found = book.found_again(vec![lying(9, false), lying(7, true), lying(5, false)]);
        assert_eq!((found.current, found.previous), (Some(id(7)), Some(id(5))));
        assert_eq!(found.sequences.get("A"), Some(&9), "none is news");
        let found = book.found_again(vec![lying(9, false), lying(5, false)]);
        assert_eq!((found.current, found.previous), (Some(id(5)), Some(id(9))));
        assert_eq!(book.found_again(Vec::new()), book);
    }
}
