//! Can the kernel keep the limits that the workload asks for?

use std::collections::BTreeSet;

use super::{Check, Finding, Machine, Run};

/// The check.
pub(super) const CHECK: Check = Check {
    id: "cgroup-controllers",
    title: "the kernel's cgroup version, and its controllers for the workload's limits",
    run: Run::Files(|machine| judge(&gather(machine))),
};

/// The controllers that limits are made of.
const WANTED: [&str; 3] = ["memory", "cpu", "pids"];

struct Facts {
    /// `None`: no cgroups are mounted.
    version: Option<u8>,
    there: BTreeSet<String>,
    /// Container, its key, and the controller that the key needs.
    asked: Vec<(String, &'static str, &'static str)>,
}

fn gather(machine: &Machine) -> Facts {
    let unified = std::fs::read_to_string(machine.at("/sys/fs/cgroup/cgroup.controllers")).ok();
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
    let (version, there) = if let Some(text) = unified {
        (Some(2), words(&text))
    } else {
        // `memory 4 13 1`: name, hierarchy, number, enabled; hierarchy 0 is not mounted.
        let there: BTreeSet<String> = machine
            .text("/proc/cgroups")
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .filter(|fields| fields.len() == 4 && fields[1] != "0" && fields[3] == "1")
            .map(|fields| fields[0].to_owned())
            .collect();
        ((!there.is_empty()).then_some(1), there)
    };
    let mut asked = Vec::new();
    for container in machine
        .workload()
        .into_iter()
        .flat_map(|workload| workload.containers)
    {
        let limits = [
            (container.mem_limit.is_some(), "mem_limit", "memory"),
            (
                container.mem_reservation.is_some(),
                "mem_reservation",
                "memory",
            ),
            (container.nano_cpus.is_some(), "cpus", "cpu"),
            (
                container.pids_limit.is_some_and(|limit| limit > 0),
                "pids_limit",
                "pids",
            ),
        ];
        for (_, key, controller) in limits.into_iter().filter(|(set, _, _)| *set) {
            asked.push((container.name.to_string(), key, controller));
        }
    }
    Facts {
        version,
        there,
        asked,
    }
}

fn judge(facts: &Facts) -> Finding {
    let mut found = Vec::new();
    let lacks = |controller: &str| !facts.there.contains(controller);
    for (container, key, controller) in facts
        .asked
        .iter()
        .filter(|(_, _, controller)| lacks(controller))
    {
        found.push(with_hint(
            Finding::failure(format!(
                "{container} asks for {key}, and the kernel has no {controller} controller"
            )),
            controller,
        ));
    }
    if found.is_empty() {
        let missing: Vec<&str> = WANTED.into_iter().filter(|one| lacks(one)).collect();
        if !missing.is_empty() {
            let text = format!(
                "the kernel lacks controllers that nobody asks for yet: {}",
                missing.join(", ")
            );
            found.push(with_hint(Finding::note(text), missing[0]));
        }
    }
    let version = match facts.version {
        Some(1) => {
            found.push(
                Finding::note("cgroup v1, which newer systemd and engines give up")
                    .hint("systemd.unified_cgroup_hierarchy=1 on the kernel's command line"),
            );
            "v1"
        }
        Some(_) => "v2",
        None => "none",
    };
    Finding::all(found, format!("{version}, with memory, cpu and pids"))
}

fn with_hint(finding: Finding, controller: &str) -> Finding {
    if controller == "memory" {
        finding.hint("on the kernel's command line (Raspberry Pi: cmdline.txt): cgroup_enable=memory cgroup_memory=1")
    } else {
        finding.hint(format!(
            "a kernel with the cgroup controller {controller} is needed"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::super::tests::machine;
    use super::*;

    #[test]
    fn judgements() {
        let limit = ("app".to_owned(), "mem_limit", "memory");
        let table = [
            (Some(2), "memory cpu pids", true, State::Ok),
            (Some(2), "cpu pids", true, State::Failure),
            (Some(2), "cpu pids", false, State::Note),
            (Some(1), "memory cpu pids", true, State::Note),
            (None, "", true, State::Failure),
            (None, "", false, State::Note),
        ];
        for (version, there, asks, state) in table {
            let facts = Facts {
                version,
                there: there.split_whitespace().map(str::to_owned).collect(),
                asked: if asks { vec![limit.clone()] } else { vec![] },
            };
            assert_eq!(judge(&facts).state, state, "{version:?} {there} {asks}");
        }
    }

    #[test]
    fn both_versions_are_read() {
        let workload =
            "name = \"w\"\n[containers.app]\nimage = \"x:1\"\nmem_limit = \"64m\"\ncpus = 1\n";
        let facts = gather(&machine(&[
            ("etc/monopod/workload.toml", workload),
            ("sys/fs/cgroup/cgroup.controllers", "cpu pids\n"),
        ]));
        assert_eq!(facts.version, Some(2));
        assert_eq!(
            facts.there,
            BTreeSet::from(["cpu".to_owned(), "pids".to_owned()])
        );
        let keys: Vec<_> = facts.asked.iter().map(|(_, key, _)| *key).collect();
        assert_eq!(keys, ["mem_limit", "cpus"]);
        let old = "#subsys_name hierarchy num enabled\ncpu 1 2 1\nmemory 4 1 0\npids 0 1 1\n";
        let facts = gather(&machine(&[("proc/cgroups", old)]));
        assert_eq!(
            (facts.version, facts.there),
            (Some(1), BTreeSet::from(["cpu".to_owned()]))
        );
    }
}
