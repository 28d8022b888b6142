//! What every check has at hand: the findings so far, and the host.
//!
//! Nothing stops at a finding: a check says what it found and goes on. The
//! module must never decide what is right.

use std::path::PathBuf;

use super::diagnostic::{Diagnostic, Invalid, Severity};
use super::host::Host;
use super::tree::At;

/// Most findings that are told: nobody reads more, and each is shown with its text.
const MOST: usize = 200;

/// What a finding about the host means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The files are this node's own: what they name must be here.
    ThisNode,
    /// The file may be meant for another node: what is missing here is a warning.
    AnyNode,
}

/// The state of one run of the checks.
pub struct Cx<'a> {
    /// The machine.
    pub host: &'a dyn Host,
    /// Folder that relative `env_file` paths start from.
    pub folder: PathBuf,
    scope: Scope,
    /// A file could not be read as TOML: what seems missing may stand there.
    partial: bool,
    diagnostics: Vec<Diagnostic>,
    /// Files in the order of reading.
    files: Vec<String>,
}

impl<'a> Cx<'a> {
    /// Nothing found yet.
    pub fn new(host: &'a dyn Host, scope: Scope, folder: PathBuf) -> Self {
        Self {
            host,
            folder,
            scope,
            partial: false,
            diagnostics: Vec::new(),
            files: Vec::new(),
        }
    }

    /// What a finding about the host means.
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// Notes that a file was read.
    pub fn read(&mut self, file: &str) {
        self.files.push(file.to_owned());
    }

    /// Takes over findings that leave a file unread.
    pub fn unreadable(&mut self, diagnostics: impl IntoIterator<Item = Diagnostic>) {
        self.partial = true;
        self.diagnostics.extend(diagnostics);
    }

    /// An error.
    pub fn error(&mut self, at: &At, message: impl Into<String>) -> &mut Diagnostic {
        self.push(Diagnostic::error(at, message))
    }

    /// A warning.
    pub fn warning(&mut self, at: &At, message: impl Into<String>) -> &mut Diagnostic {
        self.push(Diagnostic::warning(at, message))
    }

    /// Something that should be there and is not; silent if a file is unread.
    pub fn absent(&mut self, at: &At, message: impl Into<String>, hint: impl Into<String>) {
        if !self.partial {
            self.error(at, message).hint(hint);
        }
    }

    /// The same, about a whole file.
    pub fn absent_in_file(
        &mut self,
        file: &str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        if !self.partial {
            self.push(Diagnostic::file_error(file, message)).hint(hint);
        }
    }

    /// A finding about the host: an error on the node itself, else a warning.
    pub fn host_finding(&mut self, at: &At, message: &str) -> &mut Diagnostic {
        match self.scope {
            Scope::ThisNode => self.error(at, message),
            Scope::AnyNode => self.warning(at, format!("on this machine, {message}")),
        }
    }

    fn push(&mut self, diagnostic: Diagnostic) -> &mut Diagnostic {
        self.diagnostics.push(diagnostic);
        let last = self.diagnostics.len() - 1;
        &mut self.diagnostics[last]
    }

    /// The value with its warnings, or every finding; in the order of files and lines.
    pub fn finish<T>(mut self, value: Option<T>) -> Result<(T, Vec<Diagnostic>), Invalid> {
        let files = std::mem::take(&mut self.files);
        self.diagnostics.sort_by_key(|diagnostic| {
            let file = files.iter().position(|name| name == diagnostic.file());
            (file, diagnostic.offset())
        });
        let is_error = |diagnostic: &Diagnostic| diagnostic.severity() == Severity::Error;
        let failed = self.diagnostics.iter().any(is_error);
        let found = self.diagnostics.len();
        if found > MOST {
            // One error at least must stay, or the warnings would look like success.
            if failed {
                self.diagnostics.retain(is_error);
            }
            self.diagnostics.truncate(MOST);
            let more = found - self.diagnostics.len();
            if let Some(last) = self.diagnostics.last() {
                let rest = last.and_more(more);
                self.diagnostics.push(rest);
            }
        }
        match value {
            Some(value) if !failed => Ok((value, self.diagnostics)),
            Some(_) | None => Err(Invalid {
                diagnostics: self.diagnostics,
            }),
        }
    }
}
