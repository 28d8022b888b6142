//! `monopod check`: is the file valid?
//!
//! Findings go to stderr as text; with `--json` they go to stdout as a list.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use crate::exit::Exit;
use crate::paths::Paths;
use crate::spec::diagnostic::{self, Diagnostic, Invalid, Severity};
use crate::spec::host::ThisHost;
use crate::spec::types::{Network, Node, Workload};
use crate::spec::{self, Loaded};

/// Examples under `--help`.
const EXAMPLES: &str = "\
Examples:
  monopod check                   this node's workload.toml with its drop-ins, and node.toml
  monopod check gateway.toml      one file by itself; what is missing on this machine is a warning
  monopod check --json | jq '.[].message'

A container's keys are those of Compose:
  image command entrypoint environment env_file ports volumes tmpfs devices network_mode user
  group_add working_dir hostname extra_hosts dns cap_add cap_drop privileged read_only
  security_opt init shm_size ulimits sysctls mem_limit mem_reservation cpus pids_limit
  oom_score_adj stop_signal stop_grace_period labels logging depends_on runtime gpus
  healthcheck secrets files

Exit codes: 0 valid, 3 invalid or not there.";

/// Arguments of `monopod check`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Check {
    /// A workload file (or a node.toml), possibly meant for another node
    file: Option<PathBuf>,
    /// Print the findings to stdout as a JSON list
    #[arg(long)]
    json: bool,
}

/// Checks, and tells what was found.
pub fn run(paths: &Paths, check: &Check) -> Exit {
    judge(paths, check.file.as_deref()).tell(check.json)
}

/// Says what is wrong with this node's files, and nothing where all is well.
pub fn complaints(paths: &Paths) -> Exit {
    let mut outcome = judge(paths, None);
    outcome.good.clear();
    outcome.tell(false)
}

fn judge(paths: &Paths, file: Option<&Path>) -> Outcome {
    // A service's own credentials are among what its files may name.
    let host = ThisHost::of_environment();
    let mut outcome = Outcome::default();
    match file {
        Some(file) if file.file_name().is_some_and(|name| name == "node.toml") => {
            outcome.take(file, spec::load_node_file(file, &host), node_line);
        }
        Some(file) => outcome.take(file, spec::load_file(file, &host), workload_line),
        None => {
            let file = paths.workload();
            outcome.take(&file, spec::load(paths, &host), workload_line);
            let file = paths.node();
            if file.exists() {
                outcome.take(&file, spec::load_node(paths, &host), node_line);
            }
        }
    }
    outcome
}

/// What the files came to.
#[derive(Default)]
struct Outcome {
    /// A line for each good file.
    good: Vec<String>,
    findings: Vec<Diagnostic>,
    failed: bool,
}

impl Outcome {
    fn take<T>(&mut self, file: &Path, result: Result<Loaded<T>, Invalid>, line: fn(&T) -> String) {
        match result {
            Ok(loaded) => {
                self.findings.extend(loaded.warnings);
                self.good
                    .push(format!("{}: ok{}", file.display(), line(&loaded.value)));
            }
            Err(invalid) => {
                self.findings.extend(invalid.diagnostics);
                self.failed = true;
            }
        }
    }

    fn tell(&self, json: bool) -> Exit {
        let exit = if self.failed {
            Exit::Invalid
        } else {
            Exit::Done
        };
        let told = if json {
            self.tell_programs()
        } else {
            self.tell_people()
        };
        match told {
            Ok(()) => exit,
            // Whoever read has gone away; the exit code is all that is left to tell.
            Err(_) if self.failed => exit,
            Err(_) => Exit::Failed,
        }
    }

    fn tell_programs(&self) -> io::Result<()> {
        let list: Vec<_> = self.findings.iter().map(Diagnostic::to_json).collect();
        let text = serde_json::to_string_pretty(&list)?;
        writeln!(io::stdout().lock(), "{text}")
    }

    fn tell_people(&self) -> io::Result<()> {
        let mut stderr = io::stderr().lock();
        let text = diagnostic::render(&self.findings, diagnostic::colour_stderr());
        stderr.write_all(text.as_bytes())?;
        let count = |severity| {
            self.findings
                .iter()
                .filter(|finding| finding.severity() == severity)
                .count()
        };
        let summary: Vec<_> = [
            (count(Severity::Error), "error"),
            (count(Severity::Warning), "warning"),
        ]
        .into_iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, word)| format!("{number} {word}{}", if number == 1 { "" } else { "s" }))
        .collect();
        if !summary.is_empty() {
            writeln!(stderr, "{}", summary.join(", "))?;
        }
        let mut stdout = io::stdout().lock();
        for line in &self.good {
            writeln!(stdout, "{line}")?;
        }
        Ok(())
    }
}

/// `: gateway, 2 containers: broker, app`
fn workload_line(workload: &Workload) -> String {
    let names: Vec<_> = workload
        .containers
        .iter()
        .map(|container| match &container.network {
            Network::Private => container.name.to_string(),
            Network::Host => format!("{} (host's network)", container.name),
            Network::None => format!("{} (no network)", container.name),
            Network::Container(of) => format!("{} (network of {of})", container.name),
        })
        .collect();
    let plural = if names.len() == 1 { "" } else { "s" };
    format!(
        ": {}, {} container{plural}: {}",
        workload.name,
        names.len(),
        names.join(", ")
    )
}

fn node_line(_: &Node) -> String {
    String::new()
}
