//! Spans, as a collector of OpenTelemetry gets them: one booking is one trace.

use std::sync::{Arc, Mutex};

use axum::{Json, Router, extract::State, routing::post};
use holdfast::spans::TraceParent;
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::{
    metrics::Counts,
    stack::{Answer, Choice, PRICE_FEN, Stack, WORKERS, until},
    story::deadlines,
};

/// OTLP's JSON form, as far as we use it; an unknown member is a mistake of ours.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Request {
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ResourceSpans {
    resource: Resource,
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Resource {
    attributes: Vec<Attribute>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScopeSpans {
    #[serde(rename = "scope")]
    _scope: Value,
    spans: Vec<Span>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Span {
    trace_id: String,
    span_id: String,
    parent_span_id: String,
    name: String,
    kind: i32,
    start_time_unix_nano: String,
    end_time_unix_nano: String,
    attributes: Vec<Attribute>,
    links: Vec<Link>,
    status: Status,
    /// `service.name`
    #[serde(skip)]
    service: String,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Attribute {
    key: String,
    value: Text,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Text {
    string_value: String,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Link {
    trace_id: String,
    span_id: String,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Status {
    #[serde(default)]
    code: i32,
}

/// A collector of a test's own.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Span>>>);

impl Collector {
    /// The collector, and the endpoint of its own.
    async fn start() -> (Self, String) {
        let collector = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let router = Router::new().route("/v1/traces", post(take)).with_state(collector.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (collector, endpoint)
    }

    fn of_trace(&self, trace: &str) -> Vec<Span> {
        self.0.lock().expect("no panic").iter().filter(|span| span.trace_id == trace).cloned().collect()
    }

    /// The first span of this name in the trace, once it is there.
    async fn span(&self, trace: &str, service: &str, name: &str) -> Span {
        until(&format!("{service} tells of {name}"), async || {
            self.of_trace(trace).into_iter().find(|span| span.service == service && span.name == name)
        })
        .await
    }
}

async fn take(State(collector): State<Collector>, Json(request): Json<Request>) -> Json<Value> {
    for ResourceSpans { resource, scope_spans } in request.resource_spans {
        let name = resource.attributes.iter().find(|attribute| attribute.key == "service.name").expect("a name");
        let service = name.value.string_value.clone();
        let spans = scope_spans.into_iter().flat_map(|scope| scope.spans);
        collector.0.lock().expect("no panic").extend(spans.map(|span| Span { service: service.clone(), ..span }));
    }
    Json(json!({}))
}

impl Span {
    fn times(&self) -> (u128, u128) {
        let at = |text: &str| text.parse().expect("nanoseconds");
        (at(&self.start_time_unix_nano), at(&self.end_time_unix_nano))
    }

    fn attribute(&self, key: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|attribute| attribute.key == key);
        found.map(|attribute| attribute.value.string_value.as_str())
    }

    fn is_linked_with(&self, other: &Span) -> bool {
        self.links.iter().any(|link| (&link.trace_id, &link.span_id) == (&other.trace_id, &other.span_id))
    }
}

async fn traced(test: &str, endpoint: String, roles: Vec<&'static str>) -> Stack {
    // One customer orders more in these stories than one may have at a time.
    let limits = vec![
        ("HOLDFAST_ORDER__SEATS_PER_CUSTOMER", "10".to_owned()),
        ("HOLDFAST_ORDER__UNPAID_PER_CUSTOMER", "10".to_owned()),
    ];
    let settings = [deadlines(600, 1200), limits, vec![("HOLDFAST_TELEMETRY__OTLP_ENDPOINT", endpoint)]].concat();
    Stack::start_with(test, Choice { settings, roles, ..Choice::default() }).await
}

const SERVER: i32 = 2;
const CLIENT: i32 = 3;
const PRODUCER: i32 = 4;
const CONSUMER: i32 = 5;

#[tokio::test]
async fn one_booking_is_one_trace_from_click_to_message() {
    let (collector, endpoint) = Collector::start().await;
    let but_seats = ["api"].into_iter().chain(WORKERS).filter(|role| *role != "seats").collect();
    let mut stack = traced("traces", endpoint, but_seats).await;
    let schedule = stack.add_schedule(5).await;
    let token = stack.quick_token("zhangsan");
    // They wait together, so that the first to come are taken together.
    let mut orders = Vec::new();
    for _ in 0..5 {
        orders.push(stack.submit(&token, &schedule).await);
    }
    stack.spawn("seats");
    let order = &orders[0];
    stack.until_status(&token, order, "awaiting_payment").await;
    // Checks come after a second, by way of a delay.
    let trace = TraceParent::of_order(order).trace_id();
    let checked = collector.span(&trace, "expiry", "process expiry").await;
    stack.pay(order).await;
    stack.until_status(&token, order, "confirmed").await;

    let lane = collector.span(&trace, "api", "POST /v1/orders").await;
    assert_eq!((lane.span_id.as_str(), lane.parent_span_id.as_str()), (&*TraceParent::of_order(order).span_id(), ""));
    let sent = until("the click was published", async || {
        collector.of_trace(&trace).into_iter().find(|span| span.name.starts_with("send orders."))
    })
    .await;
    let lane = sent.name.strip_prefix("send ").expect("just looked for");
    let way = [
        ("api", "POST /v1/orders", SERVER),
        ("api", &sent.name, PRODUCER),
        ("seats", &format!("process {lane}"), CONSUMER),
        ("seats", "send prepay", PRODUCER),
        ("prepay", "process prepay", CONSUMER),
        ("prepay", "wechat create_order", CLIENT),
        ("api", "POST /v1/wechat/notify/payments", SERVER),
        ("api", "send payments", PRODUCER),
        ("payments", "process payments", CONSUMER),
        ("payments", "send notifications", PRODUCER),
        ("notifications", "process notifications", CONSUMER),
        ("notifications", "wechat send_template", CLIENT),
    ];
    for (service, name, kind) in way {
        let span = collector.span(&trace, service, name).await;
        assert_eq!(span.kind, kind, "{name}");
        assert_eq!(span.status.code, 0, "{name}");
        let (began, ended) = span.times();
        assert!(began <= ended, "{name}");
    }
    let spans = collector.of_trace(&trace);
    for span in &spans {
        assert!(span.trace_id.len() == 32 && span.span_id.len() == 16, "{}", span.name);
        let parent = spans.iter().find(|parent| parent.span_id == span.parent_span_id);
        assert!(parent.is_some() || span.name == "POST /v1/orders", "{} {} hangs in the air", span.service, span.name);
    }

    // What waited in a delay queue has kept its trace, and tells of the wait.
    let set = spans.iter().find(|span| span.span_id == checked.parent_span_id).expect("it follows from something");
    assert_eq!((set.service.as_str(), set.name.as_str()), ("seats", "send delay.check"));
    assert!(checked.times().0 - set.times().1 > 500_000_000, "it waited a second");

    // A batch is linked with each of its messages, and each of them with the batch.
    let batch = until("seats tells of a batch", async || {
        let spans = collector.0.lock().expect("no panic");
        spans.iter().filter(|span| span.name == format!("handle {lane}")).max_by_key(|span| span.links.len()).cloned()
    })
    .await;
    assert!(batch.links.len() > 1 && batch.parent_span_id.is_empty());
    let mut members = 0;
    for order in &orders {
        let trace = TraceParent::of_order(order).trace_id();
        let sent = collector.span(&trace, "api", &format!("send {lane}")).await;
        let processed = collector.span(&trace, "seats", &format!("process {lane}")).await;
        assert_eq!(processed.attribute("holdfast.order_id"), Some(order.as_str()));
        assert_eq!(batch.is_linked_with(&sent), processed.is_linked_with(&batch));
        members += usize::from(batch.is_linked_with(&sent));
    }
    assert_eq!(members, batch.links.len());

    for span in collector.0.lock().expect("no panic").iter() {
        for Attribute { key, value } in &span.attributes {
            let text = &value.string_value;
            assert!(!text.contains("zhangsan") && !text.contains("openid"), "{}: {key} is {text}", span.name);
        }
    }
    stack.check_invariants().await;
}

#[tokio::test]
async fn a_callers_trace_goes_on_and_is_linked_with_the_orders() {
    let (collector, endpoint) = Collector::start().await;
    let stack = traced("traces_given", endpoint, ["api"].into_iter().chain(WORKERS).collect()).await;
    let schedule = stack.add_schedule(2).await;
    let token = stack.quick_token("ann");
    let body = json!({ "schedule_id": schedule, "amount_fen": PRICE_FEN });
    let submit = async |key: &str, given: &str| {
        let request = stack.submit_request(&token, key, &body).header("traceparent", given);
        let answer = Answer::of(request).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.body);
        answer.body["order_id"].as_str().expect("an id").to_owned()
    };
    let theirs = "0af7651916cd43dd8448eb211c80319c";
    let order = submit("sampled", &format!("00-{theirs}-b7ad6b7169203331-01")).await;
    let ours = TraceParent::of_order(&order).trace_id();

    let click = collector.span(theirs, "api", "POST /v1/orders").await;
    assert_eq!(click.parent_span_id, "b7ad6b7169203331");
    collector.span(theirs, "prepay", "process prepay").await;
    stack.until_status(&token, &order, "awaiting_payment").await;
    stack.pay(&order).await;
    let callback = collector.span(&ours, "api", "POST /v1/wechat/notify/payments").await;
    let root = collector.span(&ours, "api", "POST /v1/orders").await;
    assert_eq!(callback.parent_span_id, root.span_id);
    assert!(root.is_linked_with(&click) && click.is_linked_with(&root));

    // Who does not want to be traced is not; the answer, and the order, are the same.
    let silent = "1af7651916cd43dd8448eb211c80319c";
    let order = submit("not-sampled", &format!("00-{silent}-b7ad6b7169203331-00")).await;
    stack.until_status(&token, &order, "awaiting_payment").await;
    assert_eq!(collector.of_trace(silent).len(), 0);
}

#[tokio::test]
async fn a_collector_that_is_silent_slows_nothing() {
    // It takes connections and says nothing: worse than being away.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let mut stack = traced("traces_away", endpoint, ["api"].into_iter().chain(WORKERS).collect()).await;
    let schedule = stack.add_schedule(2).await;
    let (token, order) = stack.booked("ann", &schedule).await;
    assert_eq!(stack.order(&token, &order).await.body["status"], "confirmed");
    until("the loss is counted", async || {
        let counts = Counts::of_worker(&stack, "seats").await;
        (counts.sum("spans_dropped_total", &[]) > 0).then_some(())
    })
    .await;
    assert!(stack.terminate("seats").await.success());
    drop(listener);
}
