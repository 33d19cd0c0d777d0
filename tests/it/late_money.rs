//! Money that comes when nobody waits for it any more: it becomes a seat if there is one, else it goes back.

use std::sync::Arc;

use holdfast::{
    domain::message::{Message, OrderHeld},
    wechat::{
        Ambient,
        exchange::PayClient,
        pay::{CodeUrl, NewOrder},
    },
};
use serde_json::json;
use time::OffsetDateTime;

use crate::{
    queues::Queues,
    stack::{Choice, PRICE_FEN, Stack, until},
    story::{deadlines, hasty, hasty_with, order_id},
};

#[tokio::test]
async fn late_money_with_no_seat_left_goes_back() {
    let settings = vec![("HOLDFAST_ORDER__CHECK_SECONDS", "600".to_owned())];
    let stack = Stack::start_with("late_money", Choice { settings, ..Choice::default() }).await;
    let schedule = stack.add_schedule(1).await;
    let (ann, first) = stack.payable("ann", &schedule).await;
    stack.lapse_now(&ann, &first).await;
    // Paid while a seat was free, but nobody tells us before it is gone.
    stack.script(&json!({ "rules": [{ "on": "callback_payment", "callback": "never", "order": first }] })).await;
    stack.pay(&first).await;
    let (bob, second) = stack.payable("bob", &schedule).await;
    stack.pay(&second).await;
    stack.until_status(&bob, &second, "confirmed").await;

    let refunded = stack.until_status(&ann, &first, "refunded").await;
    assert_eq!(refunded["refunded_fen"], 20_000);
    until("ann is told of the lapse, of the money and of the refund", async || {
        (stack.messages_to("ann").await.len() == 3).then_some(())
    })
    .await;
    stack.check_money().await;
}

/// The order was given up while it was held without a code, and closed at WeChat, which closes numbers that it does not
/// know. A request that was on its way all the while arrives after that, and is paid.
pub(crate) async fn order_late(stack: &Stack, order: &str) {
    let account = Arc::new(stack.settings().wechat_pay.load().expect("an account"));
    let wechat = PayClient::new(account, Ambient::system()).expect("a client");
    let late = NewOrder {
        out_trade_no: order,
        description: "late",
        total_fen: PRICE_FEN,
        time_expire: OffsetDateTime::now_utc() + time::Duration::minutes(5),
    };
    let CodeUrl(_) = wechat.create_native_order(&late).await.expect("a code");
}

async fn order_late_and_pay(stack: &Stack, order: &str) {
    order_late(stack, order).await;
    assert_eq!(stack.pay(order).await.status, 200);
}

#[tokio::test]
async fn a_code_that_comes_after_the_order_was_given_up_is_closed() {
    let mut stack = hasty_with("code_too_late", 600, 1200, &["api", "seats", "expiry"]).await;
    let schedule = stack.add_schedule(1).await;
    let ann = stack.quick_token("ann");
    let order = stack.submit(&ann, &schedule).await;
    stack.until_status(&ann, &order, "held").await;
    stack.lay_cancel("ann", &order).await;
    stack.until_status(&ann, &order, "cancelled").await;
    order_late(&stack, &order).await;
    // However long WeChat is silent or asks for patience.
    let queues = Queues::of(&stack).await;
    stack.script(&json!({ "rules": [{ "on": "close", "status": 502, "html": true }] })).await;
    stack.spawn("prepay");
    queues.look_waiting("unknown").await;
    stack.script(&json!({ "rules": [{ "on": "close", "status": 429, "code": "FREQUENCY_LIMITED" }] })).await;
    queues.look_waiting("busy").await;
    stack.script(&json!({})).await;
    stack.lay(&Message::OrderHeld(OrderHeld { order_id: order_id(&order) })).await;
    until("WeChat has closed it", async || {
        let ledger = stack.ledger().await;
        (ledger["orders"][0]["trade_state"] == "CLOSED").then_some(())
    })
    .await;
    assert_eq!(stack.pay(&order).await.body["reason"], "closed");
    stack.check_money().await;
}

