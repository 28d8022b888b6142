//! What the kernel has to shut in whoever reads a stranger's archive.

use super::{Check, Finding, Run};
use crate::sandbox;

/// The check.
pub(super) const CHECK: Check = Check {
    id: "kernel",
    title: "Landlock and seccomp, which shut in whoever reads an archive",
    run: Run::Files(|machine| {
        let seccomp = machine
            .at("/proc/sys/kernel/seccomp/actions_avail")
            .exists();
        judge(sandbox::landlock(), seccomp)
    }),
};

fn judge(landlock: bool, seccomp: bool) -> Finding {
    let mut found = Vec::new();
    if !seccomp {
        found.push(
            Finding::failure(
                "the kernel has no seccomp filters, and no archive is read without them",
            )
            .hint("a kernel with CONFIG_SECCOMP_FILTER is needed"),
        );
    }
    if !landlock {
        found.push(
            Finding::note("the kernel has no Landlock: an import is kept from the network, and not from what else its user may read")
                .hint("a kernel of 5.13 or newer has it; lsm=landlock,... on its command line switches it on"),
        );
    }
    Finding::all(found, "Landlock and seccomp are there")
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn judgements() {
        let table = [
            (true, true, State::Ok),
            (false, true, State::Note),
            (true, false, State::Failure),
            (false, false, State::Failure),
        ];
        for (landlock, seccomp, state) in table {
            assert_eq!(judge(landlock, seccomp).state, state);
        }
    }
}
