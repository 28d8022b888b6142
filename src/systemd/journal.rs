//! Where the daemon's words go: the journal with its fields where there is one, else plain lines to stderr.
//!
//! It holds the one table of `MESSAGE_ID`s. It must never log anything on its
//! own, and never send an app's text where it could pass for a field or a line
//! of monopod's.

use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal, Write as _};
use std::os::fd::AsFd;
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber, error, info, warn};
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::spanless::Spanless;
use crate::core::api::{Report, ReportKind};
use crate::probe::tame;

/// Most characters of one plain line.
const LINE_MAX: usize = 2000;

/// Where the words go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sink {
    /// The journal, with fields.
    Journal,
    /// Plain lines to stderr.
    Stderr,
}

/// Directs everything that is logged from here on, once per process; a second call changes nothing.
///
/// The journal is used if systemd has connected stderr to it, so that a daemon in a terminal speaks
/// to the terminal. Debug messages are shown only if `verbose`. On a terminal, lines have the time.
pub fn init(verbose: bool) -> Sink {
    let level = if verbose {
        LevelFilter::DEBUG
    } else {
        LevelFilter::INFO
    };
    let stderr = io::stderr();
    let stream = std::env::var("JOURNAL_STREAM").ok();
    if is_stream(stream.as_deref(), &stderr)
        && let Ok(layer) = tracing_journald::layer()
    {
        let layer = layer
            .with_field_prefix(None)
            .with_syslog_identifier("monopod".to_owned())
            .with_priority_mappings(PriorityMappings {
                info: Priority::Informational,
                debug: Priority::Debug,
                ..PriorityMappings::new()
            });
        // An error says that there is a subscriber already; so it stays.
        let _ = Spanless.with(level).with(layer).try_init();
        return Sink::Journal;
    }
    let plain = Plain {
        timed: stderr.is_terminal(),
    };
    let layer = tracing_subscriber::fmt::layer()
        .event_format(plain)
        .with_writer(io::stderr);
    let _ = Spanless.with(level).with(layer).try_init();
    Sink::Stderr
}

/// Whether `file` is what `JOURNAL_STREAM` (`DEVICE:INODE`) names.
fn is_stream(stream: Option<&str>, file: impl AsFd) -> bool {
    let Some((device, inode)) = stream.and_then(|stream| stream.split_once(':')) else {
        return false;
    };
    nix::sys::stat::fstat(file)
        .is_ok_and(|stat| device.parse() == Ok(stat.st_dev) && inode.parse() == Ok(stat.st_ino))
}

/// Says why the process ends at once.
///
/// journald reads whose a message is from its sender's cgroup, when it gets to it: a process that is gone by then has
/// spoken in nobody's name. A unit's stderr is the unit's from its beginning, so these words go there, without fields.
pub fn last_words(text: &str) {
    let mut stderr = io::stderr();
    let stream = std::env::var("JOURNAL_STREAM").ok();
    if is_stream(stream.as_deref(), &stderr) {
        // With the priority of an error, as sd-daemon(3) has it. Nobody could be told that it cannot be written.
        let _ = writeln!(stderr, "<3>{}", tame(text, LINE_MAX));
    } else {
        error!("{text}");
    }
}

/// What a transition happened in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scene<'a> {
    /// The workload's name.
    pub workload: &'a str,
    /// The release id, if it is known.
    pub release: Option<&'a str>,
}

/// Logs a transition, at the level and with the `MESSAGE_ID` of its kind.
pub fn report(report: &Report, scene: Scene<'_>) {
    let (level, _, id) = entry(report.kind);
    let container = report.role.as_ref().map(crate::spec::types::Role::as_str);
    let text = report.text.as_str();
    // A field that is None is not sent at all. The journal's layer takes the names as they are.
    macro_rules! log {
        ($at:ident) => {
            $at!(
                MESSAGE_ID = id,
                MONOPOD_CONTAINER = container,
                MONOPOD_WORKLOAD = scene.workload,
                MONOPOD_RELEASE = scene.release,
                "{text}"
            )
        };
    }
    if level == Level::ERROR {
        log!(error);
    } else if level == Level::WARN {
        log!(warn);
    } else {
        log!(info);
    }
}