#[tokio::test]
async fn payment_after_the_deadline() {
    let stack = hasty_with(
        "payment_after_the_deadline",
        1,
        2,
        &["api", "seats", "payments", "expiry", "refunds", "notifications"],
    )
    .await;
    let schedule = stack.add_schedule(1).await;
    let [(ann, first), (bob, second)] = {
        let mut orders = Vec::new();
        for user in ["ann", "bob"] {
            let token = stack.quick_token(user);
            let order = stack.submit(&token, &schedule).await;
            stack.until_status(&token, &order, "expired").await;
            orders.push((token, order));
        }
        orders.try_into().expect("two")
    };
    order_late_and_pay(&stack, &first).await;
    let confirmed = stack.until_status(&ann, &first, "confirmed").await;
    assert_eq!(confirmed["seat_no"], 1, "the same seat, since it was free");

    let later = stack.add_schedule(5).await;
    order_late_and_pay(&stack, &second).await;
    let refunded = stack.until_status(&bob, &second, "refunded").await;
    assert_eq!((&refunded["refunded_fen"], &refunded["reason"]), (&json!(PRICE_FEN), &json!("sold-out")));
    assert_eq!(refunded["alternatives"]["schedules"][0]["schedule_id"], json!(later));
    stack.check_money().await;
}

#[tokio::test]
async fn paid_after_it_was_cancelled() {
    let stack = hasty_with(
        "paid_after_it_was_cancelled",
        60,
        120,
        &["api", "seats", "payments", "expiry", "refunds", "notifications"],
    )
    .await;
    let schedule = stack.add_schedule(1).await;
    let ann = stack.quick_token("ann");
    let order = stack.submit(&ann, &schedule).await;
    stack.until_status(&ann, &order, "held").await;
    stack.lay_cancel("ann", &order).await;
    stack.until_status(&ann, &order, "cancelled").await;
    order_late_and_pay(&stack, &order).await;
    let refunded = stack.until_status(&ann, &order, "refunded").await;
    assert_eq!((&refunded["seat_no"], &refunded["alternatives"]), (&json!(null), &json!(null)), "as they wished");
    assert_eq!(stack.count("SELECT count(*) FROM free_seats").await, 1);
    stack.check_money().await;
}

/// Ann's order, which WeChat has and can be paid though we have no code of it, comes to its seat.
async fn paid_before_its_code(stack: &Stack) {
    let schedule = stack.add_schedule(1).await;
    let ann = stack.quick_token("ann");
    let order = stack.submit(&ann, &schedule).await;
    until("WeChat has the order, and we no code", async || (stack.pay(&order).await.status == 200).then_some(())).await;
    stack.until_status(&ann, &order, "confirmed").await;
    stack.check_money().await;
}

#[tokio::test]
async fn callback_before_the_code_is_stored() {
    let stack = hasty("callback_before_the_code_is_stored", 600, 1200).await;
    stack.script(&json!({ "rules": [{ "on": "order", "answer_lost": true }] })).await;
    paid_before_its_code(&stack).await;
}

/// A stack in which nobody but `prepay` asks WeChat.
async fn asked_by_prepay_alone(test: &str) -> Stack {
    let settings = [deadlines(600, 1200), vec![("HOLDFAST_ORDER__CHECK_SECONDS", "600".to_owned())]].concat();
    Stack::start_with(test, Choice { settings, ..Choice::default() }).await
}

/// WeChat took the order and the money, its answers were lost and its callback never comes: asked for a code again, it
/// claims that the order is paid, and its signed word says so.
#[tokio::test]
async fn an_order_that_wechat_claims_is_paid_is_asked_about() {
    let stack = asked_by_prepay_alone("claimed_paid").await;
    let lost = json!({ "on": "order", "answer_lost": true, "count": 2 });
    stack.script(&json!({ "rules": [lost, { "on": "callback_payment", "callback": "never" }] })).await;
    paid_before_its_code(&stack).await;
}

