//! Spans: how long each step of a request or a message took and what it followed from, for a collector of
//! OpenTelemetry. Off unless `telemetry.otlp_endpoint` is set; then only contexts travel, in the messages' headers.
//!
//! Not to be mixed up with [`crate::trace`], our own notes of what happened around an order, which are always kept.
//!
//! All that belongs to an order is one trace, and that trace's id follows from the order's
//! ([`TraceParent::of_order`]). Only a caller who sends a `traceparent` gets the request, and what follows from it, in a
//! trace of theirs; the two are linked. A batch is a trace of its own, linked with the messages in it.
//!
//! - `context`: the context that travels.
//! - `span`: one step, from its beginning to its end.
//! - `scope`: what runs now.
//! - `otlp`: the way to the collector.

mod context;
mod otlp;
mod scope;
mod span;

pub use context::TraceParent;
pub use otlp::{TelemetrySettings, export};
pub use scope::{Arrival, context_about, within};
pub use span::{Kind, Span, are_kept};
