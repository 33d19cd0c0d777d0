//! `/v1/orders/{id}/refunds` and `/notifications`, and WeChat's word on a refund.

use holdfast::{
    api::Role,
    domain::ids::{IdempotencyKey, OrderId, RefundId},
};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::{
    degraded::empty_cache,
    forgery::Forger,
    metrics::Counts,
    queues::Queues,
    stack::{Answer, Choice, Stack, until},
};

async fn api_alone(test: &str) -> Stack {
    Stack::start_with(test, Choice { roles: vec!["api"], ..Choice::default() }).await
}

fn request(stack: &Stack, token: &str, order: &str, key: &str, body: &Value) -> RequestBuilder {
    let request = stack.request(Method::POST, &format!("/v1/orders/{order}/refunds"));
    request.bearer_auth(token).header("Idempotency-Key", key).json(body)
}

async fn get(stack: &Stack, token: &str, path: &str) -> Answer {
    Answer::of(stack.request(Method::GET, path).bearer_auth(token)).await
}

#[tokio::test]
async fn s5_4_a_refund_is_asked_for_by_owner_or_operator() {
    let stack = api_alone("refund-who").await;
    let schedule = stack.add_schedule(1).await;
    let order = stack.stage_order("ann", &schedule, "confirmed").await;
    let ask =
        async |token: &str| Answer::of(request(&stack, token, &order, "k", &json!({ "reason": "时间不合适" }))).await;
    assert_eq!(ask(&stack.quick_token("bob")).await.problem(), "no-such-order");
    assert_eq!(ask(&stack.token_of_role("eve", Role::Viewer)).await.problem(), "forbidden");

    let queues = Queues::of(&stack).await;
    let mut ids = Vec::new();
    for (token, requester) in
        [(stack.quick_token("ann"), "user:ann"), (stack.token_of_role("ops", Role::Operator), "operator:ops")]
    {
        let taken = ask(&token).await;
        assert_eq!(taken.status, StatusCode::ACCEPTED, "{}", taken.body);
        assert_eq!(taken.headers["location"], format!("/v1/orders/{order}/refunds"));
        let key = IdempotencyKey::try_from("k").expect("a key");
        let id = RefundId::derive(&OrderId::try_from(order.clone()).expect("an id"), requester, &key);
        let expected = json!({ "refund_id": id, "order_id": order, "status": "requested", "amount_fen": null });
        assert_eq!(taken.body, expected);
        let message = queues.take("refunds").await;
        assert_eq!(message.properties.kind().as_ref().map(|kind| kind.as_str()), Some("refund.requested"));
        let mut body = message.json();
        // A customer's is judged by when it was taken.
        let requested_at = body.as_object_mut().and_then(|members| members.remove("requested_at"));
        assert_eq!(requested_at.is_some_and(|at| at.is_string()), requester == "user:ann");
        let expected = json!({
            "refund_id": id, "order_id": order, "amount_fen": null, "reason": "时间不合适", "requested_by": requester,
            "request_id": taken.headers["x-request-id"].to_str().expect("visible"),
        });
        assert_eq!(body, expected);
        ids.push(id);
    }
    assert_ne!(ids[0], ids[1], "one key of two people is two wishes");
}

