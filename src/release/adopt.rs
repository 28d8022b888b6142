//! From the drop folder to a release of the daemon's own.
//!
//! What lies there was written by a process that parses strangers' bytes, and may be anything by now. So
//! nothing of it is believed: each file is opened once, not by a link, and read up to a bound; the
//! signature is checked before the manifest is parsed, and everything else is derived from the manifest
//! again; the record that lies beside it is not asked. What holds is written anew, by the way of every
//! release. It must never move a file from there to here.

use std::ffi::{OsStr, OsString};
use std::io;
use std::time::Duration;

use super::files::{Folder, Lock};
use super::folder::Content;
use super::{HOOK, IMAGE, MANIFEST, RECORD, Release, ReleaseError, Releases, SIGNATURE, WORKLOAD};
use crate::bundle::{Machine, Trust, limits, workload_name};
use crate::core::update::ReleaseId;
use crate::paths::Paths;
use crate::probe::tame;

/// Most that is looked at in one round.
const ROUND: usize = 64;

/// Files that every release may have, those of its images apart.
const FILES: [&str; 5] = [RECORD, WORKLOAD, HOOK, MANIFEST, SIGNATURE];

/// How long whoever writes to the drop folder is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Most characters of a stranger's name in a message, and of the whole of it.
const SHOWN: usize = 40;
const LINE: usize = 400;

/// What one round came to.
#[derive(Debug, Default)]
pub struct Adopted {
    /// What is a release now, and has left the drop folder.
    pub taken: Vec<Release>,
    /// What was removed: its name, and why.
    pub refused: Vec<(String, String)>,
    /// What stays where it is, since it cannot be read or written just now.
    pub left: Vec<ReleaseError>,
    /// There is more to look at.
    pub more: bool,
}

impl Adopted {
    /// Whether something still lies there that may be a release.
    pub fn is_unfinished(&self) -> bool {
        self.more || !self.left.is_empty()
    }

    /// A line for people for each that was removed, and for each that stays.
    pub fn complaints(&self) -> impl Iterator<Item = String> {
        let refused = self.refused.iter().map(|(name, reason)| {
            let reason = tame(reason, LINE);
            format!("{name} was brought, and is refused and removed: {reason}")
        });
        let left = self.left.iter();
        refused.chain(left.map(|error| format!("what was brought is not taken over yet: {error}")))
    }
}

