//! One step, from its beginning to its end.

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use super::context::TraceParent;
use crate::gather::Line;

pub(super) static LINE: Line<Told> = Line::new("spans_dropped_total");
/// Of all traces.
pub(super) static PERCENT: OnceLock<u8> = OnceLock::new();

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
pub(super) struct Told {
    pub(super) context: TraceParent,
    pub(super) parent: Option<TraceParent>,
    pub(super) kind: Kind,
    pub(super) name: String,
    pub(super) began: Instant,
    pub(super) took: Duration,
    pub(super) attributes: Vec<(&'static str, String)>,
    pub(super) links: Vec<TraceParent>,
    pub(super) failed: bool,
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

    pub(super) fn untold(context: TraceParent) -> Self {
        Self { context, told: None }
    }

    pub(super) fn at(
        kind: Kind,
        what: &str,
        to: &str,
        context: TraceParent,
        parent: Option<TraceParent>,
        began: Instant,
    ) -> Self {
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

pub(super) fn is_kept(context: TraceParent) -> bool {
    are_kept() && PERCENT.get().is_some_and(|percent| context.is_kept(*percent))
}
