//! What is done on a desk, with a secret key: key pairs, bundles, signatures.

use std::fs::{self, File};
use std::io::{self, Read, Write, stdin};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::super::progress::Bar;
use super::super::{hint, note, password, print, table};
use super::saved::Saved;
use super::{
    Create, Keygen, Secret, Sign, absent_line, fail, failed, release_line, trust_in, unreadable,
};
use crate::bundle::{self, Created, Recipe, SecretError, SecretKey, Since, Trust};
use crate::exit::Exit;
use crate::image::Source;
use crate::spec::host::ThisHost;
use crate::spec::{self, diagnostic};

/// Makes a key pair.
pub(super) fn make_keys(arguments: &Keygen) -> Result<(), Exit> {
    let (secret_file, public_file) = (&arguments.key, &arguments.public);
    for file in [secret_file, public_file] {
        if file.symlink_metadata().is_ok() {
            let text = format_args!("{} is there already and stays", file.display());
            return Err(fail(Exit::Failed, text));
        }
    }
    let word = if arguments.no_password {
        None
    } else {
        let file = arguments.password_file.as_deref();
        let prompt = "Password for the new secret key: ";
        Some(password::ask(file, prompt, true)?)
    };
    let wrong = |error: SecretError| fail(Exit::Failed, error);
    let key = SecretKey::generate().map_err(wrong)?;
    let text = key.text(word.as_deref()).map_err(wrong)?;
    write_new(secret_file, 0o600, &text)?;
    write_new(public_file, 0o644, &key.public())?;
    print(format_args!("key {}", key.id()));
    note(format_args!(
        "{} signs and stays secret; {} goes to the nodes, into /etc/monopod/keys.d/",
        secret_file.display(),
        public_file.display()
    ));
    if word.is_none() {
        note("the secret key is not encrypted: whoever can read the file can sign");
    }
    Ok(())
}

fn write_new(file: &Path, mode: u32, text: &str) -> Result<(), Exit> {
    let written = File::options()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(file)
        .and_then(|mut open| {
            open.write_all(text.as_bytes())
                .and_then(|()| open.sync_all())
        });
    written.map_err(|error| {
        let text = format_args!("cannot write {}: {error}", file.display());
        fail(Exit::Failed, text)
    })
}

impl Secret {
    /// The key, if one is named.
    fn read(&self) -> Result<Option<SecretKey>, Exit> {
        let Some(file) = &self.key else {
            return Ok(None);
        };
        let wrong = |error: SecretError| {
            let text = format_args!("cannot use the key {}: {error}", file.display());
            fail(Exit::Invalid, text)
        };
        let text = password::small_text(file).map_err(unreadable(file))?;
        let mut word = String::new();
        if SecretKey::is_encrypted(&text).map_err(wrong)? {
            let prompt = format!("Password of {}: ", file.display());
            word = password::ask(self.password_file.as_deref(), &prompt, false)?;
        }
        SecretKey::parse(&text, &word).map(Some).map_err(wrong)
    }
}

