//! The files again, and releases that were brought: what is there now against what is in force.
//!
//! It reads and offers; what becomes of an offer is the core's to say.

use std::rc::Rc;

use tracing::{error, warn};

use super::in_force::InForce;
use super::incoming::Then;
use super::local::{self, LocalError};
use super::{Running, image, start};
use crate::bundle::Trust;
use crate::core::api::{Desired, Event, Policy};
use crate::core::update::{Ask, Origin, Refused, ReleaseId, Wish};
use crate::engine;
use crate::release::{self, Adopted, Release, ReleaseError, Releases};
use crate::spec;
use crate::spec::host::ThisHost;
use crate::spec::types::UpdatePolicy;
use crate::systemd::bus::{ReleaseAsk, RequestError};

impl Running {
    /// Does it now, or after what lies in the drop folder was looked at.
    pub(super) fn after_incoming(&mut self, then: Then) {
        if let Some(then) = self.incoming.first(&self.paths, then) {
            self.go_on(then, None);
        }
    }

    /// A look at the drop folder has ended so: whoever waited for it goes on.
    pub(super) fn looked(&mut self, ended: Option<&Adopted>) {
        for then in self.incoming.go_on(&self.paths, ended) {
            self.go_on(then, ended);
        }
    }

    fn go_on(&mut self, then: Then, ended: Option<&Adopted>) {
        // Who asked may be gone.
        match then {
            Then::Look => self.look_around(),
            Then::Offer => {
                // It may have mended what was damaged.
                self.step(Event::StoreDamaged(image::damage(&self.paths)));
                self.offer_brought();
            }
            Then::StoreChanged => {
                self.step(Event::StoreDamaged(image::damage(&self.paths)));
                self.step(Event::StoreChanged);
            }
            Then::Reload(reply) => {
                let result = self.reload();
                self.offer_brought();
                match (reply, result) {
                    (Some(reply), result) => drop(reply.send(result)),
                    (None, Ok(())) => {}
                    (None, Err(error)) => error!(
                        "not reloaded, what was in force stays so: {error}; `monopod check` shows it in full"
                    ),
                }
            }
            Then::Release(ask, reply) => {
                let id = ask.release().cloned();
                let answer = match (self.about_releases(ask), id) {
                    (Err(RequestError::NotFound(text)), Some(id)) => {
                        Err(self.why_not_there(&id, ended, text))
                    }
                    (answer, _) => answer,
                };
                let _ = reply.send(answer);
            }
        }
    }

    /// One that was brought may be missing for another reason than that nobody has brought it.
    fn why_not_there(&self, id: &ReleaseId, ended: Option<&Adopted>, text: String) -> RequestError {
        let mut refused = self.incoming.refused.iter();
        if let Some((_, reason)) = refused.find(|(name, _)| name == id.as_str()) {
            return RequestError::Refused(format!("release {id} is refused: {reason}"));
        }
        if Releases::incoming(&self.paths).folder(id).exists() {
            let text = format!("release {id} was brought, and is not taken over yet");
            let left = ended.and_then(|ended| ended.left.first());
            return RequestError::Failed(match left {
                Some(error) => format!("{text}: {error}"),
                None => text,
            });
        }
        RequestError::NotFound(text)
    }

    /// What the files as they are now would have run.
    pub(super) fn planned(&self) -> Result<Vec<Desired>, RequestError> {
        let known = self.node.update().book.local;
        let release = match local::release(&self.paths, known.as_ref()) {
            Ok(Some(release)) if Some(&release.id) != known.as_ref() => release.id,
            // The file is no news: what runs is what would run.
            Ok(_) => self.deeds.in_force().id().clone(),
            Err(error) => return Err(local_refused(&error)),
        };
        let in_force = InForce::load(&self.paths, &release)
            .map_err(|error| RequestError::Invalid(error.to_string()))?;
        Ok(in_force.desired(&self.paths))
    }

    /// Reads the files again and puts them in force. If they are wrong, those in force stay so, and the
    /// status says why until a reload goes well.
    ///
    /// # Errors
    ///
    /// Why they are not in force.
    pub(super) fn reload(&mut self) -> Result<(), RequestError> {
        self.notifier.reloading();
        let result = self.read_again().and_then(|(in_force, policy, update)| {
            let desired = in_force.desired(&self.paths);
            self.deeds.change(Rc::new(in_force));
            self.deeds.follow(update);
            self.step(Event::Reload {
                desired,
                policy: Some(policy),
            });
            let offered = self.offer_local(Wish::Activate { force: false });
            self.file_waits = matches!(offered, Err(RequestError::Refused(_)));
            offered
        });
        if let Err(error) = &result {
            self.step(Event::ReloadRefused(error.to_string()));
        }
        self.notifier.reloaded();
        result
    }

    /// The files, if they can be put in force while the daemon runs: the node's own, and those of the
    /// release in force with the drop-ins as they are now.
    fn read_again(&self) -> Result<(InForce, Policy, UpdatePolicy), RequestError> {
        let invalid = |text: String| RequestError::Invalid(text);
        let node = spec::load_node(&self.paths, &ThisHost::of_environment())
            .map_err(|error| invalid(error.to_string()))?
            .value;
        // Nothing is taken over of files of which one is wrong.
        let known = self.node.update().book.local;
        local::release(&self.paths, known.as_ref()).map_err(|error| local_refused(&error))?;
        let in_force = InForce::load(&self.paths, self.deeds.in_force().id())
            .map_err(|error| invalid(error.to_string()))?;
        let socket = engine::socket(&node, std::env::var("DOCKER_HOST").ok().as_deref())
            .map_err(RequestError::Failed)?;
        if socket != self.socket {
            return Err(RequestError::Failed(format!(
                "the engine's socket changed from {} to {}: `systemctl restart monopod` puts that in force",
                self.socket.display(),
                socket.display()
            )));
        }
        let policy = Policy {
            escalation: node.escalation,
            ready: node.ready,
            trial: node.trial,
            activation: node.update.activation,
        };
        Ok((in_force, policy, node.update))
    }

