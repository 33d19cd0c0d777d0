//! Doing anything twice, at once or much later, changes nothing.

use futures_util::future::join_all;
use holdfast::domain::{
    ids::{OrderId, ScheduleId, UserId},
    message::{Message, Openid, OrderHeld, OrderSubmitted},
    money::Fen,
    order::Channel,
};
use reqwest::StatusCode;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::{
    forgery::Forger,
    metrics::Counts,
    queues::Queues,
    stack::{Answer, PRICE_FEN, Stack, until},
};

/// What the books hold: orders, live reservations, bookings, transactions, audit rows, notifications.
async fn books(stack: &Stack) -> [i64; 6] {
    [
        stack.count("SELECT count(*) FROM payment_orders").await,
        stack.count("SELECT count(*) FROM seat_reservations WHERE status <> 'cancelled'").await,
        stack.count("SELECT count(*) FROM bookings").await,
        stack.count("SELECT count(*) FROM payment_transactions").await,
        stack.count("SELECT count(*) FROM payment_audit_log").await,
        stack.count("SELECT count(*) FROM notifications").await,
    ]
}

#[tokio::test]
async fn double_click() {
    let stack = Stack::start("idempotency-click").await;
    let schedule = stack.add_schedule(5).await;
    let ann = stack.quick_token("ann");
    let body = json!({ "schedule_id": schedule, "amount_fen": PRICE_FEN });
    let click = || stack.submit_request(&ann, "click", &body);

    let at_once = join_all((0..20).map(|_| Answer::of(click()))).await;
    let first = &at_once[0];
    for answer in &at_once {
        assert_eq!((answer.status, &answer.body), (StatusCode::ACCEPTED, &first.body));
    }
    let order = first.body["order_id"].as_str().expect("an id").to_owned();
    stack.until_status(&ann, &order, "awaiting_payment").await;
    let later = Answer::of(click()).await;
    assert_eq!((later.status, &later.body["order_id"]), (StatusCode::ACCEPTED, &json!(order)));
    assert_eq!(books(&stack).await, [1, 1, 0, 0, 2, 0]);

    // The same key of somebody else is another wish.
    let bob = stack.quick_token("bob");
    let others = Answer::of(stack.submit_request(&bob, "click", &body)).await;
    assert_ne!(others.body["order_id"], json!(order));

    let same_wish = json!({ "amount_fen": PRICE_FEN, "channel": "native", "seat_no": null, "schedule_id": schedule });
    let reworded = Answer::of(stack.submit_request(&ann, "click", &same_wish)).await;
    assert_eq!(reworded.body["order_id"], json!(order), "the same wish in other words");
    let changed = json!({ "schedule_id": schedule, "amount_fen": PRICE_FEN, "seat_no": 5 });
    for prefer in ["respond-async", "wait=5"] {
        let answer = Answer::of(stack.submit_request(&ann, "click", &changed).header("Prefer", prefer)).await;
        assert_eq!((answer.status.as_u16(), answer.problem()), (422, "idempotency-key-reused"), "{prefer}");
    }

    stack.pay(&order).await;
    let confirmed = stack.until_status(&ann, &order, "confirmed").await;
    let after = Answer::of(click().header("Prefer", "wait=5")).await;
    assert_eq!((after.status, &after.body), (StatusCode::CREATED, &confirmed));
    stack.check_invariants().await;
}

/// The callback that the simulator sent, as WeChat might send it again: same id and content, signed anew.
async fn repeated_callback(stack: &Stack, forger: &Forger, order: &str) -> String {
    let ledger = stack.ledger().await;
    let payments = ledger["payments"].as_array().expect("payments");
    let payment = payments.iter().find(|payment| payment["out_trade_no"] == order).expect("paid");
    let transaction_id = payment["transaction_id"].as_str().expect("an id");
    let content = crate::forgery::paid(stack, order, transaction_id);
    let id: String = sqlx::query_scalar("SELECT notification_id FROM wechat_callbacks WHERE out_trade_no = $1")
        .bind(order)
        .fetch_one(&stack.db)
        .await
        .expect("the callback is noted");
    let sealed = forger.envelope("TRANSACTION.SUCCESS", &content.to_string(), &forger.apiv3_key);
    let mut envelope: Value = serde_json::from_str(&sealed).expect("JSON");
    envelope["id"] = json!(id);
    envelope.to_string()
}