impl Releases {
    /// The ids that something in the folder has for a name, at most so many, in order. Whether there is a
    /// release behind one is not looked at.
    pub fn ids(&self, most: usize) -> io::Result<Vec<ReleaseId>> {
        let folder = match Folder::open(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            folder => folder?,
        };
        let names = folder.names(most)?;
        let ids = names
            .iter()
            .filter_map(|name| ReleaseId::new(name.to_str()?));
        let mut ids: Vec<ReleaseId> = ids.collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// Whether nothing lies in the folder, for certain.
    pub fn is_empty(&self) -> bool {
        match Folder::open(&self.folder).and_then(|folder| folder.names(1)) {
            Ok(names) => names.is_empty(),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }

    /// [`Releases::adopt`] for the node with these paths, with its keys as they are now.
    ///
    /// # Errors
    ///
    /// A sentence for people: it was not looked at, and everything stays.
    pub fn adopt_here(paths: &Paths, first: &[ReleaseId]) -> Result<Adopted, String> {
        let incoming = Self::incoming(paths);
        if incoming.is_empty() {
            return Ok(Adopted::default());
        }
        let keys = paths.keys();
        let trust = Trust::of_folder(&keys)
            .map_err(|error| format!("cannot read {}: {error}", keys.display()))?;
        Self::new(paths)
            .adopt(&incoming, &trust, &Machine::here(paths), first)
            .map_err(|error| error.to_string())
    }

    /// Takes over what lies in the drop folder `incoming`: those of `first` first, and no more than 64 in
    /// all, since whoever writes there may write without end. What a key that counts now has signed for this
    /// machine becomes a release; everything else is removed. A key that comes later finds nothing there:
    /// who writes there has the same keys, and refuses what they do not hold for.
    ///
    /// # Errors
    ///
    /// The drop folder cannot be read, or somebody else writes to it all the time. Everything stays.
    pub fn adopt(
        &self,
        incoming: &Self,
        trust: &Trust,
        machine: &Machine,
        first: &[ReleaseId],
    ) -> Result<Adopted, ReleaseError> {
        let mut adopted = Adopted::default();
        if incoming.is_empty() {
            return Ok(adopted);
        }
        let unread = |error| ReleaseError::io("read", &incoming.folder)(error);
        let _lock = Lock::take_within(&incoming.folder, PATIENCE)?;
        let folder = Folder::open(&incoming.folder).map_err(unread)?;
        let mut names: Vec<OsString> = first.iter().map(|id| id.as_str().into()).collect();
        let mut others = folder.names(ROUND).map_err(unread)?;
        others.retain(|name| !names.contains(name));
        others.sort_unstable();
        names.extend(others);
        names.truncate(ROUND);
        for name in names {
            let judged = self.judge(incoming, &name, trust, machine, &mut adopted);
            let cleared = judged.and_then(|()| {
                let path = incoming.folder.join(&name);
                folder
                    .clear(&name)
                    .map_err(ReleaseError::io("remove", &path))
            });
            match cleared {
                // It was taken away, or is being replaced.
                Ok(()) | Err(ReleaseError::NotFound(_)) => {}
                Err(error) => adopted.left.push(error),
            }
        }
        let left = adopted.left.len();
        adopted.more = folder.names(left + 1).map_err(unread)?.len() > left;
        Ok(adopted)
    }

    /// Makes a release of it, or says why not.
    ///
    /// # Errors
    ///
    /// It is not to be removed.
    fn judge(
        &self,
        incoming: &Self,
        name: &OsStr,
        trust: &Trust,
        machine: &Machine,
        adopted: &mut Adopted,
    ) -> Result<(), ReleaseError> {
        let shown = name.to_string_lossy();
        let Some(id) = name.to_str().and_then(ReleaseId::new) else {
            // What begins so is what a writer that was killed has left.
            if !shown.starts_with('.') {
                let reason = "that is no release's name".to_owned();
                adopted.refused.push((tame(&shown, SHOWN), reason));
            }
            return Ok(());
        };
        match self.take_over(incoming, &id, trust, machine) {
            Ok(put) => adopted.taken.push(put?),
            Err(error) => {
                let reason = refusal(error)?;
                adopted.refused.push((id.to_string(), reason));
            }
        }
        Ok(())
    }

    /// Within it, what came of writing a release of what holds.
    fn take_over(
        &self,
        incoming: &Self,
        id: &ReleaseId,
        trust: &Trust,
        machine: &Machine,
    ) -> Result<Result<Release, ReleaseError>, ReleaseError> {
        let open = incoming.open(id)?;
        let signed = open.signed(trust)?;
        if let Err(refusal) = machine.check(&signed.manifest) {
            return Err(open.refused(refusal.to_string()));
        }
        let name = workload_name(&signed.workload)
            .map_err(|reason| open.refused(format!("{WORKLOAD} is not usable: {reason}")))?;
        // One more than all that there can be.
        let listed = open.folder.names(FILES.len() + limits::IMAGES + 1);
        for found in listed.map_err(ReleaseError::io("read", &incoming.folder(id)))? {
            let known = found.to_str().is_some_and(|found| {
                let mut images = signed.image_manifests.keys();
                FILES.contains(&found)
                    || found
                        .strip_prefix(IMAGE)
                        .is_some_and(|hex| images.any(|digest| digest.hex() == hex))
            });
            if !known {
                let shown = tame(&found.to_string_lossy(), SHOWN);
                return Err(open.refused(format!("{shown} is no file that was signed")));
            }
        }
        let content = Content {
            key: signed.key,
            manifest: &signed.manifest,
            manifest_bytes: &signed.manifest_bytes,
            signature: &signed.signature,
            name: &name,
            workload: &signed.workload,
            hook: signed.hook.as_deref(),
            image_manifests: &signed.image_manifests,
            images: signed.images,
        };
        if content.id() != *id {
            return Err(open.refused("its content is not what its id says".to_owned()));
        }
        Ok(self.prepare().and_then(|()| self.put_bundle(&content)))
    }
}

/// Why something is removed.
///
/// # Errors
///
/// It is not, since it cannot be read just now.
fn refusal(error: ReleaseError) -> Result<String, ReleaseError> {
    match error {
        ReleaseError::Damaged(damaged) => Ok(damaged.reason),
        ReleaseError::Refused { reason, .. } => Ok(reason),
        // Whoever writes a release there may read it, too: that was changed by hand.
        ReleaseError::Io { ref source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
            Ok(error.to_string())
        }
        error @ (ReleaseError::Unsigned(_)
        | ReleaseError::NotFound(_)
        | ReleaseError::Io { .. }) => Err(error),
    }
}
