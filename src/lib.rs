//! monopod keeps one containerised workload alive on one node.
//!
//! The decisions are in [`core`], which is pure; everything else does as it is told.

pub mod bundle;
pub mod cli;
pub mod core;
pub mod daemon;
pub mod doctor;
pub mod engine;
pub mod exit;
pub mod feed;
pub mod image;
pub mod medium;
pub mod owner;
pub mod paths;
pub mod pidfd;
pub mod probe;
pub mod release;
pub mod sandbox;
pub mod spec;
pub mod systemd;
pub mod volumes;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    /// What the core may name of the standard library and of this crate; all else is the shell's.
    const STD: [&str; 9] = [
        "collections",
        "fmt",
        "mem",
        "net::IpAddr",
        "ops",
        "cmp",
        "iter",
        "num",
        "time::Duration",
    ];
    const OWN: [&str; 2] = ["core", "spec::types"];
    /// The crates that it may name: what turns its records into text and sums them, and its own errors.
    const CRATES: [&str; 4] = ["serde", "serde_json", "sha2", "thiserror"];
    /// What it must not name in any way.
    const NEVER: [&str; 17] = [
        "Instant",
        "SystemTime",
        "UNIX_EPOCH",
        "File",
        "TcpStream",
        "TcpListener",
        "UdpSocket",
        "UnixStream",
        "UnixDatagram",
        "Command",
        "rand",
        "getrandom",
        "tokio",
        "bollard",
        "zbus",
        "nix",
        "rustix",
    ];

    /// What is wrong with a line of code, if anything is.
    fn fault(line: &str) -> Option<String> {
        let code = line.split("//").next().unwrap_or_default();
        let word = |c: char| c.is_alphanumeric() || c == '_';
        let named = |path: &str, allowed: &[&str]| {
            allowed.iter().any(|allowed| {
                path.strip_prefix(allowed)
                    .is_some_and(|rest| !rest.starts_with(word))
            })
        };
        for (root, allowed) in [("std::", &STD[..]), ("crate::", &OWN[..])] {
            for (at, _) in code.match_indices(root) {
                let path = &code[at + root.len()..];
                if !code[..at].ends_with(word) && !named(path, allowed) {
                    return Some(format!("{root}{path}"));
                }
            }
        }
        // A path at the head of a `use` that begins with a crate's name.
        if let Some(path) = code.trim_start().strip_prefix("use ") {
            let head = path.split([':', ';', ' ']).next().unwrap_or_default();
            let near = ["std", "crate", "self", "super"].contains(&head)
                || head.starts_with(char::is_uppercase);
            if !near && !CRATES.contains(&head) {
                return Some(path.to_owned());
            }
        }
        code.split(|c| !word(c))
            .find(|token| NEVER.contains(token))
            .map(str::to_owned)
    }

    fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("the sources are there") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                sources(&path, into);
            } else if path.extension().is_some_and(|suffix| suffix == "rs") {
                into.push(path);
            }
        }
    }

    #[test]
    fn the_core_names_nothing_of_the_world() {
        let mut files = Vec::new();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/core");
        sources(&folder, &mut files);
        assert!(files.len() >= 8, "the core's files are found: {files:?}");
        for file in files {
            let text = fs::read_to_string(&file).expect("text");
            for (number, line) in text.lines().enumerate() {
                if let Some(fault) = fault(line) {
                    panic!("{}:{}: {fault}: {line}", file.display(), number + 1);
                }
            }
        }
    }

    #[test]
    fn memory_is_unsafe_in_one_place() {
        let mut files = Vec::new();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        sources(&folder, &mut files);
        // What allows it, in any spelling of the attribute; the lint denies the rest.
        let lint = ["unsafe", "_code"].concat();
        let found: Vec<_> = files
            .iter()
            .filter(|file| {
                let text = fs::read_to_string(file).expect("text");
                text.lines()
                    .any(|line| line.contains(&lint) && !line.contains(&format!("forbid({lint})")))
            })
            .map(|file| file.strip_prefix(&folder).expect("below it"))
            .collect();
        assert_eq!(found, [Path::new("daemon/pages.rs")]);
    }

    #[test]
    fn what_the_core_must_not_name_is_seen() {
        let bad = [
            "use tokio::sync::mpsc;",
            "let now = std::time::Instant::now();",
            "use std::time::{Duration, Instant};",
            "use std::time::SystemTime;",
            "let x = std::fs::read(path);",
            "use std::{fs, mem};",
            "std::env::var(\"HOME\")",
            "use std::net::TcpStream;",
            "use std::net::{IpAddr, TcpStream};",
            "std::thread::sleep(span);",
            "std::process::exit(1)",
            "bollard::Docker::connect()",
            "use crate::engine::Docker;",
            "use crate::daemon;",
            "use crate::spec::host::ThisHost;",
            "use uuid::Uuid;",
            "let seed = rand::random();",
        ];
        for line in bad {
            assert!(fault(line).is_some(), "{line}");
        }
        let good = [
            "use std::collections::BTreeMap;",
            "use std::time::Duration;",
            "use crate::core::api::Event;",
            "use crate::spec::types::{Health, Role};",
            "use super::Supervisor;",
            "use Answered::Spent;",
            "use serde::Serialize;",
            "// not even tokio, std::fs or Instant::now",
            "let operand = brand + random;",
        ];
        for line in good {
            assert_eq!(fault(line), None, "{line}");
        }
    }
}
