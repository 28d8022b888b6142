//! The half that tells the daemon, and runs the hook: the store's owner and nobody else.
//!
//! By then the stick is unmounted. What it tells is what root's half has put together.

use std::io::{self, Read, stdin};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use super::report::LINE;
use crate::cli::{block_on, complain, print};
use crate::core::update::{ReleaseId, Wish};
use crate::exit::Exit;
use crate::owner;
use crate::paths::Paths;
use crate::systemd::BusAddress;
use crate::systemd::bus::ReleaseAsk;
use crate::systemd::client::{Client, ClientError, Refusal};
use crate::systemd::journal::{self, Stick};

/// How long a daemon that starts just now is waited for: what is offered before it listens, it may have
/// missed among the folders.
const STARTING: Duration = Duration::from_secs(20);
const AGAIN: Duration = Duration::from_secs(1);

/// Longest story, bytes.
const STORY: u64 = 4 * LINE;

/// How long a hook may take.
const HOOK: Duration = Duration::from_secs(30);

/// What there is to tell.
#[derive(Debug, Serialize, Deserialize)]
pub struct Story {
    /// What came of the stick, in one line.
    pub line: String,
    /// Whether all is well.
    pub good: bool,
    /// Whether images came that belong to no release.
    pub archives: bool,
    /// What is to be tried.
    pub releases: Vec<ReleaseId>,
    /// The hook.
    pub hook: Option<PathBuf>,
}

/// What came of telling it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Told {
    /// The daemon does not want one of the releases.
    pub refused: bool,
}

/// Tells the story on standard input.
pub fn run(paths: &Paths) -> Exit {
    journal::init(false);
    if let Err(text) = owner::become_owner_alone(paths) {
        complain(text);
        return Exit::Failed;
    }
    owner::end_with_parent();
    let story: Story = match read_story() {
        Ok(story) => story,
        Err(error) => {
            complain(format_args!("the story is not understood: {error}"));
            return Exit::Failed;
        }
    };
    block_on(async {
        let refused = tell_daemon(&story).await;
        // Root's half goes on with the LED; the hook may take its time.
        if let Ok(text) = serde_json::to_string(&Told { refused }) {
            print(text);
        }
        if let Some(hook) = &story.hook {
            run_hook(hook, &story, story.good && !refused).await;
        }
        Exit::Done
    })
}

fn read_story() -> io::Result<Story> {
    let mut text = String::new();
    stdin().take(STORY).read_to_string(&mut text)?;
    Ok(serde_json::from_str(&text)?)
}

/// Whether the daemon refused one of the releases.
async fn tell_daemon(story: &Story) -> bool {
    let client = match Client::connect(&BusAddress::system()).await {
        Ok(client) => client,
        Err(error) => {
            info!("{error}; the daemon finds what was taken at its next start");
            return false;
        }
    };
    if let Err(error) = first_word(&client, &story.line).await {
        info!("{error}; it finds what was taken at its next start");
        return false;
    }
    if story.archives {
        let _ = client.store_changed().await;
    }
    let mut refused = Vec::new();
    for id in &story.releases {
        let ask = ReleaseAsk::Offer {
            id: id.clone(),
            wish: Wish::Take,
            downgrade: false,
        };
        match client.release(&ask).await {
            Ok(next) => info!("release {id}: {next}"),
            Err(ClientError::Refused(Refusal::Refused, text)) => {
                journal::stick(Stick::Failed, &format!("release {id} is refused: {text}"));
                refused.push(format!("release {id} is refused: {text}"));
            }
            Err(error) => warn!("release {id} is not offered: {error}"),
        }
    }
    if !refused.is_empty() {
        let line = format!("{}; {}", refused.join("; "), story.line);
        let _ = client.medium_result(&line).await;
    }
    !refused.is_empty()
}

/// What came of the stick; a daemon that is about to be there is waited for.
async fn first_word(client: &Client, line: &str) -> Result<(), ClientError> {
    let end = Instant::now() + STARTING;
    loop {
        match client.medium_result(line).await {
            Err(ClientError::NoDaemon) if Instant::now() < end => sleep(AGAIN).await,
            result => return result,
        }
    }
}

