//! Which system calls a process may make that reads a stranger's archive: what file work, memory and
//! threads need, and nothing else.
//!
//! It is a list of what may be, not of what may not: the kernel learns new calls faster than anybody
//! could add them to the other kind. Whatever is not on it answers that the kernel does not know
//! it, so that a C library falls back to an older call where there is one. No call on it names
//! another process, starts a program, reaches a file's owner or mode by its path, or speaks to anyone.

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};

/// Those that may be made with any arguments.
const ANY: &[libc::c_long] = &[
    // Files that are open.
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fchmod,
    libc::SYS_flock,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fadvise64,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_syncfs,
    libc::SYS_getdents64,
    libc::SYS_copy_file_range,
    libc::SYS_sendfile,
    libc::SYS_splice,
    // Files by their names, each of which Landlock judges, or which only tell something.
    libc::SYS_openat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_readlinkat,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_getcwd,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_linkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lstat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_access,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rmdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_link,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
    // Memory.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    // Threads, and this process itself.
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // Time and chance.
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
];

/// What may be done to a descriptor. Not `F_SETOWN`: it has the kernel send any signal to any process
/// of the same user.
const DESCRIPTOR: &[libc::c_int] = &[
    libc::F_DUPFD,
    libc::F_DUPFD_CLOEXEC,
    libc::F_GETFD,
    libc::F_SETFD,
    libc::F_GETFL,
    libc::F_SETFL,
];

/// What a terminal may be asked. Not `TIOCSTI`, which types what root's shell then does.
/// `TCGETS` and `TIOCGWINSZ` of `asm-generic/ioctls.h`; the libraries differ about the type.
const TERMINAL: [u64; 2] = [0x5401, 0x5413];

/// The filter. Whoever has it never loses it.
pub(super) fn filter() -> Result<BpfProgram, BackendError> {
    use SeccompCmpOp::{Eq, MaskedEq};
    let one_of = |argument: u8, values: Vec<u64>| -> Result<Vec<SeccompRule>, BackendError> {
        let rule = |value| only(argument, Eq, value);
        values.into_iter().map(rule).collect()
    };
    let number = |value: libc::c_int| u64::from(value.unsigned_abs());
    let not_to_run = || only(2, MaskedEq(number(libc::PROT_EXEC)), 0).map(|rule| vec![rule]);
    let thread = number(libc::CLONE_THREAD);
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for &call in ANY {
        rules.insert(call, Vec::new());
    }
    let some = [
        (libc::SYS_mmap, not_to_run()?),
        (libc::SYS_mprotect, not_to_run()?),
        // A thread of this process. What `clone3` is for cannot be seen, and is not known here.
        (libc::SYS_clone, vec![only(0, MaskedEq(thread), thread)?]),
        // A thread's name.
        (libc::SYS_prctl, one_of(0, vec![number(libc::PR_SET_NAME)])?),
        // Of no other process.
        (libc::SYS_prlimit64, one_of(0, vec![0])?),
        (libc::SYS_sched_getaffinity, one_of(0, vec![0])?),
        (
            libc::SYS_fcntl,
            one_of(
                1,
                DESCRIPTOR.iter().map(|&command| number(command)).collect(),
            )?,
        ),
        (libc::SYS_ioctl, one_of(1, TERMINAL.to_vec())?),
    ];
    for (call, rule) in some {
        rules.insert(call, rule);
    }
    let unknown = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    SeccompFilter::new(rules, unknown, SeccompAction::Allow, arch)?.try_into()
}

