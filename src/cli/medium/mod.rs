//! `monopod import-medium`: what is done with a stick, from its insertion to "it can be removed".
//!
//! ```text
//!  who may mount:        probe, mount ─> wait ─> unmount ─> LED ─> wait
//!                                     │    ▲                    │
//!  `take`, with no rights, shut in:   └read┘                    │
//!  `tell`, with no rights, on the bus:    the daemon, the hook <┘
//! ```
//!
//! Who may mount must never read a file of the stick's, and never speak to the bus or an engine. It has
//! the stick unmounted before the daemon hears of a release, and so before anything is tried.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use clap::{Args, ValueEnum};
use nix::fcntl::OFlag;
use nix::sys::stat::{major, minor};
use nix::unistd::geteuid;
use tracing::{debug, info, warn};

use super::feed::node;
use crate::exit::Exit;
use crate::medium::led::{Led, Show};
use crate::medium::mount::Mounted;
use crate::medium::probe::{self, Found};
use crate::medium::{result, udev};
use crate::paths::Paths;
use crate::probe::tame;
use crate::spec::types::Node;
use crate::systemd::journal::{self, Stick};

mod report;
mod take;
mod tell;

use report::{LINE, Line, Outcome};
use tell::{Story, Told};

/// How long the reading half may be silent: one layer's reading and unpacking.
const PATIENCE: Duration = Duration::from_secs(900);

/// Most files that a reading half may tell of; it looks at far fewer.
const MOST: usize = 200;

/// Arguments of `monopod import-medium`.
#[derive(Debug, Args)]
pub struct Medium {
    /// The block device's name, as the kernel has it: `sda1`; of the other halves, the folder
    device: String,
    /// What is done by a process of its own
    #[arg(long, value_enum)]
    half: Option<Half>,
    #[arg(long)]
    unsigned: bool,
    #[arg(long, default_value_t = 0)]
    max_image_size: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Half {
    Light,
    Take,
    Tell,
}

/// Does one half.
pub fn run(paths: &Paths, arguments: &Medium) -> Exit {
    match arguments.half {
        None => hands(paths, &arguments.device),
        Some(Half::Light) => light(paths, &arguments.device),
        Some(Half::Take) => take::run(
            paths,
            Path::new(&arguments.device),
            arguments.unsigned,
            arguments.max_image_size,
        ),
        Some(Half::Tell) => tell::run(paths),
    }
}

/// Gives the LED to who shows by it what becomes of the stick, and lets it blink. As root.
fn light(paths: &Paths, name: &str) -> Exit {
    journal::init(false);
    // What is wrong with any of it is said by the half that reads.
    if let Ok(node) = node(paths)
        && node.usb.led.is_some()
        && let Ok(device) = Device::look(paths, name)
        && (device.entry.is_ours() || node.usb.any_label)
    {
        let owner = fs::metadata(paths.state()).map(|found| found.gid()).ok();
        Led::new(paths, node.usb.led.as_deref()).prepare(owner);
    }
    Exit::Done
}

/// All of it, by who may mount.
fn hands(paths: &Paths, name: &str) -> Exit {
    journal::init(false);
    let fail = |exit: Exit, text: &str| {
        journal::stick(Stick::Failed, &format!("{name} is not read: {text}"));
        exit
    };
    let node = match node(paths) {
        Ok(node) => node,
        Err((exit, text)) => return fail(exit, &text),
    };
    let mut device = match Device::look(paths, name) {
        Ok(device) => device,
        Err(error) => return fail(Exit::Failed, &error.to_string()),
    };
    let label = tame(device.entry.label.as_deref().unwrap_or_default(), 40);
    if !device.entry.is_ours() && !node.usb.any_label {
        debug!("{name} has the label \"{label}\", which does not begin with MONOPOD: left alone");
        return Exit::Done;
    }
    if geteuid().is_root() {
        light(paths, name);
    }
    let found = probe::probe(&mut device.file, device.entry.kind.as_deref());
    // Mounting wants it for itself.
    let Device { file, path, entry } = device;
    drop(file);
    let stick = Reading {
        paths,
        node: &node,
        name,
        path: &path,
    };
    let mut led = Led::new(paths, node.usb.led.as_deref());
    match found {
        Ok(found) => {
            let text = format!("reading {name}, labelled \"{label}\", {}", found.kind);
            journal::stick(Stick::Reading, &text);
            stick.read(found, &mut led)
        }
        // Whoever wants any stick read has some that are for other purposes.
        Err(error) if !entry.is_ours() => {
            info!("{name} {error}: left alone");
            Exit::Done
        }
        Err(error) => {
            let mut outcome = Outcome::default();
            outcome.broke(format!("the stick {error}"));
            stick.finish(&outcome, &mut led)
        }
    }
}

/// A block device, and what udev knows of it.
struct Device {
    file: File,
    path: PathBuf,
    entry: udev::Entry,
}

impl Device {
    fn look(paths: &Paths, name: &str) -> io::Result<Self> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
            return Err(io::Error::other("that is no block device's name"));
        }
        let path = paths.dev().join(name);
        let told = |error: io::Error| io::Error::other(format!("{}: {error}", path.display()));
        let file = OpenOptions::new()
            .read(true)
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
            .open(&path)
            .map_err(told)?;
        let found = file.metadata().map_err(told)?;
        if !found.file_type().is_block_device() {
            return Err(told(io::Error::other("it is no block device")));
        }
        let entry = udev::Entry::of(paths, major(found.rdev()), minor(found.rdev()));
        Ok(Self { file, path, entry })
    }
}

