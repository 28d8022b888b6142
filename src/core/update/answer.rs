//! Answers to what people and importers ask.

use super::stage::Stage;
use super::trial::RECORD;
use super::{Ask, Book, By, Next, Origin, Refused, ReleaseId, Signed, Update, Wish};
use crate::core::api::ReportKind;
use crate::core::time::Time;

impl Update {
    /// Answers a request, in one sentence; what follows from it comes out of the next settling.
    ///
    /// # Errors
    ///
    /// Why it is not followed; nothing has changed then, but what the node's own file was last.
    pub(crate) fn ask(&mut self, now: Time, ask: Ask) -> Result<String, Refused> {
        self.now = self.now.max(now);
        if matches!(self.stage, Stage::Ending) {
            return Err(Refused::Refused("the daemon is ending".to_owned()));
        }
        match ask {
            Ask::Offer {
                release,
                origin,
                wish,
                downgrade,
            } => {
                // Whatever it is, what is damaged may have been mended by it.
                self.try_now();
                self.offer(&release, &origin, wish, downgrade)
            }
            Ask::Activate { release, force } => self.activate(release, force),
            Ask::RollBack => self.roll_back(),
            Ask::Retry(release) => self.retry(&release),
            Ask::Hold(held) => {
                self.write(|book| book.held = held);
                self.look_now();
                Ok(if held {
                    "no release is activated by itself until `monopod release unhold`".to_owned()
                } else {
                    "releases are activated as node.toml says".to_owned()
                })
            }
            Ask::Pin(release, pinned) => {
                self.write(|book| {
                    if pinned {
                        book.pinned.insert(release.clone());
                    } else {
                        book.pinned.remove(&release);
                    }
                });
                Ok(if pinned {
                    format!("release {release} is never pruned")
                } else {
                    format!("release {release} may be pruned")
                })
            }
        }
    }

    fn offer(
        &mut self,
        release: &ReleaseId,
        origin: &Origin,
        wish: Wish,
        downgrade: bool,
    ) -> Result<String, Refused> {
        let book = self.pen.wanted();
        let waits = (book.next.as_ref()).is_some_and(|next| next.release == *release);
        match origin {
            // What the file says was considered before, and something newer may have come since.
            Origin::Local if book.local.as_ref() == Some(release) && !waits => {
                return Ok(format!("release {release} is known already"));
            }
            Origin::Local => {}
            Origin::Bundle { key, sequence } => {
                let accepted = book.sequences.get(key).copied().unwrap_or(0);
                if *sequence < accepted && !downgrade {
                    return Err(Refused::Refused(format!(
                        "release {release} has sequence {sequence}, and {accepted} of key {key} was accepted: \
                         it is older; --allow-downgrade takes it all the same"
                    )));
                }
            }
        }
        // One that cannot be had at the moment bars nobody's way.
        let delayed = matches!(self.stage, Stage::Delayed { .. });
        if let Some(next) = &book.next
            && next.by == By::Back
            && next.release != *release
            && !delayed
        {
            return Err(Refused::Refused(format!(
                "release {} is coming back by hand; {release} is considered when that has ended and it is \
                 brought again",
                next.release
            )));
        }
        if *origin == Origin::Local {
            self.write(|book| book.local = Some(release.clone()));
        }
        if let Some(why) = self.pen.wanted().rejected(release) {
            return Err(Refused::Refused(format!(
                "release {release} was rejected: {why}; to try it once more: monopod release retry {release}"
            )));
        }
        let signed = match origin {
            Origin::Local => None,
            Origin::Bundle { key, sequence } => Some(Signed {
                key: key.clone(),
                sequence: *sequence,
                downgrade,
            }),
        };
        let book = self.pen.wanted();
        if let Some((newer, sequence)) = signed.as_ref().and_then(|signed| book.newer(signed))
            && !downgrade
        {
            return Err(Refused::Refused(format!(
                "release {newer} of the same key has sequence {sequence} and comes first: {release} is older; \
                 bring it again if that one fails"
            )));
        }
        if book.running() == Some(release) {
            if let Some(signed) = &signed
                && book.current.as_ref() == Some(release)
            {
                // It has proved itself under whatever number.
                self.write(|book| book.accept(signed));
            }
            // Whoever wants what runs wants nothing else.
            let book = self.pen.wanted();
            if book.next.is_some() && *origin == Origin::Local {
                self.write(|book| book.next = None);
            }
            return Ok(format!("release {release} runs already"));
        }
        let by = match wish {
            Wish::Take => By::Policy,
            Wish::Stage => By::Manual,
            Wish::Activate { force: false } => By::Hand,
            Wish::Activate { force: true } => By::Force,
        };
        self.set_next(release, by, signed);
        Ok(match by {
            By::Policy => format!("release {release} is staged and activated as node.toml says"),
            By::Manual => {
                format!("release {release} is staged; it waits for monopod release activate")
            }
            By::Hand | By::Force | By::Back => {
                format!("release {release} is staged and then tried")
            }
        })
    }

