//! A client that asks the app 20 times a second, and counts what it does not get.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};

use crate::machine::Machine;

const EVERY: Duration = Duration::from_millis(50);

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A client at work in a machine's network.
pub struct Client {
    end: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    thread: JoinHandle<Vec<String>>,
}

/// What a client met with.
#[derive(Debug)]
pub struct Tally {
    /// How many requests it sent.
    pub asked: u64,
    /// What each that was not answered with 200 came to.
    pub failed: Vec<String>,
}

impl Client {
    /// Starts one; returns when its first request has been answered.
    pub fn start(machine: &Machine) -> Self {
        let network = std::fs::File::open(format!("/proc/{}/ns/net", machine.leader()))
            .expect("the machine runs");
        let end = Arc::new(AtomicBool::new(false));
        let asked = Arc::new(AtomicU64::new(0));
        let (ended, count) = (Arc::clone(&end), Arc::clone(&asked));
        let thread = std::thread::spawn(move || {
            setns(network, CloneFlags::CLONE_NEWNET).expect("the tests run as root");
            let mut failed = Vec::new();
            let begin = Instant::now();
            while !ended.load(Ordering::Relaxed) {
                if let Err(error) = ask() {
                    failed.push(format!("{:?}: {error}", begin.elapsed()));
                }
                let number = count.fetch_add(1, Ordering::Relaxed) + 1;
                let next = begin + EVERY * u32::try_from(number).unwrap_or(u32::MAX);
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
            }
            failed
        });
        let client = Self { end, asked, thread };
        client.more(1);
        client
    }

    /// Lets it send at least so many more.
    pub fn more(&self, number: u64) {
        let until = self.asked.load(Ordering::Relaxed) + number;
        while self.asked.load(Ordering::Relaxed) < until {
            assert!(!self.thread.is_finished(), "the client has ended");
            std::thread::sleep(EVERY);
        }
    }

    /// Ends it.
    pub fn end(self) -> Tally {
        self.end.store(true, Ordering::Relaxed);
        let failed = self.thread.join().expect("the client does not panic");
        Tally {
            asked: self.asked.load(Ordering::Relaxed),
            failed,
        }
    }
}

fn ask() -> std::io::Result<()> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080));
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.contains(" 200 ") && answer.ends_with("one\n") {
        Ok(())
    } else {
        Err(std::io::Error::other(answer))
    }
}
