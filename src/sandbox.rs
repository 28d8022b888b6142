//! What a process that reads a stranger's archive gives up before it reads the first byte.
//!
//! It keeps file work, memory and threads. It loses the ways to speak to anyone (the engine's socket among
//! them), to start a program, and to look into, signal or limit another process. Of the file system it keeps
//! the store, the drop folder, and for reading the archive and the releases, where the kernel has Landlock (5.13
//! and newer). An older kernel leaves it the files of its user, so it must not have the right to read those of others there;
//! what else runs as that user cannot be looked into ([`crate::owner::shut_out`]), and the unit that
//! reads sticks shows it nothing to write to but the store. None of it can be taken off again.

use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError,
};

mod calls;

/// Shuts this process in, for good: the folders `ours` to read and write, those of `read` to read.
///
/// # Errors
///
/// A sentence for people: this kernel or machine has no such filters.
pub fn enter(ours: &[&Path], read: &[&Path]) -> Result<(), String> {
    keep_only(ours, read)
        .map_err(|error| format!("the kernel takes no Landlock rules: {error}"))?;
    let program = calls::filter()
        .map_err(|error| format!("the system call filter cannot be made: {error}"))?;
    seccompiler::apply_filter(&program)
        .map_err(|error| format!("the kernel takes no system call filter: {error}"))
}

/// Gives up every file but these, for good: `write` with all below it, `read` for reading and for programs. A kernel
/// without Landlock, or with its first version (before 5.19), which knows no hard links between folders, leaves all files in reach.
///
/// # Errors
///
/// A sentence for people: the kernel has such rules and refuses these.
pub fn keep_places<'a>(
    read: impl IntoIterator<Item = &'a Path>,
    write: &Path,
) -> Result<(), String> {
    let all = AccessFs::from_all(ABI::V2);
    let rule = |path: &Path, access| {
        PathFd::new(path)
            .ok()
            .map(|fd| Ok::<_, RulesetError>(PathBeneath::new(fd, access)))
    };
    let Ok(rules) = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(all)
        .and_then(Ruleset::create)
    else {
        return Ok(());
    };
    let read = read
        .into_iter()
        .filter_map(|path| rule(path, AccessFs::from_read(ABI::V2)));
    rules
        // A rule for a single file has less to give than one for a folder.
        .set_compatibility(CompatLevel::BestEffort)
        .add_rules(read)
        .and_then(|rules| rules.add_rules(rule(write, all)))
        .and_then(RulesetCreated::restrict_self)
        .map(|_| ())
        .map_err(|error| format!("the kernel takes no Landlock rules: {error}"))
}

/// Whether the kernel takes Landlock rules; without them [`enter`] leaves every file in reach.
pub fn landlock() -> bool {
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V1))
        .and_then(Ruleset::create)
        .is_ok()
}

