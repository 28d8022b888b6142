//! The simulated node's releases: what they are, what is on disk of them, and what the shell does for one.
//!
//! What must hold of an update is checked here, after each thing that happens.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use monopod::core::api::{Action, Desired, Event, Gates, NotNow, Staged, TaskId};
use monopod::core::ledger::{self, Durable, Entry, Part};
use monopod::core::update::{
    Ask, Book, By, Lying, Origin, ReleaseId, TrialRecord, UpdateView, Wish,
};
use monopod::spec::types::{Activation, Healthcheck, Role, Trial};

use super::node::{Due, Node, roles, workload};

/// No update may take more writes of the ledger, from its offer to its commit.
pub const WRITES: u32 = 28;

/// How much longer than its deadline a trial may take: a write of the ledger is waited for.
const SLACK: Duration = Duration::from_secs(150);

/// How the app of a release behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nature {
    /// It is well.
    Good,
    /// It ends so long (ms) after each start.
    Exits(u64),
    /// It is never well.
    Sick,
    /// It is well for so long (s) after each start, and then no more.
    SickAfter(u64),
    /// It is well and sick by turns, for so long (s).
    Flaps(u64),
}

/// What a release changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Another image of the app.
    Image,
    /// Another spec of the app.
    Spec,
    /// Another spec of all.
    All,
    /// The health question alone.
    Probe,
    /// There is no broker any more.
    Alone,
    /// The app joins the broker's network.
    Joined,
}

/// What a release's hook says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// There is none.
    None,
    /// Yes, after so many times of not now.
    Yes(u32),
    /// No.
    No,
    /// Nothing, for ever.
    Hangs,
    /// Nothing: the node is started anew by it.
    Kills,
}

/// Where a release comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// The node's own file.
    Local,
    /// A bundle, signed by the key of this number, with this sequence.
    Bundle(u8, u64),
}

/// What a release is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Make {
    pub nature: Nature,
    pub change: Change,
    pub hook: Hook,
    pub volumes: bool,
    /// Its files are valid on this node.
    pub fits: bool,
    pub from: From,
}

/// A good release that a bundle brings.
pub fn good(sequence: u64) -> Make {
    Make {
        nature: Nature::Good,
        change: Change::Spec,
        hook: Hook::None,
        volumes: false,
        fits: true,
        from: From::Bundle(0, sequence),
    }
}

/// What people, importers and media do with releases.
#[derive(Clone, Debug)]
pub enum Turn {
    /// A new release is brought.
    Bring(Make, Wish),
    /// A release that was brought before is brought again; with leave to be older than the newest, or not.
    Again(usize, Wish, bool),
    Activate(Option<usize>, bool),
    RollBack,
    Retry(usize),
    Hold(bool),
    Pin(usize, bool),
    /// A key is no longer trusted.
    Revoke(u8),
    /// The window is closed for so long (s); so exists the hold file, and so the lock file.
    Window(u64),
    HoldFile(u64),
    LockFile(u64),
    /// The app of a container says whether it is busy.
    Busy(usize, bool),
    /// Releases are activated by themselves, or not.
    Automatic(bool),
    /// For so long (s) nothing can be staged.
    StagingFails(u64),
    /// The next so many deeds of the shell for an update never end.
    DeedsLost(u32),
    /// The next so many of them take so much longer (s): others may be begun in the meantime.
    DeedsSlow(u32, u64),
    /// The next so many copies of volumes, there or back, fail.
    CopiesFail(u32),
    /// The next so many copies that are made before a trial end the node.
    CopiesKill(u32),
    /// For so long (s) no release can be read.
    LoadingFails(u64),
    /// A release's folder is damaged.
    Damaged(usize),
    /// The ledger is damaged when it is read next; and so is the one before it, or not.
    Torn(bool),
    /// For so long (s) writes of the ledger do not come to an end.
    DiskHangs(u64),
}

