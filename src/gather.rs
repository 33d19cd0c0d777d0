//! What is noted everywhere and written by one task, in sets: noting never waits and never fails.
//!
//! A note goes into a bounded line in memory. When the line is full, or a set cannot be written, notes are dropped and
//! counted; nothing that has to be true may depend on one.

use std::{future::Future, sync::OnceLock, time::Duration};

use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

/// Notes that wait to be written: some seconds of the highest rate, about 10 MiB.
const WAITING: usize = 20_000;
/// Most notes that are written together.
const SET: usize = 2_000;
/// How long notes gather. A reader who asks at once may miss the last of them.
const GATHER: Duration = Duration::from_millis(200);
/// Whoever takes the sets may be gone without a word; that must not end the writing.
const WRITTEN_WITHIN: Duration = Duration::from_secs(5);

/// A line of notes, for the whole process.
pub struct Line<T> {
    line_in: OnceLock<mpsc::Sender<T>>,
    /// The counter of what was dropped.
    dropped: &'static str,
}

impl<T: Send + 'static> Line<T> {
    pub const fn new(dropped: &'static str) -> Self {
        Self { line_in: OnceLock::new(), dropped }
    }

    /// Notes something; at once done. In a process that keeps none of them it does nothing.
    pub fn put(&self, note: T) {
        if let Some(line) = self.line_in.get()
            && line.try_send(note).is_err()
        {
            metrics::counter!(self.dropped).increment(1);
        }
    }

    /// Whether notes are kept at all, for those who would have to make them up first.
    pub fn is_kept(&self) -> bool {
        self.line_in.get().is_some()
    }

    /// Begins to keep notes. `write` says whether a set was written. `None` when somebody has begun before.
    pub fn keep<W, F>(&self, write: W) -> Option<Kept>
    where
        W: Fn(Vec<T>) -> F + Send + 'static,
        F: Future<Output = bool> + Send + 'static,
    {
        let (line_in, line) = mpsc::channel(WAITING);
        self.line_in.set(line_in).ok()?;
        let stop = CancellationToken::new();
        let writing = write_sets(line, self.dropped, write, stop.clone());
        Some(Kept { task: tokio::spawn(writing), stop })
    }
}

async fn write_sets<T, W, F>(mut line: mpsc::Receiver<T>, dropped: &'static str, write: W, stop: CancellationToken)
where
    W: Fn(Vec<T>) -> F,
    F: Future<Output = bool>,
{
    loop {
        let mut set = Vec::new();
        tokio::select! {
            // The sender is never dropped, so the line never ends.
            _ = line.recv_many(&mut set, SET) => if set.len() < SET {
                let _ = timeout(GATHER, stop.cancelled()).await;
            },
            () = stop.cancelled() => {}
        }
        while set.len() < SET
            && let Ok(note) = line.try_recv()
        {
            set.push(note);
        }
        if set.is_empty() {
            // Only when it stops: everything is written.
            return;
        }
        let size = set.len();
        // Not worth waiting for: what could not be written at once is gone.
        if timeout(WRITTEN_WITHIN, write(set)).await != Ok(true) {
            metrics::counter!(dropped).increment(size as u64);
            tracing::debug!(dropped, size, "notes were lost");
            if stop.is_cancelled() {
                return;
            }
        }
    }
}

/// Notes that are being kept.
pub struct Kept {
    task: JoinHandle<()>,
    stop: CancellationToken,
}

impl Kept {
    /// Writes what is left, and stops.
    pub async fn finish(self) {
        self.stop.cancel();
        let _ = self.task.await;
    }
}
