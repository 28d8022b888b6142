//! The half that reads a stick: the store's owner and nobody else, then shut in.
//!
//! It has no capability, no group of the engine's, no way to speak to anyone and no program to start
//! before it reads the first name on the stick. What it says goes to root's half, which believes none of it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Seek, Write, stdout};
use std::path::Path;

use super::report::{Line, What};
use crate::bundle::{
    BundleError, KeyId, Machine, Opened, Refusal, TakeOptions, Trust, open, take_file,
};
use crate::cli::bundle::release_line;
use crate::cli::complain;
use crate::core::update::ReleaseId;
use crate::exit::Exit;
use crate::image::{ImportError, ImportOptions, Source, Store, import};
use crate::medium::list::{self, Candidate, Kind};
use crate::owner;
use crate::paths::Paths;
use crate::release::{Origin, Releases};
use crate::sandbox;

/// Reads what is mounted there into the store.
pub fn run(paths: &Paths, medium: &Path, unsigned: bool, max_image_size: u64) -> Exit {
    let fail = |text: String| {
        complain(text);
        Exit::Failed
    };
    // Read now: the store's owner may not be let at the keys.
    let trust = match Trust::of_folder(&paths.keys()) {
        Ok(trust) => trust,
        Err(error) => return fail(format!("cannot read the keys in keys.d: {error}")),
    };
    let machine = Machine::here(paths);
    if let Err(text) = owner::become_owner_alone(paths) {
        return fail(text);
    }
    // Without whoever asked for it, the work is for nobody.
    owner::end_with_parent();
    for fault in trust.faults() {
        complain(format_args!("key not used: {fault}"));
    }
    let store = match Store::open(&paths.store()) {
        Ok(store) => store,
        Err(error) => return fail(error.to_string()),
    };
    let incoming = Releases::incoming(paths);
    if let Err(error) = incoming.prepare() {
        return fail(error.to_string());
    }
    let ours = [&*paths.store(), &paths.incoming()];
    if let Err(text) = sandbox::enter(&ours, &[medium, &paths.releases()]) {
        return fail(format!("sticks are not read without it: {text}"));
    }
    let reader = Reader {
        store: &store,
        incoming,
        releases: Releases::new(paths),
        trust,
        options: TakeOptions {
            machine,
            max_image_size,
            // Whether it is a downgrade the daemon knows, and says when it is offered.
            accepted: BTreeMap::new(),
        },
    };
    reader.read(medium, unsigned);
    say(&Line::End);
    Exit::Done
}

/// A line to root's half. If that is gone, this process is about to end.
fn say(line: &Line) {
    if let Ok(text) = serde_json::to_string(line) {
        let mut out = stdout().lock();
        let _ = writeln!(out, "{text}").and_then(|()| out.flush());
    }
}

fn tell(name: &str, what: What) {
    say(&Line::File {
        name: name.to_owned(),
        what,
    });
}

/// A bundle of which the manifest has held.
struct Front {
    name: String,
    file: File,
    opened: Opened,
}

struct Reader<'s> {
    store: &'s Store,
    incoming: Releases,
    /// To look at: they tell what is known already.
    releases: Releases,
    trust: Trust,
    options: TakeOptions,
}

