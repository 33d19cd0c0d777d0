//! The trace of requests: which ones an order had, from whom, and what they were answered.

use std::time::Instant;

use super::{problem::Problem, request::Context};
use crate::{
    domain::timeline::{EntryKind, Trace},
    trace,
};

/// A request about an order.
pub(super) struct Asked<'a> {
    pub(super) order: &'a str,
    /// Method and path, as the documentation spells them.
    pub(super) what: &'static str,
    /// `user:…`, `operator:…`, `wechat`
    pub(super) who: String,
    pub(super) started: Instant,
}

impl Asked<'_> {
    /// Leaves a trace of it and of its answer, and hands the answer on.
    pub(super) fn noted<T>(self, context: &Context, answer: Result<T, Problem>) -> Result<T, Problem> {
        let outcome = answer.as_ref().map_or_else(|problem| problem.kind.slug(), |_| "taken");
        self.note(context, outcome);
        answer
    }

    pub(super) fn note(self, context: &Context, outcome: &str) {
        trace::note(Trace {
            who: Some(self.who),
            request_id: Some(context.request_id.clone()),
            ..trace::took(self.order, EntryKind::Request, self.what, outcome, self.started)
        });
    }
}