/// Makes a bundle.
pub(super) fn make(arguments: &Create) -> Result<(), Exit> {
    // Taken before the check, so that what was checked last is not newer than what is signed.
    let workload = fs::read(&arguments.workload).map_err(unreadable(&arguments.workload))?;
    let references = workload_images(&arguments.workload)?;
    if fs::read(&arguments.workload).ok().as_ref() != Some(&workload) {
        let text = format_args!(
            "{} changed just now; try again",
            arguments.workload.display()
        );
        return Err(fail(Exit::Failed, text));
    }
    let pre_switch = match &arguments.hook {
        Some(hook) => Some(fs::read(hook).map_err(unreadable(hook))?),
        None => None,
    };
    let key = arguments.secret.read()?;
    let since = match &arguments.since {
        Some(old) => {
            bundle::since(old, &since_trust(arguments, key.as_ref())?).map_err(failed(old))?
        }
        None => Since::default(),
    };
    let recipe = Recipe {
        release: arguments.release.clone(),
        sequence: arguments.sequence,
        boards: arguments.boards.clone(),
        architectures: arguments.architectures.clone(),
        minimum_monopod: arguments.minimum_monopod,
        workload,
        references,
        pre_switch,
        since,
    };
    let mut stdin = stdin().lock();
    let mut input = Some(&mut stdin as &mut dyn Read);
    let mut archives = Vec::new();
    for path in &arguments.images {
        if path != Path::new("-") {
            archives.push(Source::Path(path));
        } else if let Some(reader) = input.take() {
            let name = "standard input";
            archives.push(Source::Stream { name, reader });
        } else {
            return Err(fail(Exit::Usage, "standard input can be read only once"));
        }
    }
    let saved = arguments
        .from_engine
        .then(|| Saved::start(&recipe.references));
    let mut saved = saved.transpose()?;
    if let Some(saved) = &mut saved {
        archives.push(Source::Stream {
            name: "the engine",
            reader: saved.stream(),
        });
    }
    let mut bar = Bar::new();
    let output = &arguments.output;
    let created = bundle::create(recipe, archives, key.as_ref(), output, &mut |progress| {
        bar.show(progress);
    });
    drop(bar);
    let created = created.map_err(failed(output))?;
    show_created(output, &created);
    Ok(())
}

/// Checks the workload file; the images that it names.
fn workload_images(file: &Path) -> Result<Vec<String>, Exit> {
    let (findings, images) = match spec::load_file(file, &ThisHost::default()) {
        Ok(loaded) => {
            let containers = loaded.value.containers.into_iter();
            let images = containers.map(|container| container.image).collect();
            (loaded.warnings, Ok(images))
        }
        Err(invalid) => (invalid.diagnostics, Err(Exit::Invalid)),
    };
    let text = diagnostic::render(&findings, diagnostic::colour_stderr());
    let _ = io::stderr().write_all(text.as_bytes());
    images
}

/// Whose signature the old bundle must have.
fn since_trust(arguments: &Create, key: Option<&SecretKey>) -> Result<Trust, Exit> {
    match (&arguments.since_key, key) {
        (Some(file), _) => trust_in(file),
        (None, Some(key)) => Ok(key.trust()),
        (None, None) => Err(fail(
            Exit::Usage,
            "--since needs --key or --since-key: the old bundle must verify",
        )),
    }
}

fn show_created(output: &Path, created: &Created) {
    let manifest = &created.manifest;
    print(format_args!(
        "{}: {}, {}, {}",
        output.display(),
        release_line(manifest),
        table::bytes(created.size),
        match created.key {
            Some(key) => format!("signed by {key}"),
            None => "not signed".to_owned(),
        }
    ));
    if !manifest.absent.is_empty() {
        note(absent_line(manifest));
    }
    if created.key.is_none() {
        hint("no node takes it before `monopod bundle sign`");
    }
}

/// Signs a bundle, or puts in a signature.
pub(super) fn put_signature(arguments: &Sign) -> Result<(), Exit> {
    let file = &arguments.file;
    let output = arguments.output.as_ref().unwrap_or(file);
    let signed = match (&arguments.signature, arguments.secret.read()?) {
        (Some(signature), _) => {
            let text = password::small_text(signature).map_err(unreadable(signature))?;
            let trust = arguments.public.as_deref().map(trust_in).transpose()?;
            bundle::attach(file, text.as_bytes(), trust.as_ref(), output)
        }
        (None, Some(key)) => bundle::resign(file, &key, output),
        (None, None) => return Err(fail(Exit::Usage, "either --key or --signature is needed")),
    };
    let id = signed.map_err(failed(file))?;
    print(format_args!("{}: signed by {id}", output.display()));
    if arguments.signature.is_some() && arguments.public.is_none() {
        note("whether the signature holds was not checked; --public PUBLICKEY does that");
    }
    Ok(())
}
