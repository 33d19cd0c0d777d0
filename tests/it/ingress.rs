//! `POST /v1/orders`: every answer the contract promises, from real processes.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use holdfast::api::{AuthKeys, Role, auth::AuthSettings};
use reqwest::{
    RequestBuilder, StatusCode,
    header::{CONTENT_TYPE, HeaderValue},
};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::{
    metrics::Counts,
    queues::Queues,
    stack::{Answer, Choice, PRICE_FEN, Stack, until},
};

/// An ingress without any worker behind it: what it answers at once needs nobody else.
async fn api_alone(test: &str) -> Stack {
    Stack::start_with(test, Choice { roles: vec!["api"], ..Choice::default() }).await
}

fn wish(schedule: &str) -> Value {
    json!({ "schedule_id": schedule, "amount_fen": PRICE_FEN })
}

/// Asserts the problem's slug and status, and the members that every problem has.
#[track_caller]
fn assert_problem(answer: &Answer, status: u16, slug: &str) {
    assert_eq!((answer.status.as_u16(), answer.problem()), (status, slug), "{}", answer.body);
    assert_eq!(answer.headers["content-type"], "application/problem+json");
    assert_eq!(answer.body["status"], status);
    assert_eq!(answer.body["request_id"], answer.headers["x-request-id"].to_str().expect("visible"));
    for member in ["title", "detail", "user_message"] {
        assert!(answer.body[member].as_str().is_some_and(|words| !words.is_empty()), "{member}: {}", answer.body);
    }
}

#[tokio::test]
async fn s2_2_a_taken_order_is_a_confirmed_message_and_a_place_in_the_line() {
    let stack = api_alone("ingress-taken").await;
    let (schedule, ann) = (stack.add_schedule(1).await, stack.quick_token("ann"));
    let request = stack.submit_request(&ann, "click", &wish(&schedule)).header("X-Request-Id", "r-1");
    let taken = Answer::of(request).await;
    assert_eq!((taken.status, &taken.body["status"]), (StatusCode::ACCEPTED, &json!("submitted")));
    let order_id = taken.body["order_id"].as_str().expect("an id");
    assert_eq!(taken.headers["location"], format!("/v1/orders/{order_id}"));
    assert_eq!(taken.headers["x-request-id"], "r-1");
    assert!(!taken.headers.contains_key("preference-applied"));
    assert_eq!(stack.order(&ann, order_id).await.body["status"], "submitted", "noted before any worker took it");

    let lane = holdfast::domain::ids::ScheduleId::parse(&schedule).expect("a UUID").lane(8);
    let message = Queues::of(&stack).await.take(&format!("orders.{lane}")).await;
    let properties = &message.properties;
    assert_eq!(properties.kind().as_ref().map(|kind| kind.as_str()), Some("order.submitted"));
    assert_eq!(properties.content_type().as_ref().map(|kind| kind.as_str()), Some("application/json"));
    assert_eq!(*properties.delivery_mode(), Some(2));
    assert!(properties.message_id().is_some() && properties.timestamp().is_some());
    assert_eq!((message.header("x-attempt"), message.header("x-schema")), ("1", "1"));
    assert_eq!(message.header("traceparent").len(), 55);
    let body = message.json();
    assert_eq!((&body["order_id"], &body["request_id"]), (&json!(order_id), &json!("r-1")));
}