/// WeChat claims that the number is another order's. Without an order there it is asked again; with one that nobody has
/// paid, a person must look.
#[tokio::test]
async fn a_number_that_wechat_claims_is_used_is_asked_about_and_set_aside() {
    let stack = asked_by_prepay_alone("claimed_used").await;
    let used = json!({ "on": "order", "status": 403, "code": "OUT_TRADE_NO_USED" });
    stack.script(&json!({ "rules": [used] })).await;
    let schedule = stack.add_schedule(1).await;
    let ann = stack.quick_token("ann");
    let order = stack.submit(&ann, &schedule).await;
    let queues = Queues::of(&stack).await;
    assert_eq!(queues.look("delay.1s").await.header("x-error-class"), "unknown");
    stack.script(&json!({ "rules": [{ "on": "order", "answer_lost": true }] })).await;
    queues.look("delay.5s").await;
    stack.script(&json!({ "rules": [used] })).await;
    let letter = queues.take("prepay.dead").await;
    assert_eq!(letter.header("x-error-class"), "wechat_refused");
    stack.script(&json!({})).await;
    queues.shovel(&letter, letter.header("x-queue")).await;
    stack.until_status(&ann, &order, "awaiting_payment").await;
    assert_eq!(stack.ledger().await["orders"].as_array().map(Vec::len), Some(1));
    stack.check_money().await;
}

/// The hold runs out while the callback waits in the queue: WeChat's word counts, not the hour.
#[tokio::test]
async fn a_payment_in_the_queue_keeps_its_seat() {
    let settings = [deadlines(600, 1200), vec![("HOLDFAST_ORDER__CHECK_SECONDS", "600".to_owned())]].concat();
    let roles = vec!["api", "seats", "prepay", "expiry", "notifications"];
    let mut stack = Stack::start_with("payment_in_the_queue", Choice { settings, roles, ..Choice::default() }).await;
    let schedule = stack.add_schedule(1).await;
    let (ann, order) = stack.payable("ann", &schedule).await;
    stack.pay(&order).await;
    stack.end_hold(&order).await;
    // The callback, and what the expiry worker learned when the hold was over.
    until("both wait in the queue", async || (stack.ready_in("payments").await >= 2).then_some(())).await;
    assert_eq!(stack.order(&ann, &order).await.body["status"], "awaiting_payment");
    stack.spawn("payments");
    stack.until_status(&ann, &order, "confirmed").await;
    stack.check_money().await;
}

#[tokio::test]
async fn two_late_payments_for_one_free_seat() {
    let mut stack =
        hasty_with("two_late_payments", 600, 1200, &["api", "seats", "prepay", "expiry", "refunds", "notifications"])
            .await;
    let schedule = stack.add_schedule(2).await;
    let (ann, first) = stack.payable("ann", &schedule).await;
    let (bob, second) = stack.payable("bob", &schedule).await;
    stack.lapse_now(&ann, &first).await;
    stack.lapse_now(&bob, &second).await;
    for order in [&first, &second] {
        assert_eq!(stack.pay(order).await.status, 200);
    }
    // A third customer has the code of one of the two seats when both payments are taken, in one batch.
    let (_, third) = stack.payable("cid", &schedule).await;
    until("both callbacks wait", async || (stack.ready_in("payments").await >= 2).then_some(())).await;
    stack.spawn("payments");
    // Callbacks come in any order: whoever's is the first has the seat.
    stack.until_count("one has it", "SELECT count(*) FROM payment_orders WHERE status = 'confirmed'", 1).await;
    stack.until_count("one has the money", "SELECT count(*) FROM payment_orders WHERE status = 'refunded'", 1).await;
    stack.pay(&third).await;
    stack.until_status(&stack.quick_token("cid"), &third, "confirmed").await;
    stack.check_money().await;
}

#[tokio::test]
async fn late_money_for_a_cancelled_session_goes_back() {
    let stack = hasty("late_money_cancelled_session", 600, 1200).await;
    let schedule = stack.add_schedule(3).await;
    let (ann, order) = stack.payable("ann", &schedule).await;
    stack.lapse_now(&ann, &order).await;
    sqlx::query("UPDATE course_schedules SET status = 'cancelled'").execute(&stack.db).await.expect("cancelled");
    stack.pay(&order).await;
    let refunded = stack.until_status(&ann, &order, "refunded").await;
    assert_eq!((&refunded["reason"], &refunded["alternatives"]["seats"]), (&json!("schedule-closed"), &json!([])));
    stack.check_money().await;
}
