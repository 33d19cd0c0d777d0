//! What runs now, and the context that it hands to whatever it sets off: set by the ingress for a request and by the
//! consume loop for a batch, asked by whoever publishes or calls.

use std::{
    future::Future,
    sync::{Arc, OnceLock},
    time::Instant,
};

use super::{
    context::TraceParent,
    span::{Kind, Span, is_kept},
};

tokio::task_local! {
    static SCOPE: Scope;
}

#[derive(Clone)]
enum Scope {
    /// A message or a batch: what follows from it follows from this.
    Settled(TraceParent),
    Arriving(Arc<Arrival>),
}

/// The context of something about this order: what runs now, else the order's own trace, else a new one.
pub fn context_about(order: Option<&str>) -> TraceParent {
    match SCOPE.try_with(Clone::clone) {
        Ok(Scope::Settled(context)) => context,
        Ok(Scope::Arriving(arrival)) => arrival.about(order),
        Err(_) => order.map_or_else(TraceParent::fresh, TraceParent::of_order),
    }
}

/// Runs a step under this context.
pub async fn within<T>(context: TraceParent, step: impl Future<Output = T>) -> T {
    SCOPE.scope(Scope::Settled(context), step).await
}

/// A request that is being answered. Without a caller's context it joins the trace of the first order that it turns out
/// to be about, so its span is told when it is over.
pub struct Arrival {
    began: Instant,
    /// What the caller sent.
    given: Option<TraceParent>,
    own: TraceParent,
    /// The click that makes an order is the root of the order's trace. The same click twice is the same root.
    is_click: bool,
    /// The root of the order's trace.
    order: OnceLock<TraceParent>,
}

impl Arrival {
    pub fn new(method: &str, route: &str, given: Option<TraceParent>) -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            given,
            own: given.map_or_else(TraceParent::fresh, TraceParent::child),
            is_click: (method, route) == ("POST", "/v1/orders"),
            order: OnceLock::new(),
        })
    }

    /// Answers the request under this context.
    pub async fn answer<T>(self: &Arc<Self>, answer: impl Future<Output = T>) -> T {
        SCOPE.scope(Scope::Arriving(Arc::clone(self)), answer).await
    }

    fn about(&self, order: Option<&str>) -> TraceParent {
        if let Some(order) = order {
            self.order.get_or_init(|| TraceParent::of_order(order));
        }
        self.context()
    }

    fn context(&self) -> TraceParent {
        match (self.given, self.order.get()) {
            (None, Some(root)) if self.is_click => *root,
            (None, Some(root)) => root.with_span_of(self.own),
            (Some(_), _) | (None, None) => self.own,
        }
    }

    /// The request's span, to be ended by whoever knows the answer.
    pub fn span(&self, method: &str, route: &str) -> Span {
        let context = self.context();
        if !is_kept(context) {
            return Span::untold(context);
        }
        let root = self.order.get().copied().filter(|root| *root != context);
        let mut span = Span::at(Kind::Server, method, route, context, self.given.or(root), self.began);
        if let (Some(_), Some(root)) = (self.given, root) {
            span.links([root]);
            if self.is_click {
                // The order's own trace needs a root all the same, for what comes without the caller's context.
                Span::at(Kind::Internal, method, route, root, None, self.began).links([context]);
            }
        }
        span
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_joins_the_trace_of_its_order_unless_the_caller_has_one() {
        let root = TraceParent::of_order("hf0001");
        let click = Arrival::new("POST", "/v1/orders", None);
        assert_eq!(click.answer(async { context_about(Some("hf0001")) }).await, root);

        let cancel = Arrival::new("POST", "/v1/orders/{id}/cancel", None);
        let alone = cancel.answer(async { context_about(None) }).await;
        assert_ne!(alone.trace_id(), root.trace_id());
        let joined = cancel.answer(async { context_about(Some("hf0001")) }).await;
        assert_eq!(joined.trace_id(), root.trace_id());
        assert_eq!(joined.span_id(), alone.span_id(), "one request is one span");
        assert_eq!(cancel.answer(async { context_about(Some("hf0002")) }).await, joined, "the first order counts");

        let given = TraceParent::new([7; 24]);
        let click = Arrival::new("POST", "/v1/orders", Some(given));
        let context = click.answer(async { context_about(Some("hf0001")) }).await;
        assert_eq!(context.trace_id(), given.trace_id());
        assert_ne!(context.span_id(), given.span_id());
        assert_eq!(context_about(Some("hf0001")), root, "nothing runs here");
    }
}