/// Gives up every file but these. What a path is opened for before stays open.
fn keep_only(ours: &[&Path], read: &[&Path]) -> Result<(), RulesetError> {
    let all = AccessFs::from_all(ABI::V3);
    let reading = AccessFs::from_read(ABI::V3);
    let rule = |path: &Path, access| {
        PathFd::new(path)
            .ok()
            .map(|fd| PathBeneath::new(fd, access))
    };
    let rules = ours
        .iter()
        .map(|folder| rule(folder, all))
        .chain(read.iter().map(|path| rule(path, reading)));
    Ruleset::default()
        .handle_access(all)?
        .create()?
        .add_rules(rules.flatten().map(Ok::<_, RulesetError>))?
        .restrict_self()
        .map(|_| ())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::ErrorKind;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
    use std::process::Command;

    use nix::sched::{CloneFlags, unshare};
    use nix::sys::prctl::set_pdeathsig;
    use nix::sys::signal::{Signal, kill};
    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;
    use rustix::process::{Pid, PidfdFlags, Resource, Rlimit, pidfd_open, prlimit};

    use super::*;

    /// A thread shuts in itself only, so that the others go on with their tests.
    #[test]
    fn what_is_left_is_our_folders_and_the_archive() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let (store, incoming, releases) = (path("store"), path("incoming"), path("releases"));
        let (archive, other) = (path("a.tar"), path("b.tar"));
        let socket = path("engine.sock");
        let _engine = UnixListener::bind(&socket).expect("a socket");
        for folder in [&store, &incoming, &releases, &releases.join("id")] {
            fs::create_dir(folder).expect("a folder");
        }
        let (ledger, record) = (path("ledger"), releases.join("id/release.json"));
        for file in [&archive, &other, &ledger, &record] {
            fs::write(file, "x").expect("a file");
        }
        let mut sleeper = Command::new("sleep").arg("600").spawn().expect("a program");
        let victim = i32::try_from(sleeper.id()).expect("a number");
        std::thread::spawn(move || {
            enter(&[&store, &incoming], &[&archive, &releases]).expect("shut in");
            fs::create_dir(incoming.join("new")).expect("a release is dropped");
            fs::write(incoming.join("new/workload.toml"), "y").expect("and written");
            fs::rename(incoming.join("new"), incoming.join("id")).expect("and named");
            fs::write(store.join("blob"), "y").expect("the store is written");
            fs::rename(store.join("blob"), store.join("kept")).expect("and renamed in");
            assert_eq!(fs::read(&archive).expect("the archive is read"), b"x");
            assert_eq!(fs::read(&record).expect("and what is known"), b"x");
            let denied = |error: std::io::Error| error.kind() == ErrorKind::PermissionDenied;
            assert!(fs::write(&ledger, "z").is_err_and(denied));
            assert!(fs::write(&archive, "z").is_err_and(denied));
            assert!(fs::write(&record, "z").is_err_and(denied));
            assert!(fs::remove_file(&record).is_err_and(denied));
            assert!(fs::create_dir(releases.join("other")).is_err_and(denied));
            let moved = fs::rename(releases.join("id"), releases.join("gone"));
            assert!(moved.is_err_and(denied));
            let swapped = fs::rename(incoming.join("id"), releases.join("other"));
            assert!(swapped.is_err());
            assert!(fs::read(&other).is_err_and(denied));
            assert!(fs::read("/etc/passwd").is_err_and(denied));
            // What is no file of its own, or is not made of bytes alone.
            assert!(nix::unistd::truncate(&ledger, 0).is_err());
            assert!(fs::set_permissions(&ledger, fs::Permissions::from_mode(0o000)).is_err());
            assert!(symlink(&ledger, store.join("link")).is_err());
            assert!(mkfifo(&store.join("pipe"), Mode::S_IRWXU).is_err());
            // Anyone to speak to.
            assert!(UnixStream::connect(&socket).is_err());
            assert!(UnixDatagram::unbound().is_err());
            // Programs, and what is ours only in a namespace.
            assert!(Command::new("/bin/true").spawn().is_err());
            assert!(unshare(CloneFlags::CLONE_NEWUSER).is_err());
            // Another process; this thread is root's, so only the filter is in the way.
            let process = nix::unistd::Pid::from_raw(victim);
            let rustix_process = Pid::from_raw(victim).expect("it is one");
            assert!(kill(process, Signal::SIGKILL).is_err());
            assert!(kill(process, Signal::SIGSTOP).is_err());
            assert!(pidfd_open(rustix_process, PidfdFlags::empty()).is_err());
            let none = Rlimit {
                current: Some(0),
                maximum: Some(0),
            };
            assert!(prlimit(Some(rustix_process), Resource::Nofile, none).is_err());
            for name in ["mem", "environ", "root/etc/passwd", "fd", "oom_score_adj"] {
                let path = format!("/proc/{victim}/{name}");
                assert!(fs::File::open(&path).is_err_and(denied), "{path}");
            }
            // And it cannot outlive who has started it.
            assert!(set_pdeathsig(None).is_err());
            // Threads are for unpacking.
            let thread = std::thread::Builder::new().name("layer".to_owned());
            let thread = thread.spawn(|| 7).expect("a thread");
            assert_eq!(thread.join().expect("it ends"), 7);
        })
        .join()
        .expect("it holds");
        assert_eq!(sleeper.try_wait().expect("it is ours"), None);
        sleeper.kill().expect("it is ours");
        sleeper.wait().expect("it is ours");
    }
}
