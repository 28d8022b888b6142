//! `monopod bundle`: keys, and bundles made, looked at, verified and signed.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::complain;
use crate::bundle::{BundleError, Kind, Manifest, Member, Trust, Version};
use crate::exit::Exit;
use crate::image::ImportError;
use crate::paths::Paths;

mod desk;
mod saved;
mod show;

const EXAMPLES: &str = "\
Examples:
  monopod bundle keygen                                   monopod.key (secret) and monopod.pub
  monopod bundle create --workload workload.toml --image gateway.tar --release 1.4.2 --sequence 7 \\
      --key monopod.key --output gateway-1.4.2.bundle
  monopod bundle verify gateway-1.4.2.bundle --key monopod.pub
  monopod bundle inspect gateway-1.4.2.bundle --key monopod.pub

Keys and signatures are minisign's: `monopod bundle inspect --manifest` gives what is signed, and a
signature that `minisign -S` makes of it is put in with `monopod bundle sign --signature`.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 a file is invalid, 4 refused: it does not verify, or
is not for this machine.";

/// Arguments of `monopod bundle`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, arg_required_else_help = true)]
pub struct Bundle {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a key pair; nothing that is there is overwritten
    Keygen(Keygen),
    /// Make a bundle of a workload file and the images that it names
    Create(Create),
    /// Show what is in a bundle
    Inspect(Inspect),
    /// Verify a whole bundle, changing nothing
    Verify(Verify),
    /// Sign a bundle, in place of the signature that it has
    Sign(Sign),
}

