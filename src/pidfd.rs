//! Waits for the end of a process that is not a child, without polling.
//!
//! A container's init process belongs to the engine; a pidfd tells its end at
//! once, also while the engine hangs. The module must never signal a process.

use std::io;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Resolves when the process `pid` has ended; at once if there is none.
///
/// The process is pinned when the future is first polled: one that ends later and whose number is
/// given to another process is still the one that is waited for. A zombie counts as ended.
///
/// # Errors
///
/// The kernel does not give out a pidfd (before Linux 5.3, forbidden by a sandbox, `pid` is a
/// thread and not a process, or no descriptor is left). The caller then has to ask the engine.
pub async fn ended(pid: u32) -> io::Result<()> {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return Ok(());
    };
    let fd = match pidfd_open(pid, PidfdFlags::NONBLOCK) {
        Ok(fd) => fd,
        Err(Errno::SRCH) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    };
    #[expect(
        deprecated,
        reason = "its successor is unsafe for the sake of types that lie about their descriptor; an OwnedFd cannot"
    )]
    let fd = AsyncFd::with_interest(fd, Interest::READABLE)?;
    let _readable = fd.readable().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::task::Poll;

    use super::*;

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(future)
    }

    #[test]
    fn resolves_when_the_process_ends_and_not_before() {
        run(async {
            // `cat` lives exactly as long as its standard input.
            let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
            let mut end = std::pin::pin!(ended(child.id()));
            // A pass through the reactor in which nothing may have come.
            tokio::select! {
                biased;
                _ = &mut end => panic!("it has not ended"),
                () = tokio::task::yield_now() => {}
            }
            assert!(matches!(futures_util::poll!(&mut end), Poll::Pending));
            drop(child.stdin.take());
            end.await.unwrap();
            assert!(child.wait().unwrap().success());
        });
    }

    #[test]
    fn a_zombie_has_ended() {
        run(async {
            let mut child = Command::new("true").spawn().unwrap();
            // Nobody has waited for it: its number stays taken.
            ended(child.id()).await.unwrap();
            ended(child.id()).await.unwrap();
            child.wait().unwrap();
        });
    }

    #[test]
    fn what_is_not_there_has_ended() {
        run(async {
            let mut child = Command::new("true").spawn().unwrap();
            child.wait().unwrap();
            for pid in [0, child.id(), u32::MAX] {
                ended(pid).await.unwrap();
            }
        });
    }
}