#[tokio::test]
async fn s2_2_a_customer_who_waits_hears_the_outcome() {
    let stack = Stack::start("ingress-wait").await;
    let room = stack.add_schedule_of("yoga", 2).await;
    let other = stack.add_schedule_of("yoga", 3).await;
    let single = stack.add_schedule(1).await;
    let (ann, bob) = (stack.quick_token("ann"), stack.quick_token("bob"));
    let submit = async |token: &str, key: &str, body: &Value| {
        Answer::of(stack.submit_request(token, key, body).header("Prefer", "wait=10")).await
    };

    let payable = submit(&ann, "a", &json!({ "schedule_id": room, "amount_fen": PRICE_FEN, "seat_no": 1 })).await;
    assert_eq!(payable.status, StatusCode::CREATED, "{}", payable.body);
    assert_eq!((&payable.body["status"], &payable.body["seat_no"]), (&json!("awaiting_payment"), &json!(1)));
    assert_eq!(payable.headers["preference-applied"], "wait=10");
    let order_id = payable.body["order_id"].as_str().expect("an id");
    assert_eq!(payable.headers["location"], format!("/v1/orders/{order_id}"));

    let taken = submit(&bob, "b", &json!({ "schedule_id": room, "amount_fen": PRICE_FEN, "seat_no": 1 })).await;
    assert_problem(&taken, 409, "seat-taken");
    assert_eq!(taken.headers["preference-applied"], "wait=10");
    assert_eq!(taken.body["alternatives"]["seats"], json!([2]));
    assert_eq!(taken.body["alternatives"]["schedules"][0]["schedule_id"], other);
    assert_eq!(taken.body["alternatives"]["schedules"][0]["available"], 3);
    assert!(taken.body["order_id"].is_string(), "the rejected order can be read: {}", taken.body);

    assert_eq!(submit(&ann, "c", &wish(&single)).await.status, StatusCode::CREATED);
    let sold_out = submit(&bob, "d", &wish(&single)).await;
    assert_problem(&sold_out, 409, "sold-out");
    assert_eq!(sold_out.body["alternatives"], json!({ "seats": [], "schedules": [] }));
    stack.check_invariants().await;
}

#[tokio::test]
async fn a_customer_waits_no_longer_than_they_said() {
    let stack = api_alone("ingress-patience").await;
    let (schedule, ann) = (stack.add_schedule(1).await, stack.quick_token("ann"));
    for (prefer, applied) in [("wait=0", "wait=0"), ("respond-async, wait=1", "wait=1")] {
        let key = format!("k-{applied}");
        let answer = Answer::of(stack.submit_request(&ann, &key, &wish(&schedule)).header("Prefer", prefer)).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.body);
        assert_eq!(answer.headers["preference-applied"], applied);
        assert!(answer.headers.contains_key("location"));
    }
}