/// All that is known of releases on the node.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Shelf {
    /// Every release that ever was, by number; number 0 is the node's first.
    makes: Vec<Make>,
    /// Whole folders.
    folders: BTreeSet<ReleaseId>,
    damaged: BTreeSet<ReleaseId>,
    /// The number of the release that the node's own file makes.
    local: usize,
    revoked: BTreeSet<u8>,
    /// What a daemon has staged or loaded, by which task: with which drop-ins, and what it makes.
    remembered: BTreeMap<TaskId, (ReleaseId, u8, Vec<Desired>)>,
    /// With which drop-ins it was begun to stage it.
    begun: BTreeMap<TaskId, u8>,
    /// Of this release containers are made.
    pub enforced: Option<ReleaseId>,
    /// As it was when it was read last.
    made: Vec<Desired>,
    window_until: Duration,
    hold_file_until: Duration,
    lock_file_until: Duration,
    pub manual: bool,
    staging_until: Duration,
    lost: u32,
    /// The next so many deeds take so long.
    slow: (u32, Duration),
    copies_fail: u32,
    copies_kill: u32,
    loading_until: Duration,
    later: BTreeMap<ReleaseId, u32>,
    /// All is good from now on.
    cured: bool,
    /// Who wrote to the volume, as a number that grows, and its copies.
    volume: u64,
    copies: BTreeMap<ReleaseId, u64>,
    /// Releases whose volumes were put back since their trial began.
    restored: BTreeSet<ReleaseId>,
    /// The release whose trial has begun.
    began: Option<ReleaseId>,
    /// A copy could not be put back.
    unrestored: bool,
    /// Rejected on disk, and not tried again by hand.
    banned: BTreeSet<ReleaseId>,
    /// The ledger was damaged, or could not be written: what it forgot nobody knows.
    pub forgetful: bool,
    /// How often the ledger was damaged.
    pub torn: usize,
    trial_by: Duration,
    /// Writes since each release was offered.
    since_offer: BTreeMap<ReleaseId, u32>,
    /// The most writes from an offer to its commit.
    pub most_writes: u32,
    /// What the update was at when, by its name.
    pub stage: (&'static str, Duration),
    /// Commits, rollbacks and releases given up.
    pub ends: [u32; 3],
}

/// A release's id from its number.
pub fn id(number: usize) -> ReleaseId {
    ReleaseId::new(&format!("{number:012x}")).expect("12 digits")
}

fn number(id: &ReleaseId) -> usize {
    usize::from_str_radix(id.as_str(), 16).expect("made of a number")
}

pub fn trial() -> Trial {
    Trial::default()
}

impl Shelf {
    /// A node that has only its own file, or with releases besides whose folders lie there.
    pub fn new() -> Self {
        let mut first = good(0);
        first.from = From::Local;
        Self {
            makes: vec![first],
            ..Self::default()
        }
    }

    fn make(&self, id: &ReleaseId) -> Make {
        self.makes[number(id)]
    }

    /// What a release says, with these drop-ins.
    pub fn desired(&self, id: &ReleaseId, variant: u8) -> Vec<Desired> {
        let change = self.make(id).change;
        let number = number(id);
        let mut desired = match change {
            _ if number == 0 => return workload(variant),
            Change::Alone => workload(2),
            Change::Joined => workload(3),
            Change::Image | Change::Spec | Change::All | Change::Probe => workload(variant),
        };
        for one in &mut desired {
            let app = one.role.as_str() == "app";
            match change {
                Change::Image if app => one.image_id = Some(format!("sha256:{}", number + 10)),
                Change::Spec | Change::Alone | Change::Joined if app => {
                    one.hash = format!("{}-r{number}", one.hash);
                }
                Change::All => one.hash = format!("{}-r{number}", one.hash),
                Change::Probe => {
                    if let Healthcheck::Own(health) = &mut one.healthcheck {
                        health.timing.retries += 1;
                    }
                }
                Change::Image | Change::Spec | Change::Alone | Change::Joined => {}
            }
        }
        desired
    }

    /// What the app of a container made by this release is like so long after its start.
    pub fn is_sick(&self, made_by: Option<&ReleaseId>, ran: Duration) -> bool {
        let Some(id) = made_by.filter(|_| !self.cured) else {
            return false;
        };
        match self.make(id).nature {
            Nature::Good | Nature::Exits(_) => false,
            Nature::Sick => true,
            Nature::SickAfter(span) => ran.as_secs() >= span,
            Nature::Flaps(span) => (ran.as_secs() / span.max(1)) % 2 == 1,
        }
    }

    /// When it ends after its start.
    pub fn exits(&self, made_by: Option<&ReleaseId>) -> Option<Duration> {
        match made_by
            .filter(|_| !self.cured)
            .map(|id| self.make(id).nature)
        {
            Some(Nature::Exits(millis)) => Some(Duration::from_millis(millis)),
            Some(_) | None => None,
        }
    }

    /// A container starts, and writes to its volume.
    pub fn written(&mut self) {
        self.volume += 1;
    }

    /// Whatever was wrong with releases and the shell's deeds is over.
    pub fn mend(&mut self) {
        self.cured = true;
        self.lost = 0;
        self.slow.0 = 0;
        self.copies_fail = 0;
        self.copies_kill = 0;
        self.window_until = Duration::ZERO;
        self.hold_file_until = Duration::ZERO;
        self.lock_file_until = Duration::ZERO;
        self.staging_until = Duration::ZERO;
        self.loading_until = Duration::ZERO;
    }

