//! A secret key's password: from a file, the environment, or the terminal.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;

use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};

use super::{complain, hint};
use crate::bundle::limits;
use crate::exit::Exit;

/// What minisign takes at most, bytes.
const LONGEST: usize = 1024;

/// The first line of `file`, else `MONOPOD_KEY_PASSWORD`, else what is typed, `twice` if it is new.
pub fn ask(file: Option<&Path>, prompt: &str, twice: bool) -> Result<String, Exit> {
    let word = if let Some(file) = file {
        let text = small_text(file).map_err(|error| {
            complain(format_args!("cannot read {}: {error}", file.display()));
            Exit::Failed
        })?;
        text.lines().next().unwrap_or_default().to_owned()
    } else if let Ok(word) = std::env::var("MONOPOD_KEY_PASSWORD") {
        word
    } else {
        typed(prompt, twice)?
    };
    if word.is_empty() || word.len() > LONGEST {
        complain(format_args!("a password has 1 to {LONGEST} bytes"));
        if twice {
            hint("--no-password leaves the secret key unencrypted");
        }
        return Err(Exit::Usage);
    }
    Ok(word)
}

/// A text file that must be small.
pub fn small_text(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(file)?
        .take(limits::KEY_FILE + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > limits::KEY_FILE {
        return Err(io::Error::other("it is too large for a key or a signature"));
    }
    Ok(text)
}

fn typed(prompt: &str, twice: bool) -> Result<String, Exit> {
    let wrong = |error: io::Error| {
        complain(format_args!(
            "no password: the terminal cannot be asked: {error}"
        ));
        hint("--password-file or MONOPOD_KEY_PASSWORD gives it without a terminal");
        Exit::Usage
    };
    let terminal = File::options()
        .read(true)
        .write(true)
        .open("/dev/tty")
        .map_err(wrong)?;
    let word = line(&terminal, prompt).map_err(wrong)?;
    if twice && line(&terminal, "The same again: ").map_err(wrong)? != word {
        complain("the two passwords differ");
        return Err(Exit::Usage);
    }
    Ok(word)
}

/// One line, unseen.
fn line(mut terminal: &File, prompt: &str) -> io::Result<String> {
    terminal.write_all(prompt.as_bytes())?;
    let shown = tcgetattr(terminal)?;
    let mut unseen = shown.clone();
    unseen.local_flags.remove(LocalFlags::ECHO);
    unseen.local_flags.insert(LocalFlags::ECHONL);
    tcsetattr(terminal, SetArg::TCSAFLUSH, &unseen)?;
    let mut word = String::new();
    let read = BufReader::new(terminal)
        .take(LONGEST as u64 + 2)
        .read_line(&mut word);
    tcsetattr(terminal, SetArg::TCSAFLUSH, &shown)?;
    read?;
    Ok(word.trim_end_matches(['\r', '\n']).to_owned())
}