    /// A release is to be tried next. What somebody has said for it by hand stays said.
    fn set_next(&mut self, release: &ReleaseId, by: By, signed: Option<Signed>) {
        self.tell_passed_over(release);
        self.write(|book| {
            let signed = signed.or_else(|| book.signed(release).cloned());
            let weaker = book.next.as_ref().is_some_and(|next| {
                next.release == *release && by == By::Policy && next.by != By::Policy
            });
            if weaker {
                return;
            }
            let before = book.next.take_if(|next| next.release == *release);
            if before.is_none() {
                book.pass_over(signed.as_ref());
            }
            book.next = Some(Next {
                begun: before.as_ref().is_some_and(|next| next.begun),
                deaths: before.map_or(0, |next| next.deaths),
                ..Next::new(release.clone(), by, signed)
            });
        });
        self.look_now();
    }

    /// What was to be tried next makes way for this one, and somebody may still want it.
    fn tell_passed_over(&mut self, release: &ReleaseId) {
        let next = self.pen.wanted().next.as_ref();
        if let Some(passed) = next.map(|next| next.release.clone())
            && passed != *release
        {
            let text = format!(
                "release {passed} makes way for {release} and is not tried; to have it tried all the same: \
                 monopod release activate {passed}"
            );
            self.report(ReportKind::ReleaseDelayed, text);
        }
    }

    fn activate(&mut self, release: Option<ReleaseId>, force: bool) -> Result<String, Refused> {
        let book = self.pen.wanted();
        let release = match release {
            Some(release) => release,
            None => match &book.next {
                Some(next) => next.release.clone(),
                None => {
                    return Err(Refused::NotFound(
                        "no release waits; `monopod release list` shows those that are there"
                            .to_owned(),
                    ));
                }
            },
        };
        if book.running() == Some(&release) {
            return Err(Refused::Refused(format!("release {release} runs already")));
        }
        if let Some(why) = book.rejected(&release) {
            return Err(Refused::Refused(format!(
                "release {release} was rejected: {why}; to try it once more: monopod release retry {release}"
            )));
        }
        self.set_next(&release, if force { By::Force } else { By::Hand }, None);
        Ok(format!(
            "release {release} is tried as soon as it is staged"
        ))
    }

    fn roll_back(&mut self) -> Result<String, Refused> {
        const WHY: &str = "it was taken back by hand";
        match &self.stage {
            // One that has proved itself is the release that runs.
            Stage::Trial(trying) if trying.back && !trying.committing => {
                return Ok(format!("release {} has come back already", trying.release));
            }
            Stage::Trial(trying) if !trying.committing => {
                let release = trying.release.clone();
                self.take_back(WHY);
                return Ok(format!("release {release} is taken back"));
            }
            Stage::Back(back) => {
                return Ok(format!("release {} is being taken back", back.failed));
            }
            Stage::Noting { ready, .. }
            | Stage::Hooking { ready, .. }
            | Stage::Emptying { ready, .. }
            | Stage::Snapshotting { ready, .. }
            | Stage::Recording { ready, .. } => {
                let ready = ready.clone();
                if ready.by == By::Back {
                    return Ok(format!("release {} comes back already", ready.release));
                }
                self.call_off(&ready, WHY);
                return Ok(format!("release {} is not tried", ready.release));
            }
            Stage::Trial(_)
            | Stage::Idle
            | Stage::Staging { .. }
            | Stage::Delayed { .. }
            | Stage::Waiting { .. }
            | Stage::Ending => {}
        }
        let book = self.pen.wanted();
        let (Some(current), Some(previous)) = (book.current.clone(), book.previous.clone()) else {
            return Err(Refused::NotFound(
                "there is no release before the one that runs".to_owned(),
            ));
        };
        if let Some(why) = book.rejected(&previous) {
            return Err(Refused::Refused(format!(
                "the release before, {previous}, was rejected: {why}; to try it once more: \
                 monopod release retry {previous}"
            )));
        }
        self.tell_passed_over(&previous);
        self.write(|book| {
            book.reject(&current, WHY);
            book.pass_over(None);
            book.next = Some(Next::new(previous.clone(), By::Back, None));
        });
        if let Stage::Trial(trying) = &mut self.stage {
            trying.leaves.get_or_insert(self.now + RECORD);
        }
        self.look_now();
        Ok(format!(
            "release {previous} comes back in place of {current}"
        ))
    }

    fn retry(&mut self, release: &ReleaseId) -> Result<String, Refused> {
        let book: &Book = self.pen.wanted();
        if book.rejected(release).is_none() {
            return Err(Refused::NotFound(format!(
                "release {release} is not rejected; `monopod release list` shows those that are"
            )));
        }
        let runs = book.running() == Some(release);
        let signed = book.signed(release).cloned();
        self.write(|book| book.rejected.retain(|one| one.release != *release));
        if runs {
            return Ok(format!("release {release} runs, and is rejected no more"));
        }
        self.set_next(release, By::Hand, signed);
        Ok(format!("release {release} is tried once more"))
    }
}