    fn is_whole(&self, id: &ReleaseId) -> bool {
        self.folders.contains(id) && !self.damaged.contains(id)
    }
}

impl Node {
    /// What the start of a daemon does before anything else: the ledger, and the release that is to run.
    pub(super) fn first_release(&mut self) -> (Durable, Book) {
        let text = self.disk.clone();
        let mut durable = match text.as_deref().map(ledger::decode) {
            None => Durable::default(),
            Some(Ok(durable)) => durable,
            Some(Err(_)) => {
                self.shelf.forgetful = true;
                self.shelf.banned.clear();
                let before = self.disk_before.as_deref().map(ledger::decode);
                let durable = before
                    .and_then(Result::ok)
                    .unwrap_or_else(Durable::unreadable);
                self.disk = Some(ledger::encode(&durable));
                self.recorded = durable.clone();
                durable
            }
        };
        let mut book = durable.book.at_start(self.run.orderly, trial().tries);
        if durable == Durable::unreadable() {
            book = book.found_again(self.lying());
            if book.current.is_some() {
                book.local = Some(id(self.shelf.local));
            }
        }
        self.record_at_start(&mut durable, &mut book);
        loop {
            let Some(id) = book.running().cloned() else {
                let first = id(self.shelf.local);
                self.shelf.folders.insert(first.clone());
                self.shelf.damaged.remove(&first);
                book = book.with_first(&first, true);
                self.record_at_start(&mut durable, &mut book);
                continue;
            };
            if self.shelf.is_whole(&id) {
                break;
            }
            book = book.without_running("its files were damaged");
            self.record_at_start(&mut durable, &mut book);
        }
        let running = book.running().cloned();
        self.shelf.remembered.clear();
        self.shelf.begun.clear();
        self.shelf.enforced.clone_from(&running);
        self.shelf.made = self.wanted();
        self.shelf.trial_by = self.now + trial().deadline + SLACK;
        self.shelf.stage = ("idle", self.now);
        (durable, book)
    }

    /// What is left to go by where the ledger is lost.
    fn lying(&self) -> Vec<Lying> {
        let whole = self.shelf.folders.iter();
        whole
            .filter(|id| self.shelf.is_whole(id))
            .map(|id| Lying {
                release: id.clone(),
                signed: match self.shelf.make(id).from {
                    From::Local => None,
                    From::Bundle(key, sequence) => Some((key.to_string(), sequence)),
                },
                made: self.is_made(&self.shelf.desired(id, self.variant)),
            })
            .collect()
    }

    fn record_at_start(&mut self, durable: &mut Durable, book: &mut Book) {
        if durable.book == *book {
            return;
        }
        let fails = self.now < self.disk_full_until || self.now < self.disk_hangs_until;
        if fails {
            self.shelf.forgetful = true;
            *book = book.taken_back("the ledger cannot be written");
        } else {
            *durable = durable.clone().with(Entry::Book(Box::new(book.clone())));
            self.on_medium(durable, Part::Book);
        }
    }

    /// The ledger is on disk.
    pub(super) fn on_medium(&mut self, durable: &Durable, part: Part) {
        let before = std::mem::replace(&mut self.recorded, durable.clone());
        self.disk_before = self.disk.take();
        self.disk = Some(ledger::encode(durable));
        if part == Part::Budgets {
            self.writes += 1;
            return;
        }
        self.book_writes += 1;
        for count in self.shelf.since_offer.values_mut() {
            *count += 1;
        }
        let (before, after) = (&before.book, &durable.book);
        let banned = after.rejected.iter().map(|one| one.release.clone());
        self.shelf.banned.extend(banned);
        if let Some(current) = &after.current
            && before.current.as_ref() != Some(current)
        {
            self.shelf.banned.remove(current);
            if let Some(count) = self.shelf.since_offer.remove(current) {
                self.shelf.most_writes = self.shelf.most_writes.max(count);
            }
        }
        if let Some(current) = &after.current
            && after.rejected(current).is_none()
        {
            self.shelf.banned.remove(current);
        }
        let on = |book: &Book| book.trial.as_ref().map(|trial| trial.release.clone());
        if on(after).is_some() && on(before) != on(after) {
            self.shelf.trial_by = self.now + trial().deadline + SLACK;
            self.shelf.restored.clear();
            self.shelf.began = None;
        }
        if let Some(trial) = &before.trial
            && on(after).as_ref() != Some(&trial.release)
            && after.current.as_ref() != Some(&trial.release)
            && trial.snapshot
            && self.shelf.began.as_ref() == Some(&trial.release)
            && !self.shelf.restored.contains(&trial.release)
            && !self.shelf.unrestored
        {
            self.broken(format!(
                "trial {} has failed, and its volumes are not put back",
                trial.release
            ));
        }
    }

