//! What a process that reads a stranger's archive gives up before it reads the first byte.
//!
//! It keeps file work and memory. It loses the ways to speak to anyone (the engine's socket among
//! them), to start a program, and to look into or signal another process. Of the file system it keeps
//! the store, the releases, and the archive for reading, where the kernel has Landlock (5.13 and newer); an older
//! kernel leaves it the files of its user, so it must not have the right to read those of others
//! there. None of it can be taken off again.

use std::collections::BTreeMap;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError,
};
use nix::libc;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

/// System calls that reading an archive never needs.
const FORBIDDEN: &[libc::c_long] = &[
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_pidfd_send_signal,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_open_by_handle_at,
    libc::SYS_mount,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_mount_setattr,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_mknodat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mknod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
];

/// Shuts this process in, for good: the folders `ours` to read and write, `archive` to read.
///
/// # Errors
///
/// A sentence for people: this kernel or machine has no such filters.
pub fn enter(ours: &[&Path], archive: Option<&Path>) -> Result<(), String> {
    keep_only(ours, archive)
        .map_err(|error| format!("the kernel takes no Landlock rules: {error}"))?;
    let arch = TargetArch::try_from(std::env::consts::ARCH)
        .map_err(|error| format!("no system call filter on this machine: {error}"))?;
    let rules: BTreeMap<i64, Vec<_>> = FORBIDDEN.iter().map(|&call| (call, Vec::new())).collect();
    let denied = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let program: BpfProgram = SeccompFilter::new(rules, SeccompAction::Allow, denied, arch)
        .and_then(TryInto::try_into)
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
fn keep_only(ours: &[&Path], archive: Option<&Path>) -> Result<(), RulesetError> {
    let all = AccessFs::from_all(ABI::V3);
    let read = AccessFs::from_read(ABI::V3);
    let rule = |path: &Path, access| {
        PathFd::new(path)
            .ok()
            .map(|fd| PathBeneath::new(fd, access))
    };
    let rules = ours
        .iter()
        .map(|folder| rule(folder, all))
        .chain([archive.and_then(|archive| rule(archive, read))]);
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
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::process::Command;

    use super::*;

    /// A thread shuts in itself only, so that the others go on with their tests.
    #[test]
    fn what_is_left_is_our_folders_and_the_archive() {
        let folder = tempfile::tempdir().expect("a folder");
        let (store, releases) = (folder.path().join("store"), folder.path().join("releases"));
        let (archive, other) = (folder.path().join("a.tar"), folder.path().join("b.tar"));
        let socket = folder.path().join("engine.sock");
        let _engine = UnixListener::bind(&socket).expect("a socket");
        fs::create_dir(&store).expect("a store");
        fs::create_dir(&releases).expect("a folder");
        let ledger = folder.path().join("ledger");
        for file in [&archive, &other, &ledger] {
            fs::write(file, "x").expect("a file");
        }
        std::thread::spawn(move || {
            enter(&[&store, &releases], Some(&archive)).expect("shut in");
            fs::create_dir(releases.join("new")).expect("a release is made");
            fs::write(releases.join("new/workload.toml"), "y").expect("and written");
            fs::rename(releases.join("new"), releases.join("id")).expect("and named");
            fs::write(store.join("blob"), "y").expect("the store is written");
            fs::rename(store.join("blob"), store.join("kept")).expect("and renamed in");
            assert_eq!(fs::read(&archive).expect("the archive is read"), b"x");
            let denied = |error: std::io::Error| error.kind() == ErrorKind::PermissionDenied;
            assert!(fs::write(&ledger, "z").is_err_and(denied));
            assert!(fs::write(&archive, "z").is_err_and(denied));
            assert!(fs::read(&other).is_err_and(denied));
            assert!(fs::read("/etc/passwd").is_err_and(denied));
            assert!(UnixStream::connect(&socket).is_err_and(denied));
            assert!(Command::new("/bin/true").spawn().is_err());
        })
        .join()
        .expect("it holds");
    }
}
