//! What WeChat may answer when an order is to end, and messages that come before their time: nothing is concluded that
//! WeChat has not signed, and the message waits, or lies before a person, with the reason.

use holdfast::domain::{
    message::{Alarm, Message, OrderAlarm, OrderPaidOffline},
    money::Fen,
};
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::{
    queues::{Lying, Queues},
    stack::{Choice, PRICE_FEN, Stack, until},
    story::{deadlines, order_id},
};

async fn stage(test: &str, roles: &[&'static str]) -> Stack {
    let mut settings = deadlines(600, 1200);
    settings.push(("HOLDFAST_ORDER__CHECK_SECONDS", "600".to_owned()));
    Stack::start_with(test, Choice { settings, roles: roles.to_vec(), ..Choice::default() }).await
}

fn alarm(order: &str, alarm: Alarm) -> Message {
    Message::OrderAlarm(OrderAlarm { order_id: order_id(order), alarm, after_ms: 0 })
}

impl Stack {
    /// Lays a message about an order and takes it where it then waits or was parked, for this reason: so its headers
    /// say, and the order's story in these words.
    async fn lay_and_take(
        &self,
        laying: impl Future<Output = ()>,
        queue: &str,
        order: &str,
        class: &str,
        words: &str,
    ) -> Lying {
        let queues = Queues::of(self).await;
        // Side by side: a message does not stay in a delay queue for long.
        let (left, ()) = tokio::join!(queues.take(queue), laying);
        assert_eq!(left.header("x-error-class"), class, "{left:?}");
        until(&format!("the story of {order} says: {words}"), async || {
            sqlx::query_scalar::<_, i32>(
                "SELECT 1 FROM order_trace WHERE order_id = $1 AND details ->> 'class' = $2
                    AND strpos(details ->> 'error', $3) > 0",
            )
            .bind(order)
            .bind(class)
            .bind(words)
            .fetch_optional(&self.db)
            .await
            .expect("a look")
        })
        .await;
        left
    }
}

/// As when a queue is short and another one long: what concerns an order is there before the order.
#[tokio::test]
async fn a_message_about_an_order_that_is_not_in_the_books_waits() {
    let mut stack = stage("closing-before", &["api", "prepay", "expiry"]).await;
    let schedule = stack.add_schedule(1).await;
    let ann = stack.quick_token("ann");
    let order = stack.submit(&ann, &schedule).await;
    let offline = OrderPaidOffline {
        order_id: order_id(&order),
        receipt: "r-1".into(),
        operator: "olga".into(),
        reason: None,
        amount_fen: Fen(PRICE_FEN),
        paid_at: OffsetDateTime::now_utc(),
        request_id: "r".into(),
    };
    for message in [alarm(&order, Alarm::Hold), Message::OrderPaidOffline(offline)] {
        let words = "is not in the books yet";
        stack.lay_and_take(stack.lay(&message), "delay.1s", &order, "early", words).await;
    }
    stack.lay_cancel("ann", &order).await;
    assert_eq!(Queues::of(&stack).await.look("delay.1s").await.header("x-error-class"), "early");
    stack.spawn("seats");
    stack.until_status(&ann, &order, "cancelled").await;
    assert_eq!(stack.pay(&order).await.status, 409);
    stack.check_money().await;
}

#[tokio::test]
async fn an_alarm_that_rings_before_its_time_waits_for_it() {
    let stack = stage("closing-early", &["api", "seats", "prepay", "expiry"]).await;
    let schedule = stack.add_schedule(1).await;
    let (ann, order) = stack.payable("ann", &schedule).await;
    for early in [Alarm::Hold, Alarm::Payment] {
        let laying = async { stack.lay(&alarm(&order, early)).await };
        stack.lay_and_take(laying, "delay.1s", &order, "early", "it is not time yet").await;
    }
    assert_eq!(stack.order(&ann, &order).await.body["status"], "awaiting_payment");
    stack.check_invariants().await;
}

/// A look at WeChat falls between a cancellation's close there and its words in the books.
#[tokio::test]
async fn a_look_leaves_the_ending_to_whoever_had_the_order_closed() {
    let stack = stage("closing-look", &["api", "seats", "prepay", "expiry"]).await;
    let schedule = stack.add_schedule(2).await;
    let (ann, order) = stack.payable("ann", &schedule).await;
    let (bob, other) = stack.payable("bob", &schedule).await;
    stack.script(&json!({ "rules": [{ "on": "query", "state": "CLOSED" }] })).await;
    let laying = async { stack.lay(&alarm(&order, Alarm::Check)).await };
    stack.lay_and_take(laying, "delay.1s", &order, "early", "not yet in the books").await;
    stack.lay_cancel("ann", &order).await;
    stack.until_status(&ann, &order, "cancelled").await;

    // Where nobody comes, as after a close by hand, the next look ends it.
    stack.lay(&alarm(&other, Alarm::Check)).await;
    stack.until_status(&bob, &other, "expired").await;
    stack.check_invariants().await;
}

#[tokio::test]
async fn no_answer_to_a_close_ends_an_order_but_wechats_signed_word() {
    let stack = stage("closing-answers", &["api", "seats", "prepay", "payments", "expiry"]).await;
    let queues = Queues::of(&stack).await;
    let schedule = stack.add_schedule(10).await;
    let refused = json!({ "on": "close", "status": 400, "code": "INVALID_REQUEST" });
    let rows = [
        (json!([{ "on": "close", "status": 429 }]), "delay.1s", "busy", "FREQUENCY_LIMITED"),
        (
            json!([{ "on": "close", "status": 400, "code": "PARAM_ERROR" }]),
            "expiry.dead",
            "wechat_refused",
            "PARAM_ERROR",
        ),
        (json!([refused]), "delay.1s", "unknown", "WeChat did not close it, and it is not paid"),
        (json!([refused, { "on": "query", "status": 502 }]), "delay.1s", "unknown", "query_order"),
        (
            json!([refused, { "on": "query", "state": "ACCEPT" }]),
            "expiry.dead",
            "wechat_unclear",
            "unknown trade_state",
        ),
    ];
    for (number, (rules, queue, class, words)) in rows.iter().enumerate() {
        let user = format!("customer-{number}");
        let (token, order) = stack.payable(&user, &schedule).await;
        stack.script(&json!({ "rules": rules })).await;
        let left = stack.lay_and_take(stack.lay_cancel(&user, &order), queue, &order, class, words).await;
        assert_eq!(stack.order(&token, &order).await.body["status"], "awaiting_payment", "{rules}");
        stack.script(&json!({})).await;
        queues.shovel(&left, "expiry").await;
        stack.until_status(&token, &order, "cancelled").await;
    }
    // Closed, and only a query can tell: the close itself was answered by an error.
    let (token, order) = stack.payable("zoe", &schedule).await;
    stack.script(&json!({ "rules": [closed_by_an_error("ORDER_CLOSED", 400)] })).await;
    stack.lay_cancel("zoe", &order).await;
    stack.until_status(&token, &order, "cancelled").await;
    assert_eq!(stack.pay(&order).await.body["reason"], "closed");
    stack.check_money().await;
}

fn closed_by_an_error(code: &str, status: u16) -> Value {
    json!({ "on": "close", "answer_lost": "error", "status": status, "code": code })
}

#[tokio::test]
async fn a_hold_that_is_over_ends_by_what_wechat_says_of_the_order() {
    let stack = stage("closing-holds", &["api", "seats", "prepay", "payments", "expiry"]).await;
    let queues = Queues::of(&stack).await;
    let schedule = stack.add_schedule(2).await;
    let (ann, order) = stack.payable("ann", &schedule).await;
    stack.script(&json!({ "rules": [{ "on": "query", "state": "ACCEPT" }] })).await;
    let (ending, words) = (stack.end_hold(&order), "unknown trade_state");
    let left = stack.lay_and_take(ending, "expiry.dead", &order, "wechat_unclear", words).await;
    assert_eq!(stack.order(&ann, &order).await.body["status"], "awaiting_payment");
    stack.script(&json!({})).await;
    queues.shovel(&left, "expiry").await;
    stack.until_status(&ann, &order, "lapsed").await;

    // Closed at WeChat by a cancellation that never heard of it: nobody can pay it any more.
    let (bob, order) = stack.payable("bob", &schedule).await;
    stack.script(&json!({ "rules": [closed_by_an_error("SYSTEM_ERROR", 500)] })).await;
    stack.lay_and_take(stack.lay_cancel("bob", &order), "delay.1s", &order, "unknown", "close_order").await;
    stack.script(&json!({})).await;
    stack.end_hold(&order).await;
    stack.until_status(&bob, &order, "expired").await;
    stack.check_money().await;
}