/// A stick that is read.
struct Reading<'s> {
    paths: &'s Paths,
    node: &'s Node,
    name: &'s str,
    path: &'s Path,
}

impl Reading<'_> {
    fn read(&self, found: Found, led: &mut Led) -> Exit {
        led.show(Show::Reading);
        let mut outcome = Outcome::default();
        let place = Place::new(&self.paths.media(), self.name);
        let mounted = place
            .as_ref()
            .map_err(ToString::to_string)
            .and_then(|place| {
                Mounted::new(self.path, found.kind, &place.0).map_err(|error| unmountable(&error))
            });
        match mounted {
            Ok(mounted) => {
                self.take(&mounted, &mut outcome);
                self.leave_result(&mounted, found, &outcome);
                if let Err(error) = mounted.unmount() {
                    warn!("{} is still in use: {error}", self.name);
                }
            }
            Err(text) => outcome.broke(text),
        }
        drop(place);
        self.finish(&outcome, led)
    }

    /// Has everything read by the half that has no rights.
    fn take(&self, mounted: &Mounted, outcome: &mut Outcome) {
        let mut command = helper(self.paths, Half::Take);
        command
            .arg(mounted.folder())
            .arg("--max-image-size")
            .arg(self.node.store.max_image_size.to_string());
        if self.node.usb.unsigned {
            command.arg("--unsigned");
        }
        let mut child = match command.stdin(Stdio::null()).spawn() {
            Ok(child) => child,
            Err(error) => return outcome.broke(format!("cannot run the helper process: {error}")),
        };
        let ended = self.listen(&mut child, outcome);
        match ended {
            Ok(true) => {}
            Ok(false) => outcome.broke(self.broken_off()),
            Err(()) => outcome.broke(format!(
                "{}; it was given up, as nothing has moved for {} minutes",
                self.broken_off(),
                PATIENCE.as_secs() / 60
            )),
        }
        if !self.path.exists() {
            outcome.broke(self.broken_off());
        }
    }

    /// Takes what the reading half says, until it has ended; whether it came to its own end. It is not
    /// waited for if it falls silent: who waits for a broken medium cannot even be killed.
    fn listen(&self, child: &mut Child, outcome: &mut Outcome) -> Result<bool, ()> {
        let Some(out) = child.stdout.take() else {
            return Ok(false);
        };
        // Whoever says more than is listened to, waits.
        let (sender, lines) = mpsc::sync_channel(16);
        std::thread::spawn(move || {
            let mut out = BufReader::new(out);
            while let Some(line) = next_line(&mut out) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut whole = false;
        loop {
            match lines.recv_timeout(PATIENCE) {
                Ok(Line::End) => whole = true,
                Ok(Line::File { name, what }) if outcome.count() < MOST => {
                    let kind = what.kind();
                    journal::stick(
                        kind,
                        &format!("{}: {}", self.name, outcome.add(&name, what)),
                    );
                }
                Ok(Line::Moved | Line::File { .. }) => {}
                Err(RecvTimeoutError::Timeout) => return Err(()),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let status = child.wait().map_err(|_| ())?;
        Ok(whole && status.success())
    }

    fn broken_off(&self) -> String {
        if self.path.exists() {
            "the stick was not read to its end".to_owned()
        } else {
            "the stick was pulled out before all was read; put it in again, and monopod goes on from there"
                .to_owned()
        }
    }

    /// Writes the result to the stick, if it may be and can be.
    fn leave_result(&self, mounted: &Mounted, found: Found, outcome: &Outcome) {
        if !self.node.usb.result || !self.path.exists() {
            return;
        }
        if !found.clean {
            info!(
                "{} gets no {}: nothing is written to {} that is read-only or was not unmounted cleanly",
                self.name,
                result::NAME,
                found.kind
            );
            return;
        }
        let host = fs::read_to_string(self.paths.hostname()).unwrap_or_default();
        let text = outcome.text(&tame(&host, 64));
        let written = mounted
            .make_writable()
            .and_then(|()| result::write(mounted.folder(), &text));
        if let Err(error) = written {
            warn!("{} gets no {}: {error}", self.name, result::NAME);
        }
    }

    /// Tells everyone that it can be removed, and only then the daemon what there is to be tried.
    fn finish(&self, outcome: &Outcome, led: &mut Led) -> Exit {
        let mut good = outcome.is_good();
        led.show(if good { Show::Good } else { Show::Bad });
        if !good && outcome.count() == 0 {
            let text = format!("{}: {}", self.name, outcome.line());
            journal::stick(Stick::Failed, &text);
        }
        let text = format!("{} can be removed: {}", self.name, outcome.line());
        journal::stick(Stick::Free, &text);
        let story = Story {
            line: format!("{}; it can be removed", outcome.line()),
            good,
            archives: outcome.has_archives(),
            releases: outcome.releases(),
            hook: self.node.usb.hook.clone(),
        };
        match self.tell(&story) {
            Ok(Told { refused: false }) => {}
            Ok(Told { refused: true }) => {
                good = false;
                led.show(Show::Bad);
            }
            Err(error) => warn!("the daemon is not told: {error}"),
        }
        if good {
            Exit::Done
        } else if outcome.is_refusal() {
            Exit::Refused
        } else {
            Exit::Failed
        }
    }

    /// Has the daemon told, and the hook run, by the half that has no rights.
    fn tell(&self, story: &Story) -> io::Result<Told> {
        let mut child = helper(self.paths, Half::Tell)
            .arg(self.name)
            .stdin(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            serde_json::to_writer(&mut stdin, story)?;
            stdin.flush()?;
        }
        let mut text = String::new();
        if let Some(out) = child.stdout.take() {
            out.take(LINE).read_to_string(&mut text)?;
        }
        child.wait()?;
        Ok(serde_json::from_str(&text)?)
    }
}

/// The next line that is understood; what is too long or not is passed over.
fn next_line(out: &mut impl BufRead) -> Option<Line> {
    loop {
        let mut line = Vec::new();
        let read = out.by_ref().take(LINE).read_until(b'\n', &mut line);
        if read.ok()? == 0 {
            return None;
        }
        if let Ok(line) = serde_json::from_slice(&line) {
            return Some(line);
        }
    }
}

fn unmountable(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::ResourceBusy => "it is in use by this system, and left alone".to_owned(),
        // What the kernel says for a driver that it has not.
        _ if error.raw_os_error() == Some(nix::libc::ENODEV) => {
            "this node's kernel has no driver for its file system".to_owned()
        }
        _ => format!("it cannot be mounted: {error}"),
    }
}

/// The folder that a stick is mounted on; gone with this value.
struct Place(PathBuf);

impl Place {
    fn new(media: &Path, name: &str) -> io::Result<Self> {
        let place = media.join(name);
        // The unit has made it already.
        let made = DirBuilder::new().recursive(true).mode(0o755).create(&place);
        made.map_err(|error| {
            io::Error::other(format!("cannot make {}: {error}", place.display()))
        })?;
        Ok(Self(place))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // The unit's own goes with the unit.
        let _ = fs::remove_dir(&self.0);
    }
}

/// A process of this very version, so not by its path.
fn helper(paths: &Paths, half: Half) -> Command {
    let mut command = Command::new("/proc/self/exe");
    let half = match half {
        Half::Light => "light",
        Half::Take => "take",
        Half::Tell => "tell",
    };
    command
        .arg0("monopod")
        .arg("--root")
        .arg(paths.root())
        .args(["import-medium", "--half", half])
        .stdout(Stdio::piped());
    command
}
