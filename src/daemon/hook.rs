//! A release's pre-switch hook: the program of its bundle that is asked before the switch.
//!
//! It runs as the daemon's user, from a copy whose content is what the release's id stands for. Its exit
//! code is its answer; what it says on stderr is only shown.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use tokio::process::Command;

use super::child::{self, Ended, Unended};
use super::deeds::Shared;
use crate::core::api::NotNow;
use crate::core::update::ReleaseId;
use crate::release::Releases;

/// How long it may run.
const HOOK: Duration = Duration::from_secs(300);

/// What its exit code says: no good moment (`EX_TEMPFAIL` of sysexits.h).
const NOT_NOW: i32 = 75;

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
    run(command).await
}

/// Runs it, and takes its end for its answer.
async fn run(command: Command) -> Result<(), NotNow> {
    match child::run(command, HOOK).await {
        Ok(ended) => answer(ended),
        Err(Unended::Unstarted(error)) => Err(unstarted(&error)),
        Err(Unended::Lost(error)) => Err(NotNow::Later(error.to_string())),
        Err(Unended::Late) => Err(NotNow::Never(format!(
            "its hook did not end within {} min",
            HOOK.as_secs() / 60
        ))),
    }
}

/// What is wrong with the program itself is wrong tomorrow, too; what the machine lacks may come.
fn unstarted(error: &io::Error) -> NotNow {
    let text = format!("its hook cannot be run: {error}");
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::PermissionDenied => NotNow::Never(text),
        _ if error.raw_os_error() == Some(Errno::ENOEXEC as i32) => NotNow::Never(text),
        _ => NotNow::Later(text),
    }
}

fn answer(Ended { status, said }: Ended) -> Result<(), NotNow> {
    let why = match (status.code(), status.signal()) {
        (Some(0), _) => return Ok(()),
        _ if !said.is_empty() => said,
        (Some(code), _) => format!("exit code {code}"),
        (None, signal) => format!("signal {}", signal.unwrap_or_default()),
    };
    Err(if status.code() == Some(NOT_NOW) {
        NotNow::Later(format!("its hook says that it is no good moment: {why}"))
    } else {
        NotNow::Never(format!("its hook refuses it: {why}"))
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The answer of a shell's script.
    fn asked(script: &str) -> Result<(), NotNow> {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(script);
        answered(command)
    }

    fn answered(command: Command) -> Result<(), NotNow> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.expect("a runtime needs no more than this process has");
        runtime.block_on(run(command))
    }

    #[test]
    fn its_exit_code_is_its_answer_and_its_last_line_the_reason() {
        assert_eq!(asked("exit 0"), Ok(()));
        let low = "echo first >&2; printf 'low\\tbattery\\n\\n' >&2; exit 75";
        assert_eq!(
            asked(low),
            Err(NotNow::Later(
                "its hook says that it is no good moment: low battery".to_owned()
            ))
        );
        assert_eq!(
            asked("exit 3"),
            Err(NotNow::Never("its hook refuses it: exit code 3".to_owned()))
        );
        assert_eq!(
            asked("kill -9 $$"),
            Err(NotNow::Never("its hook refuses it: signal 9".to_owned()))
        );
    }

    #[test]
    fn what_cannot_be_a_program_is_refused_and_what_the_machine_lacks_is_not() {
        let folder = tempfile::tempdir().expect("the temporary folder can be written");
        let never = |command| matches!(answered(command), Err(NotNow::Never(_)));
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
