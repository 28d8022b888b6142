//! Is the engine one that monopod was tried with?

use super::{Check, Finding, Run};

/// The check.
pub(super) const CHECK: Check = Check {
    id: "engine-version",
    title: "the engine's name and version: one that monopod works with",
    run: Run::Asks(|machine| {
        Box::pin(async move {
            match machine.version().await {
                Ok(version) => judge(version),
                Err(silence) => silence.skipped(),
            }
        })
    }),
};

/// The oldest Docker that is tested.
const OLDEST: (u32, u32) = (20, 10);

fn judge(version: &str) -> Finding {
    let (name, number) = version.split_once(' ').unwrap_or((version, ""));
    if name == "Podman" {
        return Finding::warning(format!("{version} is not supported yet; Docker Engine is"))
            .hint("apt-get install docker.io");
    }
    let mut parts = number.split(['.', '-', '+', '~']).map(str::parse);
    let (Some(Ok(major)), Some(Ok(minor))) = (parts.next(), parts.next()) else {
        return Finding::note(format!("{version}: nobody can say how old that is"));
    };
    if (major, minor) < OLDEST {
        let (major, minor) = OLDEST;
        return Finding::failure(format!(
            "{version} is older than {major}.{minor}, the oldest that monopod works with"
        ))
        .hint("upgrade it with the system's packages");
    }
    Finding::ok(version)
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn judgements() {
        let table = [
            ("Docker 20.10.24+dfsg1", State::Ok),
            ("Docker 26.1.5", State::Ok),
            ("Docker 29.0-rc.1", State::Ok),
            ("Docker 20.9.1", State::Failure),
            ("Docker 19.03.15", State::Failure),
            ("Docker library-import", State::Note),
            ("Docker", State::Note),
            ("Podman 4.3.1", State::Warning),
        ];
        for (version, state) in table {
            assert_eq!(judge(version).state, state, "{version}");
        }
    }
}
