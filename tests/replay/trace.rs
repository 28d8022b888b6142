//! What strace writes, taken apart: calls with their arguments and results. It knows nothing of what they mean.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

/// The calls that change files, move positions in them or make them durable, and those that would
/// make the recorder blind. A `?` lets strace pass over what this architecture does not have.
const CALLS: &[&str] = &[
    "open",
    "openat",
    "openat2",
    "creat",
    "close",
    "dup",
    "dup2",
    "dup3",
    "fcntl",
    "lseek",
    "write",
    "writev",
    "pwrite64",
    "pwritev",
    "pwritev2",
    "ftruncate",
    "truncate",
    "fallocate",
    "copy_file_range",
    "sendfile",
    "splice",
    "link",
    "linkat",
    "symlink",
    "symlinkat",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "mkdir",
    "mkdirat",
    "rmdir",
    "mknod",
    "mknodat",
    "fsync",
    "fdatasync",
    "sync",
    "syncfs",
    "execve",
    "fork",
    "vfork",
    "clone",
    "clone3",
    "chdir",
    "fchdir",
    "io_uring_setup",
];

/// Longest string that strace writes out, bytes. A longer one is an error, never a cut.
const LONGEST: usize = 8 << 20;

/// A call that succeeded.
#[derive(Debug)]
pub struct Call {
    /// Its name.
    pub name: String,
    /// What it returned.
    pub result: i64,
    arguments: Vec<String>,
}

impl Call {
    /// An argument as strace writes it.
    pub fn word(&self, at: usize) -> Result<&str, String> {
        let word = self.arguments.get(at).map(String::as_str);
        word.ok_or_else(|| format!("{} has no argument {at}", self.name))
    }

    /// A number: a descriptor, a length, a position.
    pub fn number(&self, at: usize) -> Result<i64, String> {
        let word = self.word(at)?;
        let number = match word.strip_prefix("0x") {
            Some(hex) => i64::from_str_radix(hex, 16),
            None => word.parse(),
        };
        number.map_err(|_| format!("{}: {word:?} is no number", self.name))
    }

    /// A number behind a pointer (`[512]`), or none (`NULL`).
    pub fn pointed(&self, at: usize) -> Result<Option<i64>, String> {
        let word = self.word(at)?;
        if word == "NULL" {
            return Ok(None);
        }
        let inner = word.trim_start_matches('[').trim_end_matches(']');
        let number = inner.parse().map(Some);
        number.map_err(|_| format!("{}: {word:?} is no position", self.name))
    }

    /// The bytes of a string, or of all strings of an array of buffers, one after another.
    pub fn bytes(&self, at: usize) -> Result<Vec<u8>, String> {
        let word = self.word(at)?;
        let mut bytes = Vec::new();
        for (number, part) in word.split('"').enumerate() {
            // Between the quotes there is nothing but \xHH.
            if number % 2 == 1 {
                for hex in part.split("\\x").skip(1) {
                    let byte = u8::from_str_radix(hex, 16);
                    bytes.push(byte.map_err(|_| format!("{}: {hex:?} is no byte", self.name))?);
                }
            } else if part.starts_with("...") {
                return Err(format!("{}: a string was cut off", self.name));
            }
        }
        Ok(bytes)
    }

    /// A path.
    pub fn path(&self, at: usize) -> Result<String, String> {
        String::from_utf8(self.bytes(at)?).map_err(|_| format!("{}: no UTF-8 path", self.name))
    }

    /// Whether an argument made of flags has this one.
    pub fn flag(&self, at: usize, flag: &str) -> bool {
        let word = self.arguments.get(at);
        word.is_some_and(|word| {
            word.split(['|', ' ', '=', ',', '{', '}'])
                .any(|one| one == flag)
        })
    }
}

/// Runs a command to its end, which must be a success; returns its calls in the order of their ends.
pub fn run(command: &Command, log: &Path) -> Result<Vec<Call>, String> {
    let calls: Vec<String> = CALLS.iter().map(|call| format!("?{call}")).collect();
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-qq", "-xx", "-e", "signal=none", "-s"])
        .arg(LONGEST.to_string())
        .arg("-e")
        .arg(format!("trace={}", calls.join(",")))
        .arg("-o")
        .arg(log)
        .arg("--")
        .arg(command.get_program())
        .args(command.get_args())
        .stdin(Stdio::null());
    let output = strace
        .output()
        .map_err(|error| format!("strace: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!(
            "{command:?}: {}: {}",
            output.status,
            said.trim_end()
        ));
    }
    let text =
        std::fs::read_to_string(log).map_err(|error| format!("{}: {error}", log.display()))?;
    parse(&text)
}

/// The calls of a log.
fn parse(text: &str) -> Result<Vec<Call>, String> {
    let mut begun: BTreeMap<&str, String> = BTreeMap::new();
    let mut calls = Vec::new();
    for line in text.lines() {
        let (thread, rest) = line
            .split_once(' ')
            .ok_or_else(|| format!("no line of strace: {line}"))?;
        let rest = rest.trim_start();
        if rest.starts_with("+++") || rest.starts_with("---") {
            continue;
        }
        let whole = if let Some(start) = rest.strip_suffix("<unfinished ...>") {
            begun.insert(thread, start.trim_end().to_owned());
            continue;
        } else if let Some(end) = rest.strip_prefix("<... ") {
            let start = begun.remove(thread).ok_or("a call ends that never began")?;
            start + end.split_once("resumed>").map_or("", |(_, end)| end)
        } else {
            rest.to_owned()
        };
        calls.extend(call(&whole).ok_or_else(|| format!("not understood: {whole:.200}"))?);
    }
    Ok(calls)
}

/// One call; none if it failed or never returned.
#[allow(clippy::option_option, reason = "not understood, failed, done")]
fn call(text: &str) -> Option<Option<Call>> {
    let (head, result) = text.rsplit_once(" = ")?;
    let result = result.split(' ').next()?;
    let result = match result.strip_prefix("0x") {
        _ if result == "?" => return Some(None),
        Some(hex) => i64::from_str_radix(hex, 16).ok()?,
        None => result.parse().ok()?,
    };
    if result < 0 {
        return Some(None);
    }
    let (name, arguments) = head.trim_end().strip_suffix(')')?.split_once('(')?;
    Some(Some(Call {
        name: name.to_owned(),
        result,
        arguments: split(arguments),
    }))
}

/// The arguments: commas inside quotes, brackets and braces belong to them.
fn split(text: &str) -> Vec<String> {
    let (mut found, mut start, mut depth, mut quoted) = (Vec::new(), 0, 0, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            b'[' | b'{' | b'(' if !quoted => depth += 1,
            b']' | b'}' | b')' if !quoted => depth -= 1,
            b',' if !quoted && depth == 0 => {
                found.push(text[start..at].trim().to_owned());
                start = at + 1;
            }
            _ => {}
        }
    }
    found.push(text[start..].trim().to_owned());
    found
}
