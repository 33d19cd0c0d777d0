//! What a customer reads of their orders: one, the list, the stream of changes.

use futures_util::{StreamExt as _, stream::BoxStream};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::stack::{Answer, Choice, PRICE_FEN, Stack, WORKERS};

async fn get(stack: &Stack, token: &str, path: &str) -> Answer {
    Answer::of(stack.request(Method::GET, path).bearer_auth(token)).await
}

#[tokio::test]
async fn s6_4_an_order_is_its_owners_alone() {
    let stack = Stack::start("reading-one").await;
    let schedule = stack.add_schedule(1).await;
    let (ann, bob) = (stack.quick_token("ann"), stack.quick_token("bob"));
    let order = stack.submit(&ann, &schedule).await;
    let document = stack.until_status(&ann, &order, "awaiting_payment").await;
    let members: Vec<&str> = document.as_object().expect("a document").keys().map(String::as_str).collect();
    assert_eq!(
        members,
        [
            "alternatives",
            "amount_fen",
            "channel",
            "code_url",
            "created_at",
            "currency",
            "hold_expires_at",
            "jsapi",
            "order_id",
            "paid_at",
            "pay_before",
            "reason",
            "refunded_fen",
            "schedule_id",
            "seat_no",
            "status",
            "transaction_id",
            "updated_at",
            "version"
        ]
    );
    assert_eq!((&document["amount_fen"], &document["currency"]), (&json!(PRICE_FEN), &json!("CNY")));
    for path in ["", "/events", "/qr.svg", "/qr.png"] {
        let foreign = get(&stack, &bob, &format!("/v1/orders/{order}{path}")).await;
        assert_eq!((foreign.status, foreign.problem()), (StatusCode::NOT_FOUND, "no-such-order"), "{path}");
        let nobody = Answer::of(stack.request(Method::GET, &format!("/v1/orders/{order}{path}"))).await;
        assert_eq!(nobody.status, StatusCode::UNAUTHORIZED, "{path}");
    }
    for id in ["hf0000000000000000000000", "x", "%00", "HF-1|*"] {
        let unknown = get(&stack, &ann, &format!("/v1/orders/{id}")).await;
        assert_eq!((unknown.status, unknown.problem()), (StatusCode::NOT_FOUND, "no-such-order"), "{id}");
    }
    assert_eq!(get(&stack, &bob, "/v1/orders").await.body, json!({ "items": [], "next": null }));
}

#[tokio::test]
async fn s2_4_a_reader_waits_for_the_next_change() {
    let stack = Stack::start("reading-wait").await;
    let schedule = stack.add_schedule(1).await;
    let ann = stack.quick_token("ann");
    let order = stack.submit(&ann, &schedule).await;
    let payable = stack.until_status(&ann, &order, "awaiting_payment").await;
    let waiting = |seconds: u32| {
        let request = stack.request(Method::GET, &format!("/v1/orders/{order}")).bearer_auth(&ann);
        Answer::of(request.header("Prefer", format!("wait={seconds}")))
    };
    let unchanged = waiting(1).await;
    assert_eq!((unchanged.status, &unchanged.body), (StatusCode::OK, &payable));
    assert_eq!(unchanged.headers["preference-applied"], "wait=1");

    let (changed, paid) = tokio::join!(waiting(10), stack.pay(&order));
    assert_eq!(paid.status, StatusCode::OK);
    assert_eq!(changed.body["status"], "confirmed", "{}", changed.body);
    assert_eq!(changed.body["transaction_id"], paid.body["transaction_id"]);
}

