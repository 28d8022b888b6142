//! Copying one tree, by `cp` of coreutils in a process that reaches nothing but the two places.
//!
//! `cp` knows the file systems that share blocks, holes, hard links and every kind of attribute; it is
//! part of each system that has systemd. What it could not copy as it was, is an error.

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use clap::Args;

use super::answer::{SAY, Sign};
use crate::cli::complain;
use crate::exit::Exit;
use crate::probe::tame;
use crate::{owner, sandbox};

/// How often it is looked whether it has ended.
const LOOK: Duration = Duration::from_millis(20);

/// Most bytes of its complaints that are kept.
const COMPLAINTS: usize = 2048;

/// What `cp` itself needs: the program, its libraries, and what is said of them. Nothing else below /etc: a volume
/// that leads there while it is copied must not come back with the node's secrets in it.
const PROGRAM: [&str; 8] = [
    "/usr",
    "/bin",
    "/lib",
    "/lib64",
    "/sbin",
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/etc/selinux",
];

/// Arguments of `monopod volumes copy`.
#[derive(Debug, Args)]
pub struct Copy {
    /// What is copied
    from: PathBuf,
    /// What it becomes; is not there yet
    to: PathBuf,
    /// Fail where blocks cannot be shared
    #[arg(long)]
    shared: bool,
    /// Whose work it is
    #[arg(long)]
    parent: i32,
}

/// Shuts itself in, and becomes `cp`.
pub fn run(copy: &Copy) -> Exit {
    owner::end_with_parent();
    // It may have ended before that was said.
    if nix::unistd::getppid().as_raw() != copy.parent {
        return Exit::Failed;
    }
    let read = PROGRAM.iter().map(Path::new).chain([copy.from.as_path()]);
    let write = copy.to.parent().unwrap_or(Path::new("."));
    if let Err(text) = sandbox::keep_places(read, write) {
        complain(text);
        return Exit::Failed;
    }
    let error = Command::new("cp")
        .args(["--archive", "--preserve=xattr", "--one-file-system"])
        .args(["--sparse=auto", "--no-target-directory"])
        .arg(if copy.shared {
            "--reflink=always"
        } else {
            "--reflink=auto"
        })
        .arg("--")
        .args([&copy.from, &copy.to])
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C")
        .exec();
    complain(format_args!("cp of coreutils cannot be started: {error}"));
    Exit::Failed
}

/// Whether a file system shares the blocks of `sample` with a copy of it called `to`, which does not stay.
pub fn shares(sample: &Path, to: &Path, place: &Path, sign: &Sign<'_>) -> bool {
    let shared = tree(sample, to, place, true, sign).is_ok();
    let removed = super::folder::remove(to);
    shared && removed.is_ok()
}

/// Copies `from` to `to`. `place` is a folder that only this process has the way to; what is below it is reached from
/// there.
pub fn tree(
    from: &Path,
    to: &Path,
    place: &Path,
    shared: bool,
    sign: &Sign<'_>,
) -> Result<(), String> {
    let below = |path| Path::strip_prefix(path, place).unwrap_or(path).to_owned();
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("monopod")
        .args(["volumes", "copy"])
        .args([below(from), below(to)])
        .args(shared.then_some("--shared"))
        .args(["--parent", &std::process::id().to_string()])
        .current_dir(place)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .map_err(|error| format!("the copy cannot be started: {error}"))?;
    let complaints = child.stderr.take();
    let reader = std::thread::spawn(move || complaints.map(first_of).unwrap_or_default());
    let status = followed(&mut child, sign).map_err(|error| format!("the copy is lost: {error}"));
    let said = reader.join().unwrap_or_default();
    if status?.success() {
        return Ok(());
    }
    let line = said
        .lines()
        .next()
        .unwrap_or("cp failed and does not say why");
    Err(tame(line, 400))
}

/// Waits for its end, and tells of what moves meanwhile.
fn followed(child: &mut Child, sign: &Sign<'_>) -> io::Result<ExitStatus> {
    let counters = PathBuf::from(format!("/proc/{}/io", child.id()));
    let mut seen = None;
    let mut said = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        std::thread::sleep(LOOK);
        if said.elapsed() >= SAY {
            said = Instant::now();
            // A kernel that does not count is taken at its word that all is well.
            let now = std::fs::read_to_string(&counters).ok();
            if now.is_none() || now != seen {
                sign.moved();
            }
            seen = now;
        }
    }
}

/// The first of what is said; the rest is read, so that nobody waits to be heard.
fn first_of(mut from: impl Read) -> String {
    let (mut first, mut piece) = (Vec::new(), [0; 512]);
    while let Ok(read) = from.read(&mut piece) {
        if read == 0 {
            break;
        }
        let left = COMPLAINTS - first.len();
        first.extend_from_slice(&piece[..read.min(left)]);
    }
    String::from_utf8_lossy(&first).into_owned()
}