impl Reader<'_> {
    fn read(&self, medium: &Path, unsigned: bool) {
        let listing = list::list(medium, unsigned);
        for (name, error) in &listing.faults {
            tell(name, What::Failed(format!("cannot be read: {error}")));
        }
        let mut fronts = Vec::new();
        let mut archives = Vec::new();
        for Candidate { name, kind, file } in listing.files {
            match (kind, file) {
                (_, Err(error)) => tell(&name, What::Failed(unopened(&error))),
                (Kind::Archive, Ok(file)) => archives.push((name, file)),
                (Kind::Bundle, Ok(file)) => match self.front(&file) {
                    Ok(opened) => fronts.push(Front { name, file, opened }),
                    Err(error) => tell(&name, fault(error)),
                },
            }
        }
        if listing.left_out > 0 {
            let text = format!("only the first {} by name are looked at", list::FILES);
            tell(
                &format!("{} more files", listing.left_out),
                What::Skipped(text),
            );
        }
        self.newest_of_each_key(fronts);
        for (name, mut file) in archives {
            tell(&name, self.archive(&name, &mut file));
        }
    }

    fn front(&self, file: &File) -> Result<Opened, BundleError> {
        let opened = open(
            &mut BufReader::new(file),
            &self.trust,
            Some(&self.options.machine),
        )?;
        (&*file).rewind().map_err(BundleError::Read)?;
        Ok(opened)
    }

    /// Takes of each key's bundles the one with the highest sequence that can be taken.
    fn newest_of_each_key(&self, mut fronts: Vec<Front>) {
        // The sort keeps the order of their names otherwise.
        fronts.sort_by_key(|front| std::cmp::Reverse(front.opened.manifest.sequence));
        let mut done: BTreeMap<KeyId, String> = BTreeMap::new();
        for Front { name, file, opened } in fronts {
            if let Some(newer) = done.get(&opened.key) {
                let line = release_line(&opened.manifest);
                tell(
                    &name,
                    What::Skipped(format!("{line}, is not newer than {newer}")),
                );
                continue;
            }
            let what = self.bundle(&file, &opened);
            if let What::Taken { .. } | What::Known { .. } = what {
                done.insert(opened.key, name.clone());
            }
            tell(&name, what);
        }
    }

    fn bundle(&self, file: &File, opened: &Opened) -> What {
        let line = release_line(&opened.manifest);
        if let Some(release) = self.known(opened) {
            return What::Known { release, line };
        }
        let taken = take_file(file, self.store, &self.trust, &self.options, &mut |_| {
            say(&Line::Moved);
        });
        match taken {
            // Signed anew, or another file, since it was looked at first.
            Ok(taken) if taken.digest != opened.digest => {
                What::Failed("it changed while it was read".to_owned())
            }
            Ok(taken) => match self.incoming.add_bundle(&taken) {
                Ok(release) => What::Taken {
                    release: release.id,
                    line,
                },
                Err(error) => What::Failed(error.to_string()),
            },
            Err(error) => fault(error),
        }
    }

    /// The release that this very manifest has brought before, with all of its images in the store.
    fn known(&self, opened: &Opened) -> Option<ReleaseId> {
        let whole = |id: &String| {
            let image = self.store.resolve(id).ok().flatten();
            image.is_some_and(|image| image.layers_present || image.dropped)
        };
        // It may still wait for the daemon.
        [&self.releases, &self.incoming]
            .into_iter()
            .find_map(|place| {
                let found = place.list().ok()?.into_iter().flatten();
                found
                    .filter(|release| match &release.origin {
                        Origin::Local => false,
                        Origin::Bundle { sequence, key, .. } => {
                            *sequence == opened.manifest.sequence && *key == opened.key.to_string()
                        }
                    })
                    .filter(|release| release.images.values().flatten().all(whole))
                    .map(|release| release.id)
                    .find(|id| {
                        let manifest = std::fs::read(place.folder(id).join("manifest"));
                        manifest.is_ok_and(|bytes| bytes == opened.manifest_bytes)
                            && place.verify(id, &self.trust).is_ok()
                    })
            })
    }

    fn archive(&self, name: &str, file: &mut File) -> What {
        let options = ImportOptions {
            max_image_size: self.options.max_image_size,
            ..ImportOptions::default()
        };
        let source = Source::Stream { name, reader: file };
        match import(self.store, source, &options, &mut |_| say(&Line::Moved)) {
            Ok(imported) => {
                let names: Vec<String> = imported
                    .images
                    .into_iter()
                    .flat_map(|image| image.references)
                    .collect();
                What::Archive(names.join(", "))
            }
            Err(error) => by_import(error),
        }
    }
}

fn unopened(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::PermissionDenied {
        format!("cannot be read: {error}; monopod reads it as its own user: chmod a+r")
    } else {
        format!("cannot be read: {error}")
    }
}

fn fault(error: BundleError) -> What {
    match error {
        // Whoever has different machines puts the bundles of all of them on one stick.
        BundleError::Refused(refusal @ (Refusal::Architecture { .. } | Refusal::Board { .. })) => {
            What::Skipped(refusal.to_string())
        }
        BundleError::Refused(refusal) => What::Refused(refusal.to_string()),
        BundleError::Read(error) => What::Failed(format!("cannot be read: {error}")),
        BundleError::Import(error) => by_import(error),
        error @ (BundleError::Write { .. } | BundleError::Usage(_)) => {
            What::Failed(error.to_string())
        }
    }
}

fn by_import(error: ImportError) -> What {
    match error {
        ImportError::Refused(reason) => What::Refused(reason),
        error @ (ImportError::Usage(_)
        | ImportError::NoSpace { .. }
        | ImportError::NotFound(_)
        | ImportError::Read { .. }
        | ImportError::Store(_)) => What::Failed(error.to_string()),
    }
}
