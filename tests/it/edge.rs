//! What the ingress answers, to whom, and what it does when its neighbours are away.

use futures_util::StreamExt as _;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::stack::{Answer, Choice, PRICE_FEN, Stack, until};

fn wish(schedule: &str) -> Value {
    json!({ "schedule_id": schedule, "amount_fen": PRICE_FEN })
}

/// Nobody listens there.
const NOWHERE: &str = "127.0.0.1:1";

async fn metric(stack: &Stack, line: &str) -> bool {
    let metrics = stack.health("/metrics").await.expect("an answer");
    metrics.body.as_str().expect("text").contains(line)
}

#[tokio::test]
async fn s6_4_a_callback_that_is_not_wechats_is_refused_and_counted() {
    let stack = Stack::start_with("foreign_callback", Choice { roles: vec!["api"], ..Choice::default() }).await;
    let address = "/v1/wechat/notify/payments";
    let bare = Answer::of(stack.request(Method::POST, address).body("{}")).await;
    assert_eq!((bare.status.as_u16(), &bare.body["code"]), (401, &json!("FAIL")));
    let large = Answer::of(stack.request(Method::POST, address).body(vec![b' '; 65 * 1024])).await;
    // Its headers prove nothing, so its size is not looked at.
    assert_eq!((large.status.as_u16(), &large.body["code"]), (401, &json!("FAIL")));
    let line = r#"wechat_callbacks_total{kind="payment",outcome="refused",reason="header_missing"} 2"#;
    assert!(metric(&stack, line).await);
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
        let answer = stack.health("/healthz").await.expect("an answer");
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
    until("the API answers", async || stack.health("/healthz").await).await;
    stack
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
    let ready = stack.health("/readyz").await.expect("readiness");
    assert_eq!((ready.status.as_u16(), &ready.body["dependencies"]["database"]), (200, &json!("away")));
}