/// Lets a call through whose argument is so; the kernel looks at its lower half only.
fn only(argument: u8, how: SeccompCmpOp, value: u64) -> Result<SeccompRule, BackendError> {
    let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, how, value)?;
    SeccompRule::new(vec![condition])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A call as the kernel shows it to a filter.
    #[derive(Clone, Copy, Debug)]
    struct Call {
        number: u32,
        arch: u32,
        arguments: [u64; 6],
    }

    impl Call {
        fn of(number: libc::c_long, arguments: &[u64]) -> Self {
            let mut all = [0; 6];
            all[..arguments.len()].copy_from_slice(arguments);
            Self {
                number: u32::try_from(number).expect("a call's number"),
                arch: this_arch(),
                arguments: all,
            }
        }

        /// The word at this place of `struct seccomp_data`.
        fn word(&self, at: u32) -> u32 {
            let half = |value: u64, upper: bool| {
                u32::try_from(if upper {
                    value >> 32
                } else {
                    value & 0xffff_ffff
                })
                .expect("half")
            };
            match at {
                0 => self.number,
                4 => self.arch,
                16..64 => {
                    let index = usize::try_from((at - 16) / 8).expect("small");
                    half(self.arguments[index], at % 8 == 4)
                }
                at => panic!("nothing is looked at there: {at}"),
            }
        }
    }

    /// What the kernel calls this machine (`linux/audit.h`).
    fn this_arch() -> u32 {
        match std::env::consts::ARCH {
            "x86_64" => 0xC000_003E,
            "aarch64" => 0xC000_00B7,
            other => panic!("no filter for {other}"),
        }
    }

    /// What a filter makes of a call, as the kernel would run it.
    fn judged(program: &BpfProgram, call: Call) -> u32 {
        let (mut at, mut held) = (0, 0u32);
        loop {
            let line = &program[at];
            at += 1;
            let mut jump = |yes: bool| at += usize::from(if yes { line.jt } else { line.jf });
            match line.code {
                0x20 => held = call.word(line.k),
                0x54 => held &= line.k,
                0x15 => jump(held == line.k),
                0x25 => jump(held > line.k),
                0x35 => jump(held >= line.k),
                0x05 => at += usize::try_from(line.k).expect("small"),
                0x06 => return line.k,
                code => panic!("no such instruction here: {code:#x}"),
            }
        }
    }

    const ALLOWED: u32 = libc::SECCOMP_RET_ALLOW;

    fn unknown() -> u32 {
        libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs()
    }

    #[test]
    fn whatever_is_not_listed_is_unknown() {
        let program = filter().expect("a filter");
        let some = [
            libc::SYS_mmap,
            libc::SYS_mprotect,
            libc::SYS_clone,
            libc::SYS_prctl,
            libc::SYS_prlimit64,
            libc::SYS_sched_getaffinity,
            libc::SYS_fcntl,
            libc::SYS_ioctl,
        ];
        // Further than any call of today's goes, and the calls of x32, which have a bit of their own.
        for number in (0..2048).chain(0x4000_0000..0x4000_0400) {
            if some.contains(&number) {
                continue;
            }
            let found = judged(&program, Call::of(number, &[u64::MAX; 6]));
            let expected = if ANY.contains(&number) {
                ALLOWED
            } else {
                unknown()
            };
            assert_eq!(found, expected, "{number}");
        }
        for arch in [0, 0x4000_0003, 0x4000_0028] {
            let call = Call {
                arch,
                ..Call::of(libc::SYS_read, &[])
            };
            assert_eq!(judged(&program, call), libc::SECCOMP_RET_KILL_PROCESS);
        }
    }

    /// The ways out that one or the other filter of this kind has forgotten.
    #[test]
    fn no_call_reaches_another_process_or_place() {
        for call in [
            libc::SYS_kill,
            libc::SYS_tkill,
            libc::SYS_tgkill,
            libc::SYS_rt_tgsigqueueinfo,
            libc::SYS_pidfd_open,
            libc::SYS_pidfd_send_signal,
            libc::SYS_ptrace,
            libc::SYS_process_vm_writev,
            libc::SYS_process_madvise,
            libc::SYS_kcmp,
            libc::SYS_setpriority,
            libc::SYS_ioprio_set,
            libc::SYS_sched_setscheduler,
            libc::SYS_clone3,
            libc::SYS_execveat,
            libc::SYS_memfd_create,
            libc::SYS_socket,
            libc::SYS_sendmsg,
            libc::SYS_io_uring_setup,
            libc::SYS_io_uring_enter,
            libc::SYS_name_to_handle_at,
            libc::SYS_open_by_handle_at,
            libc::SYS_mq_open,
            libc::SYS_msgget,
            libc::SYS_shmget,
            libc::SYS_semget,
            libc::SYS_inotify_add_watch,
            libc::SYS_fanotify_init,
            libc::SYS_quotactl,
            libc::SYS_keyctl,
            libc::SYS_bpf,
            libc::SYS_symlinkat,
            libc::SYS_mknodat,
            libc::SYS_fchmodat,
            libc::SYS_fchownat,
            libc::SYS_utimensat,
            libc::SYS_setxattr,
            // Landlock knows it from Linux 6.2 on only.
            libc::SYS_truncate,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_mount,
            libc::SYS_seccomp,
        ] {
            assert!(!ANY.contains(&call), "{call}");
        }
    }

    #[test]
    fn some_calls_may_be_made_in_one_way() {
        let program = filter().expect("a filter");
        let number = |value: libc::c_int| u64::from(value.unsigned_abs());
        let glibc_thread = 0x003d_0f00;
        let musl_thread = 0x007d_0f00;
        let (write, run) = (number(libc::PROT_WRITE), number(libc::PROT_EXEC));
        let other = 1234;
        let table: &[(libc::c_long, &[u64], bool)] = &[
            (libc::SYS_mmap, &[0, 4096, write], true),
            (libc::SYS_mmap, &[0, 4096, run], false),
            (libc::SYS_mprotect, &[4096, 4096, write], true),
            (libc::SYS_mprotect, &[4096, 4096, write | run], false),
            (libc::SYS_clone, &[glibc_thread], true),
            (libc::SYS_clone, &[musl_thread], true),
            // A fork, as posix_spawn makes one, and one with a user namespace.
            (libc::SYS_clone, &[number(libc::SIGCHLD)], false),
            (libc::SYS_clone, &[0x4111], false),
            (
                libc::SYS_clone,
                &[number(libc::CLONE_NEWUSER) | 0x11],
                false,
            ),
            (libc::SYS_prctl, &[number(libc::PR_SET_NAME)], true),
            (libc::SYS_prctl, &[number(libc::PR_SET_PDEATHSIG)], false),
            (libc::SYS_prctl, &[number(libc::PR_SET_DUMPABLE)], false),
            (libc::SYS_prlimit64, &[0, 7, 0], true),
            (libc::SYS_prlimit64, &[other, 7, 4096], false),
            (libc::SYS_sched_getaffinity, &[0], true),
            (libc::SYS_sched_getaffinity, &[other], false),
            (libc::SYS_fcntl, &[3, number(libc::F_DUPFD_CLOEXEC)], true),
            (libc::SYS_fcntl, &[3, number(libc::F_GETFL)], true),
            // F_SETOWN, F_SETSIG, F_SETOWN_EX, F_SETLEASE, F_NOTIFY.
            (libc::SYS_fcntl, &[3, 8], false),
            (libc::SYS_fcntl, &[3, 10], false),
            (libc::SYS_fcntl, &[3, 15], false),
            (libc::SYS_fcntl, &[3, 1024], false),
            (libc::SYS_fcntl, &[3, 1026], false),
            (libc::SYS_ioctl, &[2, 0x5413], true),
            // TIOCSTI, TIOCLINUX, FIOSETOWN, and what differs in the half that the kernel does not look at.
            (libc::SYS_ioctl, &[2, 0x5412], false),
            (libc::SYS_ioctl, &[2, 0x1_0000_5412], false),
            (libc::SYS_ioctl, &[2, 0x541c], false),
            (libc::SYS_ioctl, &[2, 0x8901], false),
        ];
        for &(call, arguments, may) in table {
            let found = judged(&program, Call::of(call, arguments));
            let expected = if may { ALLOWED } else { unknown() };
            assert_eq!(found, expected, "{call} {arguments:x?}");
        }
    }
}