/// The `MESSAGE_ID` of a kind of transition: 128 bits, lower-case hex. It never changes.
pub fn message_id(kind: ReportKind) -> &'static str {
    entry(kind).2
}

/// A kind of transition as programs read it: `watchdog-withheld`. It never changes.
pub fn kind(kind: ReportKind) -> &'static str {
    entry(kind).1
}

/// The table: level, word, `MESSAGE_ID`; `units/monopod.catalog` has a text for each. A transition is a warning if someone should look at it one day, and an error if
/// monopod cannot mend it alone.
#[expect(clippy::too_many_lines, reason = "a table")]
fn entry(kind: ReportKind) -> (Level, &'static str, &'static str) {
    use ReportKind as K;
    match kind {
        K::Adopted => (Level::INFO, "adopted", "98abb731cef04b64986d77289cc64703"),
        K::Created => (Level::INFO, "created", "0728ea88c86b44e59c405bb30afde658"),
        K::Started => (Level::INFO, "started", "fe95a44e4c5c480ea338a329970a7c27"),
        K::Exited => (Level::INFO, "exited", "85c165e78c644c26babf4b32eeeb7bd5"),
        K::Healthy => (Level::INFO, "healthy", "c931f4e1bd114412a3e847def2b16809"),
        K::Unhealthy => (Level::WARN, "unhealthy", "0c864a9878ac4ada9ac0272b3b7f6c93"),
        K::Unknown => (Level::WARN, "unknown", "a2cf10322f844483abfb76c53aca1694"),
        K::Restarting => (
            Level::WARN,
            "restarting",
            "6942fbd93cba4bc3b2ddcea75ec02ee0",
        ),
        K::Recreating => (
            Level::WARN,
            "recreating",
            "78399016da6a4ecca918e3ec35df080d",
        ),
        K::Rebuilding => (
            Level::WARN,
            "rebuilding",
            "5c4c0c5557aa477e971a9e29ee4ad6ca",
        ),
        K::Rebuilt => (Level::INFO, "rebuilt", "bccbd5522998411893bec779df9facd1"),
        K::StoreDamaged => (
            Level::ERROR,
            "store-damaged",
            "0b98164308a643babaf87dae3460c5c8",
        ),
        K::Removed => (Level::INFO, "removed", "362b6a91d946452f95e77a821b3044ca"),
        K::ImageMissing => (
            Level::ERROR,
            "image-missing",
            "727b2fc62e954f7d8595c6dfb6e4b47e",
        ),
        K::EngineSilent => (
            Level::ERROR,
            "engine-silent",
            "e2e1d5baab3845cab74ecc65ff808478",
        ),
        K::EngineBack => (
            Level::INFO,
            "engine-back",
            "dc8029170e924687afdf81ba1fa0d11c",
        ),
        K::EngineRestart => (
            Level::ERROR,
            "engine-restart",
            "731753516fd54b19a6587d0e3cfa73e2",
        ),
        K::RebootAsked => (
            Level::ERROR,
            "reboot-asked",
            "20b2cf5b231742aabe0219fdb0fd41f5",
        ),
        K::RescueFailed => (
            Level::ERROR,
            "rescue-failed",
            "3d3c9cfd2d4b45b28f6b481d8f20a844",
        ),
        K::EngineRefused => (
            Level::ERROR,
            "engine-refused",
            "358114abc3754cac9b4cf9001b00bec1",
        ),
        K::WatchdogWithheld => (
            Level::ERROR,
            "watchdog-withheld",
            "993a3c0221a6474aaf0b04f34e42d10e",
        ),
        K::SafeState => (
            Level::ERROR,
            "safe-state",
            "902c8994d3e64802ac236a4b93b4634e",
        ),
        K::Recovered => (Level::INFO, "recovered", "b3b0bcc152eb408eadd3dbcdbda8b3d0"),
        K::LedgerFailed => (
            Level::ERROR,
            "ledger-failed",
            "c45c21bab9564bd9841f385312ad0dde",
        ),
        K::Reloaded => (Level::INFO, "reloaded", "a7efb9c615e0494caabdb0f8c81a106b"),
        K::RestartAsked => (
            Level::INFO,
            "restart-asked",
            "8c0e77c2ef6f44a9b18836632b79bd79",
        ),
        K::ReleaseStaged => (
            Level::INFO,
            "release-staged",
            "177fc23a66374a90a7b8dc75c8691fd5",
        ),
        K::ReleaseDelayed => (
            Level::WARN,
            "release-delayed",
            "63666895c496416680e49b547e2cece0",
        ),
        K::ReleaseRejected => (
            Level::ERROR,
            "release-rejected",
            "dc3be5700032431296c8caa63f185553",
        ),
        K::TrialBegun => (
            Level::INFO,
            "trial-begun",
            "4b20ce61ada646b2ac9a5fa72d74c8ab",
        ),
        K::Committed => (Level::INFO, "committed", "9ff0ec612bae48f39fcd43bfe050b3ef"),
        K::RolledBack => (
            Level::ERROR,
            "rolled-back",
            "050f904f332c4ca787d0e4e44ec0771d",
        ),
        K::GivenUp => (Level::ERROR, "given-up", "489c43cb38f94523b5b2e2837a7d80af"),
        K::Stopping => (Level::INFO, "stopping", "7e19f76f3083432880a38fd6e9b6e0cc"),
        K::Medium => (Level::INFO, "medium", "338b8ae48eab4a1ebb98dc76cfbcb235"),
    }
}