#[tokio::test]
async fn a_customers_orders_come_in_pages_newest_first() {
    // More orders than one customer may have at a time.
    let settings = vec![
        ("HOLDFAST_API__ORDERS_BURST", "1000".into()),
        ("HOLDFAST_ORDER__SEATS_PER_CUSTOMER", "60".into()),
        ("HOLDFAST_ORDER__UNPAID_PER_CUSTOMER", "60".into()),
    ];
    let choice = Choice { settings, roles: vec!["api", "seats"], ..Choice::default() };
    let stack = Stack::start_with("reading-list", choice).await;
    let schedule = stack.add_schedule(60).await;
    let ann = stack.quick_token("ann");
    let mut orders = Vec::new();
    for _ in 0..53 {
        orders.push(stack.submit(&ann, &schedule).await);
    }
    for order in &orders {
        stack.until_status(&ann, order, "held").await;
    }
    orders.reverse();
    let first = get(&stack, &ann, "/v1/orders").await.body;
    let cursor = first["next"].as_str().expect("there is more").to_owned();
    let second = get(&stack, &ann, &format!("/v1/orders?cursor={cursor}")).await.body;
    let ids = |page: &Value| -> Vec<String> {
        let items = page["items"].as_array().expect("items");
        items.iter().map(|order| order["order_id"].as_str().expect("an id").to_owned()).collect()
    };
    assert_eq!((ids(&first).len(), &second["next"]), (50, &Value::Null));
    assert_eq!([ids(&first), ids(&second)].concat(), orders);
    for query in ["cursor=nonsense", "cursor=", "page=2"] {
        let wrong = get(&stack, &ann, &format!("/v1/orders?{query}")).await;
        assert_eq!((wrong.status, wrong.problem()), (StatusCode::UNPROCESSABLE_ENTITY, "invalid-request"), "{query}");
    }
}

/// Reads server-sent events from an answer.
struct Events {
    bytes: BoxStream<'static, reqwest::Result<Vec<u8>>>,
    read: String,
}

impl Events {
    async fn open(stack: &Stack, token: &str, order: &str, last_event_id: Option<&str>) -> Self {
        let mut request = stack.request(Method::GET, &format!("/v1/orders/{order}/events")).bearer_auth(token);
        if let Some(id) = last_event_id {
            request = request.header("Last-Event-ID", id);
        }
        let response = request.send().await.expect("an answer");
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let bytes = response.bytes_stream().map(|chunk| chunk.map(|bytes| bytes.to_vec())).boxed();
        Self { bytes, read: String::new() }
    }

    /// The next block of lines, whatever it is; `None` when the stream ended.
    async fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.read.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.read = rest;
                return Some(block);
            }
            let chunk = self.bytes.next().await?.expect("bytes");
            self.read.push_str(std::str::from_utf8(&chunk).expect("UTF-8"));
        }
    }

    /// The next event: its id, and the order it tells.
    async fn status(&mut self) -> (String, Value) {
        let block = self.block().await.expect("the stream goes on");
        let field = |name: &str| {
            let line = block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.map(|value| value.trim_start().to_owned())
        };
        assert_eq!(field("event").as_deref(), Some("status"), "{block}");
        let document: Value = serde_json::from_str(&field("data").expect("data")).expect("a document");
        assert_eq!(field("id").expect("an id"), document["version"].to_string());
        (field("id").expect("an id"), document)
    }
}

#[tokio::test]
async fn s3_2_every_change_of_an_order_is_one_event_in_its_turn() {
    let mut stack = Stack::start_with("reading-events", Choice { roles: vec!["api"], ..Choice::default() }).await;
    let schedule = stack.add_schedule(1).await;
    let ann = stack.quick_token("ann");
    let order = stack.submit(&ann, &schedule).await;
    let mut events = Events::open(&stack, &ann, &order, None).await;
    assert_eq!(events.status().await.1["status"], "submitted");
    for worker in WORKERS {
        stack.spawn(worker);
    }
    assert_eq!(events.status().await.1["status"], "held");
    let (payable, document) = events.status().await;
    assert_eq!(document["status"], "awaiting_payment");

    // Who has seen the newest state hears only what comes after it; who has seen an older one hears the newest first.
    let mut resumed = Events::open(&stack, &ann, &order, Some(&payable)).await;
    let comment = resumed.block().await.expect("a sign of life");
    assert!(comment.lines().any(|line| line.starts_with(':')) && !comment.contains("data:"), "{comment}");
    let mut behind = Events::open(&stack, &ann, &order, Some("0")).await;
    assert_eq!(behind.status().await, (payable, document));

    assert_eq!(stack.pay(&order).await.status, StatusCode::OK);
    for stream in [&mut events, &mut resumed, &mut behind] {
        assert_eq!(stream.status().await.1["status"], "confirmed");
    }
    // The process ends its streams instead of being held up by them.
    let ended = stack.terminate("api").await;
    assert!(ended.success(), "{ended}");
    assert_eq!(events.block().await, None);
}