#[tokio::test]
async fn callback_twice_at_the_same_instant() {
    let stack = Stack::start("idempotency-callback").await;
    let schedule = stack.add_schedule(5).await;
    let ann = stack.quick_token("ann");
    stack.script(&json!({ "rules": [{ "on": "callback_payment", "callback": "twice" }] })).await;
    let order = stack.submit(&ann, &schedule).await;
    stack.until_status(&ann, &order, "awaiting_payment").await;
    assert_eq!(stack.pay(&order).await.status, StatusCode::OK);
    let confirmed = stack.until_status(&ann, &order, "confirmed").await;
    until("the customer is told", async || stack.messages_to("ann").await.pop()).await;
    let counted =
        async |outcome| Counts::of_worker(&stack, "payments").await.sum("payments_total", &[("outcome", outcome)]);
    until("both callbacks are worked on", async || (counted("repeated").await == 1).then_some(())).await;
    let before = books(&stack).await;
    assert_eq!(before, [1, 1, 1, 1, 3, 1]);

    // Again, ten times at once, much later; and once more under a new id, as WeChat's other site does.
    let forger = Forger::of(&stack);
    let now = OffsetDateTime::now_utc();
    let same = repeated_callback(&stack, &forger, &order).await;
    let mut renamed: Value = serde_json::from_str(&same).expect("JSON");
    renamed["id"] = json!("another-id-of-the-same-payment");
    let letters = (0..10).map(|_| forger.sign(same.clone(), now)).chain([forger.sign(renamed.to_string(), now)]);
    let letters: Vec<_> = letters.collect();
    for answer in join_all(letters.iter().map(|letter| Answer::of(letter.to(&stack, "payments")))).await {
        assert_eq!(answer.status, StatusCode::NO_CONTENT, "{}", answer.body);
    }
    until("all of them are worked on", async || (counted("repeated").await == 12).then_some(())).await;
    assert_eq!(books(&stack).await, before);
    assert_eq!(stack.order(&ann, &order).await.body, confirmed);
    assert_eq!(stack.messages_to("ann").await.len(), 1);
    assert_eq!(stack.ready_in("payments.dead").await, 0);
    stack.check_invariants().await;
}

#[tokio::test]
async fn p3_a_message_that_comes_again_changes_nothing() {
    let stack = Stack::start("idempotency-message").await;
    let schedule = stack.add_schedule(5).await;
    let ann = stack.quick_token("ann");
    let order = stack.submit(&ann, &schedule).await;
    let queues = Queues::of(&stack).await;
    let schedule_id = ScheduleId::parse(&schedule).expect("a UUID");
    let request_hash: String = {
        stack.until_status(&ann, &order, "awaiting_payment").await;
        sqlx::query_scalar("SELECT request_hash FROM payment_orders").fetch_one(&stack.db).await.expect("stored")
    };
    let submitted = Message::OrderSubmitted(OrderSubmitted {
        order_id: OrderId::try_from(order.clone()).expect("an id"),
        user_id: UserId::try_from("ann".to_owned()).expect("an id"),
        openid: Some(Openid("openid-ann".into())),
        schedule_id,
        seat_no: None,
        amount_fen: Fen(PRICE_FEN),
        channel: Channel::Native,
        request_hash,
        submitted_at: OffsetDateTime::now_utc(),
        request_id: "again".into(),
    });
    let held = Message::OrderHeld(OrderHeld { order_id: OrderId::try_from(order.clone()).expect("an id") });
    let lane = submitted.queue().name();
    let mut taken = 1;
    for status in ["awaiting_payment", "confirmed"] {
        if status == "confirmed" {
            stack.pay(&order).await;
            stack.until_status(&ann, &order, status).await;
            until("the customer is told", async || stack.messages_to("ann").await.pop()).await;
        }
        let (before, document) = (books(&stack).await, stack.order(&ann, &order).await.body);
        for _ in 0..3 {
            queues.put_message(&submitted).await;
            queues.put_message(&held).await;
        }
        taken += 3;
        for (worker, queue) in [("seats", lane.as_str()), ("prepay", "prepay")] {
            until(&format!("{worker} has taken them"), async || {
                let counts = Counts::of_worker(&stack, worker).await;
                (counts.sum("messages_total", &[("queue", queue), ("outcome", "done")]) == taken).then_some(())
            })
            .await;
        }
        assert_eq!(books(&stack).await, before);
        assert_eq!(stack.order(&ann, &order).await.body, document);
    }
    let ledger = stack.ledger().await;
    assert_eq!(ledger["orders"].as_array().map(Vec::len), Some(1));
    assert_eq!(stack.messages_to("ann").await.len(), 1);
    stack.check_invariants().await;
}
