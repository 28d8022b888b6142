//! What anybody may do with a bundle: verify it, and look at it.

use std::io::{self, Write};

use serde::Serialize;

use super::super::feed::node;
use super::super::progress::Bar;
use super::super::{hint, note, print, table};
use super::{Inspect, Verify, absent_line, fail, failed, open, release_line, trust};
use crate::bundle::{self, KeyId, Machine, Manifest, read_raw};
use crate::exit::Exit;
use crate::paths::Paths;

/// Verifies a bundle.
pub(super) fn check(paths: &Paths, arguments: &Verify) -> Result<(), Exit> {
    let file = &arguments.file;
    let node = node(paths).map_err(|(exit, text)| fail(exit, text))?;
    let trust = trust(paths, arguments.key.as_deref())?;
    let here = arguments.key.is_none().then(|| Machine::here(paths));
    let open = open(file)?;
    let mut bar = Bar::new();
    let limit = node.store.max_image_size;
    let verified = bundle::verify(&open, &trust, here.as_ref(), limit, &mut |progress| {
        bar.show(progress);
    });
    drop(bar);
    let verified = verified.map_err(failed(file))?;
    if arguments.json {
        print_json(Some(verified.key), &verified.manifest);
    } else {
        print(format_args!(
            "{}: {}, {}, verified: signed by {}",
            file.display(),
            release_line(&verified.manifest),
            table::bytes(verified.size),
            verified.key
        ));
    }
    if !verified.manifest.absent.is_empty() {
        note(absent_line(&verified.manifest));
    }
    Ok(())
}

/// Shows what is in a bundle.
pub(super) fn look(paths: &Paths, arguments: &Inspect) -> Result<(), Exit> {
    let file = &arguments.file;
    let mut reader = io::BufReader::new(open(file)?);
    if arguments.manifest || arguments.signature {
        let raw = read_raw(&mut reader).map_err(failed(file))?;
        let bytes = if arguments.manifest {
            raw.manifest
        } else {
            raw.signature
        };
        if bytes.is_empty() {
            let text = format_args!("{} is not signed", file.display());
            return Err(fail(Exit::Refused, text));
        }
        return io::stdout()
            .write_all(&bytes)
            .map_err(|error| fail(Exit::Failed, format_args!("cannot write it: {error}")));
    }
    let (key, manifest) = if arguments.unverified {
        let raw = read_raw(&mut reader).map_err(failed(file))?;
        let manifest =
            Manifest::parse(&raw.manifest).map_err(|refusal| failed(file)(refusal.into()))?;
        (None, manifest)
    } else {
        let trust = trust(paths, arguments.key.as_deref())?;
        let opened = bundle::open(&mut reader, &trust, None).map_err(|error| {
            let exit = failed(file)(error);
            if exit == Exit::Refused {
                hint(
                    "--key PUBLICKEY verifies with another key, --unverified shows it all the same",
                );
            }
            exit
        })?;
        (Some(opened.key), opened.manifest)
    };
    if arguments.json {
        print_json(key, &manifest);
    } else {
        show(key, &manifest);
    }
    Ok(())
}

/// A manifest with the key that signed it.
#[derive(Serialize)]
struct Shown<'m> {
    /// `null` if nobody has verified it.
    key: Option<String>,
    manifest: &'m Manifest,
}

fn print_json(key: Option<KeyId>, manifest: &Manifest) {
    let shown = Shown {
        key: key.map(|key| key.to_string()),
        manifest,
    };
    if let Ok(text) = serde_json::to_string(&shown) {
        print(text);
    }
}

fn show(key: Option<KeyId>, manifest: &Manifest) {
    let any = |names: &[String]| match names {
        [] => "any".to_owned(),
        names => names.join(", "),
    };
    let signed = match key {
        Some(key) => format!("key {key}"),
        None => "not verified".to_owned(),
    };
    let minimum = manifest.minimum_monopod.map(|version| version.to_string());
    let mut rows = vec![
        ("release", manifest.release.clone()),
        ("sequence", manifest.sequence.to_string()),
        ("signed by", signed),
        ("architectures", any(&manifest.architectures)),
        ("boards", any(&manifest.boards)),
        ("monopod", minimum.unwrap_or_else(|| "any".to_owned())),
    ];
    for image in &manifest.images {
        rows.push(("image", image.reference.clone()));
    }
    for (word, members) in [
        ("member", &manifest.members),
        ("left out", &manifest.absent),
    ] {
        for member in members {
            let line = format!(
                "{}  {} {}",
                member.digest,
                member.kind.word(),
                table::bytes(member.size)
            );
            rows.push((word, line));
        }
    }
    let rows: Vec<Vec<String>> = rows
        .into_iter()
        .map(|(word, text)| vec![word.to_owned(), text])
        .collect();
    for line in table::lines(&rows) {
        print(line);
    }
}