#[tokio::test]
async fn s5_4_hopeless_requests_are_refused_at_once() {
    let stack = api_alone("refund-refused").await;
    let (schedule, ann) = (stack.add_schedule(1).await, stack.quick_token("ann"));
    let paid = stack.stage_order("ann", &schedule, "confirmed").await;
    let plain = json!({ "reason": "r" });
    // Amounts are operators' to choose.
    let ops = stack.token_of_role("ops", Role::Operator);

    let path = format!("/v1/orders/{paid}/refunds");
    let keyless = stack.request(Method::POST, &path).bearer_auth(&ann).json(&plain);
    assert_eq!(Answer::of(keyless).await.problem(), "idempotency-key-missing");
    let text = stack.request(Method::POST, &path).bearer_auth(&ann).header("Idempotency-Key", "t").body("{}");
    assert_eq!(Answer::of(text).await.problem(), "unsupported-media-type");
    for (body, fields) in [
        (json!({ "amount_fen": 0, "reason": "" }), &["amount_fen", "reason"][..]),
        (json!({ "amount_fen": -1, "reason": "课".repeat(27) }), &["amount_fen", "reason"]),
        (json!({ "amount_fen": 1.5 }), &["amount_fen", "reason"]),
        (json!({ "reason": "r", "amount": 5 }), &["amount"]),
        (json!({ "reason": "r", "amount_fen": 20_001 }), &["amount_fen"]),
    ] {
        let refused = Answer::of(request(&stack, &ops, &paid, "wrong", &body)).await;
        assert_eq!((refused.status.as_u16(), refused.problem()), (422, "invalid-request"), "{body}: {}", refused.body);
        let named: Vec<_> = refused.body["errors"].as_array().expect("errors").iter().map(|e| &e["field"]).collect();
        assert_eq!(named, fields, "{body}");
    }
    let chosen = json!({ "reason": "r", "amount_fen": 1 });
    let refused = Answer::of(request(&stack, &ann, &paid, "wrong", &chosen)).await;
    assert_eq!((refused.status.as_u16(), refused.problem()), (422, "amount-not-yours"), "{}", refused.body);
    for (status, problem) in [
        ("held", "not-paid"),
        ("awaiting_payment", "not-paid"),
        ("rejected", "not-paid"),
        ("lapsed", "not-paid"),
        ("cancelled", "not-paid"),
        ("expired", "not-paid"),
        ("refunding", "nothing-left"),
        ("refunded", "nothing-left"),
    ] {
        let order = stack.stage_order("ann", &schedule, status).await;
        let refused = Answer::of(request(&stack, &ann, &order, "k", &plain)).await;
        assert_eq!((refused.status.as_u16(), refused.problem()), (409, problem), "{status}");
    }
    assert_eq!(stack.ready_in("refunds").await, 0);
    // A key whose request was refused is not used up.
    assert_eq!(Answer::of(request(&stack, &ann, &paid, "wrong", &plain)).await.status, StatusCode::ACCEPTED);
    let counts = Counts::of_api(&stack).await;
    let counted = |outcome| counts.sum("order_writes_total", &[("kind", "refund.requested"), ("outcome", outcome)]);
    assert_eq!((counted("taken"), counted("not-paid"), counted("nothing-left")), (1, 6, 2));
}

#[tokio::test]
async fn refund_request_twice() {
    let stack = Stack::start("refund-twice").await;
    let (schedule, ann) = (stack.add_schedule(1).await, stack.quick_token("ann"));
    let order = stack.submit(&ann, &schedule).await;
    stack.until_status(&ann, &order, "awaiting_payment").await;
    stack.pay(&order).await;
    stack.until_status(&ann, &order, "confirmed").await;
    let wish = json!({ "reason": "时间不合适" });
    let ask = async |body: &Value| Answer::of(request(&stack, &ann, &order, "once", body)).await;

    let (one, two) = tokio::join!(ask(&wish), ask(&wish));
    assert_eq!((one.status, two.status), (StatusCode::ACCEPTED, StatusCode::ACCEPTED), "{} {}", one.body, two.body);
    assert_eq!(one.body["refund_id"], two.body["refund_id"]);
    stack.until_status(&ann, &order, "refunded").await;
    // Again, when the order can bear no more: known from Redis, and from the books when Redis has forgotten.
    for forgotten in [false, true] {
        if forgotten {
            empty_cache(&stack).await;
        }
        let again = ask(&wish).await;
        assert_eq!(again.status, StatusCode::ACCEPTED, "{}", again.body);
        assert_eq!(again.body["refund_id"], one.body["refund_id"]);
        assert_eq!(again.body["status"], if forgotten { "succeeded" } else { "requested" });
        let other = ask(&json!({ "reason": "another" })).await;
        assert_eq!((other.status.as_u16(), other.problem()), (422, "idempotency-key-reused"), "{}", other.body);
    }
    let another_key = Answer::of(request(&stack, &ann, &order, "twice", &wish)).await;
    assert_eq!(another_key.problem(), "nothing-left");

    let refunds = get(&stack, &ann, &format!("/v1/orders/{order}/refunds")).await.body;
    assert_eq!((refunds["items"].as_array().map(Vec::len), &refunds["next"]), (Some(1), &json!(null)));
    let refund = &refunds["items"][0];
    assert_eq!((&refund["refund_id"], &refund["status"]), (&one.body["refund_id"], &json!("succeeded")));
    assert_eq!((&refund["amount_fen"], &refund["refusal"]), (&json!(20_000), &json!(null)));
    assert!(refund["wechat_refund_id"].is_string() && refund["succeeded_at"].is_string(), "{refund}");
    assert_eq!(stack.ledger().await["refunds"].as_array().map(Vec::len), Some(1), "WeChat was asked once");

    let told = until("both messages were sent", async || {
        let told = get(&stack, &ann, &format!("/v1/orders/{order}/notifications")).await.body;
        let items = told["items"].as_array().expect("items");
        (items.len() == 2 && items.iter().all(|item| item["status"] == "sent")).then(|| items.clone())
    })
    .await;
    let kinds: Vec<_> = told.iter().map(|item| &item["kind"]).collect();
    assert_eq!(kinds, ["refunded", "booking_confirmed"], "newest first");
    assert!(told.iter().all(|item| item["sent_at"].is_string() && item["errcode"].is_null()), "{told:?}");
    stack.check_invariants().await;
    stack.check_ledger().await;
}