    /// After a daemon has begun: what lies there, and what the node's own file says.
    pub(super) fn look_around(&mut self) -> Result<(), String> {
        self.bring_local(Wish::Take)?;
        let Some(view) = self.view_of_update() else {
            return Ok(());
        };
        let known = view.book.kept();
        let mut news: Vec<(u64, u8, ReleaseId)> = Vec::new();
        for id in &self.shelf.folders {
            if let From::Bundle(key, sequence) = self.shelf.make(id).from
                && !known.contains(id)
                && view.book.rejected(id).is_none()
                && view
                    .book
                    .sequences
                    .get(&key.to_string())
                    .is_none_or(|seen| sequence > *seen)
            {
                news.push((sequence, key, id.clone()));
            }
        }
        news.sort();
        for (.., id) in news {
            self.offer(&id, Wish::Take, false)?;
        }
        Ok(())
    }

    fn bring_local(&mut self, wish: Wish) -> Result<(), String> {
        let local = id(self.shelf.local);
        self.shelf.folders.insert(local.clone());
        self.offer(&local, wish, false)
    }

    /// The importer's last step: the daemon checks the release again and asks its core.
    pub(super) fn offer(
        &mut self,
        id: &ReleaseId,
        wish: Wish,
        downgrade: bool,
    ) -> Result<(), String> {
        if !self.shelf.is_whole(id) {
            return Ok(());
        }
        let origin = match self.shelf.make(id).from {
            From::Local => Origin::Local,
            From::Bundle(key, _) if self.shelf.revoked.contains(&key) => return Ok(()),
            From::Bundle(key, sequence) => Origin::Bundle {
                key: key.to_string(),
                sequence,
            },
        };
        self.ask(Ask::Offer {
            release: id.clone(),
            origin,
            wish,
            downgrade,
        })
    }

    fn ask(&mut self, ask: Ask) -> Result<(), String> {
        let Some(mut daemon) = self.daemon.take() else {
            return Ok(());
        };
        self.tell(|| format!("  <- {ask:?}"));
        let (answer, actions) = daemon.ask(self.uptime(), ask.clone());
        self.daemon = Some(daemon);
        self.tell(|| format!("  == {answer:?}"));
        if answer.is_ok() {
            match ask {
                Ask::Offer { release, .. } => {
                    self.shelf.since_offer.entry(release).or_insert(0);
                }
                Ask::Retry(release) => {
                    self.shelf.banned.remove(&release);
                    self.shelf.since_offer.entry(release).or_insert(0);
                }
                Ask::Activate { .. } | Ask::RollBack | Ask::Hold(_) | Ask::Pin(..) => {}
            }
        }
        self.perform(actions)
    }

    pub(super) fn view_of_update(&self) -> Option<UpdateView> {
        self.daemon.as_ref().map(monopod::core::node::Node::update)
    }