    /// Offers what is there and was not considered yet: the node's own file, and what was brought while
    /// no daemon could be told.
    pub(super) fn look_around(&mut self) {
        self.offer_brought();
        self.offer_file(Wish::Take);
    }

    /// Offers once more what came at a wrong moment. The node's own file is not looked at unless somebody has had it
    /// read again: who edits it says so when it is done.
    pub(super) fn offer_again(&mut self) {
        self.offer_brought();
        if std::mem::take(&mut self.file_waits) {
            self.offer_file(Wish::Activate { force: false });
        }
    }

    fn offer_file(&mut self, wish: Wish) {
        if let Err(error) = self.offer_local(wish) {
            error!("the workload file is not considered: {error}");
            self.step(Event::ReloadRefused(error.to_string()));
        }
    }

    /// Offers what was brought while no daemon could be told.
    fn offer_brought(&mut self) {
        for (release, origin) in start::brought(&self.paths, &self.node.update().book) {
            let ask = Ask::Offer {
                release,
                origin,
                wish: Wish::Take,
                downgrade: false,
            };
            if let Err(refused) = self.ask(ask) {
                warn!("{refused}");
            }
        }
    }

    /// Answers a request about releases. Whatever it names must be there, whole; a bundle's signature must
    /// hold now, by this daemon's own look.
    pub(super) fn about_releases(&mut self, ask: ReleaseAsk) -> Result<String, RequestError> {
        let releases = Releases::new(&self.paths);
        let there = |id: &ReleaseId| releases.read(id).map_err(release_refused);
        let ask = match ask {
            ReleaseAsk::Offer {
                id,
                wish,
                downgrade,
            } => {
                let origin = self.verified(&id)?;
                Ask::Offer {
                    release: id,
                    origin,
                    wish,
                    downgrade,
                }
            }
            ReleaseAsk::Activate { id, force } => {
                let release = id.as_ref().map(there).transpose()?;
                match release {
                    // One that was refused when it was offered, or never was, is offered now.
                    Some(release) if self.is_unknown(&release) => {
                        let origin = self.verified(&release.id)?;
                        Ask::Offer {
                            release: release.id,
                            origin,
                            wish: Wish::Activate { force },
                            downgrade: false,
                        }
                    }
                    Some(_) | None => Ask::Activate { release: id, force },
                }
            }
            ReleaseAsk::RollBack => Ask::RollBack,
            ReleaseAsk::Retry(id) => {
                there(&id)?;
                Ask::Retry(id)
            }
            ReleaseAsk::Hold(held) => Ask::Hold(held),
            ReleaseAsk::Pin(id, pinned) => {
                there(&id)?;
                Ask::Pin(id, pinned)
            }
        };
        self.ask(ask).map_err(core_refused)
    }

    /// Whether a bundle's release is in no part of the ledger.
    fn is_unknown(&self, release: &Release) -> bool {
        let book = self.node.update().book;
        let known = book.kept().contains(&release.id) || book.rejected(&release.id).is_some();
        !known && matches!(release.origin, release::Origin::Bundle { .. })
    }

    /// Where a release comes from, if its signature holds now.
    fn verified(&self, id: &ReleaseId) -> Result<Origin, RequestError> {
        let folder = self.paths.keys();
        let trust = Trust::of_folder(&folder).map_err(|error| {
            RequestError::Failed(format!("cannot read {}: {error}", folder.display()))
        })?;
        let origin = Releases::new(&self.paths).verify(id, &trust);
        origin
            .map(|origin| Origin::from(&origin))
            .map_err(release_refused)
    }

    /// Offers the release that the node's own file makes now, if that is news.
    fn offer_local(&mut self, wish: Wish) -> Result<(), RequestError> {
        let known = self.node.update().book.local;
        let release =
            local::release(&self.paths, known.as_ref()).map_err(|error| local_refused(&error))?;
        let Some(release) = release else {
            return Ok(());
        };
        let ask = Ask::Offer {
            release: release.id,
            origin: Origin::Local,
            wish,
            downgrade: false,
        };
        self.ask(ask).map(|_| ()).map_err(core_refused)
    }
}

// By value, because that is how map_err hands it over.
#[expect(clippy::needless_pass_by_value)]
fn release_refused(error: ReleaseError) -> RequestError {
    let text = error.to_string();
    match error {
        ReleaseError::NotFound(_) => RequestError::NotFound(text),
        ReleaseError::Unsigned(_) | ReleaseError::Refused { .. } => RequestError::Refused(text),
        ReleaseError::Damaged(_) | ReleaseError::Io { .. } => RequestError::Failed(text),
    }
}

fn core_refused(refused: Refused) -> RequestError {
    match refused {
        Refused::NotFound(text) => RequestError::NotFound(text),
        Refused::Refused(text) => RequestError::Refused(text),
    }
}

fn local_refused(error: &LocalError) -> RequestError {
    let text = error.to_string();
    match error {
        LocalError::Invalid(_) => RequestError::Invalid(text),
        LocalError::Release(_) | LocalError::Io(..) => RequestError::Failed(text),
    }
}
