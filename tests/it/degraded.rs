//! What still works while a server is away, seen from outside.

use holdfast::api::Role;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    metrics::Counts,
    stack::{Answer, Choice, PRICE_FEN, Stack, WORKERS, until},
};

/// A port at which nobody listens, and which the system hands out to nobody.
const NOBODY: &str = "127.0.0.1:1";

/// Forgets everything that this stack has in Redis; answers how many keys that were.
pub(crate) async fn empty_cache(stack: &Stack) -> usize {
    let client = redis::Client::open(stack.environment["REDIS_URL"].as_str()).expect("a URL");
    let mut connection = client.get_multiplexed_async_connection().await.expect("Redis");
    let pattern = format!("{}*", stack.environment["HOLDFAST_CACHE__KEY_PREFIX"]);
    let mut keys = Vec::new();
    let mut place = 0_u64;
    loop {
        let mut scan = redis::cmd("SCAN");
        scan.arg(place).arg("MATCH").arg(&pattern).arg("COUNT").arg(1000);
        let (next, some): (u64, Vec<String>) = scan.query_async(&mut connection).await.expect("keys");
        keys.extend(some);
        place = next;
        if place == 0 {
            break;
        }
    }
    if !keys.is_empty() {
        redis::cmd("DEL").arg(&keys).query_async::<()>(&mut connection).await.expect("emptied");
    }
    keys.len()
}

async fn submit(stack: &Stack, token: &str, key: &str, schedule: &str, seat: u32) -> Answer {
    let body = json!({ "schedule_id": schedule, "amount_fen": PRICE_FEN, "seat_no": seat });
    Answer::of(stack.submit_request(token, key, &body).header("Prefer", "wait=10")).await
}

/// Everything that a customer does, once: order, look, follow, pay, and be told.
async fn book(stack: &Stack, user: &str, schedule: &str, seat: u32) -> Value {
    let token = stack.quick_token(user);
    let ordered = submit(stack, &token, "click", schedule, seat).await;
    assert_eq!(ordered.status, StatusCode::CREATED, "{}", ordered.body);
    let order = ordered.body["order_id"].as_str().expect("an id").to_owned();
    let again = submit(stack, &token, "click", schedule, seat).await;
    assert_eq!((again.status, &again.body["order_id"]), (StatusCode::CREATED, &ordered.body["order_id"]));
    let other_body = submit(stack, &token, "click", schedule, seat + 1).await;
    assert_eq!(other_body.problem(), "idempotency-key-reused", "{}", other_body.body);

    let mut stream = stack
        .request(Method::GET, &format!("/v1/orders/{order}/events"))
        .bearer_auth(&token)
        .send()
        .await
        .expect("a stream");
    assert_eq!(stack.pay(&order).await.status, StatusCode::OK);
    let mut told = String::new();
    while !told.contains("\"status\":\"confirmed\"") {
        let chunk = stream.chunk().await.expect("the stream goes on").expect("more");
        told.push_str(std::str::from_utf8(&chunk).expect("UTF-8"));
    }
    let confirmed = stack.until_status(&token, &order, "confirmed").await;
    let path = format!("/v1/schedules/{schedule}/availability");
    let seats = Answer::of(stack.request(Method::GET, &path).bearer_auth(&token)).await.body;
    assert!(!seats["seats_free"].as_array().expect("seats").contains(&json!(seat)), "{seats}");
    until("the customer is told", async || stack.messages_to(user).await.pop()).await;
    confirmed
}

#[tokio::test]
async fn redis_emptied() {
    let stack = Stack::start("degraded-redis-emptied").await;
    let schedule = stack.add_schedule(3).await;
    let before = book(&stack, "ann", &schedule, 1).await;
    assert!(empty_cache(&stack).await > 0);
    let ann = stack.quick_token("ann");
    let order = before["order_id"].as_str().expect("an id");
    assert_eq!(stack.order(&ann, order).await.body, before);
    assert_eq!(submit(&stack, &ann, "click", &schedule, 1).await.body, before);
    assert_eq!(submit(&stack, &ann, "click", &schedule, 2).await.problem(), "idempotency-key-reused");
    empty_cache(&stack).await;
    book(&stack, "bob", &schedule, 2).await;
    let lost = submit(&stack, &stack.quick_token("eve"), "click", &schedule, 2).await;
    assert_eq!(lost.problem(), "seat-taken", "{}", lost.body);
    assert_eq!(stack.count("SELECT count(*) FROM payment_orders").await, 3);
    assert_eq!(stack.count("SELECT count(*) FROM bookings").await, 2);
    stack.check_invariants().await;
}