#[tokio::test]
async fn s6_4_only_a_customer_with_a_good_token_gets_in() {
    let stack = api_alone("ingress-tokens").await;
    let schedule = stack.add_schedule(1).await;
    let keys = |secret: &str| {
        let settings = AuthSettings { secret: Some(secret.into()), ..AuthSettings::default() };
        AuthKeys::from_settings(&settings).expect("a key")
    };
    let own = keys(&stack.environment["HOLDFAST_AUTH__SECRET"]);
    let later = OffsetDateTime::now_utc() + Duration::HOUR;
    let mint = |role, expires| own.mint("ann", role, None, expires).expect("a token");
    let good = mint(Role::Customer, later);
    let foreign = keys("a secret of somebody else, also long enough");
    let (head, rest) = good.split_once('.').expect("a token");
    let unsigned = format!("{}.{}", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#), &rest[..=rest.find('.').unwrap()]);
    let bad = [
        foreign.mint("ann", Role::Customer, None, later).expect("a token"),
        // `auth.leeway_seconds` is 60 by default.
        mint(Role::Customer, OffsetDateTime::now_utc() - Duration::seconds(61)),
        unsigned,
        format!("{head}.{}", &rest[1..]),
        good[..good.len() - 2].to_owned(),
        String::new(),
    ];
    for token in &bad {
        let answer = Answer::of(stack.submit_request(token, "k", &wish(&schedule))).await;
        assert_problem(&answer, 401, "unauthenticated");
        assert!(answer.headers.contains_key("www-authenticate"));
        assert!(token.is_empty() || !answer.body.to_string().contains(token.as_str()), "a token is never repeated");
    }
    let anonymous = stack.request(reqwest::Method::POST, "/v1/orders").header("Idempotency-Key", "k");
    assert_problem(&Answer::of(anonymous.json(&wish(&schedule))).await, 401, "unauthenticated");
    for role in [Role::Viewer, Role::Operator] {
        let answer = Answer::of(stack.submit_request(&mint(role, later), "k", &wish(&schedule))).await;
        assert_problem(&answer, 403, "forbidden");
    }
    assert_eq!(Answer::of(stack.submit_request(&good, "k", &wish(&schedule))).await.status, StatusCode::ACCEPTED);
    let counts = Counts::of_api(&stack).await;
    let counted = |status| counts.sum("http_requests_total", &[("route", "/v1/orders"), ("status", status)]);
    assert_eq!((counted("401"), counted("403"), counted("202")), (7, 2, 1));
}

#[tokio::test]
async fn s6_4_bad_input_is_refused_at_once_and_counted() {
    let stack = api_alone("ingress-input").await;
    let (schedule, ann) = (stack.add_schedule(1).await, stack.quick_token("ann"));
    let good = wish(&schedule).to_string();
    let raw = |body: String| -> RequestBuilder {
        let request = stack.request(reqwest::Method::POST, "/v1/orders").bearer_auth(&ann);
        request.header("Idempotency-Key", "k").header(CONTENT_TYPE, "application/json").body(body)
    };
    let bare = |kind: Option<&'static str>| {
        let request = stack.request(reqwest::Method::POST, "/v1/orders").bearer_auth(&ann).body(good.clone());
        let request = request.header("Idempotency-Key", "k");
        kind.map_or(request.try_clone().expect("a text"), |kind| request.header(CONTENT_TYPE, kind))
    };
    let keyed = |keys: &[&[u8]]| {
        let request = stack.request(reqwest::Method::POST, "/v1/orders").bearer_auth(&ann).json(&wish(&schedule));
        keys.iter().fold(request, |request, key| {
            request.header("Idempotency-Key", HeaderValue::from_bytes(key).expect("a header"))
        })
    };
    let mib = format!("{{\"schedule_id\":\"{}\"}}", "x".repeat(1024 * 1024));
    let nested = format!("{}{}", "[".repeat(4000), "]".repeat(4000));
    let rows = [
        (keyed(&[]), 400, "idempotency-key-missing"),
        (keyed(&[b""]), 400, "idempotency-key-missing"),
        (keyed(&[b"a b"]), 400, "idempotency-key-missing"),
        (keyed(&["键".as_bytes()]), 400, "idempotency-key-missing"),
        (keyed(&[&[b'k'; 256]]), 400, "idempotency-key-missing"),
        (keyed(&[b"a", b"b"]), 400, "idempotency-key-missing"),
        (raw("{\"schedule_id\":".into()), 400, "unreadable"),
        (raw(String::new()), 400, "unreadable"),
        (raw(good.replace("20000", "1e400")), 400, "unreadable"),
        (raw(nested), 400, "unreadable"),
        (raw(mib), 413, "too-large"),
        (bare(None), 415, "unsupported-media-type"),
        (bare(Some("text/plain")), 415, "unsupported-media-type"),
        (raw(format!("[{good}]")), 422, "invalid-request"),
        (raw(good.replace("20000", "19999")), 422, "amount-mismatch"),
        (raw(good.replace("20000", "20000.5")), 422, "invalid-request"),
    ];
    let count = rows.len() as u64;
    for (request, status, slug) in rows {
        assert_problem(&Answer::of(request).await, status, slug);
    }
    let wrong = json!({
        "schedule_id": "x", "amount_fen": "20000", "seat_no": 0, "channel": "cash", "openid": "o", "seats": []
    });
    let answer = Answer::of(stack.submit_request(&ann, "k", &wrong)).await;
    assert_problem(&answer, 422, "invalid-request");
    let errors = answer.body["errors"].as_array().expect("a list");
    let fields: Vec<&str> = errors.iter().filter_map(|error| error["field"].as_str()).collect();
    assert_eq!(fields, ["schedule_id", "amount_fen", "seat_no", "channel", "openid", "seats"], "{}", answer.body);
    let empty = Answer::of(stack.submit_request(&ann, "k", &json!({}))).await;
    assert_eq!(empty.body["errors"].as_array().map(Vec::len), Some(2), "{}", empty.body);

    until("the catalogue is known", async || {
        let key = Uuid::now_v7().to_string();
        let nowhere = Answer::of(stack.submit_request(&ann, &key, &wish(&Uuid::now_v7().to_string()))).await;
        (nowhere.status == StatusCode::NOT_FOUND).then(|| assert_problem(&nowhere, 404, "no-such-schedule"))
    })
    .await;
    // A refused request has not used up its key.
    assert_eq!(Answer::of(raw(good)).await.status, StatusCode::ACCEPTED);

    let counts = Counts::of_api(&stack).await;
    let counted = |status| counts.sum("http_requests_total", &[("route", "/v1/orders"), ("status", status)]);
    assert_eq!(counted("400") + counted("413") + counted("415") + counted("422"), count + 2);
    assert_eq!(counts.sum("orders_refused_total", &[("problem", "amount-mismatch")]), 1);
    stack.check_invariants().await;
}