#[tokio::test]
async fn s5_4_an_orders_refunds_come_in_pages_to_owner_and_staff() {
    let stack = api_alone("refund-list").await;
    let schedule = stack.add_schedule(1).await;
    let order = stack.stage_order("ann", &schedule, "confirmed").await;
    sqlx::query(
        "INSERT INTO refunds (refund_id, order_id, status, amount_fen, reason, requested_by, error, created_at)
         SELECT $1 || '-' || n, $1, 'refused', 100, 'r', 'user:ann', 'more-than-left', now() + n * interval '1 second'
           FROM generate_series(1, 51) n",
    )
    .bind(&order)
    .execute(&stack.db)
    .await
    .expect("refunds");
    let path = format!("/v1/orders/{order}/refunds");
    for token in
        [stack.quick_token("ann"), stack.token_of_role("eve", Role::Viewer), stack.token_of_role("ops", Role::Operator)]
    {
        let first = get(&stack, &token, &path).await.body;
        assert_eq!(first["items"].as_array().map(Vec::len), Some(50));
        assert_eq!(first["items"][0]["refund_id"], format!("{order}-51"), "newest first");
        assert_eq!(first["items"][0]["refusal"], "more-than-left");
        let next = first["next"].as_str().expect("a cursor");
        let last = get(&stack, &token, &format!("{path}?cursor={next}")).await.body;
        assert_eq!((&last["items"][0]["refund_id"], &last["next"]), (&json!(format!("{order}-1")), &json!(null)));
    }
    let bob = stack.quick_token("bob");
    assert_eq!(get(&stack, &bob, &path).await.problem(), "no-such-order");
    assert_eq!(get(&stack, &stack.quick_token("ann"), &format!("{path}?cursor=x")).await.problem(), "invalid-request");
}