/// What the privileged half did with a request of the daemon's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rescued {
    /// The engine's unit is restarted.
    Engine,
    /// The node is rebooted.
    Reboot,
    /// Volumes were copied, put back, or their copy removed.
    Volumes,
    /// Nothing was done.
    Refused,
}

impl Rescued {
    /// Its `MESSAGE_ID`, as [`message_id`].
    pub fn message_id(self) -> &'static str {
        match self {
            Self::Engine => "09684b810d3a410e8a30b0c3583e696f",
            Self::Reboot => "6ee1b9360c9c4312a3dc12ad3aec7b0d",
            Self::Volumes => "3df6b111f1bb410e90248a49e2aaaab5",
            Self::Refused => "6301938f11c04b28869cb3475f5adaa8",
        }
    }
}

/// Logs what became of a request of the daemon's.
pub fn rescue(what: Rescued, text: &str) {
    let id = what.message_id();
    match what {
        Rescued::Engine | Rescued::Reboot => warn!(MESSAGE_ID = id, "{text}"),
        Rescued::Volumes => info!(MESSAGE_ID = id, "{text}"),
        Rescued::Refused => error!(MESSAGE_ID = id, "{text}"),
    }
}

/// What happens with a stick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stick {
    /// It is being read.
    Reading,
    /// Something that it holds was taken.
    Taken,
    /// Something that it holds was refused, or could not be read.
    Failed,
    /// It can be removed.
    Free,
}

impl Stick {
    /// Its `MESSAGE_ID`, as [`message_id`].
    pub fn message_id(self) -> &'static str {
        match self {
            Self::Reading => "0319e50fb063413aafc20bb882016d8e",
            Self::Taken => "9447a8723ee8455c8490e6fd7777c483",
            Self::Failed => "57497ec9dd054e718168b56e34d3f67f",
            Self::Free => "17e341c63ea64da3935c5fc03a577c29",
        }
    }
}

/// Logs what happens with a stick.
pub fn stick(what: Stick, text: &str) {
    let id = what.message_id();
    match what {
        Stick::Reading | Stick::Taken | Stick::Free => info!(MESSAGE_ID = id, "{text}"),
        Stick::Failed => error!(MESSAGE_ID = id, "{text}"),
    }
}

/// Plain lines: `LEVEL text field=value`, after the time on a terminal. What only the journal can
/// search by is left out: the text says it too.
struct Plain {
    timed: bool,
}

impl<S, N> FormatEvent<S, N> for Plain
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if self.timed {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            let second = now.map_or(0, |now| now.as_secs()) % 86400;
            let (hour, minute) = (second / 3600, second / 60 % 60);
            write!(writer, "{hour:02}:{minute:02}:{:02}Z ", second % 60)?;
        }
        let mut line = Line::default();
        event.record(&mut line);
        let text = tame(&format!("{}{}", line.message, line.fields), LINE_MAX);
        writeln!(writer, "{} {text}", event.metadata().level())
    }
}