#[tokio::test]
async fn s5_2_a_flood_is_slowed_down_politely() {
    let settings = vec![("HOLDFAST_API__ORDERS_PER_SECOND", "1".into()), ("HOLDFAST_API__ORDERS_BURST", "3".into())];
    let choice = Choice { settings, roles: vec!["api"], ..Choice::default() };
    let stack = Stack::start_with("ingress-flood", choice).await;
    let (schedule, ann) = (stack.add_schedule(1).await, stack.quick_token("ann"));
    let mut refused = Vec::new();
    for click in 0..6 {
        let answer = Answer::of(stack.submit_request(&ann, &format!("k{click}"), &wish(&schedule))).await;
        if answer.status != StatusCode::ACCEPTED {
            refused.push(answer);
        }
    }
    assert!(!refused.is_empty());
    for answer in &refused {
        assert_problem(answer, 429, "too-many-requests");
        let wait: u64 = answer.headers["retry-after"].to_str().expect("digits").parse().expect("seconds");
        assert!((1..=3).contains(&wait), "{wait}");
    }
    let bob = stack.quick_token("bob");
    assert_eq!(Answer::of(stack.submit_request(&bob, "k", &wish(&schedule))).await.status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn s5_2_a_refusal_speaks_the_customers_language() {
    let stack = api_alone("ingress-language").await;
    let ann = stack.quick_token("ann");
    for (accept, language, words) in [
        (None, "zh-CN", "请检查填写的内容。"),
        (Some("de"), "zh-CN", "请检查填写的内容。"),
        (Some("en-GB,zh;q=0.5"), "en", "Please check what you entered."),
    ] {
        let request = stack.submit_request(&ann, "k", &json!({})).header("X-Request-Id", "asked-by-ann");
        let request =
            accept.map_or(request.try_clone().expect("a text"), |accept| request.header("Accept-Language", accept));
        let answer = Answer::of(request).await;
        assert_problem(&answer, 422, "invalid-request");
        assert_eq!(answer.body["user_message"], words);
        assert_eq!(answer.headers["content-language"], language);
        assert_eq!(answer.headers["vary"], "accept-language");
        assert_eq!(answer.body["request_id"], "asked-by-ann");
        let page = Answer::of(stack.request(reqwest::Method::GET, answer.body["type"].as_str().expect("a type"))).await;
        assert_eq!(page.status, StatusCode::OK, "the type is a page that explains it");
    }
    let odd = stack.submit_request(&ann, "k", &json!({})).header("X-Request-Id", "no good\tid");
    let answer = Answer::of(odd).await;
    assert_ne!(answer.body["request_id"], "no good\tid", "an id that is not sane is replaced");
}
