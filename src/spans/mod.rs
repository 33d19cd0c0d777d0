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
//! - `scope`: what runs now.
//! - `otlp`: the way to the collector.

mod context;
mod otlp;
mod scope;

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use serde::Deserialize;

pub use context::TraceParent;
pub use otlp::export;
pub use scope::{Arrival, context_about, within};

use crate::{gather::Line, setting::BadSetting};

/// Whether and where spans are sent.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TelemetrySettings {
    /// `http://collector:4318`; empty or absent for none.
    pub otlp_endpoint: Option<String>,
    pub traces_percent: u8,
}

impl TelemetrySettings {
    fn endpoint(&self) -> Option<&str> {
        self.otlp_endpoint.as_deref().filter(|endpoint| !endpoint.is_empty())
    }

    /// Everything that is wrong; empty when it can be used.
    pub fn problems(&self) -> Vec<BadSetting> {
        let problem = |name: &str, what: &str| BadSetting { setting: format!("telemetry.{name}"), what: what.into() };
        let mut problems = Vec::new();
        if self.endpoint().is_some_and(|endpoint| otlp::address(endpoint).is_none()) {
            problems
                .push(problem("otlp_endpoint", "must be an http or https address without path, as http://host:4318"));
        }
        if self.traces_percent > 100 {
            problems.push(problem("traces_percent", "must be at most 100"));
        }
        problems
    }
}

static LINE: Line<Told> = Line::new("spans_dropped_total");
/// Of all traces.
static PERCENT: OnceLock<u8> = OnceLock::new();

/// What a span is to its parent, numbered as in OpenTelemetry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Internal = 1,
    /// A request that we answer.
    Server = 2,
    /// A call that we make.
    Client = 3,
    /// A message that we publish.
    Producer = 4,
    /// A message that we handle.
    Consumer = 5,
}

/// What is told of a span.
#[derive(Debug)]
struct Told {
    context: TraceParent,
    parent: Option<TraceParent>,
    kind: Kind,
    name: String,
    began: Instant,
    took: Duration,
    attributes: Vec<(&'static str, String)>,
    links: Vec<TraceParent>,
    failed: bool,
}

/// A span under way; dropping it ends it, also when what it measures was cut short.
#[derive(Debug)]
pub struct Span {
    context: TraceParent,
    /// `None` when it is not kept.
    told: Option<Box<Told>>,
}

impl Span {
    /// Begins a span that follows from `parent`. Its name is what is done and to what: `send prepay`.
    pub fn begin(kind: Kind, what: &str, to: &str, parent: TraceParent) -> Self {
        if is_kept(parent) {
            Self::at(kind, what, to, parent.child(), Some(parent), Instant::now())
        } else {
            // What is not kept is no link in the chain either.
            Self::untold(parent)
        }
    }

    /// Of all these together: in a trace of its own, as it belongs to none of theirs.
    pub fn of_batch(what: &str, to: &str, links: impl IntoIterator<Item = TraceParent>) -> Self {
        let mut links = links.into_iter().filter(|link| is_kept(*link)).peekable();
        let context = TraceParent::fresh();
        if links.peek().is_none() {
            return Self::untold(context);
        }
        let mut batch = Self::at(Kind::Consumer, what, to, context, None, Instant::now());
        batch.links(links);
        batch
    }

    fn untold(context: TraceParent) -> Self {
        Self { context, told: None }
    }

    fn at(kind: Kind, what: &str, to: &str, context: TraceParent, parent: Option<TraceParent>, began: Instant) -> Self {
        let name = [what, to].join(" ");
        let (attributes, links) = (Vec::new(), Vec::new());
        let told = Told { context, parent, kind, name, began, took: Duration::ZERO, attributes, links, failed: false };
        Self { context, told: Some(Box::new(told)) }
    }

    /// What follows from this span carries this.
    pub fn context(&self) -> TraceParent {
        self.context
    }

    /// Says something more of it. Never anything personal: it leaves the house.
    pub fn note(&mut self, name: &'static str, value: impl ToString) {
        if let Some(told) = &mut self.told {
            told.attributes.push((name, value.to_string()));
        }
    }

    /// It has to do with these, but follows from none of them.
    pub fn links(&mut self, links: impl IntoIterator<Item = TraceParent>) {
        if let Some(told) = &mut self.told {
            told.links.extend(links);
        }
    }

    /// What it measures did not come off; `why` is one of few words.
    pub fn failed(&mut self, why: &str) {
        if let Some(told) = &mut self.told {
            told.failed = true;
            told.attributes.push(("error.type", why.to_owned()));
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(mut told) = self.told.take() {
            told.took = told.began.elapsed();
            LINE.put(*told);
        }
    }
}

/// Whether spans are kept at all, for those who would have to find out their parents first.
pub fn are_kept() -> bool {
    LINE.is_kept()
}

fn is_kept(context: TraceParent) -> bool {
    are_kept() && PERCENT.get().is_some_and(|percent| context.is_kept(*percent))
}