/// An event's message and fields as text.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Line {
    fn put(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = match field.name() {
            "message" => self.message.write_fmt(value),
            "MESSAGE_ID" | "MONOPOD_CONTAINER" | "MONOPOD_WORKLOAD" | "MONOPOD_RELEASE" => Ok(()),
            name => write!(self.fields, " {name}={value}"),
        };
    }
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format_args!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs::File;
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net::UnixDatagram;
    use std::process::{Command, Output};

    use super::*;
    use crate::spec::types::Role;

    /// The kind after this one; every kind is reached from the first.
    fn next(kind: ReportKind) -> Option<ReportKind> {
        use ReportKind as K;
        Some(match kind {
            K::Adopted => K::Created,
            K::Created => K::Started,
            K::Started => K::Exited,
            K::Exited => K::Healthy,
            K::Healthy => K::Unhealthy,
            K::Unhealthy => K::Unknown,
            K::Unknown => K::Restarting,
            K::Restarting => K::Recreating,
            K::Recreating => K::Rebuilding,
            K::Rebuilding => K::Rebuilt,
            K::Rebuilt => K::StoreDamaged,
            K::StoreDamaged => K::Removed,
            K::Removed => K::ImageMissing,
            K::ImageMissing => K::EngineSilent,
            K::EngineSilent => K::EngineBack,
            K::EngineBack => K::EngineRefused,
            K::EngineRefused => K::EngineRestart,
            K::EngineRestart => K::WatchdogWithheld,
            K::WatchdogWithheld => K::RebootAsked,
            K::RebootAsked => K::RescueFailed,
            K::RescueFailed => K::SafeState,
            K::SafeState => K::Recovered,
            K::Recovered => K::LedgerFailed,
            K::LedgerFailed => K::Reloaded,
            K::Reloaded => K::RestartAsked,
            K::RestartAsked => K::ReleaseStaged,
            K::ReleaseStaged => K::ReleaseDelayed,
            K::ReleaseDelayed => K::ReleaseRejected,
            K::ReleaseRejected => K::TrialBegun,
            K::TrialBegun => K::Committed,
            K::Committed => K::RolledBack,
            K::RolledBack => K::GivenUp,
            K::GivenUp => K::Stopping,
            K::Stopping => K::Medium,
            K::Medium => return None,
        })
    }

    #[test]
    fn every_kind_has_a_message_id_of_its_own() {
        let kinds: Vec<_> =
            std::iter::successors(Some(ReportKind::Adopted), |kind| next(*kind)).collect();
        let ids: BTreeSet<_> = kinds.iter().map(|kind| message_id(*kind)).collect();
        assert_eq!(ids.len(), kinds.len());
        for id in ids {
            assert_eq!(id.len(), 32, "{id}");
            assert!(
                id.bytes()
                    .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)),
                "{id}"
            );
            // Random ones: version 4 of RFC 9562, as `journalctl --new-id128` makes them.
            assert_eq!(id.as_bytes()[12], b'4', "{id}");
            assert!(b"89ab".contains(&id.as_bytes()[16]), "{id}");
        }
    }

    /// The catalog: each entry's ID with its text.
    fn catalog() -> Vec<(&'static str, &'static str)> {
        const CATALOG: &str = include_str!("../../units/monopod.catalog");
        CATALOG
            .split("\n-- ")
            .skip(1)
            .map(|entry| entry.split_once('\n').unwrap())
            .collect()
    }

    #[test]
    fn every_kind_has_one_entry_in_the_catalog_and_every_entry_a_kind() {
        let mut kinds: Vec<_> =
            std::iter::successors(Some(ReportKind::Adopted), |kind| next(*kind))
                .map(message_id)
                .collect();
        let rescued = [
            Rescued::Engine,
            Rescued::Reboot,
            Rescued::Volumes,
            Rescued::Refused,
        ];
        kinds.extend(rescued.map(Rescued::message_id));
        let sticks = [Stick::Reading, Stick::Taken, Stick::Failed, Stick::Free];
        kinds.extend(sticks.map(Stick::message_id));
        let mut ids: Vec<_> = catalog().iter().map(|(id, _)| *id).collect();
        kinds.sort_unstable();
        ids.sort_unstable();
        assert_eq!(ids, kinds);
        for (id, text) in catalog() {
            for head in ["Subject: ", "Defined-By: monopod\n", "Documentation: "] {
                assert!(text.contains(head), "{id} has no {head}");
            }
            let (_, body) = text.split_once("\n\n").unwrap();
            assert!(body.trim().contains("\n\n"), "{id} says what to do, too");
            // A field that no message has would stay in the text as it is.
            for field in text.split('@').skip(1).step_by(2) {
                let known = ["MONOPOD_CONTAINER", "MONOPOD_WORKLOAD", "MONOPOD_RELEASE"];
                assert!(known.contains(&field), "{id}: @{field}@");
            }
        }
    }

    #[test]
    fn journalctl_takes_the_catalog() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("usr/lib/systemd/catalog");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::create_dir_all(root.path().join("var/lib/systemd/catalog")).unwrap();
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/units/monopod.catalog");
        std::fs::copy(file, folder.join("monopod.catalog")).unwrap();
        let journalctl = |what: &str| {
            let output = Command::new("journalctl")
                .arg(what)
                .arg("--root")
                .arg(root.path())
                .output()
                .expect("the package systemd is installed");
            let words = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{words}");
            assert!(!words.contains("catalog:"), "{words}");
            String::from_utf8(output.stdout).unwrap()
        };
        journalctl("--update-catalog");
        let listed = journalctl("--list-catalog");
        for (id, text) in catalog() {
            let subject = text
                .lines()
                .next()
                .unwrap()
                .strip_prefix("Subject: ")
                .unwrap();
            let line = format!("{id} monopod: {subject}");
            assert!(listed.lines().any(|one| one == line), "{line}\n{listed}");
        }
        assert_eq!(listed.lines().count(), catalog().len());
    }

    #[test]
    fn the_journal_is_known_by_device_and_inode() {
        let file = tempfile::tempfile().unwrap();
        let (device, inode) = identity(&file);
        let right = format!("{device}:{inode}");
        let table = [
            (Some(right.clone()), true),
            (Some(format!("{device}:{}", inode + 1)), false),
            (Some(format!("{}:{inode}", device + 1)), false),
            (Some(format!("{device}")), false),
            (Some(format!("{right}:")), false),
            (Some(String::new()), false),
            (None, false),
        ];
        for (stream, expected) in table {
            assert_eq!(is_stream(stream.as_deref(), &file), expected, "{stream:?}");
        }
    }

    fn identity(file: &File) -> (u64, u64) {
        let metadata = file.metadata().unwrap();
        (metadata.dev(), metadata.ino())
    }

    const AGAIN: &str = "MONOPOD_TEST_JOURNAL";

    fn scene(release: Option<&str>) -> Scene<'_> {
        Scene {
            workload: "gateway",
            release,
        }
    }

    /// Says the same three things wherever they go.
    fn speak() {
        report(
            &Report {
                role: Some(Role::new("app")),
                kind: ReportKind::Unhealthy,
                text: "app is unhealthy: 503\nPRIORITY=0".to_owned(),
            },
            scene(Some("0123456789ab")),
        );
        report(
            &Report {
                role: None,
                kind: ReportKind::Stopping,
                text: "stopping".to_owned(),
            },
            scene(None),
        );
        tracing::debug!("not shown");
        tracing::error!(attempt = 3, reason = "x", "odd");
    }

    /// This test runs itself again, with a pipe as stderr.
    #[test]
    fn plain_lines_to_stderr() {
        if std::env::var_os(AGAIN).is_some() {
            assert_eq!(init(false), Sink::Stderr);
            speak();
            last_words("no more\nthan this");
            return;
        }
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "systemd::journal::tests::plain_lines_to_stderr"])
            .env(AGAIN, "1")
            .env_remove("JOURNAL_STREAM")
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(
            String::from_utf8(output.stderr).unwrap(),
            "WARN app is unhealthy: 503 PRIORITY=0\nINFO stopping\nERROR odd attempt=3 reason=x\n\
             ERROR no more than this\n"
        );
    }

    /// The journal's socket has a fixed path: this test runs itself again in a mount namespace
    /// that has a `/run` of its own, with a socket of the test's there.
    #[test]
    fn fields_to_the_journal() {
        if std::env::var_os(AGAIN).is_some() {
            hear();
            return;
        }
        let stderr = tempfile::NamedTempFile::new().unwrap();
        let (device, inode) = identity(stderr.as_file());
        let Some(output) = in_a_run_of_its_own(
            "systemd::journal::tests::fields_to_the_journal",
            stderr.as_file(),
            &format!("{device}:{inode}"),
        ) else {
            return;
        };
        let words = std::fs::read_to_string(stderr.path()).unwrap();
        assert!(output.status.success(), "{output:?}\n{words}");
        assert!(words.contains("<3>no more than this\n"), "{words}");
    }

    fn in_a_run_of_its_own(test: &str, stderr: &File, stream: &str) -> Option<Output> {
        const REFUSED: i32 = 77;
        let script = format!(
            "mount -t tmpfs none /run && mkdir -p /run/systemd/journal || exit {REFUSED}\n\
             exec \"$0\" --exact {test}"
        );
        let output = Command::new("unshare")
            .args(["-m", "sh", "-c", &script])
            .arg(std::env::current_exe().unwrap())
            .env(AGAIN, "1")
            .env("JOURNAL_STREAM", stream)
            .stderr(stderr.try_clone().unwrap())
            .output()
            .unwrap();
        if output.status.code() == Some(REFUSED) || !nix::unistd::geteuid().is_root() {
            println!("skipped: a mount namespace needs root");
            return None;
        }
        Some(output)
    }

    fn hear() {
        let journal = UnixDatagram::bind("/run/systemd/journal/socket").unwrap();
        journal.set_nonblocking(true).unwrap();
        assert_eq!(init(false), Sink::Journal);
        speak();
        last_words("no more\nthan this");
        let mut buffer = [0; 4096];
        let mut entries = Vec::new();
        while let Ok(length) = journal.recv(&mut buffer) {
            entries.push(fields(&buffer[..length]));
        }
        let field = |entry: usize, name: &str| entries[entry].get(name).map(String::as_str);
        // The first is empty: it asks whether anyone is there.
        assert_eq!(entries.len(), 4, "{entries:?}");
        assert_eq!(
            field(1, "MESSAGE"),
            Some("app is unhealthy: 503\nPRIORITY=0")
        );
        assert_eq!(field(1, "PRIORITY"), Some("4"));
        assert_eq!(field(1, "MONOPOD_CONTAINER"), Some("app"));
        assert_eq!(
            field(1, "MESSAGE_ID"),
            Some(message_id(ReportKind::Unhealthy))
        );
        assert_eq!(field(1, "SYSLOG_IDENTIFIER"), Some("monopod"));
        assert_eq!(field(2, "PRIORITY"), Some("6"));
        assert_eq!(
            field(2, "MESSAGE_ID"),
            Some(message_id(ReportKind::Stopping))
        );
        assert_eq!(field(2, "MONOPOD_CONTAINER"), None);
        assert_eq!(field(1, "MONOPOD_WORKLOAD"), Some("gateway"));
        assert_eq!(field(1, "MONOPOD_RELEASE"), Some("0123456789ab"));
        assert_eq!(field(2, "MONOPOD_WORKLOAD"), Some("gateway"));
        assert_eq!(field(2, "MONOPOD_RELEASE"), None);
        assert_eq!(field(3, "MONOPOD_WORKLOAD"), None);
        assert_eq!(field(3, "PRIORITY"), Some("3"));
        assert_eq!(field(3, "ATTEMPT"), Some("3"));
        assert_eq!(field(3, "MESSAGE_ID"), None);
    }

    /// One entry of the journal's native protocol.
    fn fields(mut entry: &[u8]) -> BTreeMap<String, String> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let mut fields = BTreeMap::new();
        while let Some(end) = entry.iter().position(|&b| b == b'\n') {
            let (line, rest) = entry.split_at(end);
            let rest = &rest[1..];
            if let Some(equals) = line.iter().position(|&b| b == b'=') {
                fields.insert(text(&line[..equals]), text(&line[equals + 1..]));
                entry = rest;
            } else {
                let (length, rest) = rest.split_first_chunk().unwrap();
                let length = usize::try_from(u64::from_le_bytes(*length)).unwrap();
                let twice = fields.insert(text(line), text(&rest[..length]));
                assert_eq!(twice, None);
                entry = &rest[length + 1..];
            }
        }
        fields
    }
}
