//! What the ingress answers, to whom, and what it does when its neighbours are away.

use futures_util::{StreamExt as _, future::join_all};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::stack::{Answer, Choice, PRICE_FEN, Stack, until};

fn wish(schedule: &str) -> Value {
    json!({ "schedule_id": schedule, "amount_fen": PRICE_FEN })
}

/// Nobody listens there.
const NOWHERE: &str = "127.0.0.1:1";

async fn metric(stack: &Stack, line: &str) -> bool {
    let metrics = stack.request(Method::GET, "/metrics").send().await.expect("an answer").text().await.expect("text");
    metrics.contains(line)
}

#[tokio::test]
async fn s6_4_bad_input_has_its_documented_answer_and_is_counted() {
    let stack = Stack::start_with("bad_input", Choice { roles: vec!["api", "seats"], ..Choice::default() }).await;
    let schedule = stack.add_schedule(3).await;
    let token = stack.quick_token("ann");
    let operator = stack.holdfast_ok(&["token", "--user", "op", "--role", "operator"]).await;
    let expired = stack.holdfast_ok(&["token", "--user", "ann", "--seconds", "0"]).await;

    let post = || stack.request(Method::POST, "/v1/orders").header("Idempotency-Key", "k");
    let signed = || post().bearer_auth(&token);
    let text = |body: &'static str| signed().header("Content-Type", "application/json").body(body);
    let with = |change: Value| {
        let mut body = wish(&schedule);
        body.as_object_mut().expect("an object").extend(change.as_object().expect("an object").clone());
        signed().json(&body)
    };
    let no_key = stack.request(Method::POST, "/v1/orders").bearer_auth(&token).json(&wish(&schedule));
    let cases: Vec<(&str, RequestBuilder, u16, &str)> = vec![
        ("no token", post().body("{"), 401, "unauthenticated"),
        ("another's token", post().bearer_auth("a.b.c").body("{"), 401, "unauthenticated"),
        ("expired token", post().bearer_auth(expired.trim()).body("{"), 401, "unauthenticated"),
        ("an operator", post().bearer_auth(operator.trim()).body("{"), 403, "forbidden"),
        ("no key", no_key, 400, "idempotency-key-missing"),
        ("no media type", signed().body("{}"), 415, "unsupported-media-type"),
        ("no JSON", text("{\"schedule_id\": "), 400, "unreadable"),
        ("not UTF-8", signed().header("Content-Type", "application/json").body(vec![0xff; 8]), 400, "unreadable"),
        ("very deep", text(Box::leak("[".repeat(8_000).into_boxed_str())), 400, "unreadable"),
        ("no object", text("[1]"), 422, "invalid-request"),
        ("nothing", text("{}"), 422, "invalid-request"),
        ("wrong type", with(json!({"amount_fen": "20000"})), 422, "invalid-request"),
        ("a fraction", with(json!({"amount_fen": 20000.5})), 422, "invalid-request"),
        ("negative", with(json!({"amount_fen": -1})), 422, "invalid-request"),
        ("a seat of no room", with(json!({"seat_no": 0})), 422, "invalid-request"),
        ("unknown field", with(json!({"price": 1})), 422, "invalid-request"),
        ("unknown channel", with(json!({"channel": "cash"})), 422, "invalid-request"),
        ("another amount", with(json!({"amount_fen": 1})), 422, "amount-mismatch"),
        ("1 MiB", signed().header("Content-Type", "application/json").body(vec![b' '; 1 << 20]), 413, "too-large"),
    ];
    for (case, request, status, problem) in cases {
        let answer = Answer::of(request).await;
        assert_eq!((answer.status.as_u16(), answer.problem()), (status, problem), "{case}: {}", answer.body);
        assert_eq!(answer.headers["content-type"], "application/problem+json", "{case}");
        assert_eq!(answer.body["request_id"], answer.headers["x-request-id"].to_str().expect("text"), "{case}");
        assert_eq!(answer.body["status"], status, "{case}");
    }
    let nowhere = Answer::of(stack.request(Method::GET, "/v1/nowhere")).await;
    assert_eq!((nowhere.status.as_u16(), nowhere.problem()), (404, "not-found"));
    let put = Answer::of(stack.request(Method::PUT, "/v1/orders")).await;
    assert_eq!((put.status.as_u16(), put.problem()), (405, "method-not-allowed"));
    assert!(metric(&stack, r#"http_requests_total{method="POST",route="/v1/orders",status="413"} 1"#).await);
    assert!(metric(&stack, r#"orders_refused_total{problem="amount-mismatch"} 1"#).await);

    let unknown = until("the catalogue is complete", async || {
        let body = wish("00000000-0000-0000-0000-000000000000");
        let answer = Answer::of(stack.submit_request(&token, "unknown", &body)).await;
        (answer.status == StatusCode::NOT_FOUND).then_some(answer)
    })
    .await;
    assert_eq!(unknown.problem(), "no-such-schedule");

    // Every wrong field at once, in the caller's language; and the key of a refused request is free again.
    let wrong = json!({"schedule_id": 7, "seat_no": "x", "more": null});
    let answer = Answer::of(stack.submit_request(&token, "k", &wrong).header("Accept-Language", "en-GB")).await;
    let fields: Vec<_> = answer.body["errors"].as_array().expect("errors").iter().map(|e| &e["field"]).collect();
    assert_eq!(fields, ["schedule_id", "amount_fen", "seat_no", "more"]);
    assert_eq!(answer.body["user_message"], "Please check what you entered.");
    let taken = Answer::of(stack.submit_request(&token, "k", &wish(&schedule))).await;
    assert_eq!(taken.status, StatusCode::ACCEPTED, "{}", taken.body);
}

#[tokio::test]
async fn s6_4_a_callback_that_is_not_wechats_is_refused_and_counted() {
    let stack = Stack::start_with("foreign_callback", Choice { roles: vec!["api"], ..Choice::default() }).await;
    let address = "/v1/wechat/notify/payments";
    let bare = Answer::of(stack.request(Method::POST, address).body("{}")).await;
    assert_eq!((bare.status.as_u16(), &bare.body["code"]), (401, &json!("FAIL")));
    let large = Answer::of(stack.request(Method::POST, address).body(vec![b' '; 65 * 1024])).await;
    assert_eq!((large.status.as_u16(), &large.body["code"]), (413, &json!("FAIL")));
    let line = r#"wechat_callbacks_total{kind="payment",outcome="refused",reason="header_missing"} 1"#;
    assert!(metric(&stack, line).await);
}

#[tokio::test]
async fn s5_3_double_click_is_one_order_and_another_body_is_refused() {
    let stack = Stack::start("double_click").await;
    let schedule = stack.add_schedule(5).await;
    let token = stack.quick_token("ann");

    let clicks = (0..20).map(|_| Answer::of(stack.submit_request(&token, "click", &wish(&schedule))));
    let answers = join_all(clicks).await;
    let order = answers[0].body["order_id"].as_str().expect("an id").to_owned();
    for answer in &answers {
        assert_eq!((answer.status, answer.body["order_id"].as_str()), (StatusCode::ACCEPTED, Some(order.as_str())));
    }
    let mut other = wish(&schedule);
    other["seat_no"] = json!(3);
    let reused = Answer::of(stack.submit_request(&token, "click", &other)).await;
    assert_eq!((reused.status.as_u16(), reused.problem()), (422, "idempotency-key-reused"));
    // Written differently, but the same.
    let same =
        format!(r#"{{ "channel":"native", "amount_fen": {PRICE_FEN}, "seat_no":null, "schedule_id":"{schedule}" }}"#);
    let same = stack.submit_request(&token, "click", &Value::Null).body(same).header("Prefer", "wait=10");
    let same = Answer::of(same).await;
    assert_eq!((same.status, same.body["order_id"].as_str()), (StatusCode::CREATED, Some(order.as_str())));

    stack.until_status(&token, &order, "awaiting_payment").await;
    assert_eq!(stack.count("SELECT count(*) FROM payment_orders").await, 1);
    stack.check_invariants().await;
}

#[tokio::test]
async fn s5_3_waiting_customers_hear_201_or_409_with_alternatives() {
    let stack = Stack::start("waiting").await;
    let schedule = stack.add_schedule(1).await;
    let next_week = stack.add_schedule(4).await;
    let waiting = |user: &str, key: &str, body: &Value| {
        stack.submit_request(&stack.quick_token(user), key, body).header("Prefer", "wait=10")
    };
    let first = Answer::of(waiting("ann", "k", &wish(&schedule))).await;
    assert_eq!(first.status, StatusCode::CREATED, "{}", first.body);
    assert_eq!(first.headers["preference-applied"], "wait=10");
    assert!(first.body["code_url"].is_string());

    for _ in 0..2 {
        let second = Answer::of(waiting("bob", "k", &wish(&schedule))).await;
        assert_eq!((second.status.as_u16(), second.problem()), (409, "sold-out"), "{}", second.body);
        assert_eq!(second.body["alternatives"]["schedules"][0]["schedule_id"], next_week.as_str());
    }
    let mut body = wish(&next_week);
    body["seat_no"] = json!(2);
    assert_eq!(Answer::of(waiting("ann", "k2", &body)).await.status, StatusCode::CREATED);
    let taken = Answer::of(waiting("bob", "k2", &body)).await;
    assert_eq!((taken.status.as_u16(), taken.problem()), (409, "seat-taken"));
    assert_eq!(taken.body["alternatives"]["seats"], json!([1, 3, 4]));
}

#[tokio::test]
async fn s6_4_orders_are_their_owners_alone_and_listed_page_by_page() {
    let stack =
        Stack::start_with("owners", Choice { roles: vec!["api", "seats", "prepay"], ..Choice::default() }).await;
    let schedule = stack.add_schedule(60).await;
    let (ann, bob) = (stack.quick_token("ann"), stack.quick_token("bob"));
    let mut orders = Vec::new();
    for _ in 0..53 {
        // Within the rate, and one after the other, so that their order is known.
        let body = wish(&schedule);
        let key = uuid::Uuid::now_v7().to_string();
        let placed = until("the rate allows it", async || {
            let answer = Answer::of(stack.submit_request(&ann, &key, &body)).await;
            (answer.status == StatusCode::ACCEPTED).then_some(answer)
        });
        orders.push(placed.await.body["order_id"].as_str().expect("an id").to_owned());
    }
    let last = orders.last().expect("many").clone();
    stack.until_status(&ann, &last, "awaiting_payment").await;
    for path in ["", "/events", "/qr.svg", "/qr.png"] {
        let request = stack.request(Method::GET, &format!("/v1/orders/{last}{path}"));
        let answer = Answer::of(request.bearer_auth(&bob)).await;
        assert_eq!((answer.status.as_u16(), answer.problem()), (404, "no-such-order"), "{path}");
    }

    orders.reverse();
    let list = async |query: &str| {
        Answer::of(stack.request(Method::GET, &format!("/v1/orders{query}")).bearer_auth(&ann)).await.body
    };
    let ids = |page: &Value| -> Vec<String> {
        let items = page["items"].as_array().expect("items").iter();
        items.map(|order| order["order_id"].as_str().expect("an id").to_owned()).collect()
    };
    let first = list("").await;
    let second = list(&format!("?cursor={}", first["next"].as_str().expect("a cursor"))).await;
    assert_eq!([ids(&first), ids(&second)].concat(), orders);
    assert_eq!(second["next"], Value::Null);
}

#[tokio::test]
async fn s3_2_events_tell_each_change_once_resume_and_end_politely() {
    let mut stack = Stack::start("events").await;
    let schedule = stack.add_schedule(1).await;
    let token = stack.quick_token("ann");
    let order = stack.submit(&token, &schedule).await;
    let path = format!("/v1/orders/{order}/events");
    let payable = stack.until_status(&token, &order, "awaiting_payment").await;
    let version = payable["version"].to_string();

    let open = async |seen: Option<&str>| {
        let request = stack.request(Method::GET, &path).bearer_auth(&token);
        let request = seen.into_iter().fold(request, |request, seen| request.header("Last-Event-ID", seen));
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        answer.bytes_stream()
    };
    let mut whole = open(None).await;
    let mut resumed = open(Some(&version)).await;
    let (mut told, mut told_resumed) = (String::new(), String::new());
    while !told.contains("\n\n") || !told_resumed.contains("\n\n") {
        tokio::select! {
            Some(Ok(piece)) = whole.next() => told += &String::from_utf8_lossy(&piece),
            Some(Ok(piece)) = resumed.next() => told_resumed += &String::from_utf8_lossy(&piece),
        }
    }
    assert!(told.contains(&format!("event: status\nid: {version}\n")), "{told}");
    assert!(!told_resumed.contains("event:"), "nothing new yet: {told_resumed}");

    stack.pay(&order).await;
    for (stream, told) in [(&mut whole, &mut told), (&mut resumed, &mut told_resumed)] {
        while !told.contains("\"status\":\"confirmed\"") {
            *told += &String::from_utf8_lossy(&stream.next().await.expect("more").expect("bytes"));
        }
        assert_eq!(told.matches("\"status\":\"confirmed\"").count(), 1);
    }
    let image = Answer::of(stack.request(Method::GET, &format!("/v1/orders/{order}/qr.svg")).bearer_auth(&token)).await;
    assert_eq!((image.status.as_u16(), image.problem()), (409, "not-payable"));

    assert!(stack.terminate("api").await.success());
    while let Some(piece) = whole.next().await {
        piece.expect("the stream ends whole, not in the middle of a piece");
    }
}

#[tokio::test]
async fn s6_3_beyond_its_limits_it_refuses_politely() {
    let settings = vec![
        ("HOLDFAST_API__REQUESTS_MAX", "1".to_owned()),
        ("HOLDFAST_API__ORDERS_PER_SECOND", "1".to_owned()),
        ("HOLDFAST_API__ORDERS_BURST", "2".to_owned()),
    ];
    let stack = Stack::start_with("limits", Choice { roles: vec!["api"], settings, ..Choice::default() }).await;
    let schedule = stack.add_schedule(9).await;
    let token = stack.quick_token("ann");
    let submit = |key: &str| stack.submit_request(&token, key, &wish(&schedule));

    // No worker runs, so whichever comes first waits and fills the only place.
    let alive = async {
        let answer = Answer::of(stack.request(Method::GET, "/healthz")).await;
        assert_eq!(answer.status, StatusCode::OK, "a busy process is alive");
    };
    let waiting = |key| Answer::of(submit(key).header("Prefer", "wait=3"));
    let (one, other, ()) = tokio::join!(waiting("1"), waiting("2"), alive);
    let (taken, refused) = if one.status == StatusCode::ACCEPTED { (one, other) } else { (other, one) };
    assert_eq!(taken.status, StatusCode::ACCEPTED, "{}", taken.body);
    assert_eq!((refused.status.as_u16(), refused.problem()), (503, "overloaded"), "{}", refused.body);
    assert!(refused.headers.contains_key("retry-after"));

    let too_many = until("it was too fast", async || {
        let answer = Answer::of(submit(&uuid::Uuid::now_v7().to_string())).await;
        (answer.status == StatusCode::TOO_MANY_REQUESTS).then_some(answer)
    })
    .await;
    assert_eq!(too_many.problem(), "too-many-requests");
    assert_eq!(too_many.headers["retry-after"], "1");
    let other = stack.submit_request(&stack.quick_token("bob"), "1", &wish(&schedule));
    assert_eq!(Answer::of(other).await.status, StatusCode::ACCEPTED, "another customer has another measure");
}

#[tokio::test]
async fn s6_2_pages_documentation_and_files_are_served_as_they_say() {
    let stack = Stack::start_with("pages", Choice { roles: vec!["api"], ..Choice::default() }).await;
    let get = |path: &str| stack.request(Method::GET, path);
    for (path, media_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/docs", "text/html; charset=utf-8"),
        ("/problems", "text/html; charset=utf-8"),
        ("/assets/booking/main.js", "text/javascript; charset=utf-8"),
        ("/assets/docs/docs.css", "text/css; charset=utf-8"),
    ] {
        let answer = Answer::of(get(path)).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.headers["content-type"]),
            (200, &media_type.parse().expect("text"))
        );
        let policy = answer.headers["content-security-policy"].to_str().expect("text");
        assert!(policy.starts_with("default-src 'none'; script-src 'self'") && !policy.contains("unsafe"), "{policy}");
        let page = answer.body.as_str().expect("text");
        assert!(!page.contains("<script>") && !page.contains(" onclick=") && !page.contains("<style"), "{path}");
        let again = Answer::of(get(path).header("If-None-Match", &answer.headers["etag"])).await;
        assert_eq!(again.status, StatusCode::NOT_MODIFIED, "{path}");
    }
    for path in ["/assets/booking/index.html", "/assets/../Cargo.toml", "/assets/none.js", "/problems/none"] {
        assert_eq!(Answer::of(get(path)).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    let index = Answer::of(get("/")).await;
    let phone = format!("content=\"{}/phone\"", stack.simulator.url);
    assert!(index.body.as_str().expect("text").contains(&phone));

    let openapi = Answer::of(get("/openapi.json")).await.body;
    assert!(openapi["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")));
    // Every operation that needs a token says so by its behaviour as well.
    for (path, item) in openapi["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).expect("a method");
            let answer = Answer::of(stack.request(method, &path.replace("{id}", "x"))).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
            assert!(operation["responses"]["401"].is_object(), "{path}");
        }
    }

    let token = stack.request(Method::POST, "/dev/token").json(&json!({"user": "ann"}));
    let token = Answer::of(token).await.body["token"].as_str().expect("a token").to_owned();
    assert_eq!(Answer::of(get("/v1/schedules").bearer_auth(token)).await.status, StatusCode::OK);
}

/// Starts only the API, with one of its neighbours gone.
async fn without(test: &str, setting: &'static str, url: &str) -> Stack {
    let mut stack = Stack::start_with(test, Choice { roles: Vec::new(), ..Choice::default() }).await;
    stack.environment.insert(setting.to_owned(), url.to_owned());
    stack.spawn("api");
    until("the API answers", async || stack.request(Method::GET, "/healthz").send().await.ok()).await;
    stack
}

#[tokio::test]
async fn broker_away_at_ingress_is_503_and_the_key_can_be_used_again() {
    let mut stack = without("broker_away", "AMQP_URL", &format!("amqp://{NOWHERE}/x")).await;
    let token = stack.quick_token("ann");
    let schedule = stack.add_schedule(1).await;
    let answer = Answer::of(stack.submit_request(&token, "k", &wish(&schedule))).await;
    assert_eq!((answer.status.as_u16(), answer.problem()), (503, "broker-unavailable"));
    assert!(answer.headers.contains_key("retry-after"));
    let ready = Answer::of(stack.request(Method::GET, "/readyz")).await;
    assert_eq!((ready.status.as_u16(), &ready.body["dependencies"]["broker"]), (503, &json!("away")));

    stack.kill("api");
    stack.environment.insert("AMQP_URL".into(), stack.amqp_url.clone());
    for role in ["api", "seats", "prepay"] {
        stack.spawn(role);
    }
    until("the same key is taken", async || {
        let answer = Answer::try_of(stack.submit_request(&token, "k", &wish(&schedule)).header("Prefer", "wait=10"));
        (answer.await.ok()?.status == StatusCode::CREATED).then_some(())
    })
    .await;
}

#[tokio::test]
async fn database_away_orders_are_taken_all_the_same() {
    let stack = without("database_away", "DATABASE_URL", &format!("postgres://x@{NOWHERE}/x")).await;
    let token = stack.quick_token("ann");
    let order = stack.submit(&token, "00000000-0000-0000-0000-000000000000").await;
    let noted = stack.order(&token, &order).await;
    assert_eq!((noted.status.as_u16(), &noted.body["status"]), (200, &json!("submitted")));
    let list = Answer::of(stack.request(Method::GET, "/v1/orders").bearer_auth(&token)).await;
    assert_eq!((list.status.as_u16(), list.problem()), (503, "temporarily-unavailable"));
    let ready = Answer::of(stack.request(Method::GET, "/readyz")).await;
    assert_eq!((ready.status.as_u16(), &ready.body["dependencies"]["database"]), (200, &json!("away")));
}

#[tokio::test]
async fn redis_away_costs_speed_and_nothing_else() {
    let url = format!("redis://{NOWHERE}/0");
    let choice = Choice { settings: vec![("REDIS_URL", url)], ..Choice::default() };
    let stack = Stack::start_with("redis_away", choice).await;
    let schedule = stack.add_schedule(2).await;
    let token = stack.quick_token("ann");
    let waiting = |body: &Value| stack.submit_request(&token, "k", body).header("Prefer", "wait=10");

    let placed = Answer::of(waiting(&wish(&schedule))).await;
    assert_eq!(placed.status, StatusCode::CREATED, "{}", placed.body);
    let order = placed.body["order_id"].as_str().expect("an id");
    let mut other = wish(&schedule);
    other["seat_no"] = json!(2);
    let reused = Answer::of(waiting(&other)).await;
    assert_eq!((reused.status.as_u16(), reused.problem()), (422, "idempotency-key-reused"));

    stack.pay(order).await;
    stack.until_status(&token, order, "confirmed").await;
    until("the customer is told", async || stack.messages_to("ann").await.pop()).await;
    let path = format!("/v1/schedules/{schedule}/availability");
    let seats = Answer::of(stack.request(Method::GET, &path).bearer_auth(&token)).await;
    assert_eq!((&seats.body["confirmed"], &seats.body["seats_free"]), (&json!(1), &json!([2])));
    stack.check_invariants().await;
}
