//! Reads what a helper process prints, for as long as it gets on with its work.
//!
//! A medium that hangs must not hold the daemon's start for ever. What counts is whether the process
//! reads or writes anything at all, as the kernel counts it.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::process::{Child, ChildStdout};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Everything that a helper prints until it closes its output. One that moves nothing for `patience` is
/// killed; it is not waited for then, because a process that waits for a broken medium cannot even die.
///
/// # Errors
///
/// Reading fails, or with [`io::ErrorKind::TimedOut`] the helper was killed.
pub fn read_all(child: &Child, out: &mut ChildStdout, patience: Duration) -> io::Result<String> {
    let look = PollTimeout::try_from(patience / 10).unwrap_or(PollTimeout::MAX);
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    let mut moved = moved_by(child.id());
    let mut since = Instant::now();
    loop {
        let mut files = [PollFd::new(out.as_fd(), PollFlags::POLLIN)];
        let ready = match poll(&mut files, look) {
            // A signal of ours is no word of the helper's.
            Err(Errno::EINTR) => 0,
            ready => ready?,
        };
        if ready > 0 {
            match out.read(&mut buffer)? {
                0 => break,
                count => bytes.extend_from_slice(&buffer[..count]),
            }
            since = Instant::now();
        }
        let now = moved_by(child.id());
        // Where the kernel does not tell, nobody is called idle.
        if now != moved || now.is_none() {
            (moved, since) = (now, Instant::now());
        }
        if since.elapsed() >= patience {
            let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
            nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(pid),
                nix::sys::signal::Signal::SIGKILL,
            )?;
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
    String::from_utf8(bytes).map_err(|error| io::Error::other(error.to_string()))
}

/// Bytes that a process has read and written so far.
fn moved_by(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    let count = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok())
    };
    Some(count("rchar:")?.saturating_add(count("wchar:")?))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn run(script: &str, patience: Duration) -> io::Result<String> {
        let mut child = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("there is a shell");
        let mut out = child.stdout.take().expect("it is piped");
        let result = read_all(&child, &mut out, patience);
        // It has ended, or was killed.
        child.wait().expect("it is ours");
        result
    }

    #[test]
    fn what_is_printed_is_read() {
        let printed = run("echo one; echo two", Duration::from_secs(60));
        assert_eq!(printed.expect("read"), "one\ntwo\n");
    }

    #[test]
    fn who_does_nothing_is_ended() {
        let error = run("exec sleep 1000", Duration::from_millis(300)).expect_err("idle");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn who_works_in_silence_is_waited_for() {
        // It reads for longer than the patience lasts, and prints nothing meanwhile.
        let script = "i=0; while [ $i -lt 40 ]; do read x </proc/self/stat; sleep 0.1; i=$((i+1)); done; echo done";
        let printed = run(script, Duration::from_secs(3));
        assert_eq!(printed.expect("read"), "done\n");
    }
}
