//! Images of this machine's engine, as an archive: its own command line writes it.
//!
//! It must never ask the engine itself: a desk may have any engine, at any address that its command line knows.

use std::io::{self, Read};
use std::process::{Child, ChildStdout, Command, Stdio};

use super::fail;
use crate::exit::Exit;

/// The command lines that can, and how each is told to write several images into one archive.
const PROGRAMS: [(&str, &[&str]); 2] = [
    ("docker", &["save"]),
    ("podman", &["save", "--multi-image-archive"]),
];

/// An archive that is being written. What its writer complains of goes to stderr; whether it is whole, its reader sees.
pub(super) struct Saved {
    child: Child,
    stream: ChildStdout,
}

impl Saved {
    /// Begins to write these images.
    ///
    /// # Errors
    ///
    /// Told already: there is no such command line here, or it cannot be run.
    pub fn start(references: &[String]) -> Result<Self, Exit> {
        for (program, words) in PROGRAMS {
            let started = Command::new(program)
                .args(words)
                .args(references)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn();
            let mut child = match started {
                Ok(child) => child,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    let text = format_args!("cannot run {program}: {error}");
                    return Err(fail(Exit::Failed, text));
                }
            };
            if let Some(stream) = child.stdout.take() {
                return Ok(Self { child, stream });
            }
        }
        Err(fail(
            Exit::Failed,
            "neither docker nor podman is installed here; give the images as archives, with --image",
        ))
    }

    /// The archive.
    pub fn stream(&mut self) -> &mut dyn Read {
        &mut self.stream
    }
}

impl Drop for Saved {
    fn drop(&mut self) {
        // It has ended, or writes for nobody any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