async fn run_hook(hook: &Path, story: &Story, good: bool) {
    // What was looked at is what is run, whatever a link leads to later.
    let program = match only_roots(hook) {
        Ok(program) => program,
        Err(text) => {
            warn!("the hook of node.toml is not run: {text}");
            return;
        }
    };
    let release = story.releases.first().map(ToString::to_string);
    let run = tokio::process::Command::new(program)
        // A program of many names goes by this one.
        .arg0(hook)
        .env_clear()
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .env("MONOPOD_RESULT", if good { "ok" } else { "failed" })
        .env("MONOPOD_RELEASE", release.unwrap_or_default())
        .stdin(Stdio::null())
        // Ours is for root's half.
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .status();
    match timeout(HOOK, run).await {
        Ok(Ok(status)) if status.success() => {}
        Ok(Ok(status)) => warn!("{} ended with {status}", hook.display()),
        Ok(Err(error)) => warn!("{} cannot be run: {error}", hook.display()),
        Err(_) => warn!("{} was ended after {} s", hook.display(), HOOK.as_secs()),
    }
}

/// The program that a hook leads to, if nobody but root can change what is run.
fn only_roots(hook: &Path) -> Result<PathBuf, String> {
    let seen = |path: &Path, error: io::Error| format!("{}: {error}", path.display());
    let program = std::fs::canonicalize(hook).map_err(|error| seen(hook, error))?;
    for path in hook.ancestors().chain(program.ancestors()) {
        // A link's own owner is of no matter where nobody else can write in its folder.
        let found = std::fs::metadata(path).map_err(|error| seen(path, error))?;
        if found.uid() != 0 || found.mode() & 0o022 != 0 {
            return Err(format!("others than root can change {}", path.display()));
        }
    }
    if !program.is_file() {
        return Err(format!("{} is no file", hook.display()));
    }
    Ok(program)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::super::report::{Outcome, What};
    use super::*;

    #[test]
    fn the_longest_story_is_understood() {
        let mut outcome = Outcome::default();
        for _ in 0..200 {
            outcome.add(&"\u{1f4be}".repeat(500), What::Failed("\"".repeat(500)));
        }
        let story = Story {
            line: outcome.line(),
            good: false,
            archives: true,
            releases: vec![ReleaseId::new("0123456789ab").expect("an id"); 200],
            hook: Some(PathBuf::from("/x".repeat(2000))),
        };
        let text = serde_json::to_string(&story).expect("text");
        assert!(text.len() as u64 <= STORY, "{}", text.len());
    }

    #[test]
    fn a_hook_is_roots_alone() {
        assert!(only_roots(Path::new("/bin/sh")).is_ok());
        // Below "/", so that only what the link leads to is in question.
        let links = tempfile::tempdir_in("/run").expect("a folder");
        let theirs = tempfile::tempdir_in("/tmp").expect("a folder");
        let (link, program) = (links.path().join("hook"), theirs.path().join("hook"));
        fs::write(&program, "").expect("a file");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("ours");
        std::os::unix::fs::symlink(&program, &link).expect("a link");
        let why = only_roots(&link).expect_err("a link to /tmp");
        assert!(why.contains("can change /tmp"), "{why}");
        let none = only_roots(Path::new("/usr/bin/no-such-program")).expect_err("none");
        assert!(none.contains("no-such-program"), "{none}");
        assert!(
            only_roots(Path::new("/usr/bin"))
                .expect_err("a folder")
                .contains("no file")
        );
        // /tmp is everyone's.
        let folder = tempfile::tempdir_in("/tmp").expect("a folder");
        let hook = folder.path().join("hook");
        fs::write(&hook, "").expect("a file");
        fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).expect("ours");
        let why = only_roots(&hook).expect_err("in /tmp");
        assert!(why.contains("others than root can change"), "{why}");
    }
}
