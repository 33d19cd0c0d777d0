//! The names of this module's metrics.

pub(super) const REQUESTS: &str = "http_requests_total";
pub(super) const REQUEST_SECONDS: &str = "http_request_seconds";
pub(super) const ORDERS_SUBMITTED: &str = "orders_submitted_total";
pub(super) const ORDERS_REFUSED: &str = "orders_refused_total";
pub(super) const WRITES: &str = "order_writes_total";
pub(super) const LOOKS: &str = "order_looks_total";
pub(super) const CALLBACKS: &str = "wechat_callbacks_total";
pub(super) const EVENT_STREAMS: &str = "order_event_streams";

/// Says to Prometheus what each is.
pub(super) fn describe_metrics() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_counter!(REQUESTS, "HTTP requests by method, route and status");
    describe_histogram!(REQUEST_SECONDS, "Time from request to answer by route");
    describe_counter!(ORDERS_SUBMITTED, "Orders confirmed by the broker");
    describe_counter!(ORDERS_REFUSED, "Order requests refused, by problem");
    describe_counter!(
        WRITES,
        "Cancellations, refunds and waiting-list changes by kind and outcome: `taken` or the problem"
    );
    describe_counter!(LOOKS, "Times that a customer's look at an unpaid order made us ask WeChat");
    describe_counter!(CALLBACKS, "WeChat's callbacks by kind, outcome and reason");
    describe_gauge!(EVENT_STREAMS, "Customers who follow an order at present");
}