    /// What somebody does with releases.
    pub(super) fn turn(&mut self, turn: &Turn) -> Result<(), String> {
        let until = |span: &u64| self.now + Duration::from_secs(*span);
        let known = |which: &usize| id(which % self.shelf.makes.len());
        match turn {
            Turn::Bring(make, wish) => self.bring(*make, *wish),
            Turn::Again(which, wish, downgrade) => {
                let which = known(which);
                if self.shelf.make(&which).from == From::Local {
                    self.shelf.local = number(&which);
                    return self.bring_local(*wish);
                }
                self.shelf.folders.insert(which.clone());
                self.shelf.damaged.remove(&which);
                let offer = Due::Offer(which, *wish, *downgrade);
                self.at(self.now + Duration::from_millis(100), offer);
                Ok(())
            }
            Turn::Activate(which, force) => {
                let (release, force) = (which.as_ref().map(known), *force);
                self.ask(Ask::Activate { release, force })
            }
            Turn::RollBack => self.ask(Ask::RollBack),
            Turn::Retry(which) => self.ask(Ask::Retry(known(which))),
            Turn::Hold(held) => self.ask(Ask::Hold(*held)),
            Turn::Pin(which, pinned) => self.ask(Ask::Pin(known(which), *pinned)),
            Turn::Busy(which, busy) => {
                let again = Due::Busy(*which, *busy);
                self.at(self.now + Duration::from_secs(60), again);
                self.say_busy(*which, *busy)
            }
            Turn::Automatic(automatic) => {
                self.shelf.manual = !automatic;
                let event = self.reload();
                self.deliver(self.generation, event)
            }
            Turn::Revoke(key) => {
                self.shelf.revoked.insert(*key);
                Ok(())
            }
            Turn::Window(span) => {
                self.shelf.window_until = until(span);
                Ok(())
            }
            Turn::HoldFile(span) => {
                self.shelf.hold_file_until = until(span);
                Ok(())
            }
            Turn::LockFile(span) => {
                self.shelf.lock_file_until = until(span);
                Ok(())
            }
            Turn::StagingFails(span) => {
                self.shelf.staging_until = until(span);
                Ok(())
            }
            Turn::DeedsLost(times) => {
                self.shelf.lost += times;
                Ok(())
            }
            Turn::DeedsSlow(times, span) => {
                self.shelf.slow = (*times, Duration::from_secs(*span));
                Ok(())
            }
            Turn::CopiesFail(times) => {
                self.shelf.copies_fail += times;
                Ok(())
            }
            Turn::CopiesKill(times) => {
                self.shelf.copies_kill += times;
                Ok(())
            }
            Turn::LoadingFails(span) => {
                self.shelf.loading_until = until(span);
                Ok(())
            }
            Turn::Damaged(which) => {
                let which = known(which);
                self.shelf.damaged.insert(which);
                Ok(())
            }
            Turn::Torn(both) => {
                self.shelf.torn += 1;
                if let Some(text) = &mut self.disk {
                    text.truncate(text.len() / 2);
                }
                if *both {
                    self.disk_before = None;
                }
                Ok(())
            }
            Turn::DiskHangs(span) => {
                self.disk_hangs_until = until(span);
                Ok(())
            }
        }
    }

    /// Brings a new release.
    fn bring(&mut self, make: Make, wish: Wish) -> Result<(), String> {
        let new = self.shelf.makes.len();
        self.shelf.makes.push(make);
        if let Hook::Yes(later) = make.hook {
            self.shelf.later.insert(id(new), later);
        }
        if make.from == From::Local {
            self.shelf.local = new;
            return self.bring_local(wish);
        }
        self.shelf.folders.insert(id(new));
        let offer = Due::Offer(id(new), wish, false);
        self.at(self.now + Duration::from_millis(100), offer);
        Ok(())
    }

    /// What is in force, and what it makes.
    pub(super) fn wanted(&self) -> Vec<Desired> {
        match &self.shelf.enforced {
            Some(id) => self.shelf.desired(id, self.variant),
            None => workload(self.variant),
        }
    }

    /// What containers are made of just now.
    pub(super) fn in_force(&self) -> Vec<Desired> {
        self.shelf.made.clone()
    }

    /// The node's drop-ins are read again.
    pub(super) fn read_again(&mut self) {
        self.shelf.made = self.wanted();
    }

    /// From now on containers are made as this release says.
    pub(super) fn enforce(&mut self, task: TaskId, id: ReleaseId) -> Result<(), String> {
        let Some((_, variant, made)) =
            (self.shelf.remembered.get(&task)).filter(|(of, ..)| *of == id)
        else {
            return Err(format!(
                "{id} is in force, and was neither staged nor loaded"
            ));
        };
        let stale = *variant != self.variant;
        let made = made.clone();
        let view = self.view_of_update();
        if view.as_ref().is_some_and(|view| view.stage == "trial") {
            let disk = self.on_disk().book.clone();
            let recorded = matches!(&disk.trial, Some(TrialRecord { release, reverting: None, .. }) if *release == id);
            // Who goes back by hand does so without it, if it cannot be written.
            if !recorded && !self.shelf.forgetful {
                return Err(format!(
                    "{id} runs on trial before that is on disk: {disk:?}"
                ));
            }
            if self.shelf.banned.contains(&id) && !self.shelf.forgetful {
                return Err(format!("{id} was rejected, and is tried again"));
            }
            self.shelf.began = Some(id.clone());
        }
        self.shelf.enforced = Some(id);
        self.shelf.made = made;
        self.leave_out();
        if stale {
            // The node's drop-ins have changed since it was staged.
            self.at(self.now, Due::ReadAgain(self.generation));
        }
        Ok(())
    }