#[tokio::test]
async fn s4_3_an_order_has_a_history_of_its_messages() {
    let stack = api_alone("notification-list").await;
    let (schedule, ann) = (stack.add_schedule(1).await, stack.quick_token("ann"));
    let order = stack.stage_order("ann", &schedule, "confirmed").await;
    let path = format!("/v1/orders/{order}/notifications");
    assert_eq!(get(&stack, &ann, &path).await.body, json!({ "items": [], "next": null }));
    sqlx::query(
        "INSERT INTO notifications (order_id, kind, status, sent_at, errcode, created_at)
         VALUES ($1, 'hold_lapsed', 'uncertain', NULL, NULL, '2030-01-01T10:00:00Z'),
                ($1, 'booking_confirmed', 'sent', '2030-01-01T10:00:02Z', NULL, '2030-01-01T10:00:01Z'),
                ($1, 'refunded', 'failed', NULL, 43004, '2030-01-01T10:00:03Z')",
    )
    .bind(&order)
    .execute(&stack.db)
    .await
    .expect("messages");
    let expected = json!([
        { "kind": "refunded", "status": "failed", "created_at": "2030-01-01T10:00:03Z", "sent_at": null, "errcode": 43004 },
        { "kind": "booking_confirmed", "status": "sent", "created_at": "2030-01-01T10:00:01Z",
          "sent_at": "2030-01-01T10:00:02Z", "errcode": null },
        { "kind": "hold_lapsed", "status": "uncertain", "created_at": "2030-01-01T10:00:00Z", "sent_at": null, "errcode": null },
    ]);
    assert_eq!(get(&stack, &ann, &path).await.body["items"], expected);
    assert_eq!(get(&stack, &stack.quick_token("bob"), &path).await.problem(), "no-such-order");
}

#[tokio::test]
async fn s4_1_what_wechat_says_of_a_refund_is_published() {
    let stack = api_alone("refund-webhook").await;
    let forger = Forger::of(&stack);
    let queues = Queues::of(&stack).await;
    let content = |status: &str| {
        json!({
            "mchid": stack.environment["HOLDFAST_WECHAT_PAY__MCHID"], "transaction_id": "4200000001",
            "out_trade_no": "hf000001", "refund_id": "5000000001", "out_refund_no": "hf000001-auto",
            "refund_status": status, "success_time": "2030-01-01T10:00:00+08:00", "user_received_account": "零钱",
            "amount": { "total": 20_000, "refund": 500, "payer_total": 20_000, "payer_refund": 500 },
        })
    };
    let send = async |event: &str, status: &str| {
        let envelope = forger.envelope(event, &content(status).to_string(), &forger.apiv3_key);
        Answer::of(forger.sign(envelope, OffsetDateTime::now_utc()).to(&stack, "refunds")).await
    };
    for (status, standing) in [("SUCCESS", "success"), ("ABNORMAL", "abnormal"), ("CLOSED", "closed")] {
        let answer = send(&format!("REFUND.{status}"), status).await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT, "{}", answer.body);
        let message = queues.take("refunds").await;
        assert_eq!(message.properties.kind().as_ref().map(|kind| kind.as_str()), Some("refund.seen"));
        let body = message.json();
        let expected = json!({
            "out_refund_no": "hf000001-auto", "out_trade_no": "hf000001", "wechat_refund_id": "5000000001",
            "standing": standing, "refund_fen": 500, "success_time": "2030-01-01T02:00:00Z",
            // Compared with our books before anything is settled: tests/it/refund_facts.rs.
            "told": { "mchid": stack.environment["HOLDFAST_WECHAT_PAY__MCHID"], "transaction_id": "4200000001", "total_fen": 20_000 },
        });
        assert_eq!(body["facts"], expected);
        assert_eq!(body["source"]["by"], "callback");
        assert!(body["request_id"].as_str().is_some_and(|id| id.starts_with("forged-")), "{body}");
    }
    for (event, status, code, outcome, reason) in [
        ("REFUND.SUCCESS", "SOMETHING_NEW", 400, "refused", "unclear"),
        ("TRANSACTION.SUCCESS", "SUCCESS", 400, "refused", "event"),
        ("MARKET.NEWS", "SUCCESS", 204, "ignored", "event"),
    ] {
        let answer = send(event, status).await;
        assert_eq!(answer.status.as_u16(), code, "{event} {status}: {}", answer.body);
        assert_eq!(answer.body["code"] == "FAIL", code == 400, "{event} {status}: {}", answer.body);
        let labels = [("kind", "refund"), ("outcome", outcome), ("reason", reason)];
        assert_eq!(Counts::of_api(&stack).await.sum("wechat_callbacks_total", &labels), 1, "{event} {status}");
    }
    assert_eq!(stack.ready_in("refunds").await, 0);
    queues.delete("refunds").await;
    let answer = send("REFUND.SUCCESS", "SUCCESS").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "WeChat sends it again: {}", answer.body);
}
