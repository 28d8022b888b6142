//! Hands buffers to a second thread and takes them back empty.
//!
//! A layer is read and hashed by one thread while another compresses or unpacks it. The buffers are
//! a fixed few, so memory does not depend on the layer's size.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{Builder, JoinHandle};

use super::limits::BUFFER;

/// Buffers on their way at most.
const DEPTH: usize = 4;

/// The sending end, and the thread behind it.
pub(super) struct Pipe<T> {
    full: SyncSender<Vec<u8>>,
    empty: Receiver<Vec<u8>>,
    made: usize,
    worker: JoinHandle<T>,
}

/// The thread's end: a reader that ends when the sender has finished.
pub(super) struct Incoming {
    full: Receiver<Vec<u8>>,
    empty: Sender<Vec<u8>>,
    current: Vec<u8>,
    at: usize,
}

impl<T: Send + 'static> Pipe<T> {
    /// Starts the thread.
    pub fn start(work: impl FnOnce(Incoming) -> T + Send + 'static) -> io::Result<Self> {
        let (full, incoming) = sync_channel(DEPTH);
        let (give_back, empty) = channel();
        let incoming = Incoming {
            full: incoming,
            empty: give_back,
            current: Vec::new(),
            at: 0,
        };
        let worker = Builder::new()
            .name("layer".to_owned())
            .spawn(move || work(incoming))?;
        Ok(Self {
            full,
            empty,
            made: 0,
            worker,
        })
    }

    /// A buffer of [`BUFFER`] bytes, any content.
    pub fn buffer(&mut self) -> Vec<u8> {
        let back = if self.made < DEPTH + 2 {
            self.empty.try_recv().ok()
        } else {
            self.empty.recv().ok()
        };
        let mut buffer = back.unwrap_or_else(|| {
            self.made += 1;
            Vec::new()
        });
        buffer.resize(BUFFER, 0);
        buffer
    }

    /// Sends a buffer on; `false` if the thread does not want any more.
    pub fn send(&mut self, buffer: Vec<u8>) -> bool {
        self.full.send(buffer).is_ok()
    }

    /// Tells the thread that this was all, and waits for what it has made.
    pub fn finish(self) -> T {
        drop(self.full);
        match self.worker.join() {
            Ok(made) => made,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

impl Incoming {
    /// The bytes at hand; empty at the end.
    pub fn chunk(&mut self) -> &[u8] {
        if self.at == self.current.len() {
            let used = std::mem::take(&mut self.current);
            if used.capacity() > 0 {
                // If nobody waits for it, it is simply freed.
                let _ = self.empty.send(used);
            }
            self.current = self.full.recv().unwrap_or_default();
            self.at = 0;
        }
        &self.current[self.at..]
    }

    /// Marks bytes of [`Incoming::chunk`] as used.
    pub fn used(&mut self, count: usize) {
        self.at += count;
    }
}

impl Read for Incoming {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let chunk = self.chunk();
        let count = chunk.len().min(buf.len());
        buf[..count].copy_from_slice(&chunk[..count]);
        self.used(count);
        Ok(count)
    }
}