    /// A deed of the shell for an update ends.
    pub(super) fn deed(&mut self, generation: u64, action: Action) -> Result<(), String> {
        if generation != self.generation {
            return Ok(());
        }
        if self.kills(&action) {
            self.reboot();
            return Ok(());
        }
        let event = match action {
            Action::Stage(task, id) => {
                let result = self.stage(task, &id);
                Event::Staged(task, result)
            }
            Action::LookAtGates(task, id) => {
                let gates = Gates {
                    window: (self.now < self.shelf.window_until)
                        .then(|| self.shelf.window_until.saturating_sub(self.now)),
                    hold_file: self.now < self.shelf.hold_file_until,
                    lock_file: self.now < self.shelf.lock_file_until,
                    trusted: self.trusted(&id),
                };
                Event::Gates(task, gates)
            }
            Action::Hook(task, id) => {
                let result = self.hook(&id);
                Event::Hooked(task, result)
            }
            Action::Snapshot(task, id) => {
                // One that was called off copies for nobody.
                if self.shelf.stage.0 == "snapshot" {
                    self.no_container_runs("copied")?;
                }
                let result = self.copy_result();
                if result.is_ok() {
                    let volume = self.shelf.volume;
                    self.shelf.copies.insert(id.clone(), volume);
                }
                Event::Snapshotted(task, result)
            }
            Action::Restore(task, id) => {
                let result = self.restore(&id)?;
                Event::Restored(task, result)
            }
            Action::Load(task, id) => {
                let result = if self.now < self.shelf.loading_until || !self.shelf.is_whole(&id) {
                    Err(NotNow::Never("its folder cannot be read".to_owned()))
                } else {
                    let desired = self.shelf.desired(&id, self.variant);
                    let kept = (id, self.variant, desired.clone());
                    self.shelf.remembered.insert(task, kept);
                    Ok(desired)
                };
                Event::Loaded(task, result)
            }
            Action::Tidy(mut kept) => {
                self.look_around()?;
                // What was asked for since then stays.
                if let Some(view) = self.view_of_update() {
                    kept.extend(view.book.kept());
                }
                let (accepted, rejected) =
                    self.view_of_update().map_or_else(Default::default, |view| {
                        (view.book.sequences, view.book.rejected)
                    });
                let makes = &self.shelf.makes;
                self.shelf.folders.retain(|id| {
                    let news = match makes[number(id)].from {
                        From::Local => false,
                        From::Bundle(key, sequence) => {
                            rejected.iter().all(|one| one.release != *id)
                                && (accepted.get(&key.to_string()))
                                    .is_none_or(|accepted| sequence > *accepted)
                        }
                    };
                    news || kept.contains(id)
                });
                self.shelf.copies.retain(|id, _| kept.contains(id));
                return Ok(());
            }
            other => return Err(format!("{other:?} is no deed for an update")),
        };
        self.deliver(generation, event)
    }

    /// A release that was committed once is trusted for that; of any other the key counts.
    fn trusted(&self, id: &ReleaseId) -> Result<(), NotNow> {
        let committed = self.view_of_update().is_some_and(|view| {
            [&view.book.current, &view.book.previous].contains(&&Some(id.clone()))
        });
        match self.shelf.make(id).from {
            From::Bundle(key, _) if !committed && self.shelf.revoked.contains(&key) => {
                Err(NotNow::Never("its key was revoked".to_owned()))
            }
            From::Bundle(..) | From::Local => Ok(()),
        }
    }

    fn stage(&mut self, task: TaskId, id: &ReleaseId) -> Result<Staged, NotNow> {
        if self.now < self.shelf.staging_until {
            return Err(NotNow::Later("no space left".to_owned()));
        }
        if self.now < self.image_gone_until || self.engine_is_away() {
            return Err(NotNow::Later("its image cannot be had".to_owned()));
        }
        if !self.shelf.is_whole(id) {
            return Err(NotNow::Later("its folder is damaged".to_owned()));
        }
        if !self.shelf.make(id).fits {
            return Err(NotNow::Never("its files are not valid".to_owned()));
        }
        self.trusted(id)?;
        let make = self.shelf.make(id);
        let variant = (self.shelf.begun.get(&task)).map_or(self.variant, |variant| *variant);
        let desired = self.shelf.desired(id, variant);
        let kept = (id.clone(), variant, desired.clone());
        self.shelf.remembered.insert(task, kept);
        // What the one has written is the other's, too.
        let running = self.shelf.enforced.as_ref();
        let volumes = make.volumes || running.is_some_and(|id| self.shelf.make(id).volumes);
        Ok(Staged {
            desired,
            volumes,
            hook: make.hook != Hook::None,
        })
    }