#[derive(Debug, Args)]
struct Keygen {
    /// Where the secret key goes
    #[arg(long, value_name = "FILE", default_value = "monopod.key")]
    key: PathBuf,
    /// Where the public key goes
    #[arg(long, value_name = "FILE", default_value = "monopod.pub")]
    public: PathBuf,
    /// Leave the secret key unencrypted
    #[arg(long, conflicts_with = "password_file")]
    no_password: bool,
    /// The password is this file's first line; else `$MONOPOD_KEY_PASSWORD`, else it is asked for
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

/// A secret key, and how it is opened.
#[derive(Debug, Args)]
struct Secret {
    /// Secret key to sign with; minisign's are fine
    #[arg(long, value_name = "SECRETKEY")]
    key: Option<PathBuf>,
    /// The key's password is this file's first line; else `$MONOPOD_KEY_PASSWORD`, else it is asked for
    #[arg(long, value_name = "FILE", requires = "key")]
    password_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Create {
    /// The workload file
    #[arg(long, value_name = "FILE")]
    workload: PathBuf,
    /// An image archive (docker save or OCI), a layout folder, or - for standard input; once for each
    #[arg(
        long = "image",
        value_name = "ARCHIVE",
        required_unless_present = "from_engine"
    )]
    images: Vec<PathBuf>,
    /// Take the images from this machine's engine, by its own command line (docker or podman)
    #[arg(long, conflicts_with = "images")]
    from_engine: bool,
    /// The release's version, for example 1.4.2
    #[arg(long, value_name = "VERSION")]
    release: String,
    /// Grows with every release; nodes refuse to go back
    #[arg(long, value_name = "N")]
    sequence: u64,
    /// A board that it is for, as the machine names itself; once for each, none means any
    #[arg(long = "board", value_name = "NAME")]
    boards: Vec<String>,
    /// An architecture that it is for, for example arm64; once for each. Default: the images'
    #[arg(long = "arch", value_name = "ARCH")]
    architectures: Vec<String>,
    /// The oldest monopod that can run it
    #[arg(long, value_name = "VERSION")]
    minimum_monopod: Option<Version>,
    /// A program that each node runs before it switches; it fails, the node does not switch
    #[arg(long, value_name = "FILE")]
    hook: Option<PathBuf>,
    /// Leave out the layers of this bundle, which the nodes have taken before
    #[arg(long, value_name = "OLD.bundle")]
    since: Option<PathBuf>,
    /// Public key that has signed OLD.bundle, if that was another than --key
    #[arg(long, value_name = "PUBLICKEY", requires = "since")]
    since_key: Option<PathBuf>,
    #[command(flatten)]
    secret: Secret,
    /// Where the bundle goes
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "one for each option")]
struct Inspect {
    /// The bundle
    file: PathBuf,
    /// Public key to verify with; default: those of /etc/monopod/keys.d
    #[arg(long, value_name = "PUBLICKEY")]
    key: Option<PathBuf>,
    /// Show it though nobody vouches for it
    #[arg(long, conflicts_with = "key")]
    unverified: bool,
    /// Write the manifest, byte for byte as it is signed, unverified
    #[arg(long, conflicts_with_all = ["json", "signature", "key", "unverified"])]
    manifest: bool,
    /// Write the signature, as minisign's file
    #[arg(long, conflicts_with_all = ["json", "key", "unverified"])]
    signature: bool,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Verify {
    /// The bundle
    file: PathBuf,
    /// Public key to verify with, whatever machine the release is for; default: as this node would,
    /// with /etc/monopod/keys.d
    #[arg(long, value_name = "PUBLICKEY")]
    key: Option<PathBuf>,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Sign {
    /// The bundle
    file: PathBuf,
    #[command(flatten)]
    secret: Secret,
    /// A signature that was made elsewhere, for example by `minisign -S`
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "key",
        required_unless_present = "key"
    )]
    signature: Option<PathBuf>,
    /// Public key that the signature must hold with
    #[arg(long, value_name = "PUBLICKEY", requires = "signature")]
    public: Option<PathBuf>,
    /// Where the signed bundle goes; default: in place of the old one
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Does one of these.
pub fn run(paths: &Paths, arguments: &Bundle) -> Exit {
    let done = match &arguments.verb {
        Verb::Keygen(keygen) => desk::make_keys(keygen),
        Verb::Create(create) => desk::make(create),
        Verb::Inspect(inspect) => show::look(paths, inspect),
        Verb::Verify(verify) => show::check(paths, verify),
        Verb::Sign(sign) => desk::put_signature(sign),
    };
    done.err().unwrap_or(Exit::Done)
}

/// Says why, and with which code it ends.
fn fail(exit: Exit, text: impl std::fmt::Display) -> Exit {
    complain(text);
    exit
}

/// The same for what became of a bundle.
pub(super) fn told(file: &Path, error: &BundleError) -> (Exit, String) {
    let name = file.display();
    match error {
        BundleError::Refused(refusal) => (Exit::Refused, format!("refused {name}: {refusal}")),
        BundleError::Read(error) => (Exit::Failed, format!("cannot read {name}: {error}")),
        BundleError::Write { .. } => (Exit::Failed, error.to_string()),
        BundleError::Usage(text) => (Exit::Usage, text.clone()),
        BundleError::Import(inner) => (import_exit(inner), inner.to_string()),
    }
}

/// What an import that did not happen ends with.
pub(super) fn import_exit(error: &ImportError) -> Exit {
    match error {
        ImportError::Refused(_) => Exit::Refused,
        ImportError::Usage(_) => Exit::Usage,
        ImportError::NoSpace { .. }
        | ImportError::NotFound(_)
        | ImportError::Read { .. }
        | ImportError::Store(_) => Exit::Failed,
    }
}

fn failed(file: &Path) -> impl FnOnce(BundleError) -> Exit {
    move |error| {
        let (exit, text) = told(file, &error);
        fail(exit, text)
    }
}

fn unreadable(file: &Path) -> impl FnOnce(io::Error) -> Exit {
    move |error| {
        fail(
            Exit::Failed,
            format_args!("cannot read {}: {error}", file.display()),
        )
    }
}

fn trust_in(file: &Path) -> Result<Trust, Exit> {
    Trust::of_key(file).map_err(|error| {
        let exit = match error.kind() {
            io::ErrorKind::Other => Exit::Invalid,
            _ => Exit::Failed,
        };
        let text = format_args!("cannot use the key {}: {error}", file.display());
        fail(exit, text)
    })
}

/// The keys of this node; what is wrong with them is told.
pub(super) fn node_trust(paths: &Paths) -> Result<Trust, Exit> {
    let folder = paths.keys();
    let trust = Trust::of_folder(&folder).map_err(unreadable(&folder))?;
    for fault in trust.faults() {
        complain(format_args!("key not used: {fault}"));
    }
    Ok(trust)
}

fn trust(paths: &Paths, key: Option<&Path>) -> Result<Trust, Exit> {
    match key {
        Some(file) => trust_in(file),
        None => node_trust(paths),
    }
}

fn open(file: &Path) -> Result<File, Exit> {
    File::open(file).map_err(unreadable(file))
}

/// `release 1.4.2, sequence 7`
pub(super) fn release_line(manifest: &Manifest) -> String {
    format!(
        "release {}, sequence {}",
        manifest.release, manifest.sequence
    )
}

fn absent_line(manifest: &Manifest) -> String {
    let layers = |members: &[Member]| {
        members
            .iter()
            .filter(|member| member.kind == Kind::Layer)
            .count()
    };
    let (absent, here) = (layers(&manifest.absent), layers(&manifest.members));
    format!(
        "{absent} of {} layers are not in it; a node must have them from the release before",
        absent + here
    )
}
