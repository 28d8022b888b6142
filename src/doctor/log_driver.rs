//! Where containers' output goes, and whether it can fill or wear out the disk.

use serde_json::Value;

use super::{Check, Finding, Machine, Run};
use crate::engine::EngineInfo;
use crate::spec::types::{Logging, Workload};

/// The check.
pub(super) const CHECK: Check = Check {
    id: "log-driver",
    title: "where containers log to, and whether it has an end",
    run: Run::Asks(|machine| {
        Box::pin(async move {
            match machine.info().await {
                Ok(info) => judge(&gather(&machine, info)),
                Err(silence) => silence.skipped(),
            }
        })
    }),
};

struct Facts {
    /// The engine's driver for containers that name none.
    driver: String,
    /// Its files have a largest size (daemon.json).
    capped: bool,
    /// Most bytes that the workload's own log files may take, where it asks for files.
    files: u64,
    /// Whether a container of the workload logs to files that are JSON.
    json: bool,
}

fn gather(machine: &Machine, info: &EngineInfo) -> Facts {
    let config: Value =
        serde_json::from_str(&machine.text("/etc/docker/daemon.json")).unwrap_or_default();
    let workload = machine.workload();
    let (files, json) = workload.as_ref().map_or((0, false), files);
    Facts {
        driver: info.logging_driver.clone(),
        capped: config["log-opts"]["max-size"].is_string(),
        files,
        json,
    }
}

fn files(workload: &Workload) -> (u64, bool) {
    workload
        .containers
        .iter()
        .fold((0, false), |(bytes, json), container| {
            match container.logging {
                Logging::Default | Logging::Journald | Logging::None => (bytes, json),
                Logging::Local { max_size, max_file } => {
                    (bytes + max_size.saturating_mul(max_file.into()), json)
                }
                Logging::JsonFile { max_size, max_file } => {
                    (bytes + max_size.saturating_mul(max_file.into()), true)
                }
            }
        })
}

/// Log files beyond this are worth a word: 1 GB.
const MUCH: u64 = 1_000_000_000;

fn judge(facts: &Facts) -> Finding {
    let mut found = Vec::new();
    if facts.files > MUCH {
        found.push(
            Finding::note(format!(
                "the workload's log files may grow to {}",
                super::space::bytes(facts.files)
            ))
            .hint("lower max-size or max-file under `logging` in the workload file"),
        );
    }
    if facts.json {
        found.push(
            Finding::note(
                "the workload logs to json-file, which writes each line at once and in full",
            )
            .hint("leave `logging` out: the journal, which can be kept in memory"),
        );
    }
    if facts.driver == "json-file" && !facts.capped {
        found.push(
            Finding::note("containers that monopod does not run log to json-file without an end")
                .hint("in /etc/docker/daemon.json: { \"log-driver\": \"local\" }; then: systemctl restart docker"),
        );
    }
    Finding::all(
        found,
        format!(
            "the workload's logs have an end; the engine's default is {}",
            facts.driver
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::super::tests::machine;
    use super::*;

    #[test]
    fn judgements() {
        let table = [
            ("json-file", false, 0, false, State::Note, "without an end"),
            ("json-file", true, 0, false, State::Ok, "json-file"),
            ("local", false, 0, false, State::Ok, "local"),
            (
                "journald",
                false,
                2_000_000_000,
                false,
                State::Note,
                "2.0 GB",
            ),
            ("journald", false, 1000, true, State::Note, "each line"),
        ];
        for (driver, capped, files, json, state, text) in table {
            let found = judge(&Facts {
                driver: driver.to_owned(),
                capped,
                files,
                json,
            });
            assert_eq!(found.state, state, "{found:?}");
            assert!(found.finding.contains(text), "{found:?}");
        }
    }

    #[test]
    fn the_engines_file_is_read() {
        let info = EngineInfo {
            logging_driver: "json-file".to_owned(),
            ..EngineInfo::default()
        };
        let with = |text| gather(&machine(&[("etc/docker/daemon.json", text)]), &info).capped;
        assert!(with(r#"{"log-opts": {"max-size": "10m"}}"#));
        assert!(!with(r#"{"log-opts": {"max-file": "2"}}"#));
        assert!(!with("nonsense"));
    }
}
