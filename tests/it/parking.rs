//! Poison between good neighbours: in each work queue it is parked with its reason, and the neighbours go through.

use std::collections::BTreeMap;

use holdfast::domain::{
    ids::{OrderId, RefundId, ScheduleId, UserId},
    message::{
        Message, NotificationDue, Openid, OrderCancel, OrderHeld, OrderSubmitted, Payment, PaymentSeen, RefundDue,
        RefundRequested, Source,
    },
    money::Fen,
    notification::Kind,
    order::Channel,
};
use reqwest::StatusCode;
use serde_json::json;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    metrics::Counts,
    queues::{Lying, Queues},
    stack::{Choice, PRICE_FEN, Stack, until},
};

async fn stack_of(test: &str, roles: &[&'static str]) -> Stack {
    // No alarm is to come among what a test lays into a queue.
    let settings = vec![("HOLDFAST_ORDER__CHECK_SECONDS", "600".into())];
    Stack::start_with(test, Choice { settings, roles: roles.to_vec(), ..Choice::default() }).await
}

fn id(order: &str) -> OrderId {
    OrderId::try_from(order.to_owned()).expect("an order id")
}

/// What nobody can read, for the queue of `poison`, and whose body it is.
fn unreadable(poison: &Message) -> Vec<(&'static str, Vec<u8>)> {
    let foreign = match poison {
        Message::OrderHeld(_) => "order.alarm",
        _ => "order.held",
    };
    let foreign_body = json!({ "order_id": "hf0000000000", "alarm": "hold", "after_ms": 1 }).to_string();
    vec![
        (poison.kind(), b"{\"order_id\":".to_vec()),
        (poison.kind(), b"\xff\x00\xfe".to_vec()),
        (poison.kind(), br#"{"order_id":7}"#.to_vec()),
        // What would use up the stack, or be more than any number.
        (poison.kind(), b"[".repeat(100_000)),
        (poison.kind(), br#"{"order_id":"#.repeat(10_000)),
        (poison.kind(), br#"{"order_id":1e999999999}"#.to_vec()),
        (poison.kind(), format!("{{\"order_id\":{}}}", "9".repeat(50_000)).into_bytes()),
        ("order.eaten", b"{}".to_vec()),
        ("", b"{}".to_vec()),
        (foreign, foreign_body.into_bytes()),
    ]
}

/// A good message, one that cannot be handled, and another good one.
struct Row {
    first: Message,
    poison: Message,
    last: Message,
    /// What the poison's `x-error-class` must be.
    class: &'static str,
    /// How many messages the worker's neighbours put into its queue by themselves; they are taken out first.
    waiting: u32,
}

/// Lays the row into its queue, with rubbish behind the first, starts the queue's worker, and checks what was parked
/// and counted. The caller checks that the good ones went through.
async fn park(stack: &mut Stack, worker: &'static str, row: Row) {
    let Row { first, poison, last, class, waiting } = row;
    let (queue, queues) = (poison.queue(), Queues::of(stack).await);
    let rubbish = unreadable(&poison);
    until("the neighbours have published", async || (stack.ready_in(&queue.name()).await == waiting).then_some(()))
        .await;
    queues.purge(&queue.name()).await;
    queues.put_message(&first).await;
    for (kind, body) in &rubbish {
        queues.put(&queue.name(), kind, body).await;
    }
    queues.put_message(&poison).await;
    queues.put_message(&last).await;
    let began = OffsetDateTime::now_utc();
    stack.spawn(worker);

    let mut parked: BTreeMap<Vec<u8>, Lying> = BTreeMap::new();
    for _ in 0..=rubbish.len() {
        let letter = queues.take(queue.dead()).await;
        assert_eq!((letter.header("x-worker"), letter.header("x-queue")), (worker, queue.name().as_str()));
        assert_eq!(letter.header("x-attempt"), "1");
        assert!(!letter.header("x-error").is_empty());
        let failed_at = OffsetDateTime::parse(letter.header("x-first-failed-at"), &Rfc3339).expect("a time");
        assert!((began..=OffsetDateTime::now_utc()).contains(&failed_at), "{failed_at}");
        assert_eq!(*letter.properties.delivery_mode(), Some(2));
        assert!(letter.properties.message_id().is_some());
        parked.insert(
            [letter.properties.kind().as_ref().map_or("", |k| k.as_str()).as_bytes(), &letter.body].concat(),
            letter,
        );
    }
    for (kind, body) in &rubbish {
        let letter = &parked[&[kind.as_bytes(), body].concat()];
        assert_eq!(letter.header("x-error-class"), "unreadable", "{letter:?}");
    }
    let letter = &parked[&[poison.kind().as_bytes(), &poison.body()].concat()];
    assert_eq!(letter.header("x-error-class"), class, "{letter:?}");

    until("all are counted", async || {
        let counts = Counts::of_worker(stack, worker).await;
        let counted = |outcome| counts.sum("messages_total", &[("queue", &queue.name()), ("outcome", outcome)]);
        ((counted("done"), counted("parked")) == (2, rubbish.len() as u64 + 1)).then_some(())
    })
    .await;
    assert_eq!((stack.ready_in(&queue.name()).await, stack.ready_in(queue.dead()).await), (0, 0));
    assert!(stack.is_running(worker));
}

fn submitted(order: &str, user: &str, schedule: &str, amount_fen: i64) -> Message {
    Message::OrderSubmitted(OrderSubmitted {
        order_id: id(order),
        user_id: UserId::try_from(user.to_owned()).expect("a user id"),
        openid: Some(Openid(format!("openid-{user}"))),
        schedule_id: ScheduleId::parse(schedule).expect("a UUID"),
        seat_no: None,
        amount_fen: Fen(amount_fen),
        channel: Channel::Native,
        request_hash: format!("hash of {order}"),
        submitted_at: OffsetDateTime::now_utc(),
        request_id: "r".into(),
    })
}

#[tokio::test]
async fn poison_message_among_orders() {
    let mut stack = stack_of("parking-orders", &["api"]).await;
    let schedule = stack.add_schedule(5).await;
    // A message that can be read and cannot be stored: a mistake of ours, played by a constraint of the test's own.
    let refuse = "ALTER TABLE payment_orders ADD CONSTRAINT poison CHECK (order_id <> 'hfpoison01')";
    sqlx::query(refuse).execute(&stack.db).await.expect(refuse);
    let row = Row {
        first: submitted("hfgood0001", "ann", &schedule, PRICE_FEN),
        poison: submitted("hfpoison01", "eve", &schedule, PRICE_FEN),
        last: submitted("hfgood0002", "bob", &schedule, PRICE_FEN),
        class: "bug",
        waiting: 0,
    };
    park(&mut stack, "seats", row).await;
    for (user, order, seat) in [("ann", "hfgood0001", 1), ("bob", "hfgood0002", 2)] {
        let held = stack.until_status(&stack.quick_token(user), order, "held").await;
        assert_eq!(held["seat_no"], seat, "in the order of arrival");
    }
    assert_eq!(stack.count("SELECT count(*) FROM payment_orders").await, 2);

    // Readable and storable, but not to be believed.
    let queues = Queues::of(&stack).await;
    let nowhere = submitted("hfnowhere1", "ann", "00000000-0000-7000-8000-000000000000", PRICE_FEN);
    let stolen = submitted("hfgood0001", "eve", &schedule, PRICE_FEN);
    for (message, class) in [(nowhere, "no_such_schedule"), (stolen, "foreign_order")] {
        queues.put_message(&message).await;
        let letter = queues.take("orders.dead").await;
        assert_eq!((letter.header("x-error-class"), &letter.body), (class, &message.body()));
    }
    stack.check_invariants().await;
}

/// Three orders of a session, of ann, eve and bob, all at this status.
async fn three_orders(stack: &Stack, status: &str) -> [String; 3] {
    let schedule = stack.add_schedule(5).await;
    let mut orders = Vec::new();
    for user in ["ann", "eve", "bob"] {
        let token = stack.quick_token(user);
        let order = stack.submit(&token, &schedule).await;
        stack.until_status(&token, &order, status).await;
        orders.push(order);
    }
    orders.try_into().expect("three")
}

#[tokio::test]
async fn poison_message_among_orders_without_code() {
    let mut stack = stack_of("parking-prepay", &["api", "seats"]).await;
    let [first, poison, last] = three_orders(&stack, "held").await;
    let refusal = json!({ "on": "order", "order": poison, "status": 400, "code": "PARAM_ERROR" });
    stack.script(&json!({ "rules": [refusal] })).await;
    let held = |order: &str| Message::OrderHeld(OrderHeld { order_id: id(order) });
    let (a, b, c) = (held(&first), held(&poison), held(&last));
    park(&mut stack, "prepay", Row { first: a, poison: b, last: c, class: "wechat_refused", waiting: 3 }).await;
    for (user, order) in [("ann", &first), ("bob", &last)] {
        stack.until_status(&stack.quick_token(user), order, "awaiting_payment").await;
    }
    let poisoned = stack.order(&stack.quick_token("eve"), &poison).await;
    assert_eq!(poisoned.body["status"], "held", "a refused call concludes nothing about the order");
    stack.check_invariants().await;
}

#[tokio::test]
async fn poison_message_among_payments() {
    let mut stack = stack_of("parking-payments", &["api", "seats", "prepay"]).await;
    let [first, poison, last] = three_orders(&stack, "awaiting_payment").await;
    let merchant = stack.environment.clone();
    let seen = |order: &str, trade_type: &str| {
        Message::PaymentSeen(PaymentSeen {
            payment: Payment {
                out_trade_no: order.to_owned(),
                transaction_id: format!("42-{order}"),
                mchid: merchant["HOLDFAST_WECHAT_PAY__MCHID"].clone(),
                appid: merchant["HOLDFAST_WECHAT_PAY__APPID"].clone(),
                trade_type: trade_type.into(),
                bank_type: None,
                total_fen: Fen(PRICE_FEN),
                payer_total_fen: None,
                currency: "CNY".into(),
                success_time: None,
                refunded: false,
            },
            source: Source::Query,
            request_id: "r".into(),
        })
    };
    // A message that can be read and cannot be booked: a mistake of ours, played by a constraint of the test's own.
    let refuse = "ALTER TABLE payment_transactions ADD CONSTRAINT poison CHECK (trade_type <> 'POISON')";
    sqlx::query(refuse).execute(&stack.db).await.expect(refuse);
    let (a, b, c) = (seen(&first, "NATIVE"), seen(&poison, "POISON"), seen(&last, "NATIVE"));
    park(&mut stack, "payments", Row { first: a, poison: b, last: c, class: "bug", waiting: 0 }).await;
    for (user, order) in [("ann", &first), ("bob", &last)] {
        stack.until_status(&stack.quick_token(user), order, "confirmed").await;
    }
    assert_eq!(stack.count("SELECT count(*) FROM payment_transactions").await, 2);
    // The true payment of the poisoned order still settles it.
    assert_eq!(stack.pay(&poison).await.status, StatusCode::OK);
    stack.until_status(&stack.quick_token("eve"), &poison, "confirmed").await;
    stack.check_invariants().await;
}

#[tokio::test]
async fn poison_message_among_notifications() {
    let mut stack = stack_of("parking-notifications", &["api", "seats"]).await;
    let full = stack.add_schedule(1).await;
    let mut rejected = Vec::new();
    for user in ["zoe", "ann", "eve", "bob"] {
        let token = stack.quick_token(user);
        let order = stack.submit(&token, &full).await;
        stack.until_status(&token, &order, if user == "zoe" { "held" } else { "rejected" }).await;
        rejected.push(order);
    }
    let due =
        |order: &str| Message::NotificationDue(NotificationDue { order_id: id(order), kind: Kind::BookingFailed });
    // "A value is invalid": ours to mend, so a person must look.
    let refusal = json!({ "on": "template_send", "order": "openid-eve", "errcode": 47003 });
    stack.script(&json!({ "rules": [refusal] })).await;
    let (first, poison, last) = (due(&rejected[1]), due(&rejected[2]), due(&rejected[3]));
    park(&mut stack, "notifications", Row { first, poison, last, class: "account_refused", waiting: 3 }).await;
    for user in ["ann", "bob"] {
        assert_eq!(stack.messages_to(user).await.len(), 1, "{user}");
    }
    assert_eq!(stack.messages_to("eve").await.len(), 0);
    let pending = "SELECT count(*) FROM notifications WHERE status = 'pending' AND errcode = 47003";
    assert_eq!(stack.count(pending).await, 1, "the intent stays in the books");
    stack.check_invariants().await;
}

#[tokio::test]
async fn poison_message_among_alarms_and_cancellations() {
    let mut stack = stack_of("parking-expiry", &["api", "seats", "prepay"]).await;
    let [first, poison, last] = three_orders(&stack, "awaiting_payment").await;
    let cancel = |user: &str, order: &str| {
        Message::OrderCancel(OrderCancel {
            order_id: id(order),
            user_id: UserId::try_from(user.to_owned()).expect("a user id"),
            requested_by: None,
            request_id: "r".into(),
        })
    };
    let (a, b, c) = (cancel("ann", &first), cancel("zoe", &poison), cancel("bob", &last));
    park(&mut stack, "expiry", Row { first: a, poison: b, last: c, class: "foreign_order", waiting: 0 }).await;
    for (user, order) in [("ann", &first), ("bob", &last)] {
        stack.until_status(&stack.quick_token(user), order, "cancelled").await;
    }
    let untouched = stack.order(&stack.quick_token("eve"), &poison).await;
    assert_eq!(untouched.body["status"], "awaiting_payment");
    stack.check_invariants().await;
}

#[tokio::test]
async fn poison_message_among_refunds() {
    let mut stack = stack_of("parking-refunds", &["api", "seats"]).await;
    let [first, _, last] = three_orders(&stack, "held").await;
    let refund = |text: &str| RefundId::try_from(text.to_owned()).expect("a refund id");
    let request = |order: &str| {
        Message::RefundRequested(RefundRequested {
            refund_id: refund(&format!("{order}-x")),
            order_id: id(order),
            amount_fen: None,
            reason: "r".into(),
            requested_by: "operator:o".into(),
            requested_at: None,
            request_id: "r".into(),
        })
    };
    let poison = Message::RefundDue(RefundDue { refund_id: refund("hfnobody-x") });
    let (first, last) = (request(&first), request(&last));
    park(&mut stack, "refunds", Row { first, poison, last, class: "no_such_refund", waiting: 0 }).await;
    let refused = "SELECT count(*) FROM refunds WHERE status = 'refused'";
    assert_eq!(stack.count(refused).await, 2, "nobody has paid yet");
    stack.check_invariants().await;
}
