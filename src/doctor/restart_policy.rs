//! Does somebody else start what monopod runs?

use super::{Check, Finding, Run};
use crate::engine::docker::Kin;
use crate::image::normalise;

/// The check.
pub(super) const CHECK: Check = Check {
    id: "restart-policy",
    title: "other containers with the workload's names or images, and the engine's restart policies",
    run: Run::Asks(|machine| {
        Box::pin(async move {
            let docker = match machine.docker() {
                Ok(docker) => docker,
                Err(silence) => return silence.skipped(),
            };
            let workload = machine.workload();
            let containers = workload
                .as_ref()
                .map(|one| one.containers.as_slice())
                .unwrap_or_default();
            let name = workload
                .as_ref()
                .map(|one| one.name.as_str())
                .unwrap_or_default();
            let facts = Facts {
                node: machine.paths.root().display().to_string(),
                names: containers
                    .iter()
                    .map(|one| format!("{name}-{}", one.name))
                    .collect(),
                images: containers
                    .iter()
                    .filter_map(|one| normalise(&one.image).ok())
                    .collect(),
            };
            match docker.kin(|kin| facts.concern(kin)).await {
                Ok(found) => judge(&facts, &found),
                Err(fault) => super::machine::silence(fault).skipped(),
            }
        })
    }),
};

/// What is monopod's on this node.
struct Facts {
    node: String,
    names: Vec<String>,
    /// Whole references.
    images: Vec<String>,
}

impl Facts {
    fn ours(&self, kin: &Kin) -> bool {
        kin.node.as_deref() == Some(&self.node)
    }

    /// Whether a container has to do with the workload.
    fn concern(&self, kin: &Kin) -> bool {
        self.ours(kin)
            || self.names.contains(&kin.name)
            || normalise(&kin.image).is_ok_and(|image| self.images.contains(&image))
    }
}

fn judge(facts: &Facts, found: &[Kin]) -> Finding {
    let mut worse = Vec::new();
    for kin in found {
        let Kin { name, policy, .. } = kin;
        let restarted = !matches!(policy.as_str(), "" | "no");
        if facts.ours(kin) {
            if restarted {
                worse.push(
                    Finding::warning(format!("the engine restarts {name} too (policy {policy})"))
                        .hint(format!("docker update --restart=no {name}")),
                );
            }
        } else if facts.names.contains(name) {
            worse.push(
                Finding::failure(format!(
                    "a container that monopod did not make has the name {name}"
                ))
                .hint(format!("if nobody needs it: docker rm -f {name}")),
            );
        } else if restarted {
            worse.push(
                Finding::warning(format!(
                    "the engine keeps {name} running with the workload's image (policy {policy})"
                ))
                .hint(format!(
                    "if that is how the workload ran before monopod: docker rm -f {name}"
                )),
            );
        }
    }
    Finding::all(worse, "nobody but monopod starts the workload")
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn judgements() {
        let facts = Facts {
            node: "/".to_owned(),
            names: vec!["w-app".to_owned()],
            images: vec![normalise("example/app:1").unwrap()],
        };
        let table = [
            ("w-app", Some("/"), "example/app:1", "no", true, State::Ok),
            ("w-app", Some("/"), "example/app:1", "", true, State::Ok),
            (
                "w-old",
                Some("/"),
                "example/app:0",
                "always",
                true,
                State::Warning,
            ),
            ("w-app", None, "example/app:1", "no", true, State::Failure),
            (
                "w-app",
                Some("/elsewhere"),
                "example/app:1",
                "no",
                true,
                State::Failure,
            ),
            (
                "app",
                None,
                "docker.io/example/app:1",
                "unless-stopped",
                true,
                State::Warning,
            ),
            ("app", None, "example/app:1", "no", true, State::Ok),
            ("other", None, "example/other:1", "always", false, State::Ok),
        ];
        for (name, node, image, policy, concerned, state) in table {
            let kin = Kin {
                name: name.to_owned(),
                node: node.map(str::to_owned),
                image: image.to_owned(),
                policy: policy.to_owned(),
            };
            assert_eq!(facts.concern(&kin), concerned, "{kin:?}");
            if concerned {
                assert_eq!(
                    judge(&facts, std::slice::from_ref(&kin)).state,
                    state,
                    "{kin:?}"
                );
            }
        }
    }
}
