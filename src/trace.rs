//! The trace of orders: what happened around an order and stands in no other table, noted from wherever it happens.
//!
//! A note never holds up work ([`crate::gather`]). So a trace may lack a row after a crash; what an order is and where its
//! money is never depends on it.

use std::time::Instant;

use time::OffsetDateTime;

use crate::{
    domain::timeline::{EntryKind, Trace},
    gather::Line,
};

/// Written by whoever has PostgreSQL: see `process.rs`.
pub static LINE: Line<Trace> = Line::new("traces_dropped_total");

/// Notes something; at once done. In a process that keeps no traces it does nothing.
pub fn note(trace: Trace) {
    LINE.put(trace);
}

/// Whether notes are kept at all, for those who would have to make them up first.
pub fn is_kept() -> bool {
    LINE.is_kept()
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