    fn hook(&mut self, id: &ReleaseId) -> Result<(), NotNow> {
        match self.shelf.make(id).hook {
            Hook::None => Err(NotNow::Never("there is none".to_owned())),
            Hook::Kills => Ok(()),
            Hook::No | Hook::Hangs => Err(NotNow::Never("exit code 1".to_owned())),
            Hook::Yes(_) => {
                let later = self.shelf.later.entry(id.clone()).or_insert(0);
                if *later > 0 {
                    *later -= 1;
                    return Err(NotNow::Later("low battery".to_owned()));
                }
                Ok(())
            }
        }
    }

    /// Whether the node does not survive a deed.
    fn kills(&mut self, action: &Action) -> bool {
        match action {
            Action::Hook(_, id) => self.shelf.make(id).hook == Hook::Kills && !self.shelf.cured,
            Action::Snapshot(..) if self.shelf.copies_kill > 0 => {
                self.shelf.copies_kill -= 1;
                true
            }
            _ => false,
        }
    }

    fn copy_result(&mut self) -> Result<(), String> {
        if self.shelf.copies_fail > 0 {
            self.shelf.copies_fail -= 1;
            return Err("no space left".to_owned());
        }
        Ok(())
    }

    fn restore(&mut self, id: &ReleaseId) -> Result<Result<(), String>, String> {
        // Who waits for ten minutes goes on with what there is.
        if self.now.saturating_sub(self.shelf.stage.1) < Duration::from_secs(600) {
            self.no_container_runs("put back")?;
        }
        let disk = self.on_disk().book.clone();
        let due = matches!(&disk.trial, Some(TrialRecord { release, snapshot: true, reverting: Some(_), .. }) if release == id);
        if !due && !self.shelf.forgetful {
            return Err(format!("volumes are put back for {id}: {disk:?}"));
        }
        let result = self.copy_result();
        match (&result, self.shelf.copies.get(id)) {
            (Ok(()), Some(copy)) => {
                self.shelf.volume = *copy;
                self.shelf.restored.insert(id.clone());
            }
            (Ok(()), None) if !self.shelf.forgetful => {
                return Err(format!("there is no copy of the volumes before {id}"));
            }
            (Ok(()), None) => {}
            (Err(_), _) => self.shelf.unrestored = true,
        }
        Ok(result)
    }

    fn no_container_runs(&self, what: &str) -> Result<(), String> {
        match roles().iter().position(|role| self.process_of_role(role)) {
            Some(_) => Err(format!("volumes are {what} under running containers")),
            None => Ok(()),
        }
    }

    /// Begins a deed for an update.
    pub(super) fn begin_deed(&mut self, action: Action) {
        let hangs = match &action {
            Action::Hook(_, id) => self.shelf.make(id).hook == Hook::Hangs,
            _ => false,
        };
        if hangs || self.shelf.lost > 0 && !matches!(action, Action::Tidy(_)) {
            self.shelf.lost = self.shelf.lost.saturating_sub(1);
            return;
        }
        let (usual, most) = match &action {
            Action::Stage(task, _) => {
                self.shelf.begun.insert(*task, self.variant);
                (2000, u64::MAX)
            }
            // The shell gives these up itself.
            Action::Snapshot(..) | Action::Restore(..) => (3000, 1800),
            Action::Hook(..) => (50, 300),
            _ => (50, u64::MAX),
        };
        let mut span = Duration::from_millis(usual);
        let (times, slow) = &mut self.shelf.slow;
        if *times > 0 && !matches!(action, Action::Tidy(_)) {
            *times -= 1;
            span += (*slow).min(Duration::from_secs(most));
        }
        let at = self.now + span;
        self.at(at, Due::Deed(self.generation, action));
    }

    /// A part of the ledger is to be written; the writer takes one after the other.
    pub(super) fn written(&mut self, generation: u64) -> Result<(), String> {
        if generation != self.generation {
            return Ok(());
        }
        if self.now < self.disk_hangs_until {
            self.shelf.forgetful = true;
            self.at(self.now + Duration::from_secs(10), Due::Written(generation));
            return Ok(());
        }
        let Some(entry) = self.to_write.pop_front() else {
            return Ok(());
        };
        let part = entry.part();
        let result = if self.now < self.disk_full_until {
            self.shelf.forgetful |= part == Part::Book;
            Err("no space left on device".to_owned())
        } else {
            let durable = self.writer.clone().with(entry);
            self.reboots_before_write = self.on_disk().budgets.reboots.count();
            self.on_medium(&durable, part);
            self.writer = durable;
            Ok(())
        };
        self.deliver(generation, Event::Persisted(part, result))
    }

