//! Things change under way: a release, WeChat's keys, an hour without WeChat.

use std::{collections::BTreeSet, path::PathBuf};

use holdfast::domain::{ids::ScheduleId, message::Message};
use serde_json::{Value, json};

use crate::{
    queues::Queues,
    stack::{Choice, Stack, checkout, until},
    story::{deadlines, hasty},
};

/// Messages as an earlier release published them, in the order of one booking's life. New members are added to later
/// recordings; these stay as they are as long as a broker may hold such messages.
fn recorded() -> Vec<(String, Value)> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(checkout("tests/it/recorded"))
        .expect("recordings")
        .map(|entry| entry.expect("a file").path())
        .collect();
    files.sort_unstable();
    let read = |path: &PathBuf| -> Value {
        serde_json::from_str(&std::fs::read_to_string(path).expect("a recording")).expect("JSON")
    };
    files
        .iter()
        .map(read)
        .map(|file| (file["type"].as_str().expect("a type").to_owned(), file["body"].clone()))
        .collect()
}

/// The decision that the recorded message tells of: a release, too late.
async fn decide(stack: &Stack, order: &str) {
    sqlx::query(
        "INSERT INTO order_overrides (override_id, order_id, action, reason, money_fen, status, proposed_by, request_id)
         VALUES ('01920000-0000-7000-8000-00000000face', $1, 'release', 'recorded', 20000, 'approved', 'olga', 'recorded')",
    )
    .bind(order)
    .execute(&stack.db)
    .await
    .expect("a decision");
}

const REFUSED: &str = "SELECT count(*) FROM order_overrides WHERE status = 'refused'";
const OFFLINE: &str = "SELECT count(*) FROM payment_transactions WHERE transaction_id = 'offline-recorded-12'";

#[tokio::test]
async fn message_from_the_previous_release() {
    let stack = hasty("previous_release", 600, 1200).await;
    let recorded = recorded();
    let kinds: BTreeSet<&str> = recorded.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds.len(), 12, "a kind of message without a recording: {kinds:?}");
    let (_, first) = &recorded[0];
    let schedule = ScheduleId::parse(first["schedule_id"].as_str().expect("an id")).expect("a UUID");
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
        "INSERT INTO courses (course_id, title) VALUES ('pottery', '陶艺');
         INSERT INTO course_schedules (schedule_id, course_id, starts_at, price_fen, capacity)
         VALUES ('{schedule}', 'pottery', now() + interval '10 days', 20000, 1);
         INSERT INTO free_seats VALUES ('{schedule}', 1)"
    )))
    .execute(&stack.db)
    .await
    .expect("the session of the recordings");

    let queues = Queues::of(&stack).await;
    let ann = stack.quick_token("ann");
    let order = first["order_id"].as_str().expect("an id");
    for (kind, body) in &recorded {
        // The next release may have added a member that this one does not know.
        let mut newer = body.clone();
        newer["not_known_yet"] = json!({ "a": [1] });
        for body in [body, &newer] {
            let body = body.to_string();
            let message = Message::read(kind, body.as_bytes()).unwrap_or_else(|error| panic!("{kind}: {error}"));
            assert_eq!(message.kind(), kind);
            queues.put(&message.queue().name(), kind, body.as_bytes()).await;
        }
        match kind.as_str() {
            "order.submitted" => drop(stack.until_status(&ann, order, "awaiting_payment").await),
            "payment.seen" => drop(stack.until_status(&ann, order, "confirmed").await),
            "waitlist.change" => stack.until_count("bob waits", "SELECT count(*) FROM waitlist", 1).await,
            "refund.requested" => drop(stack.offered_to("bob").await),
            "refund.seen" => {
                stack.until_status(&ann, order, "refunded").await;
                decide(&stack, order).await;
            }
            "order.override" => stack.until_count("it is judged", REFUSED, 1).await,
            "order.paid_offline" => stack.until_count("the money is seen", OFFLINE, 1).await,
            _ => {}
        }
    }
    until("ann was told of the booking and of the refund", async || {
        (stack.messages_to("ann").await.len() == 2).then_some(())
    })
    .await;
    for queue in crate::books::DEAD {
        assert_eq!(stack.ready_in(queue).await, 0, "{queue}");
    }
    stack.check_invariants().await;
}

