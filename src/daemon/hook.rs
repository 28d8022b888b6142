//! A release's pre-switch hook: the program of its bundle that is asked before the switch.
//!
//! It runs as the daemon's user, from a copy whose content is what the release's id stands for. Its exit
//! code is its answer; what it says on stderr is only shown. Nothing that it or its children do
//! may hold the daemon longer than its time.

use std::cell::RefCell;
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::AsyncReadExt;
use tokio::process::{ChildStderr, Command};

use super::deeds::Shared;
use crate::core::api::NotNow;
use crate::core::update::ReleaseId;
use crate::release::Releases;

/// How long it may run.
const HOOK: Duration = Duration::from_secs(300);

/// How long its last words are waited for after its end: a child of it may hold the pipe for ever.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What its exit code says: no good moment (`EX_TEMPFAIL` of sysexits.h).
const NOT_NOW: i32 = 75;

/// How much of its last line is shown, characters.
const SHOWN: usize = 200;

/// How much of what it says is kept, bytes.
const KEPT: usize = 4 << 10;

/// Asks a release's hook. It says yes with exit code 0, not now with 75, and no with any other.
pub(super) async fn ask(
    shared: &Shared,
    id: &ReleaseId,
    current: &ReleaseId,
) -> Result<(), NotNow> {
    let releases = Releases::new(&shared.paths);
    let path = own_copy(shared, &releases, id)?;
    let mut command = Command::new(&path);
    command
        .current_dir(releases.folder(id))
        .env("MONOPOD_RELEASE", id.as_str())
        .env("MONOPOD_CURRENT", current.as_str());
    run(command, HOOK).await
}

/// Runs it for so long at most.
async fn run(mut command: Command, most: Duration) -> Result<(), NotNow> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        // Whatever it has started ends with it when its time is up.
        .process_group(0)
        .kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| unstarted(&error))?;
    let group = child.id().and_then(|id| i32::try_from(id).ok());
    let said = RefCell::new(Vec::new());
    let stderr = child.stderr.take();
    let ended = tokio::time::timeout(most, async {
        let mut listening = pin!(async {
            if let Some(stderr) = stderr {
                listen(stderr, &said).await;
            }
        });
        tokio::select! {
            ended = child.wait() => {
                let _ = tokio::time::timeout(LAST_WORDS, &mut listening).await;
                ended
            }
            () = &mut listening => child.wait().await,
        }
    })
    .await;
    let Ok(ended) = ended else {
        if let Some(group) = group {
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
        let text = format!("it did not end within {} s", most.as_secs());
        return Err(NotNow::Never(text));
    };
    let status = ended.map_err(|error| NotNow::Later(error.to_string()))?;
    answer(status, last_line(&said.borrow()))
}

/// What is wrong with the program itself is wrong tomorrow, too; what the machine lacks may come.
fn unstarted(error: &io::Error) -> NotNow {
    let text = format!("it cannot be run: {error}");
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::PermissionDenied => NotNow::Never(text),
        _ if error.raw_os_error() == Some(Errno::ENOEXEC as i32) => NotNow::Never(text),
        _ => NotNow::Later(text),
    }
}

fn answer(status: ExitStatus, said: String) -> Result<(), NotNow> {
    let why = match (status.code(), status.signal()) {
        (Some(0), _) => return Ok(()),
        _ if !said.is_empty() => said,
        (Some(code), _) => format!("exit code {code}"),
        (None, signal) => format!("signal {}", signal.unwrap_or_default()),
    };
    if status.code() == Some(NOT_NOW) {
        Err(NotNow::Later(why))
    } else {
        Err(NotNow::Never(why))
    }
}

/// The hook, where nobody but the daemon writes, with the content that the release's id stands for: whoever
/// brings releases may write to their folders, and must not decide what runs here.
fn own_copy(shared: &Shared, releases: &Releases, id: &ReleaseId) -> Result<PathBuf, NotNow> {
    // A folder that is damaged may be brought again, so that is no verdict about the release.
    let later = |error: io::Error| NotNow::Later(format!("its hook cannot be read: {error}"));
    let release = releases
        .read(id)
        .map_err(|error| NotNow::Later(error.to_string()))?;
    let Some(path) = releases.hook(id) else {
        return Err(NotNow::Later("its hook is not there any more".to_owned()));
    };
    let hook = fs::read(path).map_err(later)?;
    let workload = fs::read(releases.workload_file(id)).map_err(later)?;
    // A bundle's images are all known from the beginning.
    if ReleaseId::of(&workload, &release.images, Some(&hook)) != *id {
        return Err(NotNow::Later("its files were changed".to_owned()));
    }
    let own = shared.paths.state().join("pre-switch");
    let new = own.with_extension("new");
    fs::write(&new, hook)
        .and_then(|()| fs::set_permissions(&new, Permissions::from_mode(0o700)))
        .and_then(|()| fs::rename(&new, &own))
        .map_err(|error| NotNow::Later(format!("cannot write {}: {error}", own.display())))?;
    Ok(own)
}