    /// What must hold of releases after every event.
    pub(super) fn check_releases(&mut self) -> Result<(), String> {
        if let Some(text) = self.broken.take() {
            return Err(text);
        }
        let watched = self.on_disk().book.trial.is_some() && self.now > self.shelf.trial_by;
        if !watched && !std::mem::take(&mut self.news) {
            return Ok(());
        }
        let Some(view) = self.view_of_update() else {
            return Ok(());
        };
        if self.shelf.stage.0 != view.stage {
            self.shelf.stage = (view.stage, self.now);
        }
        let disk = self.on_disk().book.clone();
        if let Some(trial) = &disk.trial {
            if trial.deaths >= self::trial().tries && trial.reverting.is_none() {
                return Err(format!("{} has died too often: {disk:?}", trial.release));
            }
            let late = self.now > self.shelf.trial_by && trial.reverting.is_none();
            let wanted = view.book.trial.as_ref();
            if late && wanted.is_some_and(|trial| trial.reverting.is_none()) {
                return Err(format!("the trial does not end: {view:?}"));
            }
            let late = self.now > self.shelf.trial_by + SLACK && trial.reverting.is_none();
            if late && !self.shelf.forgetful && self.disk_slow == Duration::ZERO {
                return Err(format!("the trial's end is not written: {disk:?}"));
            }
        }
        let copied = view.book.trial.as_ref().is_some_and(|trial| trial.snapshot);
        let recording = view.stage == "trial" && view.trial_since.is_none();
        let empty =
            matches!(view.stage, "snapshot" | "rollback" | "ending") || (recording && copied);
        let there = self.daemon.as_ref().is_some_and(|daemon| {
            let seen = daemon.supervisor().view().containers;
            let wanted = self.in_force();
            let same = |role: &Role| seen.iter().any(|one| one.role == *role);
            seen.len() == wanted.len() && wanted.iter().all(|one| same(&one.role))
        });
        if !there && !empty {
            return Err(format!("what is in force is not wanted: {view:?}"));
        }
        for (what, id) in [("current", &disk.current), ("previous", &disk.previous)] {
            if let Some(id) = id
                && !self.shelf.folders.contains(id)
                && !self.shelf.forgetful
            {
                return Err(format!("the {what} release {id} is not there any more"));
            }
        }
        if let Some(most) = self.shelf.since_offer.values().max()
            && *most > WRITES + 100
        {
            return Err(format!("{most} writes for one update"));
        }
        if self.shelf.most_writes > WRITES {
            return Err(format!("{} writes for one update", self.shelf.most_writes));
        }
        Ok(())
    }

    /// Neither the watchdog nor the node may be used up for a release on trial.
    pub(super) fn no_upper_rung_on_trial(&self) -> Result<(), String> {
        let (Some(view), Some(tried)) = (self.view_of_update(), &self.shelf.began) else {
            return Ok(());
        };
        let containers = (self.daemon.as_ref())
            .is_some_and(|daemon| !daemon.supervisor().view().containers.is_empty());
        let runs = containers && self.shelf.enforced.as_ref() == Some(tried);
        if runs && view.book.current.as_ref() != Some(tried) {
            return Err(format!("an upper rung is used while {tried} is on trial"));
        }
        Ok(())
    }

    /// Whether the update has come to an end, or waits for what is there.
    pub(super) fn settled(&self) -> Result<(), String> {
        let Some(view) = self.view_of_update() else {
            return Err("no daemon runs".to_owned());
        };
        let book = &view.book;
        if self.on_disk().book != *book {
            return Err(format!("the ledger is not written: {view:?}"));
        }
        if book.trial.is_some() || book.current != self.shelf.enforced {
            return Err(format!("the update does not end: {view:?}"));
        }
        let busy = (0..roles().len()).any(|which| self.is_busy(which));
        let waits = book.next.as_ref().is_some_and(|next| match next.by {
            By::Manual => true,
            By::Policy => book.held || self.shelf.manual || busy,
            By::Hand => busy,
            By::Force | By::Back => false,
        });
        let idle = view.stage == "idle" && book.next.is_none();
        // It may be brought again.
        let lacks = (book.next.as_ref()).is_some_and(|next| !self.shelf.is_whole(&next.release));
        if idle || (waits && view.stage == "waiting") || (lacks && view.stage == "staging") {
            Ok(())
        } else {
            Err(format!("the update waits for nothing: {view:?}"))
        }
    }

    /// The policy of updates.
    pub(super) fn activation(&self) -> Activation {
        if self.shelf.manual {
            Activation::Manual
        } else {
            Activation::Automatic
        }
    }

    fn broken(&mut self, text: String) {
        self.broken.get_or_insert(text);
    }

    /// The release that is committed, by number.
    pub fn current(&self) -> Option<usize> {
        self.on_disk().book.current.as_ref().map(number)
    }
}