#[tokio::test]
async fn s3_1_redis_away_costs_speed_and_nothing_else() {
    let settings = vec![("REDIS_URL", format!("redis://{NOBODY}/0"))];
    let mut stack =
        Stack::start_with("degraded-redis-away", Choice { settings, roles: vec!["api"], ..Choice::default() }).await;
    let ready = stack.health("/readyz").await.expect("readiness");
    assert_eq!((ready.status, &ready.body["dependencies"]["cache"]), (StatusCode::OK, &json!("away")));
    let schedule = stack.add_schedule(3).await;
    let eve = stack.quick_token("eve");
    let waiting = stack.submit(&eve, &schedule).await;
    assert_eq!(stack.order(&eve, &waiting).await.problem(), "no-such-order", "known once a worker took it");
    for worker in WORKERS {
        stack.spawn(worker);
    }
    assert_eq!(stack.until_status(&eve, &waiting, "awaiting_payment").await["seat_no"], 1);
    book(&stack, "ann", &schedule, 2).await;
    // Nobody judges by the catalogue now: the worker does.
    let dear = json!({ "schedule_id": schedule, "amount_fen": PRICE_FEN + 1 });
    let refused = Answer::of(stack.submit_request(&eve, "dear", &dear).header("Prefer", "wait=10")).await;
    assert_eq!(refused.problem(), "amount-mismatch", "{}", refused.body);
    stack.check_invariants().await;
}

/// Starts the ingress again, with another address of a server.
async fn restart_api(stack: &mut Stack, server: &str, url: String) {
    stack.kill("api");
    stack.environment.insert(server.into(), url);
    stack.spawn("api");
    until("the API answers", async || stack.health("/healthz").await).await;
}

#[tokio::test]
async fn broker_away_at_ingress() {
    let settings = vec![("HOLDFAST_BROKER__CONFIRM_MS", "300".into())];
    let mut stack = Stack::start_with("degraded-broker", Choice { settings, ..Choice::default() }).await;
    let schedule = stack.add_schedule(2).await;
    let ann = stack.quick_token("ann");
    let order = stack.submit(&ann, &schedule).await;
    stack.until_status(&ann, &order, "awaiting_payment").await;

    let broker = stack.amqp_url.clone();
    restart_api(&mut stack, "AMQP_URL", format!("amqp://u:p@{NOBODY}/v")).await;
    let ready = stack.health("/readyz").await.expect("readiness");
    assert_eq!(
        (ready.status, &ready.body["dependencies"]["broker"]),
        (StatusCode::SERVICE_UNAVAILABLE, &json!("away"))
    );
    let body = json!({ "schedule_id": schedule, "amount_fen": PRICE_FEN });
    let refused = Answer::of(stack.submit_request(&ann, "later", &body)).await;
    assert_eq!((refused.status, refused.problem()), (StatusCode::SERVICE_UNAVAILABLE, "broker-unavailable"));
    assert_eq!(refused.headers["retry-after"], "2");
    assert_eq!(stack.order(&ann, &order).await.status, StatusCode::OK, "reading needs no broker");
    assert_eq!(stack.pay(&order).await.status, StatusCode::OK);
    until("WeChat was asked to send again", async || {
        let counts = Counts::of_api(&stack).await;
        let labels = [("outcome", "refused"), ("reason", "broker_unconfirmed")];
        (counts.sum("wechat_callbacks_total", &labels) > 1).then_some(())
    })
    .await;
    assert_eq!(stack.order(&ann, &order).await.body["status"], "awaiting_payment");

    restart_api(&mut stack, "AMQP_URL", broker).await;
    stack.until_status(&ann, &order, "confirmed").await;
    // The customer repeats with the same key, and the order that was never taken is taken now, once.
    let taken = Answer::of(stack.submit_request(&ann, "later", &body).header("Prefer", "wait=10")).await;
    assert_eq!(taken.status, StatusCode::CREATED, "{}", taken.body);
    assert_eq!(stack.count("SELECT count(*) FROM payment_orders").await, 2);
    stack.check_invariants().await;
}

#[tokio::test]
async fn s4_2_a_decision_that_the_database_could_not_take_is_made_later_by_the_same_key() {
    let mut stack = Stack::start("degraded-decision").await;
    let schedule = stack.add_schedule(1).await;
    let (ann, order) = stack.payable("ann", &schedule).await;
    let olga = stack.token_of_role("olga", Role::Operator);
    let wish = json!({ "order_id": order, "action": "close", "reason": "a customer called" });
    let propose = async |stack: &Stack| {
        let post = stack.request(Method::POST, "/v1/ops/overrides").bearer_auth(&olga);
        Answer::of(post.header("Idempotency-Key", "k").json(&wish)).await
    };
    let database = stack.environment["DATABASE_URL"].clone();
    restart_api(&mut stack, "DATABASE_URL", format!("postgres://holdfast:p@{NOBODY}/d")).await;
    let away = propose(&stack).await;
    assert_eq!((away.status, away.problem()), (StatusCode::SERVICE_UNAVAILABLE, "temporarily-unavailable"));
    assert!(away.headers.contains_key("retry-after"));

    restart_api(&mut stack, "DATABASE_URL", database).await;
    assert_eq!(propose(&stack).await.status, StatusCode::ACCEPTED);
    stack.until_status(&ann, &order, "cancelled").await;
    assert_eq!(stack.count("SELECT count(*) FROM order_overrides").await, 1);
    stack.check_invariants().await;
}