/// Keeps the end of what it says. All of it is read: a hook whose pipe is full would hang.
async fn listen(mut stderr: ChildStderr, said: &RefCell<Vec<u8>>) {
    let mut buffer = [0; KEPT];
    while let Ok(read @ 1..) = stderr.read(&mut buffer).await {
        let mut said = said.borrow_mut();
        said.extend_from_slice(&buffer[..read]);
        let over = said.len().saturating_sub(KEPT);
        said.drain(..over);
    }
}

/// The last line that is not empty, tamed for a status line.
fn last_line(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let line = text.lines().rev().find(|line| !line.trim().is_empty());
    line.unwrap_or_default()
        .trim()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(SHOWN)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answer of a shell's script.
    fn asked(script: &str, most: Duration) -> Result<(), NotNow> {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(script);
        answered(command, most)
    }

    fn answered(command: Command, most: Duration) -> Result<(), NotNow> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.expect("a runtime needs no more than this process has");
        runtime.block_on(run(command, most))
    }

    #[test]
    fn its_exit_code_is_its_answer_and_its_last_line_the_reason() {
        assert_eq!(asked("exit 0", HOOK), Ok(()));
        let low = "echo first >&2; printf 'low\\tbattery\\n\\n' >&2; exit 75";
        assert_eq!(
            asked(low, HOOK),
            Err(NotNow::Later("low battery".to_owned()))
        );
        assert_eq!(
            asked("exit 3", HOOK),
            Err(NotNow::Never("exit code 3".to_owned()))
        );
        assert_eq!(
            asked("kill -9 $$", HOOK),
            Err(NotNow::Never("signal 9".to_owned()))
        );
    }

    #[test]
    fn one_that_says_much_is_listened_to_to_the_end() {
        // More than a pipe holds, which is 64 KiB.
        let much =
            "head -c 300000 /dev/zero | tr '\\0' 'x' >&2; echo >&2; echo the end >&2; exit 1";
        assert_eq!(asked(much, HOOK), Err(NotNow::Never("the end".to_owned())));
    }

    #[test]
    fn what_it_leaves_behind_is_not_waited_for() {
        // The child holds the pipe for as long as the test may run.
        let pid = tempfile::NamedTempFile::new().expect("the temporary folder can be written");
        let left = format!("sleep 600 & echo $! >{}; exit 0", pid.path().display());
        assert_eq!(asked(&left, HOOK), Ok(()));
        let child = fs::read_to_string(pid.path()).expect("it was written");
        let child = Pid::from_raw(child.trim().parse().expect("the shell says a number"));
        nix::sys::signal::kill(child, Signal::SIGKILL).expect("it still runs");
    }

    #[test]
    fn one_that_does_not_end_is_ended_with_its_children() {
        let folder = tempfile::tempdir().expect("the temporary folder can be written");
        let lock = folder.path().join("lock");
        // The child holds the lock as long as it lives.
        let hangs = format!("exec 9>{}; flock 9; sleep 600", lock.display());
        let answer = asked(&hangs, Duration::from_millis(500));
        assert_eq!(
            answer,
            Err(NotNow::Never("it did not end within 0 s".to_owned()))
        );
        let free = std::process::Command::new("flock")
            .args(["--timeout", "60"])
            .arg(&lock)
            .arg("true")
            .status();
        assert!(free.expect("there is a flock").success());
    }

    #[test]
    fn what_cannot_be_a_program_is_refused_and_what_the_machine_lacks_is_not() {
        let folder = tempfile::tempdir().expect("the temporary folder can be written");
        let never = |command| matches!(answered(command, HOOK), Err(NotNow::Never(_)));
        assert!(never(Command::new(folder.path().join("missing"))));
        let empty = folder.path().join("nonsense");
        fs::write(&empty, b"\0\0\0").expect("the folder can be written");
        assert!(never(Command::new(&empty)), "nobody may run it");
        fs::set_permissions(&empty, Permissions::from_mode(0o755)).expect("it is there");
        assert!(never(Command::new(&empty)), "it is no program");
        let error = io::Error::from_raw_os_error(Errno::EAGAIN as i32);
        assert!(matches!(unstarted(&error), NotNow::Later(_)));
        let error = io::Error::from_raw_os_error(Errno::ENOMEM as i32);
        assert!(matches!(unstarted(&error), NotNow::Later(_)));
    }
}
