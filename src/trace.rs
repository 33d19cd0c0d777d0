//! The trace of orders: what happened around an order and stands in no other table, noted from wherever it happens.
//!
//! A note never holds up work: it goes into a bounded line in memory, and when that is full it is dropped and counted.
//! One task of the process writes what has gathered, in sets. So a trace may lack a row after a crash; what an order is
//! and where its money is never depends on it.

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use time::OffsetDateTime;
use tokio::sync::mpsc;

use crate::domain::timeline::{EntryKind, Trace};

/// Notes that wait to be written: some seconds of the highest rate, about 10 MiB.
const LINE: usize = 20_000;
/// Most rows of one statement.
const SET: usize = 2_000;
/// How long notes gather. A reader who asks at once may miss the last of them.
const GATHER: Duration = Duration::from_millis(200);

static LINE_IN: OnceLock<mpsc::Sender<Trace>> = OnceLock::new();

/// Notes something; at once done. In a process that keeps no traces it does nothing.
pub fn note(trace: Trace) {
    if let Some(line) = LINE_IN.get()
        && line.try_send(trace).is_err()
    {
        metrics::counter!("traces_dropped_total").increment(1);
    }
}

/// Whether notes are kept at all, for those who would have to make them up first.
pub fn is_kept() -> bool {
    LINE_IN.get().is_some()
}

/// Something that took from `started` until now.
pub fn took(
    order_id: impl Into<String>,
    kind: EntryKind,
    what: impl Into<String>,
    outcome: impl Into<String>,
    started: Instant,
) -> Trace {
    let took = started.elapsed();
    Trace {
        order_id: order_id.into(),
        at: OffsetDateTime::now_utc() - took,
        kind,
        what: what.into(),
        outcome: outcome.into(),
        who: None,
        request_id: None,
        took_ms: Some(i32::try_from(took.as_millis()).unwrap_or(i32::MAX)),
        details: None,
    }
}

/// What has gathered, set by set.
pub struct Gathered {
    line: mpsc::Receiver<Trace>,
    set: Vec<Trace>,
}

/// Begins to keep notes. `None` when somebody has begun before.
pub fn keep() -> Option<Gathered> {
    let (line_in, line) = mpsc::channel(LINE);
    LINE_IN.set(line_in).ok().map(|()| Gathered { line, set: Vec::new() })
}

impl Gathered {
    /// The next set, once something is there and a moment has passed. Cancel-safe.
    pub async fn next(&mut self) -> Vec<Trace> {
        // The sender is never dropped, so the line never ends.
        self.line.recv_many(&mut self.set, SET).await;
        if self.set.len() < SET {
            tokio::time::sleep(GATHER).await;
        }
        self.rest()
    }

    /// What is there now.
    pub fn rest(&mut self) -> Vec<Trace> {
        while self.set.len() < SET
            && let Ok(trace) = self.line.try_recv()
        {
            self.set.push(trace);
        }
        std::mem::take(&mut self.set)
    }
}