/// While a merchant moves from platform certificates to WeChat's public key, and the certificate itself is replaced,
/// answers and callbacks are signed by any of the three.
#[tokio::test]
async fn key_rotation_with_both_keys_alive() {
    let settings =
        [deadlines(600, 1200), vec![("HOLDFAST_WECHAT_PAY__PLATFORM_CERTIFICATES", "true".to_owned())]].concat();
    let mut stack =
        Stack::start_with("key_rotation", Choice { settings, roles: Vec::new(), ..Choice::default() }).await;
    stack.script(&json!({ "key_mode": "both", "rotation": "listed" })).await;
    for role in ["api", "seats", "prepay", "payments", "expiry", "refunds", "notifications"] {
        stack.spawn(role);
    }
    stack.until_ready().await;
    let schedule = stack.add_schedule(8).await;
    for rotation in ["listed", "signing"] {
        stack.script(&json!({ "key_mode": "both", "rotation": rotation })).await;
        for number in 0..4 {
            let (token, order) = stack.booked(&format!("{rotation}-{number}"), &schedule).await;
            stack.lay_refund(&order, "all", None).await;
            stack.until_status(&token, &order, "refunded").await;
        }
    }
    stack.check_money().await;
}

/// Seconds instead of the hour. The deadlines of all orders pass while nobody answers: no seat is freed and no order
/// given up on the clock's word.
#[tokio::test]
async fn wechat_down_for_an_hour() {
    let sweep = vec![
        ("HOLDFAST_RECONCILE__EVERY_SECONDS", "1".to_owned()),
        ("HOLDFAST_RECONCILE__GRACE_SECONDS", "0".to_owned()),
    ];
    let settings = [deadlines(600, 1200), sweep].concat();
    let roles = ["api"].into_iter().chain(crate::stack::WORKERS).chain(["reconcile"]).collect();
    let stack = Stack::start_with("wechat_down", Choice { settings, roles, ..Choice::default() }).await;
    let schedule = stack.add_schedule(10).await;
    let (booker, booked) = stack.booked("booker", &schedule).await;
    let (payer, paid) = stack.payable("payer", &schedule).await;
    let (idler, unpaid) = stack.payable("idler", &schedule).await;
    let lost = json!({ "on": "callback_payment", "callback": "never" });
    stack.script(&json!({ "rules": [{ "on": "any", "status": 503, "html": true }, lost] })).await;
    stack.pay(&paid).await;
    stack.lay_refund(&booked, "all", None).await;
    let late = stack.quick_token("late");
    let without_code = stack.submit(&late, &schedule).await;
    stack.until_status(&late, &without_code, "held").await;
    sqlx::query("UPDATE payment_orders SET hold_expires_at = now(), pay_before = now() WHERE status <> 'refunding'")
        .execute(&stack.db)
        .await
        .expect("the hour passes");
    // The look at each order that has a code to pay meets the outage again and again.
    for order in [&paid, &unpaid] {
        until(&format!("the look at {order} was put off three times"), async || {
            let put_off = "SELECT count(*) FROM order_trace WHERE order_id = $1 AND details ->> 'class' = 'unknown'";
            let times: i64 = sqlx::query_scalar(put_off).bind(order).fetch_one(&stack.db).await.expect("a count");
            (times >= 3).then_some(())
        })
        .await;
    }
    let held = "SELECT count(*) FROM seat_reservations WHERE status = 'temporary'";
    assert_eq!(stack.count(held).await, 3, "nobody said that they are unpaid");

    stack.script(&json!({ "rules": [lost] })).await;
    stack.until_status(&payer, &paid, "confirmed").await;
    stack.until_status(&idler, &unpaid, "expired").await;
    stack.until_status(&late, &without_code, "expired").await;
    stack.until_status(&booker, &booked, "refunded").await;
    stack.until_count("all are told", "SELECT count(*) FROM notifications WHERE status = 'pending'", 0).await;
    stack.check_money().await;
}
